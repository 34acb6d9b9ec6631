"""`paletta admin uploads list | show | retry | cancel`: everybody's uploads."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(no_args_is_help=True, help="everybody's uploads: list, show, retry, cancel")

UploadId = Annotated[
    str,
    typer.Argument(
        metavar="UPLOAD", help="an upload's id, such as upl_7h3k9m2qxw4t; its beginning is enough"
    ),
]


class State(StrEnum):
    WAITING = "waiting"
    UPLOADING = "uploading"
    COMPLETING = "completing"
    STORED = "stored"
    VERIFYING = "verifying"
    PROBING = "probing"
    TRANSCODING = "transcoding"
    PUBLISHING = "publishing"
    IN_REVIEW = "in_review"
    LIVE = "live"
    CHANGES_REQUESTED = "changes_requested"
    TAKEN_DOWN = "taken_down"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DELETED = "deleted"


@app.command("list")
def list_(
    contributor: Annotated[str | None, typer.Option(help="only this one's: e-mail address or id")] = None,
    state: Annotated[State | None, typer.Option(help="only those at this stage")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="only those registered since; 7d and 24h will do")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="ID", help="only those of this batch")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="only what failed, was rejected or expired")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many, newest first")] = 50,
    json: Json = False,
) -> None:
    """everybody's uploads with size, speed and outcome, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.moments import moment
    from paletta_cli.output import Column, Output
    from paletta_cli.text import rate, size, when

    filters: dict[str, Any] = {
        "contributor": contributor,
        "state": state.value if state else None,
        "since": moment(since, "--since"),
        "batch": batch,
        "failed": failed or None,
    }
    with connect() as service:
        rows = list(service.pages("/v1/admin/uploads", most=limit, limit=min(limit, 100), **filters))
    columns = [
        Column("id", "upload"),
        Column("created_at", "registered", show=when),
        Column("stage", "stage", style=_style),
        Column("size", "size", show=size, right=True),
        Column("bytes_per_second", "speed", show=lambda speed: rate(speed) if speed else "", right=True),
        Column("contributor", "contributor", wrap=True),
    ]
    out = Output(json=json)
    if out.mode == "plain":
        columns += [Column("clip_id"), Column("file"), Column("reason")]
    out.table(rows, columns, empty="no uploads")


@app.command()
def show(upload: UploadId, json: Json = False) -> None:
    """one upload: whose, how far, and each attempt at making a clip of it"""
    from paletta_cli.api import connect, segment

    with connect() as service:
        found = service.get(f"/v1/admin/uploads/{segment(upload)}")
    _show(found, json=json)


@app.command()
def retry(upload: UploadId, json: Json = False) -> None:
    """another run for an upload whose processing failed; nothing is sent again"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    with connect() as service:
        done = service.post(f"/v1/admin/uploads/{segment(upload)}/retry")
    Output(json=json).data(done)
    Output().note(f"`{done['file']}` gets another run; `paletta admin uploads show {done['id']}` follows it")


@app.command()
def cancel(upload: UploadId, yes: Yes = False, json: Json = False) -> None:
    """stop somebody's upload, and drop what has arrived of it"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        path = f"/v1/admin/uploads/{segment(upload)}"
        found = service.get(path)
        question = f"stop `{found['file']}` of {found['contributor']} and drop what has arrived of it?"
        if not out.confirm(question, yes=yes):
            out.note("nothing was cancelled")
            raise typer.Exit(1)
        done = service.post(f"{path}/cancel", idempotent=True)
    out.data(done)
    out.note(f"{done['id']} cancelled")


def _show(found: dict[str, Any], *, json: bool) -> None:
    from paletta_cli.output import Column, Output
    from paletta_cli.text import duration, rate, size, when

    out = Output(json=json)
    out.record(
        found,
        [
            Column("id", "upload"),
            Column("contributor", "contributor"),
            Column("file", "file"),
            Column("size", "size", show=size),
            Column("clip_id", "clip"),
            Column("batches", "batches"),
            Column("state", "state"),
            Column("stage", "stage"),
            Column("reason", "why"),
            Column("hint", "hint"),
            Column("uploaded_parts", "parts", show=lambda there: f"{len(there)} of {found['part_count']}"),
            Column("created_at", "registered", show=when),
            Column("stored_at", "arrived", show=lambda stamp: when(stamp) if stamp else ""),
            Column("seconds", "took", show=lambda took: duration(took) if took else ""),
            Column("bytes_per_second", "speed", show=lambda speed: rate(speed) if speed else ""),
            Column("sha256", "sha-256"),
        ],
    )
    if out.mode == "json":
        return
    for run in found["runs"]:
        figures = run["figures"].items()
        spent = ", ".join(
            f"{step} {value:.1f} s" for step, value in figures if isinstance(value, int | float)
        )
        words = [
            when(run["began_at"]),
            f"run {run['attempt']}",
            run["status"],
            run["worker"],
            spent,
            ", ".join(run["figures"].get("findings", ())),
            run["error"],
        ]
        out.line("  ".join(word for word in words if word))
    for event in found["history"]:
        out.line(f"{when(event['at'])}  {event['stage']}  {event.get('reason') or ''}".rstrip())


def _style(stage: str) -> str:
    return {"failed": "red", "rejected": "red", "live": "green"}.get(stage, "")
