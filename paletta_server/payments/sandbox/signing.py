"""Signatures of the sandbox's events, made like Stripe's: `t=1764000000,v1=…`, HMAC-SHA-256 over `t.body`."""

import hashlib
import hmac
import re
import time

from paletta_server.payments.gateway import TOLERANCE_SECONDS, Forged

HEADER = "Paletta-Sandbox-Signature"
_FORM = re.compile(r"t=(?P<at>[0-9]{1,12}),v1=(?P<mac>[0-9a-f]{64})\Z")


def sign(body: bytes, secret: str, *, at: int | None = None) -> str:
    """The header's value for a body, as of `at` (seconds since 1970; None: now)."""
    moment = int(time.time()) if at is None else at
    return f"t={moment},v1={_mac(body, secret, moment)}"


def verify(body: bytes, header: str | None, secret: str) -> None:
    """Raises `Forged` for a signature that is missing, wrong, or older than it may be."""
    found = _FORM.match(header or "")
    if found is None or not secret:
        raise Forged("this event is not signed")
    moment = int(found["at"])
    if not hmac.compare_digest(found["mac"], _mac(body, secret, moment)):
        raise Forged("this event does not bear the sandbox's signature")
    if abs(time.time() - moment) > TOLERANCE_SECONDS:
        raise Forged("this event was signed too long ago", code="stale_event")


def _mac(body: bytes, secret: str, moment: int) -> str:
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
