"""`paletta-server storage audit`: database against object store, and mending what is wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings
    from paletta_server.operations.storage_audit import Fault, Report

FAULTS_REMAIN = 6
LISTED_MAX = 10_000
"""Faults that `--json` names; all are counted. Without it each is printed as it is found."""


def audit(*, fix: bool, brake: bool, deep: bool, older_than: float | None, as_json: bool) -> int:
    """Go over everything that is stored; 6 where faults remain."""
    from paletta_server.core.logging import configure_logging
    from paletta_server.core.settings import get_settings
    from paletta_server.operations.brake import TooMuchLost

    settings = get_settings()
    configure_logging(settings)
    named: list[Fault] = []

    def tell(fault: Fault) -> None:
        if as_json:
            if len(named) < LISTED_MAX:
                named.append(fault)
            return
        done = f" ({fault.outcome})" if fault.outcome else ""
        terminal.row(fault.what.replace("_", " "), fault.key, f"{fault.detail}{done}")

    age = None if older_than is None else timedelta(hours=older_than)
    try:
        report = asyncio.run(_run(settings, fix=fix, brake=brake, deep=deep, age=age, tell=tell))
    except TooMuchLost as error:
        terminal.error(
            f"nothing more is mended: {error}\n"
            "hint: look whether these are the right bucket and database; if they are, pass --no-brake"
        )
        return FAULTS_REMAIN
    if as_json:
        faults = [asdict(fault) for fault in named]
        terminal.result(json.dumps({**asdict(report), "faults": faults}, indent=2))
    terminal.say(_summary(report))
    if report.remaining and not fix:
        terminal.say("hint: `paletta-server storage audit --fix` mends what can be mended")
    elif report.remaining:
        terminal.say(
            "hint: what was sold and is gone comes back from a backup: `paletta-server restore DIR --objects-only`"
        )
    return FAULTS_REMAIN if report.remaining else 0


async def _run(
    settings: Settings, *, fix: bool, brake: bool, deep: bool, age: timedelta | None, tell: Any
) -> Report:
    from functools import partial

    from tqdm import tqdm

    import paletta_server.tasks  # noqa: F401 (mending defers jobs)
    from paletta_server.core.runtime import Runtime
    from paletta_server.operations import inventory
    from paletta_server.operations.brake import allowance
    from paletta_server.operations.mending import bring_back, mend
    from paletta_server.operations.storage_audit import audit as run_audit

    async with Runtime.open(settings) as runtime:
        async with runtime.db.transaction() as session:
            expected, _ = await inventory.count(session)
        allowed = await allowance(runtime, age) if fix and brake else None
        with terminal.bar("audit", " objects", total=expected) as bar:

            def on_fault(fault: Fault) -> None:
                with tqdm.external_write_mode():
                    tell(fault)

            report = await run_audit(
                runtime,
                min_age=age,
                deep=deep,
                mend=partial(mend, runtime, allowance=allowed) if fix else None,
                on_fault=on_fault,
                on_progress=bar.update,
            )
        if fix:
            report.back = await bring_back(runtime)
        return report


def _summary(report: Report) -> str:
    counts = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in report.found.items())
    words = [f"{report.objects:,} objects, {terminal.volume(report.bytes)}", counts or "no faults"]
    if report.young:
        words.append(f"{report.young:,} may belong to something under way")
    if report.foreign:
        words.append(f"{report.foreign:,} are none of ours")
    if report.back:
        words.append(f"{report.back:,} withdrawn clips are made again")
    if report.found:
        words.append(f"{report.remaining:,} remain")
    return "; ".join(words)
