"""`paletta admin clips pending | approve | reject`: review."""

from typing import Annotated

import typer

from paletta_cli.commands import Json

app = typer.Typer(no_args_is_help=True, help="review: pending, approve, reject")

Clips = Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; their beginnings are enough")]


@app.command()
def pending(json: Json = False) -> None:
    """clips that wait for review, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.clips.showing import show_list
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = list(service.pages("/v1/admin/clips", review="submitted", limit=200))
    show_list(out, found, stages=False, empty="no clips wait for review")
    if found:
        out.hint("`paletta clips show CLIP --open` plays one")


@app.command()
def approve(clips: Clips, json: Json = False) -> None:
    """let clips into the shop"""
    _decide(clips, "approve", "approved", None, json=json)


@app.command()
def reject(
    clips: Clips,
    reason: Annotated[str, typer.Option(help="the contributor reads this")],
    json: Json = False,
) -> None:
    """refuse clips; their contributors read the reason"""
    from paletta_cli.errors import UsageError

    # The service's own limits; said here, a reason that is too short costs no half-done list.
    if not 3 <= len(reason.strip()) <= 1000:
        raise UsageError(
            "the reason must have 3 to 1,000 characters", hint="say what the contributor can mend"
        )
    _decide(clips, "reject", "rejected", {"reason": reason.strip()}, json=json)


def _decide(clips: list[str], verb: str, verdict: str, body: dict[str, str] | None, *, json: bool) -> None:
    """Decide each; the others go on when one cannot be decided."""
    from paletta_cli.api import connect, segment
    from paletta_cli.clips.several import Several
    from paletta_cli.output import Output

    out = Output(json=json)
    several = Several(out, clips)
    with connect() as service:

        def one(clip: str) -> dict[str, str]:
            decided = service.post(f"/v1/admin/clips/{segment(clip)}/{verb}", body)
            out.line(f"{decided['id']} {verdict}")
            return {"id": decided["id"], "title": decided["title"], "stage": decided["stage"]}

        several.each(one)
    out.data({verdict: several.done, "failed": several.failed})
    several.end(verdict)
