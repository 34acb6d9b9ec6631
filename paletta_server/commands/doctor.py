"""`paletta-server doctor`: everything the service needs, tried for real; each failure names its fix."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.bucket import Change
    from paletta_server.core.settings import Settings

CHECK_SECONDS = 20.0
OLDEST_POSTGRES = 150000
"""PostgreSQL 15: the oldest version that the schema and the queue are tested with."""

Outcome = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """What one check found. `fix` is empty when nothing has to be done."""

    check: str
    outcome: Outcome
    detail: str
    fix: str = ""


class Trouble(Exception):
    """A check did not pass. `outcome` tells a fault from a warning."""

    def __init__(self, detail: str, fix: str, outcome: Outcome = "failed") -> None:
        super().__init__(detail)
        self.fix = fix
        self.outcome: Outcome = outcome


Check = Callable[["Settings"], Coroutine[Any, Any, str]]


def doctor(*, as_json: bool, stack: Path | None = None) -> int:
    """Run every check, `stack` being the data directory of the one-machine stack; 0 when none failed, 1 otherwise."""
    from paletta_server.core.settings import get_settings

    findings = asyncio.run(examine(get_settings(), stack))
    healthy = all(finding.outcome != "failed" for finding in findings)
    if as_json:
        report = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
        terminal.result(json.dumps(report, indent=2))
    else:
        for finding in findings:
            terminal.result(f"{finding.outcome:8} {finding.check:14} {finding.detail}")
            if finding.fix:
                terminal.result(f"{'':23} hint: {finding.fix}")
    return 0 if healthy else 1


async def examine(settings: Settings, stack: Path | None = None) -> list[Finding]:
    """Run the checks side by side; their findings in a fixed order."""
    from paletta_server.commands import doctor_machine as machine
    from paletta_server.commands import doctor_outside as outside

    checks: dict[str, Check] = {
        "database": _database,
        "schema": _schema,
        "bucket": _bucket,
        "bucket rules": _bucket_rules,
        "transfer": _transfer,
        "delivery": outside.delivery,
        "mail": _mail,
        "payments": outside.payments,
        "proxies": _proxies,
        "sandbox": _sandbox,
        "ffmpeg": _ffmpeg,
        "scratch space": _scratch,
        "search index": _search_index,
        "told of faults": machine.operators,
        "old copies": machine.old_copies,
    }
    if stack is not None:
        checks["store's disk"] = partial(machine.disk, stack)
    return list(await asyncio.gather(*(_run(name, check, settings) for name, check in checks.items())))


async def _run(name: str, check: Check, settings: Settings) -> Finding:
    try:
        return Finding(name, "ok", await asyncio.wait_for(check(settings), CHECK_SECONDS))
    except Trouble as trouble:
        return Finding(name, trouble.outcome, str(trouble), trouble.fix)
    except TimeoutError:
        return Finding(
            name, "failed", f"no answer within {CHECK_SECONDS:.0f} s", "see whether it is reachable"
        )
    except Exception as error:
        return Finding(name, "failed", f"{type(error).__name__}: {first_line(error)}", "")


def first_line(error: BaseException) -> str:
    from paletta_server.core.logging import mask

    return mask(next(iter(str(error).strip().splitlines()), ""))


async def _database(settings: Settings) -> str:
    import psycopg

    from paletta_server.core.dbconnect import connect_async
    from paletta_server.core.logging import mask

    try:
        async with await connect_async(settings, connect_timeout=10) as connection:
            version = connection.info.server_version
    except psycopg.OperationalError as error:
        raise Trouble(
            f"no connection to {mask(settings.libpq_url)}: {first_line(error)}",
            "set PALETTA_DATABASE_URL, or start a stack with `paletta-server up`",
        ) from error
    if version < OLDEST_POSTGRES:
        raise Trouble(f"PostgreSQL {version // 10000} is too old", "upgrade to PostgreSQL 15 or newer")
    return f"PostgreSQL {version // 10000}.{version % 10000}"


async def _schema(settings: Settings) -> str:
    from sqlalchemy.exc import OperationalError

    from paletta_server import migrations

    try:
        current, wanted = await asyncio.to_thread(migrations.versions, settings)
    except OperationalError as error:
        raise Trouble("not known: the database does not answer", "see the check above") from error
    if current != wanted:
        raise Trouble(
            f"at {current or 'nothing'}, this version wants {wanted}", "run `paletta-server migrate`"
        )
    return f"at {current}"


def _where(settings: Settings) -> str:
    return f"`{settings.s3_bucket}` at {settings.s3_endpoint or 'Amazon S3'}"


async def _look_at_bucket(settings: Settings) -> list[Change]:
    from botocore.exceptions import BotoCoreError

    from paletta_server.core import bucket
    from paletta_server.core.errors import Unavailable
    from paletta_server.core.storage import ObjectStore, StoreError

    try:
        async with ObjectStore(settings) as store:
            return await bucket.look(store, settings)
    except StoreError as error:
        if error.code in ("404", "NoSuchBucket"):
            raise Trouble(
                f"{_where(settings)} does not exist", "run `paletta-server migrate --bucket`"
            ) from error
        raise Trouble(
            f"{_where(settings)}: {error}",
            "check PALETTA_S3_ACCESS_KEY, PALETTA_S3_SECRET_KEY and their rights",
        ) from error
    except Unavailable as error:
        raise Trouble(
            f"{_where(settings)}: {error.detail}", "check PALETTA_S3_ENDPOINT and that the store runs"
        ) from error
    except BotoCoreError as error:
        raise Trouble(
            f"{_where(settings)}: {first_line(error)}", "set PALETTA_S3_ACCESS_KEY and PALETTA_S3_SECRET_KEY"
        ) from error


async def _bucket(settings: Settings) -> str:
    await _look_at_bucket(settings)
    return _where(settings)


async def _bucket_rules(settings: Settings) -> str:
    found = await _look_at_bucket(settings)
    fix = "`paletta-server storage bootstrap --plan` shows the difference, without --plan it is mended"
    if missing := [one.what for one in found if one.outcome == "would change" and one.before is None]:
        raise Trouble(f"no {' and no '.join(missing)} rules", fix)
    if other := [one.what for one in found if one.outcome == "would change"]:
        raise Trouble(f"{' and '.join(other)} rules are not those of the settings", fix, "warning")
    if unread := [one for one in found if one.outcome == "refused"]:
        raise Trouble(
            f"{unread[0].what} cannot be read: {unread[0].why}", "see the rights of the role", "warning"
        )
    return f"{' and '.join(one.what for one in found[1:] if one.outcome == 'as wanted')} are set"


async def _transfer(settings: Settings) -> str:
    """Store and read an object through presigned addresses, as contributors' machines do."""
    import httpx

    from paletta_server.core.errors import Unavailable
    from paletta_server.core.storage import ObjectStore

    body = secrets.token_bytes(4096)
    key = f"_paletta/doctor-{secrets.token_hex(8)}"
    fix = (
        "see the bucket's check; a proxy in between must not change headers; clocks must agree within minutes"
    )
    async with ObjectStore(settings) as store, httpx.AsyncClient(timeout=10) as http:
        try:
            address, headers = store.presign_put(key, size=len(body), crc64nvme=_crc64nvme(body), seconds=60)
        except Unavailable as error:
            raise Trouble(error.detail, "set PALETTA_S3_ACCESS_KEY and PALETTA_S3_SECRET_KEY") from error
        try:
            put = await http.put(address, content=body, headers=headers)
            if put.status_code != 200:
                raise Trouble(f"a presigned PUT was answered {put.status_code}", fix)
            try:
                got = await http.get(store.presign_get(key, seconds=60))
            finally:
                await store.delete([key])
        except httpx.TransportError as error:
            raise Trouble(f"no presigned PUT and GET: {type(error).__name__}", fix) from error
    if got.status_code != 200 or got.content != body:
        raise Trouble(f"a presigned GET was answered {got.status_code}, {len(got.content)} bytes", fix)
    return "presigned PUT with checksum, and GET"


