"""The connection to OpenSearch: who we are there, how long we wait, and what its errors mean to a caller."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paletta_server.core.errors import Unavailable
from paletta_server.core.logging import mask
from paletta_server.core.settings import Settings

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

READ_SECONDS = 3
"""A search that takes longer helps nobody. Asked again once at most, of another node where there is one."""
WRITE_SECONDS = 20
CONNECTIONS = 40
"""As many as threads that may search at once (asyncio's own pool has no more than 32)."""

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


class Missing(Exception):
    """There is no such index, alias, document or point in time."""


class Refused(Exception):
    """OpenSearch takes the request for wrong: ours is the fault, or that of what a caller gave us."""


@contextmanager
def asking() -> Iterator[None]:
    """Turn the client's errors into ours: `Missing`, `Refused`, and `Unavailable` for everything that may pass."""
    from opensearchpy import exceptions

    try:
        yield
    except exceptions.NotFoundError as error:
        raise Missing(_reason(error)) from error
    except exceptions.RequestError as error:  # 400
        raise Refused(_reason(error)) from error
    except (exceptions.ImproperlyConfigured, exceptions.OpenSearchException) as error:
        log.warning("OpenSearch failed", extra={"error": _reason(error)})
        raise Unavailable(
            "the search index does not answer", code="index_unavailable", retry_after=2
        ) from error


def _reason(error: Exception) -> str:
    """What happened, without addresses' passwords and without what was sent."""
    status = getattr(error, "status_code", None) if error.args and len(error.args) > 1 else None
    kind = error.args[1] if error.args and len(error.args) > 1 else str(error)
    return mask(f"{type(error).__name__} {status or ''}: {kind}")[:300]


def building() -> Unavailable:
    return Unavailable("the search index is being built", code="index_building", retry_after=2)
