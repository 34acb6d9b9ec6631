"""`paletta admin payouts plan | run | list | show | export | confirm | mark-failed | check`: paying contributors."""

from pathlib import Path
from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(
    no_args_is_help=True, help="pay contributors: plan, run, list, show, export, confirm, mark-failed, check"
)

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="from `paletta admin payouts list`; the beginning is enough")
]


@app.command()
def plan(json: Json = False) -> None:
    """who would be paid what now, and who would not and why

    Nothing is changed. What is on hold is no part of it.
    """
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop import payouts as showing

    out = Output(json=json)
    with connect() as service:
        made = service.get("/v1/admin/payouts/plan")
    showing.show_plan(out, made)


@app.command()
def run(yes: Yes = False, json: Json = False) -> None:
    """make the payouts of the plan: their money leaves what is payable

    The plan is shown first, and exactly that is paid or nothing. Then `export` makes the bank's file, and `confirm`
    or `mark-failed` say what became of it.
    """
    import secrets

    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop import payouts as showing
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        made = service.get("/v1/admin/payouts/plan")
        showing.note_plan(out, made)
        count = sum(line["outcome"] == "pay" for line in made["lines"])
        if count and not out.confirm(f"make {plural(count, 'payout')}?", yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        done = service.request(
            "POST",
            "/v1/admin/payouts",
            body={"digest": made["digest"]},
            headers={"idempotency-key": secrets.token_urlsafe(18)},  # a lost answer is asked for again
            idempotent=True,
        )
    out.data(done)
    out.line(done["id"])
    out.hint(f"`paletta admin payouts export {done['id']}` makes the bank's file")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    json: Json = False,
) -> None:
    """payout runs, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output
    from paletta_cli.shop import payouts as showing

    with connect() as service:
        rows = list(service.pages("/v1/admin/payouts", most=limit))
    columns = [
        Column("id", "run"),
        Column("created_at", "made", show=lambda value: str(value)[:10]),
        Column("payouts", "payouts", right=True),
        Column("in_transit", "on its way", right=True),
        Column("paid", "paid", right=True),
        Column("failed", "failed", right=True),
        Column("totals", "total", show=showing.amounts, right=True),
    ]
    Output(json=json).table(
        rows, columns, empty="no payouts yet: `paletta admin payouts plan` says who is due"
    )


@app.command()
def show(run_: Run, json: Json = False) -> None:
    """a run, and what became of each of its payouts"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop import payouts as showing

    with connect() as service:
        found = service.get(f"/v1/admin/payouts/{segment(run_)}")
    showing.show_run(Output(json=json), found)


@app.command()
def export(
    run_: Run,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a new file, which only you can read")
    ] = None,
) -> None:
    """the payouts of a run that are on their way, as CSV for the bank

    It has the whole account numbers, so your password is asked for once more.
    """
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output
    from paletta_cli.settings import write_private

    out = Output()
    if to is not None and to.exists():
        raise UsageError(f"`{to}` is there already", hint="name another file, or remove it")
    with connect() as service:
        document = service.fetch(f"/v1/admin/payouts/{segment(run_)}/export").decode()
    if to is None:
        out.raw(document)
        return
    write_private(to, document)
    out.note(f"wrote `{to}`")


@app.command()
def confirm(
    run_: Run,
    payouts: Annotated[
        list[str] | None, typer.Option("--payout", metavar="ID", help="these alone; repeatable")
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """say that the payouts of a run arrived; each contributor is told by mail"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop import payouts as showing
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        path = f"/v1/admin/payouts/{segment(run_)}"
        found = service.get(path)
        count = len(payouts) if payouts else found["in_transit"]
        if count and not out.confirm(f"{plural(count, 'payout')} arrived?", yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        done = service.post(f"{path}/confirm", {"payouts": payouts or None}, idempotent=True)
    showing.show_run(out, done)


@app.command("mark-failed")
def mark_failed(
    payouts: Annotated[
        list[str], typer.Argument(metavar="PAYOUT…", help="from `paletta admin payouts show`")
    ],
    reason: Annotated[str, typer.Option(help="the contributor reads this")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """say that payouts did not arrive, or that the bank sent them back; their money is payable again"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop import payouts as showing
    from paletta_cli.text import plural

    out = Output(json=json)
    body = {"payouts": payouts, "reason": reason}
    if not out.confirm(f"did {plural(len(set(payouts)), 'payout')} not arrive?", yes=yes):
        out.note("nothing was changed")
        raise typer.Exit(1)
    with connect() as service:
        done = service.post("/v1/admin/payouts/mark-failed", body, idempotent=True)
    showing.show_payouts(out, done["items"])


@app.command()
def check(json: Json = False) -> None:
    """compare the ledger with payments, sold items and payouts

    Prints every difference, and ends with exit code 6 where there is one.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import SomeFailed
    from paletta_cli.output import Column, Output
    from paletta_cli.shop import payouts as showing
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = service.get("/v1/admin/payouts/check", timeout=300)["items"]
    columns = [
        Column("object", "of"),
        Column("what", "what"),
        Column("currency", ""),
        Column("expected", "expected", show=showing.units, right=True),
        Column("found", "found", show=showing.units, right=True),
    ]
    out.table(found, columns, empty="the ledger agrees with payments, sold items and payouts")
    if found:
        raise SomeFailed(
            f"{plural(len(found), 'difference')} between the ledger and what it follows from",
            hint="what an hourly job can mend it mends, and says so in the log",
        )
