"""The doctor's look at what is outside: the delivery of files, Amazon SES, who is paid through."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from paletta_server.commands.doctor import Trouble, first_line

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings


async def delivery(settings: Settings) -> str:
    """Read an object by the address that a customer would get."""
    import httpx

    from paletta_server.core.delivering import KeysUnreadable
    from paletta_server.core.storage import ObjectStore

    if settings.cloudfront_domain is None:
        return "straight from the store"
    key, name = f"_paletta/doctor-{secrets.token_hex(8)}", 'attachment; filename="doctor.bin"'
    try:
        opened = ObjectStore(settings)
    except KeysUnreadable as error:
        raise Trouble(str(error), "set PALETTA_CLOUDFRONT_KEYS to KID:path,KID:path") from error
    async with opened as store, httpx.AsyncClient(timeout=10) as http:
        await store.call(lambda s3: s3.put_object(Bucket=store.bucket, Key=key, Body=b"doctor"))
        address = store.delivery.file(key, seconds=60, content_type="text/plain", disposition=name)
        try:
            got = await http.get(address)
            open_ = await http.get(address.partition("?")[0])
        except httpx.TransportError as error:
            raise Trouble(
                f"{settings.cloudfront_domain}: {type(error).__name__}", "set PALETTA_CLOUDFRONT_DOMAIN"
            ) from error
        finally:
            await store.delete([key])
    if got.status_code != 200 or got.content != b"doctor":
        raise Trouble(
            f"{settings.cloudfront_domain} answers {got.status_code} to a signed address",
            "the key that signs must be in the distribution's key group, and the distribution must read the bucket",
        )
    if got.headers.get("content-disposition") != name:
        raise Trouble(
            "files do not get their names", "let the distribution pass `response-*` on to the bucket"
        )
    if open_.status_code == 200:
        raise Trouble("it gives files to anybody", "let its default behaviour want the key group")
    return f"{settings.cloudfront_domain}: signed addresses work, others do not"


async def ses(settings: Settings) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    from paletta_server.aws import clients

    try:
        account = await asyncio.to_thread(clients.client(settings, "sesv2").get_account)
    except (BotoCoreError, ClientError) as error:
        raise Trouble(
            f"Amazon SES: {first_line(error)}",
            "see the role's rights (ses:GetAccount) and PALETTA_AWS_REGION",
        ) from error
    if not account.get("SendingEnabled"):
        raise Trouble("Amazon SES sends nothing for this account", "ask AWS why sending was paused")
    if not account.get("ProductionAccessEnabled"):
        raise Trouble(
            "Amazon SES sends to verified addresses only", "ask AWS for production access", "warning"
        )
    if settings.mail_events_queue_url is None:
        raise Trouble(
            "nobody hears of bounces and complaints",
            "set PALETTA_MAIL_EVENTS_QUEUE_URL and run `paletta-server mail-events`",
            "warning",
        )
    return "Amazon SES"


async def payments(settings: Settings) -> str:
    """Ask each gateway something that changes nothing, with the rights that comparing our books needs."""
    if not settings.gateways:
        raise Trouble("nobody can pay", "name a gateway in PALETTA_GATEWAYS", "warning")
    if "stripe" in settings.gateways:
        await _stripe(settings)
    return ", ".join(settings.gateways)


async def _stripe(settings: Settings) -> None:
    from datetime import UTC, datetime, timedelta

    from paletta_server.payments.gateway import GatewayDown, Refused
    from paletta_server.payments.gateways.stripe import StripeGateway

    key = settings.stripe_secret_key
    if key is None:
        raise Trouble(
            "PALETTA_GATEWAYS names `stripe`, and there is no key for it: no such checkout opens",
            "set PALETTA_STRIPE_SECRET_KEY, or take `stripe` out of PALETTA_GATEWAYS",
        )
    try:
        await StripeGateway(settings).list_checkouts(datetime.now(UTC) - timedelta(minutes=1))
    except (GatewayDown, Refused) as error:
        raise Trouble(
            f"Stripe: {first_line(error.__cause__ or error)}",
            "see PALETTA_STRIPE_SECRET_KEY, and with a restricted key what it may read",
        ) from error
    if settings.stripe_webhook_secret is None:
        raise Trouble(
            "Stripe cannot tell us of payments: they are found by asking, minutes later",
            f"add {settings.public_url}/v1/webhooks/stripe at Stripe and set PALETTA_STRIPE_WEBHOOK_SECRET",
            "warning",
        )
    if settings.env == "production" and "_test_" in key.get_secret_value():
        raise Trouble(
            "Stripe's test key sells for no money", "set PALETTA_STRIPE_SECRET_KEY to a live one", "warning"
        )