def _crc64nvme(body: bytes) -> str:
    import base64

    from awscrt import checksums

    return base64.b64encode(int(checksums.crc64nvme(body)).to_bytes(8, "big")).decode()


async def _mail(settings: Settings) -> str:
    if settings.mailer == "ses":
        from paletta_server.commands import doctor_outside

        return await doctor_outside.ses(settings)
    import aiosmtplib

    where = f"{settings.smtp_host}:{settings.smtp_port}"
    server = aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        use_tls=settings.smtp_tls == "tls",
        start_tls=settings.smtp_tls == "starttls",
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        timeout=10,
    )
    try:
        async with server:
            await server.noop()
    except aiosmtplib.SMTPAuthenticationError as error:
        raise Trouble(
            f"{where} refuses the login", "check PALETTA_SMTP_USERNAME and PALETTA_SMTP_PASSWORD"
        ) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise Trouble(
            f"{where}: {first_line(error)}", "set PALETTA_SMTP_HOST, PALETTA_SMTP_PORT and PALETTA_SMTP_TLS"
        ) from error
    return where


async def _proxies(settings: Settings) -> str:
    """Behind a balancer that is not trusted, all clients are one to the throttles: a stranger locks out everyone."""
    from urllib.parse import urlsplit

    if settings.trusted_proxies:
        return ", ".join(settings.trusted_proxies)
    host = urlsplit(settings.public_url).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return "none is needed"
    raise Trouble(
        f"people reach {host}, and only a proxy on this machine may say who they are",
        "set PALETTA_TRUSTED_PROXIES to the balancer's addresses, or to 127.0.0.1 if there is none elsewhere",
        "warning",
    )


