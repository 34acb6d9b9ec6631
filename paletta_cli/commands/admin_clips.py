"""`paletta admin clips pending | approve | reject | ask-changes | reasons | take-down | taken-down | restore`."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(
    no_args_is_help=True,
    help="review and take-downs: pending, approve, reject, ask-changes, take-down, …",
)

Clips = Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; their beginnings are enough")]


Batch = Annotated[
    str | None, typer.Option(metavar="ID", help="all that wait of an upload (`paletta uploads list`)")
]
Contributor = Annotated[
    str | None, typer.Option(metavar="USER", help="all that wait of a contributor: their address or id")
]
Chosen = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CLIP…]",
        help="ids; their beginnings are enough. Or --batch, or --contributor",
        show_default=False,
    ),
]
Reason = Annotated[str | None, typer.Option(help="the contributor reads this")]
ReasonCode = Annotated[
    str | None,
    typer.Option("--reason-code", metavar="CODE", help="with the words of `paletta admin clips reasons`"),
]


@app.command()
def pending(batch: Batch = None, contributor: Contributor = None, json: Json = False) -> None:
    """clips that wait for review, newest first

    --json adds what speaks for and against each: the contributor's standing, clips that it looks like, reports.
    """
    from paletta_cli.api import connect
    from paletta_cli.clips.showing import show_list
    from paletta_cli.output import Output
    from paletta_cli.review.deciding import waiting
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = waiting(service, batch, contributor)
    show_list(out, found, stages=False, empty="no clips wait for review")
    alike = sum(clip["alike_others"] > 0 for clip in found)
    if alike:
        out.note(f"{plural(alike, 'clip')} of them {'looks' if alike == 1 else 'look'} like somebody else's")
    if found:
        out.hint("`paletta clips show CLIP --open` plays one")


@app.command()
def reasons(json: Json = False) -> None:
    """why clips are turned down: codes for --reason-code, and what contributors read"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    with connect() as service:
        found = service.get("/v1/moderation/reasons")["review"]
    columns = [Column("code"), Column("label", "reason"), Column("text", "the contributor reads", wrap=True)]
    Output(json=json).table(found, columns)


@app.command()
def approve(
    clips: Chosen = None,
    batch: Batch = None,
    contributor: Contributor = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """let clips into the shop"""
    from paletta_cli.output import Output
    from paletta_cli.review.deciding import Choice, decide

    decide(Output(json=json), Choice(clips or [], batch, contributor), "approved", yes=yes)


@app.command()
def reject(
    clips: Chosen = None,
    batch: Batch = None,
    contributor: Contributor = None,
    reason: Reason = None,
    reason_code: ReasonCode = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """refuse clips; their contributors read the reason"""
    from paletta_cli.output import Output
    from paletta_cli.review.deciding import Choice, decide

    choice = Choice(clips or [], batch, contributor)
    decide(Output(json=json), choice, "rejected", reason=reason, reason_code=reason_code, yes=yes)


@app.command("ask-changes")
def ask_changes(
    clips: Chosen = None,
    batch: Batch = None,
    contributor: Contributor = None,
    reason: Reason = None,
    reason_code: ReasonCode = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """give clips back to be changed: once edited, they wait for review again"""
    from paletta_cli.output import Output
    from paletta_cli.review.deciding import Choice, decide

    choice = Choice(clips or [], batch, contributor)
    decide(Output(json=json), choice, "changes_requested", reason=reason, reason_code=reason_code, yes=yes)


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
    from paletta_cli.review.deciding import checked

    said = checked(reason, hint="say what is wrong with it")
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
