"""the shop: search, carts, orders, payments, delivery

Revision: 0003, after 0002. It must suit the code of the revision before it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


FUNCTIONS = """
CREATE SEQUENCE order_numbers;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON payment_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON price_book
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON download_grants
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the search index follows. Statement triggers with transition tables: one insert however many rows.
CREATE FUNCTION note_clips() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO clip_changes (clip_id) SELECT id FROM gone;
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO clip_changes (clip_id) SELECT id FROM came;
  ELSE
    INSERT INTO clip_changes (clip_id)
      SELECT came.id FROM came JOIN gone ON gone.id = came.id WHERE came IS DISTINCT FROM gone;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note_insert AFTER INSERT ON clips REFERENCING NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION note_clips();
CREATE TRIGGER note_update AFTER UPDATE ON clips REFERENCING OLD TABLE AS gone NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION note_clips();
CREATE TRIGGER note_delete AFTER DELETE ON clips REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION note_clips();

CREATE FUNCTION note_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clip_changes (clip_id) SELECT DISTINCT clip_id FROM changed;
  RETURN NULL;
END $$;

CREATE FUNCTION note_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clip_changes (clip_id)
    SELECT DISTINCT clip_tags.clip_id FROM came JOIN gone ON gone.id = came.id
      JOIN clip_tags ON clip_tags.tag_id = came.id
      WHERE (came.name, came.synonyms) IS DISTINCT FROM (gone.name, gone.synonyms);
  RETURN NULL;
END $$;
CREATE TRIGGER note_update AFTER UPDATE ON tags REFERENCING OLD TABLE AS gone NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION note_tags();

-- A clip is found under its category's parents too.
CREATE FUNCTION note_categories() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO clip_changes (clip_id)
    WITH RECURSIVE below (id) AS (
      SELECT came.id FROM came JOIN gone ON gone.id = came.id
        WHERE (came.slug, came.name, came.parent_id) IS DISTINCT FROM (gone.slug, gone.name, gone.parent_id)
      UNION
      SELECT categories.id FROM categories JOIN below ON categories.parent_id = below.id
    )
    SELECT DISTINCT clip_categories.clip_id FROM below
      JOIN clip_categories ON clip_categories.category_id = below.id;
  RETURN NULL;
END $$;
CREATE TRIGGER note_update AFTER UPDATE ON categories REFERENCING OLD TABLE AS gone NEW TABLE AS came
  FOR EACH STATEMENT EXECUTE FUNCTION note_categories();
