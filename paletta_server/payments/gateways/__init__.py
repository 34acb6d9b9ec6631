"""The gateways that a shop may take money by, chosen by PALETTA_GATEWAYS.

A payment remembers its gateway's name, and is looked after for as long as that is configured, offered or not.
"""

from collections.abc import Callable

from paletta_server.core.errors import NotFound
from paletta_server.core.runtime import Runtime
from paletta_server.payments.gateway import Gateway, GatewayDown


def _stripe(runtime: Runtime) -> Gateway:
    from paletta_server.payments.gateways.stripe import StripeGateway  # its SDK takes a moment to load

    return StripeGateway(runtime.settings)


def _invoice(runtime: Runtime) -> Gateway:
    from paletta_server.payments.gateways.invoice import InvoiceGateway

    return InvoiceGateway(runtime.db)


def _sandbox(runtime: Runtime) -> Gateway:
    from paletta_server.payments.sandbox.gateway import SandboxGateway

    return SandboxGateway(runtime)


MAKERS: dict[str, Callable[[Runtime], Gateway]] = {
    "stripe": _stripe,
    "invoice": _invoice,
    "sandbox": _sandbox,
}


def of(runtime: Runtime, name: str) -> Gateway:
    """The gateway called `name`. Raises `GatewayDown` where this service lacks what it needs to reach it."""
    make = MAKERS.get(name)
    if make is None:
        raise GatewayDown(f"this service knows no gateway `{name}`")
    return make(runtime)


def with_events(runtime: Runtime, name: str) -> Gateway:
    """The gateway whose events we can verify. Raises `NotFound`: without a secret anybody's would do."""
    settings = runtime.settings
    secrets = {"stripe": settings.stripe_webhook_secret, "sandbox": settings.sandbox_secret}
    secret = secrets.get(name)
    if secret is None or not secret.get_secret_value().strip():
        raise NotFound("webhook", name[:40])
    if name == "stripe" and settings.stripe_secret_key is None:
        raise NotFound("webhook", name)
    if name == "sandbox" and settings.env == "production":
        raise NotFound("webhook", name)
    return of(runtime, name)
