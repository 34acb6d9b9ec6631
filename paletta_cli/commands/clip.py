"""`paletta clip CLIP`: everything about one clip of the shop. Needs no account."""

from pathlib import Path
from typing import Annotated

import typer

from paletta_cli.commands import Json


def clip(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="its id; the beginning is enough")],
    addresses: Annotated[
        bool, typer.Option("--addresses", help="print the previews' addresses (valid for an hour)")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="play the watermarked preview")] = False,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="save the watermarked preview (MP4)")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite files")] = False,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="words only, also where pictures can be shown")
    ] = False,
    json: Json = False,
) -> None:
    """a clip in the shop: what it is, what it costs, and clips like it"""
    from paletta_cli.clips.one import show_one
    from paletta_cli.output import Output

    show_one(
        Output(json=json),
        clip,
        login=False,
        addresses=addresses,
        open_=open_,
        preview=preview,
        force=force,
        pictures=not no_pictures,
    )
