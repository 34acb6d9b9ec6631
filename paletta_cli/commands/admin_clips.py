"""`paletta admin clips pending | approve | reject | take-down | taken-down | restore`: review and take-downs."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(
    no_args_is_help=True,
    help="review and take-downs: pending, approve, reject, take-down, taken-down, restore",
)

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
    said = _checked(reason, hint="say what the contributor can mend")
    _decide(clips, "reject", "rejected", {"reason": said}, json=json)


@app.command("take-down")
def take_down(
    clips: Clips,
    reason: Annotated[str, typer.Option(help="the contributor reads this, buyers do not")],
    legal: Annotated[
        bool,
        typer.Option("--legal", help="for a legal reason: what was sold is withheld too, unless --keep-sold"),
    ] = False,
    withhold_sold: Annotated[
        bool | None,
        typer.Option(
            "--withhold-sold/--keep-sold",
            help="whether buyers can fetch it meanwhile; only --legal withholds what somebody paid for",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """take clips out of the shop; each contributor reads the reason in a mail

    Buyers keep what they paid for, unless it is --legal. Nothing is refunded by itself: the answer says how many
    paid items there are. Neither an edit nor the same files uploaded again bring a clip back, only `restore`.
    """
    from paletta_cli.api import connect
    from paletta_cli.clips import takedowns
    from paletta_cli.output import Output

    said = _checked(reason, hint="say what is wrong with it")
    wish = takedowns.wish(said, legal=legal, withhold_sold=withhold_sold)
    with connect() as service:
        if not takedowns.take_down(service, Output(json=json), clips, wish, yes=yes):
            raise typer.Exit(1)


@app.command("taken-down")
def taken_down(json: Json = False) -> None:
    """clips that were taken down, newest first, and why"""
    from paletta_cli.api import connect
    from paletta_cli.clips.showing import show_list
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = list(service.pages("/v1/admin/clips", review="taken_down", limit=200))
    show_list(out, found, empty="no clips are taken down")
    if found:
        out.hint("`paletta admin clips restore CLIP` lifts it")


@app.command()
def restore(clips: Clips, json: Json = False) -> None:
    """lift take-downs: clips go back to where they were, and their buyers can fetch them"""
    from paletta_cli.api import connect
    from paletta_cli.clips import takedowns
    from paletta_cli.output import Output

    with connect() as service:
        takedowns.restore(service, Output(json=json), clips)


def _checked(reason: str, *, hint: str) -> str:
    """The reason, trimmed. Raises UsageError."""
    from paletta_cli.errors import UsageError

    # The service's own limits; said here, a reason that is too short costs no half-done list.
    if not 3 <= len(reason.strip()) <= 1000:
        raise UsageError("the reason must have 3 to 1,000 characters", hint=hint)
    return reason.strip()


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