async def _sandbox(settings: Settings) -> str:
    from paletta_server.ingest.sandbox import Sandbox, SandboxUnavailable

    try:
        sandbox = await asyncio.to_thread(Sandbox.create, settings.sandbox_mode)
    except SandboxUnavailable as error:
        raise Trouble(error.reason, error.hint) from error
    if sandbox.warnings:
        raise Trouble(
            f"{sandbox.describe()}: {sandbox.warnings[0]}",
            "do not take clips from strangers on this machine",
            "warning",
        )
    return sandbox.describe()


async def _ffmpeg(_settings: Settings) -> str:
    import imageio_ffmpeg

    def ask() -> str:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run(
            [program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True
        )
        missing = [name for name in ("libx264", "mjpeg", "aac") if f" {name} " not in done.stdout]
        if missing:
            raise Trouble(f"`{program}` lacks {', '.join(missing)}", "unset IMAGEIO_FFMPEG_EXE")
        return f"{imageio_ffmpeg.get_ffmpeg_version()}, with libx264 and aac"

    try:
        return await asyncio.to_thread(ask)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise Trouble(f"no working ffmpeg: {first_line(error)}", "pip install 'paletta[server]'") from error


def _own(folder: Path, setting: str) -> Path:
    from paletta_server.core.folders import FolderRefused, own_folder

    try:
        return own_folder(folder, setting)
    except FolderRefused as error:
        raise Trouble(str(error), error.hint) from error


async def _search_index(settings: Settings) -> str:
    if settings.search_backend == "opensearch":
        return await asyncio.to_thread(_shared_index, settings)
    return f"`{_own(settings.search_dir, 'PALETTA_SEARCH_DIR')}`"


def _shared_index(settings: Settings) -> str:
    from paletta_server.core.errors import PalettaError
    from paletta_server.search import opensearch_indexes
    from paletta_server.search.opensearch_client import Missing, Refused, asking, connect

    try:
        client = connect(settings)
        with asking():
            version = client.info()["version"]["number"]
        name = opensearch_indexes.live(client, settings.opensearch_index)
    except (ImportError, ValueError, PalettaError, Missing, Refused) as error:
        raise Trouble(
            f"OpenSearch: {first_line(error)}",
            "see PALETTA_OPENSEARCH_URL; pip install 'paletta[opensearch]'",
        ) from error
    return f"OpenSearch {version}, `{settings.opensearch_index}` is " + (
        f"`{name}`" if name else "to be built"
    )


async def _scratch(settings: Settings) -> str:
    folder = _own(settings.scratch_dir, "PALETTA_SCRATCH_DIR")
    free = shutil.disk_usage(folder).free
    # Per clip in work: the source, and outputs that together are smaller than it.
    wanted = 2 * settings.ingest_max_bytes * settings.worker_concurrency
    detail = f"{free / 1e9:.0f} GB free at `{folder}`"
    if free < wanted:
        raise Trouble(
            f"{detail}; the largest clips may need {wanted / 1e9:.0f} GB",
            "point PALETTA_SCRATCH_DIR at a larger disk, or lower PALETTA_INGEST_MAX_BYTES",
            "warning",
        )
    return detail
