"""which service a database is; finding what refers to an object by its key

Revision: 0017, after 0016. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KEYS = (("clips", "original_key"), ("renditions", "key"), ("uploads", "key"))


def upgrade() -> None:
    op.create_table(
        "service_identity",
        sa.Column("single", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_service_identity_single")),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_service_identity")),
    )
    for table, column in KEYS:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table, column in KEYS:
        op.drop_index(f"ix_{table}_{column}", table)
    op.drop_table("service_identity")
