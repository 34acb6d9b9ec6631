"""`paletta admin logs`, `paletta admin logs verify | mails | ingest`: what was done, by whom, and what came of it."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json

app = typer.Typer(help="the audit log, and: verify, mails, ingest")

Since = Annotated[str | None, typer.Option(metavar="WHEN", help="since then: 2026-05-01, 24h, 7d")]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")]


@app.callback(invoke_without_command=True)
def logs(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(metavar="USER", help="who did it: an id or an address")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="TEXT", help="what was done begins so: clip:, account:role_changed")
    ] = None,
    object_: Annotated[
        str | None,
        typer.Option(
            "--object", metavar="ID", help="what it was done to begins so; an order's number, or a refund"
        ),
    ] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="before then")] = None,
    limit: Limit = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on with what comes, until Ctrl-C")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print them as CSV")] = False,
    json: Json = False,
) -> None:
    """who did what to what, newest first

    With --follow the newest come last, and more as they are written; with --json each on a line of its own then.
    """
    if context.invoked_subcommand is not None:
        return
    from paletta_cli.admin import logs as showing
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.moments import moment
    from paletta_cli.output import Output

    if csv and (json or follow):
        raise UsageError("--csv goes neither with --json nor with --follow")
    params: dict[str, Any] = {
        "user": user,
        "action": action,
        "object": object_,
        "since": moment(since, "--since"),
        "until": moment(until, "--until"),
    }
    out = Output(json=json)
    with connect() as service:
        params["object"], refund = showing.known_as(service, object_)
        if follow:
            showing.follow(service, out, params, last=min(limit, 200), refund=refund)
            return
        showing.show(out, showing.newest(service, params, limit, refund=refund), csv=csv)


@app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(metavar="HEAD", help="a head that was noted before: the log goes on from there"),
    ] = None,
    json: Json = False,
) -> int:
    """prove that nothing of the audit log was changed, removed or put in

    Prints the head of its chain: note it somewhere else than in the database, and pass it the next time.
    """
    from paletta_cli.admin import logs as showing
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        verdict = service.get("/v1/admin/audit-log/verify", timeout=showing.VERIFY_SECONDS, head=head)
    return showing.tell_verdict(out, verdict)


@app.command()
def mails(
    to: Annotated[str | None, typer.Option(metavar="ADDRESS", help="to it, or what begins so")] = None,
    since: Since = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """what was mailed to whom, when, and after how many tries; no bodies"""
    from paletta_cli.admin import logs as showing
    from paletta_cli.api import connect
    from paletta_cli.moments import moment
    from paletta_cli.output import Output

    params = {"to": to, "since": moment(since, "--since")}
    with connect() as service:
        found = list(service.pages("/v1/admin/mails", most=limit, limit=min(limit, 200), **params))
    showing.show_mails(Output(json=json), found)


@app.command()
def ingest(
    clip: Annotated[str | None, typer.Option(metavar="CLIP", help="an id; its beginning is enough")] = None,
    since: Since = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """attempts at making clips: how each ended, and why"""
    from paletta_cli.admin import logs as showing
    from paletta_cli.api import connect
    from paletta_cli.moments import moment
    from paletta_cli.output import Output

    params = {"clip": clip, "since": moment(since, "--since")}
    with connect() as service:
        found = list(service.pages("/v1/admin/ingest-runs", most=limit, limit=min(limit, 200), **params))
    showing.show_runs(Output(json=json), found)
