"""mails that were not sent, counted at once

Revision: 0024, after 0023. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op

from paletta_server.migrations import online

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    online.create_index(
        "ix_outbox_emails_unsent", "outbox_emails", ["id"], postgresql_where=sa.text("sent_at IS NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_outbox_emails_unsent", table_name="outbox_emails")
