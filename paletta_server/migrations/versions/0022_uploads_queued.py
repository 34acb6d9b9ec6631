"""films that wait for a worker, counted at once

Revision: 0022, after 0021. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

from paletta_server.migrations import online

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    online.create_index(
        "ix_uploads_queued", "uploads", ["size"], postgresql_where=sa.text("stage = 'stored'")
    )


def downgrade() -> None:
    op.drop_index("ix_uploads_queued", table_name="uploads")
