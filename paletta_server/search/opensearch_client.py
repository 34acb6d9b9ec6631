"""The connection to OpenSearch: who we are there, how long we wait, and what its errors mean to a caller."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paletta_server.core.errors import Unavailable
from paletta_server.core.logging import mask
from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

READ_SECONDS = 3
"""A question that takes longer helps nobody, however many requests it is made of (see `within`)."""
WRITE_SECONDS = 20
AT_ONCE = 24
"""Questions that one process asks at the same time. A healthy OpenSearch answers more than a thousand a second so."""
CONNECTIONS = AT_ONCE + 4
"""Following and building have one each, and something to spare."""

_AMAZON = re.compile(r"\.(?P<region>[a-z0-9-]+)\.(?P<service>es|aoss)\.amazonaws\.com$")
_MISSING = "index_not_found_exception"

log = logging.getLogger(__name__)


def connect(settings: Settings) -> OpenSearch:
    """A client, safe to share between threads; it connects when first used.

    User and password come from the address, a domain of Amazon's gets signed requests. Raises ValueError for an
    address that is none.
    """
    import opensearchpy

    # Every request and answer, and its body, would be in the logs; failures are told by us.
    logging.getLogger("opensearch").setLevel(logging.CRITICAL)
    if settings.opensearch_url is None:
        raise ValueError("PALETTA_OPENSEARCH_URL is not set")
    url = urlsplit(settings.opensearch_url.get_secret_value())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("PALETTA_OPENSEARCH_URL is no address: https://user:password@host:port")
    host: dict[str, Any] = {
        "host": url.hostname,
        "port": url.port or (443 if url.scheme == "https" else 9200),
        "use_ssl": url.scheme == "https",
        "url_prefix": url.path.strip("/"),
    }
    auth: Any = None
    if url.username:
        auth = (unquote(url.username), unquote(url.password or ""))
    elif (amazon := _AMAZON.search(url.hostname)) is not None:
        auth = _signer(amazon["region"], amazon["service"])
    return opensearchpy.OpenSearch(
        hosts=[host],
        http_auth=auth,
        verify_certs=True,
        ssl_show_warn=False,
        timeout=READ_SECONDS,
        max_retries=1,
        retry_on_timeout=False,
        pool_maxsize=CONNECTIONS,
        http_compress=True,
    )


def _signer(region: str, service: str) -> Any:
    import boto3
    from opensearchpy import Urllib3AWSV4SignerAuth

    if service == "aoss":
        raise ValueError(
            "PALETTA_OPENSEARCH_URL: a serverless collection cannot refresh on demand or keep versions; use a domain"
        )
    credentials = boto3.session.Session().get_credentials()
    if credentials is None:
        raise ValueError("no AWS credentials to sign requests to OpenSearch with")
    return Urllib3AWSV4SignerAuth(credentials, region, service)


class Silent(Unavailable):
    """OpenSearch gave no answer, in time or at all. What it answers, be it an error, costs nobody much time."""

    def __init__(self) -> None:
        super().__init__("the search index does not answer", code="index_unavailable", retry_after=2)


_deadline: ContextVar[float | None] = ContextVar("deadline of a question to OpenSearch", default=None)
_sent: ContextVar[threading.Event | None] = ContextVar("whether a question sent a request", default=None)


@contextmanager
def within(deadline: float, sent: threading.Event | None = None) -> Iterator[None]:
    """All requests of the block share one deadline, by `time.monotonic`. `sent` is set with the first of them: who only
    waits for what another has asked sends none."""
    tokens = _deadline.set(deadline), _sent.set(sent)
    try:
        yield
    finally:
        _deadline.reset(tokens[0])
        _sent.reset(tokens[1])


def left() -> float:
    """Seconds that the next request may take. Raises `Silent` where none are left."""
    deadline = _deadline.get()
    if deadline is None:
        return READ_SECONDS
    seconds = min(READ_SECONDS, deadline - time.monotonic())
    if seconds <= 0:
        raise Silent
    return seconds


class Missing(Exception):
    """There is no such index, alias, document or point in time."""


class Refused(Exception):
    """OpenSearch takes the request for wrong: ours is the fault, or that of what a caller gave us."""


@contextmanager
def asking() -> Iterator[None]:
    """Turn the client's errors into ours: `Missing`, `Refused`, `Silent`, and `Unavailable` for what else may pass."""
    from opensearchpy import exceptions

    if (sent := _sent.get()) is not None:
        sent.set()
    try:
        yield
    except exceptions.NotFoundError as error:
        raise Missing(_reason(error)) from error
    except exceptions.RequestError as error:  # 400
        raise Refused(_reason(error)) from error
    except exceptions.ConnectionError as error:  # a timeout is one too
        log.warning("OpenSearch does not answer", extra={"error": _reason(error)})
        raise Silent from error
    except (exceptions.ImproperlyConfigured, exceptions.OpenSearchException) as error:
        log.warning("OpenSearch failed", extra={"error": _reason(error)})
        raise Unavailable(
            "the search index failed to answer", code="index_unavailable", retry_after=2
        ) from error


def _reason(error: Exception) -> str:
    """What happened, without addresses' passwords and without what was sent."""
    status = getattr(error, "status_code", None) if error.args and len(error.args) > 1 else None
    kind = error.args[1] if error.args and len(error.args) > 1 else str(error)
    return mask(f"{type(error).__name__} {status or ''}: {kind}")[:300]


def building() -> Unavailable:
    return Unavailable("the search index is being built", code="index_building", retry_after=2)
