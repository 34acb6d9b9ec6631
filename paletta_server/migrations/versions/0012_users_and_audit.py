"""users and audit: why an account is disabled and when it was erased; the audit log as a hash chain; tries of a mail

Revision: 0012, after 0011. It must suit the code of the revision before it. That code goes on writing the address of
the caller into `audit_logs.ip`; the trigger puts it where it can be erased, as for this code.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

FUNCTIONS = """
-- What was handed over is never changed or removed; from where it was fetched can be forgotten, with the person.
CREATE FUNCTION download_grants_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.ip IS NULL AND NEW.client IS NULL
      AND to_jsonb(NEW) - 'ip' - 'client' = to_jsonb(OLD) - 'ip' - 'client' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'download_grants is append-only';
END $$;
DROP TRIGGER append_only ON download_grants;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON download_grants
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER forget_only BEFORE UPDATE ON download_grants
  FOR EACH ROW EXECUTE FUNCTION download_grants_forget();

CREATE FUNCTION audit_head_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.entries <= OLD.entries THEN
    RAISE EXCEPTION 'audit_head only moves on';
  END IF;
  RETURN NEW;
END $$;

-- Every new row waits to be chained. The caller's address is kept apart, so that it can be erased with a person; its
-- salted digest stays in the row and is chained with it.
CREATE FUNCTION audit_logs_enter() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  salt bytea;
BEGIN
  IF NEW.ip IS NOT NULL THEN
    salt := uuid_send(gen_random_uuid());
    NEW.origin := sha256(salt || convert_to(NEW.ip, 'UTF8'));
    INSERT INTO audit_origins (log_id, salt, ip) VALUES (NEW.id, salt, NEW.ip);
    NEW.ip := NULL;
  END IF;
  INSERT INTO audit_pending (log_id) VALUES (NEW.id);
  RETURN NEW;
END $$;
"""
BACKFILL = """
DROP TRIGGER audit_logs_append_only ON audit_logs;
INSERT INTO audit_origins (log_id, salt, ip)
  SELECT id, uuid_send(gen_random_uuid()), ip FROM audit_logs WHERE ip IS NOT NULL;
UPDATE audit_logs SET origin = sha256(o.salt || convert_to(o.ip, 'UTF8')), ip = NULL
  FROM audit_origins o WHERE o.log_id = audit_logs.id;
INSERT INTO audit_pending (log_id) SELECT id FROM audit_logs;
"""
TRIGGERS = """
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only();
CREATE TRIGGER audit_logs_enter BEFORE INSERT ON audit_logs
  FOR EACH ROW EXECUTE FUNCTION audit_logs_enter();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_chain
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON audit_head
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER moves_on BEFORE UPDATE ON audit_head
  FOR EACH ROW EXECUTE FUNCTION audit_head_moves_on();
"""
BACK = """
DROP TRIGGER forget_only ON download_grants;
DROP TRIGGER append_only ON download_grants;
DROP FUNCTION download_grants_forget();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON download_grants
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER audit_logs_enter ON audit_logs;
DROP TRIGGER audit_logs_append_only ON audit_logs;
UPDATE audit_logs SET ip = o.ip FROM audit_origins o WHERE o.log_id = audit_logs.id;
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only();
"""


def upgrade() -> None:
    op.add_column("users", sa.Column("status_reason", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("erased_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    _purposes("verify", "reset", "change")
    op.add_column(
        "outbox_emails", sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index("ix_outbox_emails_recipient", "outbox_emails", ["recipient", "id"], unique=False)
    _tables()
    op.execute(FUNCTIONS)
    op.add_column("audit_logs", sa.Column("origin", sa.LargeBinary(), nullable=True))
    op.create_index("ix_audit_logs_at", "audit_logs", ["at"], unique=False)
    op.execute(BACKFILL)
    op.execute(TRIGGERS)


def _tables() -> None:
    op.create_table(
        "audit_origins",
        sa.Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_audit_origins")),
    )
    op.create_table(
        "audit_pending",
        sa.Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_audit_pending")),
    )
    op.create_table(
        "audit_chain",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_chain")),
        sa.UniqueConstraint("log_id", name=op.f("uq_audit_chain_log_id")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )


def downgrade() -> None:
    op.execute(BACK)
    op.drop_index("ix_audit_logs_at", table_name="audit_logs")
    op.drop_column("audit_logs", "origin")
    for table in ("audit_head", "audit_chain", "audit_pending", "audit_origins"):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_logs_enter()")
    op.execute("DROP FUNCTION audit_head_moves_on()")
    op.drop_index("ix_outbox_emails_recipient", table_name="outbox_emails")
    op.drop_column("outbox_emails", "tries")
    op.execute("DELETE FROM mail_links WHERE purpose = 'change'")
    _purposes("verify", "reset")
    op.drop_column("users", "erased_at")
    op.drop_column("users", "status_reason")


def _purposes(*names: str) -> None:
    op.drop_constraint(op.f("ck_mail_links_purpose"), "mail_links")
    op.create_check_constraint(op.f("ck_mail_links_purpose"), "mail_links", f"purpose IN {names!r}")