"""
PARTS = ("clip_tags", "clip_categories", "renditions")
"""Tables whose rows belong to a clip, in its `clip_id`."""


def upgrade() -> None:
    op.create_table(
        "clip_changes",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_clip_changes")),
    )
    op.create_index("ix_clip_changes_xid", "clip_changes", ["xid", "seq"], unique=False)
    op.create_table(
        "external_events",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("handled_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_events")),
        sa.UniqueConstraint("source", "external_id", name=op.f("uq_external_events_source_external_id")),
    )
    op.create_index(
        "ix_external_events_unhandled",
        "external_events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.create_table(
        "carts",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_carts_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_carts")),
    )
    op.create_table(
        "collections",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_collections_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
        sa.UniqueConstraint("uid", name=op.f("uq_collections_uid")),
    )
    op.create_index(
        "uq_collections_name", "collections", ["user_id", sa.literal_column("lower(name)")], unique=True
    )
    op.create_table(
        "outbox_attachments",
        sa.Column("email_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["email_id"],
            ["outbox_emails.id"],
            name=op.f("fk_outbox_attachments_email_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_attachments")),
    )
    op.create_index(op.f("ix_outbox_attachments_email_id"), "outbox_attachments", ["email_id"], unique=False)
    op.create_table(
        "price_book",
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("applied_by", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["applied_by"], ["users.id"], name=op.f("fk_price_book_applied_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_book")),
    )
    op.create_table(
        "cart_items",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "licence IN ('individual', 'business', 'premium')", name=op.f("ck_cart_items_licence")
        ),
        sa.CheckConstraint("tier IN ('hd', 'uhd4k', 'original')", name=op.f("ck_cart_items_tier")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_cart_items_amount")),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_cart_items_clip_id")),
        sa.ForeignKeyConstraint(["user_id"], ["carts.user_id"], name=op.f("fk_cart_items_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cart_items")),
        sa.UniqueConstraint("user_id", "clip_id", name=op.f("uq_cart_items_user_id_clip_id")),
    )
    op.create_index(op.f("ix_cart_items_clip_id"), "cart_items", ["clip_id"], unique=False)
    op.create_table(
        "clip_views",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("views", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["clip_id"], ["clips.id"], name=op.f("fk_clip_views_clip_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("clip_id", "day", name=op.f("pk_clip_views")),
    )
    op.create_table(
        "collection_items",
        sa.Column("collection_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "added_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_collection_items_clip_id")),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_collection_items_collection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", "clip_id", name=op.f("pk_collection_items")),
    )
    op.create_index(op.f("ix_collection_items_clip_id"), "collection_items", ["clip_id"], unique=False)
    op.create_table(
        "orders",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("purchase_order", sa.Text(), nullable=True),
        sa.Column("licensee", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("subtotal", sa.BigInteger(), nullable=False),
        sa.Column("tax_name", sa.Text(), nullable=True),
        sa.Column("tax_rate", sa.Text(), server_default="0", nullable=False),
        sa.Column("tax", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("paid_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("price_book_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'paid', 'partially_refunded', 'refunded', 'cancelled', 'expired')",
            name=op.f("ck_orders_status"),
        ),
        sa.CheckConstraint("refunded >= 0 AND refunded <= total", name=op.f("ck_orders_refunded")),
        sa.CheckConstraint(
            "subtotal >= 0 AND tax >= 0 AND total = subtotal + tax", name=op.f("ck_orders_total")
        ),
        sa.ForeignKeyConstraint(["price_book_id"], ["price_book.id"], name=op.f("fk_orders_price_book_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_orders_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("number", name=op.f("uq_orders_number")),
        sa.UniqueConstraint("uid", name=op.f("uq_orders_uid")),
    )
    op.create_index("uq_orders_idempotency_key", "orders", ["user_id", "idempotency_key"], unique=True)
    op.create_index(
        "ix_orders_pending",
        "orders",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index("ix_orders_user_id", "orders", ["user_id", "id"], unique=False)
    op.create_table(
        "delivery_links",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("withdrawn_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_delivery_links_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_links")),
        sa.UniqueConstraint("digest", name=op.f("uq_delivery_links_digest")),
    )
    op.create_index(op.f("ix_delivery_links_order_id"), "delivery_links", ["order_id"], unique=False)
    op.create_table(
        "order_items",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_uid", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("contributor_id", sa.BigInteger(), nullable=False),
        sa.Column("contributor", sa.Text(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("editorial", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("credit", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("upgrade_of", sa.BigInteger(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("tax", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "licence IN ('individual', 'business', 'premium')", name=op.f("ck_order_items_licence")
        ),
        sa.CheckConstraint("tier IN ('hd', 'uhd4k', 'original')", name=op.f("ck_order_items_tier")),
        sa.CheckConstraint("amount >= 0 AND tax >= 0", name=op.f("ck_order_items_positive")),
        sa.CheckConstraint(
            "price >= 0 AND credit >= 0 AND amount = price - credit", name=op.f("ck_order_items_amount")
        ),
        sa.CheckConstraint(
            "refunded >= 0 AND refunded <= amount + tax", name=op.f("ck_order_items_refunded")
        ),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_order_items_clip_id")),
        sa.ForeignKeyConstraint(["contributor_id"], ["users.id"], name=op.f("fk_order_items_contributor_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_items_order_id")),
        sa.ForeignKeyConstraint(["upgrade_of"], ["order_items.id"], name=op.f("fk_order_items_upgrade_of")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_items")),
        sa.UniqueConstraint("order_id", "clip_id", name=op.f("uq_order_items_order_id_clip_id")),
        sa.UniqueConstraint("uid", name=op.f("uq_order_items_uid")),
    )
    op.create_index(op.f("ix_order_items_clip_id"), "order_items", ["clip_id"], unique=False)
    op.create_index(op.f("ix_order_items_contributor_id"), "order_items", ["contributor_id"], unique=False)
    op.create_table(
        "payments",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("charge", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="created", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("captured", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pending_refunds", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("disputed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("checked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('created', 'open', 'succeeded', 'failed', 'expired')", name=op.f("ck_payments_status")
        ),
        sa.CheckConstraint(
            "captured >= 0 AND refunded >= 0 AND pending_refunds >= 0", name=op.f("ck_payments_positive")
        ),
        sa.CheckConstraint("refunded + pending_refunds <= captured", name=op.f("ck_payments_refunds")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_payments_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("uid", name=op.f("uq_payments_uid")),
    )
    op.create_index(op.f("ix_payments_order_id"), "payments", ["order_id"], unique=False)
    op.create_index(
        "uq_payments_order_live",
        "payments",
        ["order_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('created', 'open', 'succeeded')"),
    )
    op.create_index("uq_payments_reference", "payments", ["gateway", "reference"], unique=True)
    op.create_table(
        "disputes",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("due_by", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("outcome IN ('won', 'lost', 'withdrawn')", name=op.f("ck_disputes_outcome")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_disputes_order_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_disputes_payment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.UniqueConstraint("gateway", "reference", name=op.f("uq_disputes_gateway_reference")),
        sa.UniqueConstraint("uid", name=op.f("uq_disputes_uid")),
    )
    op.create_index(op.f("ix_disputes_order_id"), "disputes", ["order_id"], unique=False)
    op.create_index(op.f("ix_disputes_payment_id"), "disputes", ["payment_id"], unique=False)
    op.create_table(
        "entitlements",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("order_item_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="granted", nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('granted', 'suspended', 'revoked')", name=op.f("ck_entitlements_status")
        ),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"], name=op.f("fk_entitlements_clip_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_entitlements_order_id")),
        sa.ForeignKeyConstraint(
            ["order_item_id"], ["order_items.id"], name=op.f("fk_entitlements_order_item_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_entitlements_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlements")),
        sa.UniqueConstraint("certificate", name=op.f("uq_entitlements_certificate")),
        sa.UniqueConstraint("order_item_id", name=op.f("uq_entitlements_order_item_id")),
        sa.UniqueConstraint("uid", name=op.f("uq_entitlements_uid")),
    )
    op.create_index("ix_entitlements_clip_id", "entitlements", ["clip_id", "user_id"], unique=False)
    op.create_index(op.f("ix_entitlements_order_id"), "entitlements", ["order_id"], unique=False)
    op.create_index("ix_entitlements_user_id", "entitlements", ["user_id", "id"], unique=False)
    op.create_table(
        "order_item_files",
        sa.Column("order_item_id", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("extension", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("codec", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_item_id"], ["order_items.id"], name=op.f("fk_order_item_files_order_item_id")
        ),
        sa.PrimaryKeyConstraint("order_item_id", "tier", name=op.f("pk_order_item_files")),
    )
    op.create_index(op.f("ix_order_item_files_key"), "order_item_files", ["key"], unique=False)
    op.create_table(
        "payment_events",
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "kind IN ('captured', 'failed', 'refund_succeeded', 'refund_failed', 'dispute_withdrawn', 'dispute_reinstated')",
            name=op.f("ck_payment_events_kind"),
        ),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_payment_events_amount")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_events")),
        sa.UniqueConstraint(
            "payment_id", "kind", "reference", name=op.f("uq_payment_events_payment_id_kind_reference")
        ),
    )
    op.create_table(
        "refunds",
        sa.Column("uid", sa.Text(collation="C"), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="requested", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('requested', 'pending', 'succeeded', 'failed')", name=op.f("ck_refunds_status")
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refunds_amount")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_refunds_order_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("fk_refunds_requested_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("uid", name=op.f("uq_refunds_uid")),
    )
    op.create_index(op.f("ix_refunds_order_id"), "refunds", ["order_id"], unique=False)
    op.create_index(op.f("ix_refunds_payment_id"), "refunds", ["payment_id"], unique=False)
    op.create_index("uq_refunds_reference", "refunds", ["gateway", "reference"], unique=True)
    op.create_table(
        "download_grants",
        sa.Column("entitlement_id", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("via IN ('api', 'page')", name=op.f("ck_download_grants_via")),
        sa.ForeignKeyConstraint(
            ["entitlement_id"], ["entitlements.id"], name=op.f("fk_download_grants_entitlement_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_download_grants_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_download_grants")),
    )
    op.create_index(
        "ix_download_grants_entitlement_id", "download_grants", ["entitlement_id", "id"], unique=False
    )
    op.create_table(
        "refund_items",
        sa.Column("refund_id", sa.BigInteger(), nullable=False),
        sa.Column("order_item_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refund_items_amount")),
        sa.ForeignKeyConstraint(
            ["order_item_id"], ["order_items.id"], name=op.f("fk_refund_items_order_item_id")
        ),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.id"], name=op.f("fk_refund_items_refund_id")),
        sa.PrimaryKeyConstraint("refund_id", "order_item_id", name=op.f("pk_refund_items")),
    )
    op.add_column("outbox_emails", sa.Column("html", sa.Text(), nullable=True))
    op.execute(FUNCTIONS)
    for table in PARTS:
        for event, transition in (("INSERT", "NEW"), ("DELETE", "OLD"), ("UPDATE", "NEW")):
            op.execute(
                f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON {table} REFERENCING {transition} TABLE AS changed"
                " FOR EACH STATEMENT EXECUTE FUNCTION note_parts()"
            )


def downgrade() -> None:
    for table in ("clips", "tags", "categories", *PARTS):
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER IF EXISTS note_{event} ON {table}")
    for function in ("note_clips", "note_parts", "note_tags", "note_categories"):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_column("outbox_emails", "html")
    op.drop_table("refund_items")
    op.drop_index("ix_download_grants_entitlement_id", table_name="download_grants")
    op.drop_table("download_grants")
    op.drop_index("uq_refunds_reference", table_name="refunds")
    op.drop_index(op.f("ix_refunds_payment_id"), table_name="refunds")
    op.drop_index(op.f("ix_refunds_order_id"), table_name="refunds")
    op.drop_table("refunds")
    op.drop_table("payment_events")
    op.drop_index(op.f("ix_order_item_files_key"), table_name="order_item_files")
    op.drop_table("order_item_files")
    op.drop_index("ix_entitlements_user_id", table_name="entitlements")
    op.drop_index(op.f("ix_entitlements_order_id"), table_name="entitlements")
    op.drop_index("ix_entitlements_clip_id", table_name="entitlements")
    op.drop_table("entitlements")
    op.drop_index(op.f("ix_disputes_payment_id"), table_name="disputes")
    op.drop_index(op.f("ix_disputes_order_id"), table_name="disputes")
    op.drop_table("disputes")
    op.drop_index("uq_payments_reference", table_name="payments")
    op.drop_index(
        "uq_payments_order_live",
        table_name="payments",
        postgresql_where=sa.text("status IN ('created', 'open', 'succeeded')"),
    )
    op.drop_index(op.f("ix_payments_order_id"), table_name="payments")
    op.drop_table("payments")
    op.drop_index(op.f("ix_order_items_contributor_id"), table_name="order_items")
    op.drop_index(op.f("ix_order_items_clip_id"), table_name="order_items")
    op.drop_table("order_items")
    op.drop_index(op.f("ix_delivery_links_order_id"), table_name="delivery_links")
    op.drop_table("delivery_links")
    op.drop_index("ix_orders_user_id", table_name="orders")
    op.drop_index("uq_orders_idempotency_key", table_name="orders")
    op.drop_index("ix_orders_pending", table_name="orders", postgresql_where=sa.text("status = 'pending'"))
    op.drop_table("orders")
    op.drop_index(op.f("ix_collection_items_clip_id"), table_name="collection_items")
    op.drop_table("collection_items")
    op.drop_table("clip_views")
    op.drop_index(op.f("ix_cart_items_clip_id"), table_name="cart_items")
    op.drop_table("cart_items")
    op.drop_table("price_book")
    op.drop_index(op.f("ix_outbox_attachments_email_id"), table_name="outbox_attachments")
    op.drop_table("outbox_attachments")
    op.drop_index("uq_collections_name", table_name="collections")
    op.drop_table("collections")
    op.drop_table("carts")
    op.drop_index(
        "ix_external_events_unhandled",
        table_name="external_events",
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.drop_table("external_events")
    op.drop_index("ix_clip_changes_xid", table_name="clip_changes")
    op.drop_table("clip_changes")
    op.execute("DROP FUNCTION refuse_change()")
    op.execute("DROP SEQUENCE order_numbers")
