"""Disputes on a terminal: what the bank wants, what we would tell it, and the editor to say it in."""

import base64
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paletta_cli.desk.orders import style
from paletta_cli.desk.words import amount, left, moment, short, words
from paletta_cli.errors import PalettaError, UsageError, cannot
from paletta_cli.output import Column, Output
from paletta_cli.text import clean, size

_HEADING = "## "
_LARGEST = 4 * 1024 * 1024
_SOURCES = {"draft": "our draft", "operator": "changed", "sent": "sent"}
_ABOUT = (
    "# What the bank of this customer is told. Text stands under each heading; lines that begin with one # are left\n"
    "# out. An empty text leaves the field out. Close the editor without a change to change nothing.\n"
)


def show_list(out: Output, disputes: Sequence[Mapping[str, Any]]) -> None:
    """Disputes, newest first, with how long there is left to answer."""
    if out.mode == "json":
        return out.data(list(disputes))
    rows = [
        {
            **one,
            "sum": amount(one["amount"], one["currency"]),
            "due": left(one["due_by"]) if one["can_answer"] else words(one["response"]).replace("none", ""),
        }
        for one in disputes
    ]
    columns = [
        Column("id", "dispute", show=short if out.mode == "table" else None),
        Column("order", "order"),
        Column("status", "status", show=words, style=style),
        Column("sum", "amount", right=True),
        Column("due", "answer"),
    ]
    if out.mode == "plain":
        columns.append(Column("created_at"))
    return out.table(rows, columns, empty="no disputes fit")


def show(out: Output, dispute: Mapping[str, Any]) -> None:
    """One dispute, and the evidence as it would be sent now, or as it was."""
    if out.mode == "json":
        return out.data(dispute)
    shown = {
        **dispute,
        "sum": amount(dispute["amount"], dispute["currency"]),
        "taken": amount(dispute["withdrawn"], dispute["currency"]) if dispute["withdrawn"] else None,
        "due": f"{moment(dispute['due_by'])} UTC, {left(dispute['due_by'])}" if dispute["due_by"] else None,
        "answer": None if dispute["response"] == "none" else words(dispute["response"]),
    }
    out.record(
        shown,
        [
            Column("id", "dispute"),
            Column("order", "order"),
            Column("email", "customer"),
            Column("status", "status", show=words),
            Column("outcome", "outcome"),
            Column("reason", "reason", show=words),
            Column("sum", "amount"),
            Column("taken", "taken back"),
            Column("due", "answer due"),
            Column("answer", "answer"),
            Column("responded_by", "answered by"),
            Column("response_failure", "refused"),
            Column("reference", "at the gateway"),
        ],
    )
    for name, field in dispute["evidence"].items():
        out.line("")
        out.line(f"{name} ({_SOURCES.get(field['source'], field['source'])})")
        for line in str(field["text"]).splitlines():
            out.line(f"  {line}")
    for file in dispute["files"]:
        out.line(f"file {file['field']}: {file['content_type']}, {size(file['size'])}")
    for one in dispute["earlier"]:
        by = f" by {one['responded_by']}" if one["responded_by"] else ""
        at = f" on {moment(one['responded_at'])} UTC" if one["responded_at"] else ""
        out.line("")
        out.line(f"before, the answer was {words(one['response'])}{by}{at}; then the bank asked again")
    if dispute["can_answer"]:
        out.hint(f"`paletta admin disputes evidence {dispute['id']} --edit` changes what would be sent")
        out.hint(f"`paletta admin disputes submit {dispute['id']}` sends it, once")
    return None


def changes(texts: Sequence[str], resets: Sequence[str]) -> dict[str, str | None]:
    """`--set field=text` and `--reset field` as the service takes them. Raises UsageError."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, named, value = text.partition("=")
        if not named:
            raise UsageError(
                "--set: write FIELD=TEXT", hint="`show --json` lists `fields`, and what belongs into each"
            )
        found[name] = value
    return found | dict.fromkeys(resets)


def read_file(option: str) -> tuple[str, str]:
    """Field and base64 of `field=PATH`. Raises UsageError."""
    field, named, path = option.partition("=")
    if not named or not path:
        raise UsageError("--file: write FIELD=PATH, such as receipt=receipt.pdf")
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise cannot("read", path, error) from error
    if len(data) > _LARGEST:
        raise UsageError(f"`{path}` is larger than {size(_LARGEST)}, more than banks take")
    return field, base64.b64encode(data).decode()


def edit(dispute: Mapping[str, Any]) -> dict[str, str | None]:
    """What somebody changed of the evidence in their editor ($VISUAL, $EDITOR). Raises PalettaError."""
    fields: dict[str, str] = dispute["fields"]
    before = {name: str(field["text"]) for name, field in dispute["evidence"].items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.md"
        path.write_text(document(before, fields), encoding="utf-8")
        _open_editor(path)
        after = parse(path.read_text(encoding="utf-8", errors="replace"), fields)
    return {
        name: after.get(name, "") for name in fields if after.get(name, "") != _tidy(before.get(name, ""))
    }


def document(texts: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """All `fields` (with what belongs into each) under headings, for an editor. A line of a text that looks like a
    heading is indented."""
    parts = [_ABOUT]
    for name, what in fields.items():
        lines = _tidy(texts.get(name, "")).splitlines()
        body = "\n".join(f" {line}" if _is_marked(line) else line for line in lines)
        parts.append(f"\n{_HEADING}{name}\n# {what}\n{body}\n")
    return "".join(parts)


def _is_marked(line: str) -> bool:
    return line.lstrip(" ").startswith("#")


def parse(text: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Fields from such a document. Raises UsageError for a heading that is no field."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(_HEADING):
            name = line.removeprefix(_HEADING).strip()
            if name not in fields:
                raise UsageError(f"`{clean(name)}` is no field", hint="fields are " + ", ".join(fields))
            lines = found.setdefault(name, [])
        elif lines is not None and not line.startswith("#"):
            lines.append(line[1:] if _is_marked(line) else line)
    return {name: _tidy("\n".join(body)) for name, body in found.items()}


def _tidy(text: str) -> str:
    """As an editor leaves it: no blank ends."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def _open_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        ended = subprocess.run([*shlex.split(editor), str(path)], check=False)
    except (OSError, ValueError) as error:
        raise PalettaError(
            f"cannot start the editor `{editor}`", hint="set EDITOR, or use --set FIELD=TEXT"
        ) from error
    if ended.returncode:
        raise PalettaError(f"the editor ended with {ended.returncode}: nothing was changed")
