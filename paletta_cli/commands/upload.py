"""`paletta upload`: the main job."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from paletta_cli.commands import CheckMedia, DryRun, Json


class Until(StrEnum):
    """How far to follow the clips: until their bytes are stored, until they are processed, until they are
    listed.
    """

    UPLOADED = "uploaded"
    READY = "ready"
    LIVE = "live"


def upload(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="folders with a `paletta.yaml`, or single clips"),
    ] = None,
    dry_run: DryRun = False,
    until: Annotated[Until, typer.Option(help="when to come back")] = Until.LIVE,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="connections at once, instead of finding out")
    ] = None,
    limit_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="bytes per second at most, such as 20M")
    ] = None,
    failed: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="only what went wrong in that run (`last`, or a batch id; with PATH… on another machine)",
        ),
    ] = None,
    check_media: CheckMedia = True,
    json: Json = False,
) -> int:
    """send clips with their manifest, and wait until they are live

    Everything is checked before the first byte is sent. Interrupted for whatever reason, the same command
    goes on where it stopped.
    """
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.text import parse_size
    from paletta_cli.transfer.session import Options
    from paletta_cli.transfer.session import upload as run

    try:
        rate = parse_size(limit_rate) if limit_rate else None
    except ValueError as error:
        raise UsageError(f"--limit-rate: {error}") from error
    options = Options(
        paths=tuple(paths or ()),
        dry_run=dry_run,
        until=until.value,
        concurrency=concurrency,
        limit_rate=rate,
        check_media=check_media,
        failed=failed,
    )
    return run(options, Output(json=json))
