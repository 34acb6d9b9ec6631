"""`paletta uploads`: the batches of this account."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.api import Service

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Batch = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="a batch or an upload; its beginning is enough; `last` is the latest batch from this machine",
    ),
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="how many, newest first")] = 20, json: Json = False
) -> None:
    """your batches, newest first"""
    from paletta_cli import api
    from paletta_cli.output import Column, Output

    with api.connect() as service:
        batches = list(service.pages("/v1/upload-batches", most=limit, limit=min(limit, 100)))
    columns = [
        Column("id", "batch"),
        Column("name", "name"),
        Column("status", "status"),
        Column("counts", "clips", show=_counts),
        Column("created_at", "begun", show=_when),
    ]
    Output(json=json).table(batches, columns, empty="no uploads yet")


@app.command()
def show(batch: Batch, json: Json = False) -> None:
    """a batch and its clips, or one upload with its history"""
    from paletta_cli import api
    from paletta_cli.output import Column, Output

    out = Output(json=json)
    with api.connect() as service:
        if _is_upload(batch):
            _show_upload(service.get(f"/v1/uploads/{api.segment(batch)}"), out)
            return
        path = f"/v1/upload-batches/{api.segment(_named(service, batch))}"
        found = service.get(path, limit=100)
        items = list(service.pages(path, limit=100))
    if out.mode == "json":
        out.data({**found, "items": items, "next_cursor": None})
        return
    out.note(
        f"{found['name']}: {found['status']}, begun {_when(found['created_at'])}, {_counts(found['counts'])}"
    )
    columns = [
        Column("ref", "file"),
        Column("stage", "stage"),
        Column("progress", "", show=_percent, right=True),
        Column("clip_id", "clip"),
        Column("upload_id", "upload"),
        Column("reason", "why", wrap=True),
    ]
    out.table(items, columns)


@app.command()
def cancel(batch: Batch, yes: Yes = False, json: Json = False) -> None:
    """give up a batch, or one upload; what is live or in review stays"""
    from paletta_cli import api
    from paletta_cli.output import Output

    out = Output(json=json)
    with api.connect() as service:
        batch = _named(service, batch)
        if not out.confirm(f"give up `{batch}` and drop what has arrived of it?", yes=yes):
            out.note("nothing was cancelled")
            return
        kind = "uploads" if _is_upload(batch) else "upload-batches"
        answer = service.post(f"/v1/{kind}/{api.segment(batch)}/cancel", idempotent=True)
    out.data(answer)
    out.line(f"{answer['id']} cancelled")


def _named(service: "Service", word: str) -> str:
    """The batch that `last` means; any other word as it is. Raises PalettaError where there was none."""
    if word != "last":
        return word
    from paletta_cli import settings
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.transfer.journal import Journal

    with Journal(settings.state_dir() / "uploads.db", Output().warn) as journal:
        run = journal.find(word, service.url, str(service.get("/v1/me")["id"]))
    if run is None:
        raise PalettaError(
            "this account has no run on this machine yet", hint="`paletta uploads list` shows batches"
        )
    return run.batch_id


def _show_upload(upload: dict[str, Any], out: Any) -> None:
    from paletta_cli.output import Column
    from paletta_cli.text import size

    columns = [
        Column("id", "upload"),
        Column("file", "file"),
        Column("size", "size", show=size),
        Column("clip_id", "clip"),
        Column("stage", "stage"),
        Column("reason", "why"),
        Column("uploaded_parts", "parts", show=lambda there: f"{len(there)} of {upload['part_count']}"),
        Column("sha256", "sha-256"),
    ]
    out.record(upload, columns)
    if out.mode != "json":
        for event in upload["history"]:
            out.line(f"{_when(event['at'])}  {event['stage']}  {event.get('reason') or ''}".rstrip())


def _is_upload(text: str) -> bool:
    return text.startswith("upl")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {stage.replace('_', ' ')}" for stage, count in counts.items()) or "no clips"


def _percent(progress: float | None) -> str:
    return "" if progress is None else f"{progress:.0%}"


def _when(stamp: str) -> str:
    """The service's timestamp in this machine's time."""
    from datetime import datetime

    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
