"""Presigned S3 URLs (AWS Signature Version 4, query form), made in this process.

botocore needs about half a millisecond for one, and an upload of two thousand small files needs thousands;
this needs a tenth of that. `tests/contract/test_sigv4.py` holds every form we use against botocore's, to the letter.

Headers that must bind (length, checksum) are signed as headers. Hoisted into the query string they would be
ignored by the store without a word.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

UNRESERVED = "-_.~"


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    region: str
    session_token: str | None = None


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def presign(
    method: str,
    url: str,
    credentials: Credentials,
    *,
    expires_seconds: int,
    now: datetime,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> str:
    """`url` (scheme, host and an already quoted path) with a signature valid for `expires_seconds` from `now` (UTC).

    The request must be sent with exactly `headers`, whose names are lower case here.
    """
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    signed = {"host": parts.netloc, **(headers or {})}
    names = ";".join(sorted(signed))
    parameters = {
        **(query or {}),
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_seconds),
        "X-Amz-SignedHeaders": names,
    }
    if credentials.session_token:
        parameters["X-Amz-Security-Token"] = credentials.session_token
    encoded = "&".join(
        sorted(
            f"{quote(name, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}"
            for name, value in parameters.items()
        )
    )
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            encoded,
            *(f"{name}:{' '.join(signed[name].split())}" for name in sorted(signed)),
            "",
            names,
            "UNSIGNED-PAYLOAD",
        )
    )
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = _signing_key(credentials.secret_key, stamp[:8], credentials.region)
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{encoded}&X-Amz-Signature={signature}"
