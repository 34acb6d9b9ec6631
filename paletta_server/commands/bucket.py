"""`paletta-server storage bootstrap`: the bucket as the settings want it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.bucket import Change
    from paletta_server.core.settings import Settings

NOT_ALL = 6


def bootstrap(*, plan: bool, versioning: Literal["on", "off"] | None, as_json: bool) -> int:
    """Set the bucket up, or show what that would change; 6 where something could not be set."""
    from botocore.exceptions import BotoCoreError

    from paletta_server.core.errors import Unavailable
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.core.storage import StoreError

    settings = get_settings()
    configure_logging(settings)
    try:
        changes = asyncio.run(_run(settings, versioning, plan=plan))
    except StoreError as error:
        hint = "\nhint: the name is taken by somebody else, or the role lacks s3:ListBucket"
        terminal.error(f"bucket `{settings.s3_bucket}`: {error}{hint if error.code == '403' else ''}")
        return 1
    except (Unavailable, BotoCoreError) as error:
        terminal.error(f"bucket `{settings.s3_bucket}`: {error}")
        return 1
    if as_json:
        terminal.result(json.dumps([asdict(one) for one in changes], indent=2, default=str))
    else:
        _tell(changes)
    terminal.say(_summary(settings, changes))
    return NOT_ALL if any(_wrong(settings, one) for one in changes) else 0


async def _run(settings: Settings, versioning: Any, *, plan: bool) -> list[Change]:
    from paletta_server.core import bucket
    from paletta_server.core.storage import ObjectStore

    async with ObjectStore(settings) as store:
        return await bucket.bootstrap(store, settings, versioning=versioning, plan=plan)


def _tell(changes: list[Change]) -> None:
    for one in changes:
        terminal.row(one.what, one.outcome, one.why)
        if one.outcome in ("changed", "would change"):
            for sign, value in (("-", one.before), ("+", one.after)):
                if value is not None:
                    terminal.row("", f"{sign} {json.dumps(value, sort_keys=True, default=str)}")


def _wrong(settings: Settings, one: Change) -> bool:
    """Another store than Amazon's need not know all of it; what it says it knows, it must keep."""
    lacking = ("not possible", "not kept")
    return one.outcome == "refused" or (one.outcome in lacking and settings.s3_endpoint is None)


def _summary(settings: Settings, changes: list[Change]) -> str:
    counts: dict[str, int] = {}
    for one in changes:
        counts[one.outcome] = counts.get(one.outcome, 0) + 1
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    lacking = [one.what for one in changes if one.outcome in ("not possible", "not kept")]
    said = f"bucket `{settings.s3_bucket}`: {words}"
    return f"{said}\nhint: this store has no {', no '.join(lacking)}" if lacking else said
