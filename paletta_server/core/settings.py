"""Everything an operator can set, by environment (`PALETTA_…`) or a `.env` file."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from paletta_server.core import readable
from paletta_server.core.folders import default_state_dir

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Effective settings of one process. Sizes are bytes, times are in the unit that the name says."""

    model_config = SettingsConfigDict(env_prefix="PALETTA_", env_file=".env", extra="ignore", frozen=True)

    env: Literal["development", "production"] = "development"
    database_url: SecretStr = SecretStr("postgresql://127.0.0.1/paletta")
    database_auth: Literal["password", "iam"] = "password"
    """`iam`: each connection logs in with a token of RDS, made from this process's role."""
    database_ca: Path | None = None
    """Certificates (PEM) of who signed the database's; its name is verified too then."""
    database_pool_size: int = Field(10, ge=1)
    """Connections of a process that are kept; up to five more are opened for a rush."""
    database_wait_seconds: float = Field(5.0, gt=0, le=60)
    """How long a request waits for one of them before it is told that we are overloaded."""
    requests_at_once: int = Field(100, ge=1)
    """Requests that an API process has in work; what comes on top is refused at once, to be sent again."""
    long_polls_at_once: int = Field(1000, ge=1)
    """Requests of one API process that wait for something to happen; they hold no connection meanwhile."""
    drain_seconds: float = Field(0.0, ge=0, le=300)
    """How long an API process that was told to stop says so on `/readyz` and goes on serving: behind a balancer, longer
    than that takes to notice."""
    public_url: str = "http://127.0.0.1:8750"
    """Where people reach the API: mailed links are built from this, never from a request's Host header."""
    trusted_proxies: Words = ()
    """Addresses and networks of the balancers before the API, whose word about a client's address is taken; none
    means one on this machine. Without it all of a balancer's clients share one count of attempts."""

    s3_endpoint: str | None = None
    """None is Amazon S3 itself."""
    s3_region: str = "us-east-1"
    s3_bucket: str = "paletta"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_kms_key: str | None = None
    """The KMS key (ARN or alias) that encrypts the bucket; None is S3's own. `migrate --bucket` sets it."""
    s3_accelerate: bool = False
    """Addresses for other people's machines lead over S3's accelerated endpoint."""
    s3_originals_class: Literal[
        "STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"
    ] = "STANDARD"
    """Where originals go when they have grown old; from the last two they must be restored, which takes hours."""

    cloudfront_domain: str | None = None
    """The distribution that files and previews are delivered through; None is straight from the store."""
    cloudfront_keys: SecretStr | None = None
    """`KID:path,KID:path`: ids and private keys (PEM) of the key group, the one that signs first."""

    aws_region: str | None = None
    """Where AWS's services other than S3 are; None is the bucket's region, or where that is not set either, what
    AWS_REGION, AWS_DEFAULT_REGION or the profile say."""
    aws_endpoint: str | None = None
    """Another address for all of AWS's services other than S3: a proxy, or a test's."""

    transcoder: Literal["ffmpeg", "mediaconvert"] = "ffmpeg"
    mediaconvert_endpoint: str | None = None
    mediaconvert_role: str | None = None
    """The role (ARN) with which MediaConvert reads and writes the bucket."""
    mediaconvert_queue: str | None = None
    """A queue (ARN) of MediaConvert; None is the account's default."""
    mediaconvert_open_max: int = Field(100, ge=1)
    """Jobs that may be at MediaConvert at once; further attempts wait for a place. Its own queues take what it cannot
    work on yet, but what waits with us can still be cancelled for nothing."""
    completions_queue_url: str | None = None
    """The SQS queue with MediaConvert's events, which `paletta-server completions` handles."""

    mailer: Literal["smtp", "ses"] = "smtp"
    ses_configuration_set: str | None = None
    """What makes SES report bounces and complaints (to `mail_events_queue_url`, by way of SNS)."""
    mail_events_queue_url: str | None = None
    """The SQS queue with SES's reports, which `paletta-server mail-events` handles."""
    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(25, ge=1, le=65535)
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    mail_from: str = "Paletta <no-reply@localhost>"
    operator_emails: Words = ()
    """Who hears of what needs a person: jobs that failed for good, disputes and their deadlines; none means that nobody
    is told."""
    jobs_kept_days: int = Field(30, ge=1)
    """How long a job that failed or was cancelled stays to be read and retried."""

    review: Literal["auto", "manual"] = "manual"
    contributors: Literal["auto", "manual"] = "manual"

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    metrics_token: SecretStr | None = None
    otel_endpoint: str | None = None
    """A collector's address (OTLP over HTTP, such as `http://127.0.0.1:4318`) for traces and metrics; None sends none
    and loads nothing of it."""
    otel_sample_ratio: float = Field(1.0, ge=0, le=1)
    """The share of traces that is recorded; all nodes decide alike for one trace."""

    scratch_dir: Path = Field(default_factory=lambda: default_state_dir() / "scratch")
    """Where this worker has its films in work; of its user's own (`core.folders`), as `search_dir`."""
    worker_concurrency: int = Field(1, ge=1)
    sandbox: Literal["require", "prefer", "off"] | None = None

    ingest_min_long_edge: int = Field(1280, ge=1)
    ingest_min_seconds: float = Field(3.0, ge=0)
    ingest_max_seconds: float = Field(120.0, gt=0)
    ingest_max_bytes: int = Field(4 * 1024**3, ge=1)
    ingest_max_pixels: int = Field(36_000_000, ge=1)
    ingest_max_fps: float = Field(120.0, gt=0)
    ingest_containers: Words = ("mov", "mp4", "m4v", "mxf")
    ingest_codecs: Words = ("h264", "hevc", "prores", "mjpeg", "dnxhd")
    ingest_attempts: int = Field(3, ge=1)
    stalled_seconds: int = Field(30, ge=5)
    """A worker silent for this long is taken for dead and its jobs go to another."""

    upload_url_seconds: int = Field(900, ge=1, le=7 * 24 * 3600)
    upload_expiry_hours: float = Field(72.0, gt=0, le=14 * 24)
    upload_claim_seconds: int = Field(20, ge=1)
    """A completion whose API process says nothing for so long is taken up by whoever asks next."""
    uploads_open_max: int = Field(20_000, ge=1)
    """Unfinished uploads that one account may hold at once."""
    ingest_queue_max: int | None = Field(None, ge=1)
    """Films that may have arrived and wait for a worker; from there on no new ones are registered until some are done.
    What is registered goes on, and is not counted before it has arrived."""
    ingest_queue_max_bytes: int | None = Field(None, ge=1)
    """The same by what they weigh."""

    search_dir: Path = Field(default_factory=lambda: default_state_dir() / "search")
    """Where this API node keeps its replica of the index."""
    search_backend: Literal["tantivy", "opensearch"] = "tantivy"
    """A replica of the index in each API process, or one index for all nodes in OpenSearch."""
    opensearch_url: SecretStr | None = None
    """With user and password where it wants them; requests to a domain of Amazon's without are signed."""
    opensearch_index: str = Field("paletta-clips", pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")
    """The alias that is searched; indexes are named after it."""

    gateways: Words = ("invoice",)
    """What customers may pay with, the first as the default: stripe, invoice, sandbox (never in production)."""
    sandbox_secret: SecretStr | None = None
    """Signs the sandbox gateway's events."""
    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secret: SecretStr | None = None
    """Without it the webhook is closed: an empty secret would verify forged events."""
    stripe_api_base: str | None = None
    """Another address for Stripe's API: a proxy, or a test's."""
    order_expiry_minutes: int = Field(60, ge=31, le=1439)
    """How long an order waits for its payment; Stripe's checkouts live between 30 minutes and 24 hours."""
    invoice_days: int = Field(30, ge=1)
    """How long an order on invoice waits."""
    royalty_hold_days: int = Field(30, ge=0, le=365)
    """How long after a sale its royalty is on hold before it can be paid out."""
    payout_minimum: int = Field(5000, ge=1)
    """Minor units of a currency from which on a contributor is paid."""
    refund_approval_above: int | None = Field(None, ge=0)
    """Minor units: what gives back more of an order than this, without a second operator so far, waits for one."""
    refund_approval_hours: int = Field(72, ge=1)
    """How long it waits before the money is free again."""
    delivery_link_hours: int = Field(48, ge=1)
    download_url_seconds: int = Field(300, ge=1, le=3600)

    analytics_raw_days: int = Field(90, ge=1)
    """How long single events are kept; their sums by day stay for good."""

    password_min_length: int = Field(15, ge=8)
    token_idle_days: int = Field(30, ge=1)
    token_absolute_days: int = Field(90, ge=1)
    mail_link_minutes: int = Field(60, ge=1)
    fresh_login_minutes: int = Field(10, ge=1, le=10)
    """How long a given password is enough for money, roles and erasure."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_not_set(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What may be left out counts so when it is empty, as compose files write it. An empty secret above all: that
        is one which everybody knows."""
        return {
            name: value for name, value in given.items() if not (cls._is_optional(name) and _is_empty(value))
        }

    @classmethod
    def _is_optional(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required() and field.get_default() is None

    @field_validator(
        "ingest_containers", "ingest_codecs", "gateways", "trusted_proxies", "operator_emails", mode="before"
    )
    @classmethod
    def _words(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip().lower() for word in value.split(",") if word.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return readable.proxies(value)

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("write it as postgresql://USER:PASSWORD@HOST/DATABASE")
        return value

    @field_validator(
        *("public_url", "s3_endpoint", "aws_endpoint", "mediaconvert_endpoint", "otel_endpoint"),
        *("completions_queue_url", "mail_events_queue_url", "stripe_api_base"),
    )
    @classmethod
    def _services(cls, value: str | None) -> str | None:
        return readable.address(value) if value else value

    @field_validator("opensearch_url")
    @classmethod
    def _search(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(readable.address(value.get_secret_value(), login=True)) if value else value

    @field_validator("mediaconvert_role")
    @classmethod
    def _role(cls, value: str | None) -> str | None:
        return readable.arn(value, "iam", "role") if value else value

    @field_validator("mediaconvert_queue")
    @classmethod
    def _queue(cls, value: str | None) -> str | None:
        return readable.arn(value, "mediaconvert", "queues") if value else value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        return readable.sender(value)

    @field_validator("operator_emails")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            local, at, domain = address.partition("@")
            if not (at and local and domain) or not address.isprintable() or " " in address:
                raise ValueError(f"`{address}` is no e-mail address; write them with commas between")
        return value

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.env == "production" and not self.public_url.lower().startswith("https://"):
            raise ValueError("PALETTA_PUBLIC_URL must be https in production")
        if self.s3_accelerate and (self.s3_endpoint or "." in self.s3_bucket):
            raise ValueError(
                "PALETTA_S3_ACCELERATE: only on Amazon S3 itself, with no dot in the bucket's name"
            )
        if (self.cloudfront_domain is None) != (self.cloudfront_keys is None):
            raise ValueError("PALETTA_CLOUDFRONT_DOMAIN and PALETTA_CLOUDFRONT_KEYS need each other")
        if self.env == "production" and (self.cloudfront_domain or "").startswith("http://"):
            raise ValueError("PALETTA_CLOUDFRONT_DOMAIN must be https in production")
        if self.database_auth == "iam" and self.database_ca is None:
            raise ValueError("PALETTA_DATABASE_CA: a token must not go to a server that nobody verified")
        if unknown := set(self.gateways) - {"stripe", "invoice", "sandbox"}:
            raise ValueError(
                f"PALETTA_GATEWAYS: no gateway `{sorted(unknown)[0]}`; stripe, invoice or sandbox"
            )
        if self.env == "production" and "sandbox" in self.gateways:
            raise ValueError("PALETTA_GATEWAYS: `sandbox` sells for nothing and is refused in production")
        if self.transcoder == "mediaconvert" and not self.mediaconvert_role:
            raise ValueError("PALETTA_TRANSCODER=mediaconvert needs PALETTA_MEDIACONVERT_ROLE")
        return self

    @model_validator(mode="after")
    def _ingest_takes_something(self) -> Self:
        if self.ingest_min_seconds > self.ingest_max_seconds:
            raise ValueError("PALETTA_INGEST_MIN_SECONDS must not be over PALETTA_INGEST_MAX_SECONDS")
        return self

    @model_validator(mode="after")
    def _opensearch_is_somewhere(self) -> Self:
        if self.search_backend == "opensearch" and self.opensearch_url is None:
            raise ValueError("PALETTA_SEARCH_BACKEND: `opensearch` needs PALETTA_OPENSEARCH_URL")
        return self

    @property
    def sandbox_mode(self) -> Literal["require", "prefer", "off"]:
        """Uploads are hostile until proven otherwise, so production insists on the sandbox by default."""
        return self.sandbox or ("require" if self.env == "production" else "prefer")

    @property
    def libpq_url(self) -> str:
        """The database address as psycopg takes it."""
        return self.database_url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)

    @property
    def sqlalchemy_url(self) -> str:
        return self.libpq_url.replace("postgresql://", "postgresql+psycopg://", 1)


def _is_empty(value: object) -> bool:
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    return isinstance(written, str) and not written.strip()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


def given() -> dict[str, str]:
    """What environment and `.env` set, by the setting's name and as it is written there; paths as they are from here,
    for processes that begin elsewhere."""
    settings = get_settings()
    file = dotenv_values(str(Settings.model_config["env_file"]))
    written = {name.upper(): value for name, value in {**file, **os.environ}.items() if value is not None}
    found: dict[str, str] = {}
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        text = written.get(f"PALETTA_{name.upper()}")
        if text is None:
            continue
        if name == "cloudfront_keys":
            pairs = (one.strip().partition(":") for one in text.split(",") if one.strip())
            text = ",".join(f"{key}:{Path(path).absolute()}" for key, _, path in pairs)
        found[name] = str(value.absolute()) if isinstance(value, Path) else text
    return found
