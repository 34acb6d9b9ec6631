"""Logs: one JSON object per line on standard error, with its request or job, and without secrets.

Everything goes through the standard library's root logger (uvicorn, alembic and procrastinate too); structlog
formats it. Values are encoded, never pasted, so a hostile string cannot begin a line of its own.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from paletta_server.core.telemetry_ids import trace_ids

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings

MASK = "***"

_SECRET_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|secret|^authorization$|^cookie$|api_?key|^token$", re.IGNORECASE
)
_SECRET_TEXTS = (
    # our tokens; the prefix stays, so that a leak can still be recognised for what it is
    (re.compile(r"\bplt_[A-Za-z0-9_-]{6,}"), f"plt_{MASK}"),
    # what makes a presigned address work
    (
        re.compile(
            r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId)=[^&\s\"']+"
        ),
        rf"\1={MASK}",
    ),
    # the password in scheme://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]*@"), rf"\1:{MASK}@"),
    # single-use mailed links, tokens and passwords in a query string or a form
    (re.compile(r"(?i)\b(token|password|secret)=[^&\s\"']+"), rf"\1={MASK}"),
    (re.compile(r"(?i)\bBearer\s+[A-Za-z0-9._~+/=-]{6,}"), f"Bearer {MASK}"),
    # what PostgreSQL quotes of a row that it refuses
    (re.compile(r"\b(Failing row contains )\([\s\S]*?\)(?=\.(?:\s|$))"), rf"\1({MASK})"),
    (re.compile(r"\b(Key \([^)\n]*\)=)\([^\n]*\)"), rf"\1({MASK})"),
)


def mask(text: str) -> str:
    """Return `text` without tokens, signatures of presigned addresses and passwords in addresses."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def _masked(name: str, value: Any, depth: int = 0) -> Any:
    if isinstance(value, str | bytes) and name and _SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, str):
        return mask(value)
    if depth < 4 and isinstance(value, dict):
        return {key: _masked(str(key), item, depth + 1) for key, item in value.items()}
    if depth < 4 and isinstance(value, list | tuple):
        return [_masked("", item, depth + 1) for item in value]
    return value


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.update(trace_ids())
    return event


def _mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _masked(name, value) for name, value in event.items()}


PROBES = ("/healthz", "/readyz", "/startupz", "/metrics")
"""What machines ask every few seconds: never refused, not traced, and not logged when all is well."""


class _NoProbes(logging.Filter):
    """Drop uvicorn's access lines of successful probes: they come every second and say nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args
        if not isinstance(arguments, tuple) or len(arguments) != 5:
            return True
        return not (str(arguments[2]).startswith(PROBES) and arguments[4] == 200)


def configure_logging(settings: Settings) -> None:
    """Send every log of this process to standard error in the settings' format and level. Call once."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[structlog.types.Processor]
    if settings.log_format == "json":
        ending = [
            structlog.processors.format_exc_info,
            _mask_event,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    else:
        ending = [_mask_event, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").addFilter(_NoProbes())
    for noisy in (
        "botocore",
        "boto3",
        "s3transfer",
        "urllib3",
        "httpx",
        "httpcore",
        "procrastinate",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def bind_job(name: str, job_id: int | None, **more: Any) -> None:
    """Note the job that the current task works on; every log line of the task carries it."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(job=name, job_id=job_id, **more)
