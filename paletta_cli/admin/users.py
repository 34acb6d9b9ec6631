"""`paletta admin users`: tables, the question before an erasure, and writing an export."""

import csv
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paletta_cli.errors import PalettaError, UsageError, cannot
from paletta_cli.moments import day, minute
from paletta_cli.output import Column, Output
from paletta_cli.text import cell, money, plural

FIELDS = (
    "id", "email", "email_verified", "display_name", "username", "institution", "role", "status", "created_at",
    "last_seen_at",
)  # fmt: skip


def show_list(out: Output, users: Sequence[Mapping[str, Any]], *, as_csv: bool) -> None:
    if as_csv:
        out.raw(_csv(users))
        return
    if out.mode == "table":
        fitting = [
            Column("id", "id"),
            Column("email", "e-mail", wrap=True),
            Column("role", "role"),
            Column("status", "status", style=lambda status: "" if status == "active" else "yellow"),
            Column("created_at", "since", show=day),
            Column("last_seen_at", "seen", show=day),
        ]
        out.table(users, fitting, empty="no such accounts")
        return
    columns = [Column(name) for name in FIELDS[:-2]]
    columns += [Column("created_at", show=minute), Column("last_seen_at", show=minute)]
    out.table(users, columns, empty="no such accounts")


def _csv(users: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a heading (RFC 4180). What a spreadsheet would take for a formula is quoted as text."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for user in users:
        writer.writerow([cell(user.get(name)) for name in FIELDS])
    return stream.getvalue()


def show_one(out: Output, user: Mapping[str, Any]) -> None:
    """One account: what it says, then what it did."""
    row = dict(user)
    if out.mode != "json":
        row |= {
            "confirmed": "yes" if user["email_verified"] else "no",
            "tokens": ", ".join(f"{count} {kind}" for kind, count in user["sessions"].items() if count),
            "bought_for": ", ".join(_spent(one) for one in user["bought"]),
            "sold_for": ", ".join(
                f"{plural(one['items'], 'item')} for {money(one['amount'], one['currency'])} {one['currency']}"
                for one in user["sold"]
            ),
            "ordered": ", ".join(f"{count} {status}" for status, count in user["orders"].items()),
            "shelf": f"{plural(user['clips'], 'clip')}, {user['live']} live" if user["clips"] else "",
            "sent": _sent(user["uploads"]),
            "got": f"{plural(user['licences'], 'licence')}, {plural(user['downloads'], 'download')}"
            if user["licences"] or user["downloads"]
            else "",
        }
    out.record(
        row,
        [
            Column("id"),
            Column("email", "e-mail"),
            Column("confirmed"),
            Column("pending_email", "to be confirmed"),
            Column("display_name", "name"),
            Column("username", "user name"),
            Column("institution"),
            Column("role"),
            Column("application"),
            Column("status"),
            Column("status_reason", "because"),
            Column("created_at", "since", show=minute),
            Column("deleted_at", "deleted", show=minute),
            Column("erased_at", "erased", show=minute),
            Column("last_seen_at", "last seen", show=minute),
            Column("tokens"),
            Column("ordered", "orders"),
            Column("bought_for", "bought"),
            Column("got", "holds"),
            Column("shelf", "clips"),
            Column("sold_for", "sold"),
            Column("sent", "uploads"),
            Column("collections"),
        ],
    )


def _spent(one: Mapping[str, Any]) -> str:
    words = f"{money(one['total'], one['currency'])} {one['currency']}"
    return f"{words} ({money(one['refunded'], one['currency'])} given back)" if one["refunded"] else words


def _sent(uploads: Mapping[str, int]) -> str:
    if not uploads["files"]:
        return ""
    words = f"{plural(uploads['files'], 'file')} in {plural(uploads['batches'], 'batch', 'batches')}"
    return f"{words}, {uploads['under_way']} under way" if uploads["under_way"] else words


def show_sessions(out: Output, tokens: Sequence[Mapping[str, Any]]) -> None:
    columns = [
        Column("id", "id"),
        Column("kind", "kind"),
        Column("name", "name", wrap=True),
        Column("last_used_at", "last used", show=minute),
        Column("expires_at", "expires", show=day),
    ]
    out.table(tokens, columns, empty="logged in nowhere")


def really(out: Output, user: Mapping[str, Any]) -> None:
    """Have the id typed before a person is erased. Raises UsageError without a terminal, PalettaError otherwise."""
    if not sys.stdin.isatty():
        raise UsageError("erasing wants the id typed on a terminal", hint="pass --yes to go ahead without")
    out.warn(f"this erases {user['email']} for good")
    if out.prompt(f"type {user['id']} to go ahead", option="--yes") != user["id"]:
        raise PalettaError("that is not the id; nothing was erased")


def save_export(out: Output, data: bytes, to: Path | None, *, force: bool) -> None:
    """Print the document, or write it where only its owner can read it: to a `.zip` or a folder (a name without an
    ending, or one that is there) with a file per section, else to one file."""
    document = _parsed(data)
    if to is None:
        out.raw(data.decode())
        return
    files = {f"{name}.json": _pretty(value) for name, value in document.items()}
    try:
        if to.is_dir() or not to.suffix:
            to.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, text in files.items():
                _write(to / name, text, force=force)
        elif to.suffix.lower() == ".zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in files.items():
                    archive.writestr(name, text)
            _write(to, packed.getvalue(), force=force)
        else:
            _write(to, data, force=force)
    except FileExistsError as error:
        raise UsageError(f"`{error.filename}` is there already", hint="pass --force to replace it") from error
    except OSError as error:
        raise cannot("write", to, error) from error
    out.note(f"wrote `{to}`")


def _parsed(data: bytes) -> dict[str, Any]:
    """The document, whole. Raises PalettaError where the connection was cut."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise PalettaError("the export was cut on its way", hint="try again") from error
    if not isinstance(document, dict) or not all(name.replace("_", "").isalnum() for name in document):
        raise PalettaError("unexpected answer from the service: no export")
    return document


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _write(path: Path, data: bytes, *, force: bool) -> None:
    import os

    if force:
        path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
