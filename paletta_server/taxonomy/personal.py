"""What the taxonomy holds on one person. Their words stay when they are erased: other clips carry them."""

from sqlalchemy import select

from paletta_server.core.export import Sections
from paletta_server.taxonomy.models import Category, Tag


def sections(user_id: int) -> Sections:
    categories = select(Category.slug, Category.name, Category.description, Category.created_at)
    tags = select(Tag.name, Tag.created_at)
    return {
        "own_categories": categories.where(Category.owner_id == user_id).order_by(Category.id),
        "own_tags": tags.where(Tag.owner_id == user_id).order_by(Tag.id),
    }
