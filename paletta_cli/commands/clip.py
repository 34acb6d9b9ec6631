"""`paletta clip [show] CLIP | report CLIP`: one clip of the shop, and telling the operators what is wrong with it."""

from pathlib import Path
from typing import Annotated

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(
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
    """a clip in the shop: what it is, what it costs, and clips like it; needs no account

    `paletta clip CLIP` is the same.
    """
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


@app.command()
def report(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="its id; the beginning is enough")],
    reason: Annotated[
        str,
        typer.Option(
            metavar="CODE", help="copyright, trademark, privacy, misleading, offensive, technical or other"
        ),
    ],
    text: Annotated[str, typer.Option(help="what the operators should know; `other` needs it")] = "",
    json: Json = False,
) -> None:
    """tell the operators what is wrong with a clip; its contributor is not told who did"""
    from paletta_cli.api import clip_segment, connect
    from paletta_cli.output import Output
    from paletta_cli.wrong_values import told_of

    out = Output(json=json)
    with connect() as service:
        body = {"reason_code": reason, "text": text}
        with told_of({"reason_code": "--reason", "text": "--text"}, {"--reason": reason}):
            told = service.post(f"/v1/clips/{clip_segment(clip)}/reports", body)
    out.data(told)
    out.line(f"{told['clip']} reported")
    out.note("thank you: an operator looks at it")
