"""tags: find synonyms and near-duplicates by index

Revision: 0002, after 0001. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tags", sa.Column("near", postgresql.ARRAY(sa.Integer()), server_default="{}", nullable=False)
    )
    op.create_index("ix_tags_near", "tags", ["near"], unique=False, postgresql_using="gin")
    op.create_index("ix_tags_synonyms", "tags", ["synonyms"], unique=False, postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_tags_synonyms", table_name="tags")
    op.drop_index("ix_tags_near", table_name="tags")
    op.drop_column("tags", "near")
