"""entitlements know what they extend; carts, orders and refunds remember what was asked

Revision: 0010, after 0009. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "entitlements", sa.Column("own_status", sa.Text(), server_default="granted", nullable=False)
    )
    op.add_column("entitlements", sa.Column("extends_id", sa.BigInteger(), nullable=True))
    op.create_check_constraint(
        op.f("ck_entitlements_own_status"),
        "entitlements",
        "own_status IN ('granted', 'suspended', 'revoked')",
    )
    op.create_foreign_key(
        op.f("fk_entitlements_extends_id"), "entitlements", "entitlements", ["extends_id"], ["id"]
    )
    op.create_index(op.f("ix_entitlements_extends_id"), "entitlements", ["extends_id"])
    op.execute("UPDATE entitlements SET own_status = status WHERE status <> 'granted'")
    op.execute(
        "UPDATE entitlements e SET extends_id = base.id FROM order_items i, entitlements base"
        " WHERE i.id = e.order_item_id AND base.order_item_id = i.upgrade_of"
    )
    op.add_column("cart_items", sa.Column("credit", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("orders", sa.Column("request_digest", sa.Text(), nullable=True))
    op.add_column("refunds", sa.Column("request_digest", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("refunds", "request_digest")
    op.drop_column("orders", "request_digest")
    op.drop_column("cart_items", "credit")
    op.drop_column("entitlements", "extends_id")
    op.drop_column("entitlements", "own_status")
