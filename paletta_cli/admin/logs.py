"""`paletta admin logs`: tables, following, and what a proof found."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from paletta_cli.api import Service, segment
from paletta_cli.desk.words import sheet
from paletta_cli.moments import minute, second
from paletta_cli.output import Column, Output
from paletta_cli.text import clean, duration, encodable, plural

SHEET = ("at", "who", "action", "object", "details", "ip", "request_id")
VERIFY_SECONDS = 900.0
"""A proof reads the whole log: some 100,000 rows a second."""
FOLLOW_SECONDS = 25
PAUSE_SECONDS = 0.5


def known_as(service: Service, text: str | None) -> tuple[str | None, str | None]:
    """What the log knows a thing by: orders by their ids. What was done to a refund was done to its order, and names
    the refund, whose id comes second then."""
    if text and text.upper().startswith("P-"):
        return _order(service, text), None
    if text and text.startswith("refund_"):
        refund = service.get(f"/v1/admin/refunds/{segment(text)}")
        return _order(service, refund["order"]), refund["id"]
    return text, None


def _order(service: Service, number: str) -> str:
    return str(service.get(f"/v1/admin/orders/{segment(number)}")["id"])


def newest(
    service: Service, params: Mapping[str, Any], limit: int, *, refund: str | None
) -> list[Mapping[str, Any]]:
    """The newest entries that fit; of an order's those about `refund` alone."""
    most = None if refund else limit
    entries = service.pages("/v1/admin/audit-log", most=most, limit=min(limit, 200), **params)
    return list(islice((entry for entry in entries if _is_about(entry, refund)), limit))


def _is_about(entry: Mapping[str, Any], refund: str | None) -> bool:
    return refund is None or entry["details"].get("refund") == refund


def show(out: Output, entries: Sequence[Mapping[str, Any]], *, csv: bool) -> None:
    if csv:
        return sheet(out, [{**_flat(entry), "details": _flat(entry)["told"]} for entry in entries], SHEET)
    rows = entries if out.mode == "json" else [_flat(entry) for entry in entries]
    return out.table(rows, _columns(out), empty="nothing of the kind was done")


def _columns(out: Output) -> list[Column]:
    if out.mode == "table":  # in 80 columns ids and actions are whole, for they are what filters take
        return [
            Column("at", "when", show=second, wrap=True),
            Column("who", "who", wrap=True),
            Column("action", "what"),
            Column("object", "to what"),
            Column("told", "details", wrap=True),
        ]
    names = ("who", "action", "object", "told", "ip", "request_id")
    return [Column("at", show=second), *(Column(name) for name in names)]


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    actor = entry["actor"]
    details = ", ".join(
        f"{name} {_value(value)}" for name, value in entry["details"].items() if value is not None
    )
    return {**entry, "who": actor["email"] if actor else "service", "told": details}


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def follow(
    service: Service, out: Output, params: Mapping[str, Any], *, last: int, refund: str | None
) -> None:
    """Print entries as they come, a line each, until interrupted."""
    path = "/v1/admin/audit-log/follow"
    asked = 0.0
    news = service.get(path, last=last, **params)
    while True:
        for entry in news["items"]:
            if _is_about(entry, refund):
                out.raw(_line(out, entry) + "\n")
        if not news["items"] and time.monotonic() - asked < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)  # a service about to stop answers at once
        asked = time.monotonic()
        news = service.get(
            path, timeout=FOLLOW_SECONDS + 15.0, after=news["after"], wait=FOLLOW_SECONDS, **params
        )


def _line(out: Output, entry: Mapping[str, Any]) -> str:
    if out.mode == "json":
        return encodable(json.dumps(entry, ensure_ascii=False))
    row = _flat(entry)
    cells = (second(row["at"]), row["who"], row["action"], row["object"], row["told"])
    return ("\t" if out.mode == "plain" else "  ").join(clean(cell) for cell in cells if cell)


def tell_verdict(out: Output, verdict: Mapping[str, Any]) -> int:
    """Say what was found; the exit code, 1 where the log is not what was written."""
    out.data(verdict)
    if verdict["intact"]:
        out.line(f"head {verdict['head']}")
        out.note(f"the audit log is intact: {plural(verdict['entries'], 'entry', 'entries')}")
        out.hint(
            "note the head elsewhere; `paletta admin logs verify --head HEAD` proves that nothing was cut since"
        )
        return 0
    for finding in verdict["findings"]:
        about = finding["about"] or {}
        said = f": {about['action']} {about['object']}, {second(about['at'])}" if about.get("action") else ""
        out.line(f"{finding['kind']}\t{finding['words']}{said}")
    if (more := verdict["found"] - len(verdict["findings"])) > 0:
        out.note(f"and {more:,} more")
    out.error(
        f"the audit log is not what was written: {plural(verdict['found'], 'finding')}",
        "look at who can be superuser of the database, and compare with a backup",
    )
    return 1


def show_mails(out: Output, mails: Sequence[Mapping[str, Any]]) -> None:
    columns = [
        Column("created_at", "when", show=minute, wrap=True),
        Column("to", "to", wrap=True),
        Column("subject", "subject", wrap=True),
        Column("status", "status", show=lambda status: str(status).replace("_", " "), style=_colour),
        Column("tries", "tries", right=True),
        Column("last_error", "error", wrap=True),
    ]
    out.table(mails, columns, empty="no such mails")


def show_runs(out: Output, runs: Sequence[Mapping[str, Any]]) -> None:
    rows = runs if out.mode == "json" else [{**run, "took": _took(run)} for run in runs]
    columns = [
        Column("started_at", "begun", show=minute, wrap=True),
        Column("clip_id", "clip"),
        Column("title", "title", wrap=True),
        Column("attempt", "try", right=True),
        Column("status", "status", style=_colour),
        Column("took", "took", right=True),
        Column("error", "why", wrap=True),
    ]
    out.table(rows, columns, empty="no such attempts")


def _took(run: Mapping[str, Any]) -> str:
    if not run["finished_at"]:
        return ""
    span = datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])
    return duration(max(0.0, span.total_seconds()))


def _colour(status: object) -> str:
    return {"failed": "red", "given_up": "red", "waiting": "yellow"}.get(str(status), "")
