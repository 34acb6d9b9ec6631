"""`paletta admin orders list | show | attention | looked-at | mark-paid | cancel | resend | restore`: everybody's."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes
from paletta_cli.commands.orders import Order, Status

app = typer.Typer(
    no_args_is_help=True, help="everybody's orders: list, show, attention, mark-paid, cancel, resend, restore"
)

Reason = Annotated[str, typer.Option(help="why; it goes into the audit log")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="only those that stand there")] = None,
    email: Annotated[
        str | None, typer.Option(metavar="TEXT", help="a part of the customer's address")
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="stripe, invoice or sandbox")] = None,
    number: Annotated[str | None, typer.Option(metavar="TEXT", help="how the number begins")] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="ordered then or later (UTC)")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="ordered before then")] = None,
    disputed: Annotated[bool, typer.Option("--disputed", help="with an open dispute")] = False,
    unpaid: Annotated[bool, typer.Option("--unpaid", help="for which no money came")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print a sheet; amounts in minor units")] = False,
    json: Json = False,
) -> None:
    """everybody's orders, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.desk.orders import show_list
    from paletta_cli.desk.words import instant
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    if csv and json:
        raise UsageError("--csv and --json are two ways of printing: choose one")
    out = Output(json=json)
    most = None if everything else limit + 1
    wanted = {
        "status": status.value if status else None,
        "email": email,
        "gateway": gateway,
        "number": number,
        "since": instant(since, option="--since"),
        "until": instant(until, option="--until"),
        "disputed": disputed or None,
        "unpaid": unpaid or None,
    }
    with connect() as service:
        found = list(service.pages("/v1/admin/orders", most=most, limit=min(most or 200, 200), **wanted))
    more = not everything and len(found) > limit
    show_list(out, found[:limit] if more else found, csv=csv)
    if more:
        out.note(f"the newest {limit}")
        out.hint("--all shows all of them, --limit N more")


@app.command()
def show(order: Order, json: Json = False) -> None:
    """everything about an order: items and rights, money, downloads, mails, who did what"""
    from paletta_cli.api import connect
    from paletta_cli.desk import orders
    from paletta_cli.desk.refunds import find_order
    from paletta_cli.output import Output

    with connect() as service:
        orders.show(Output(json=json), find_order(service, order))


@app.command("mark-paid")
def mark_paid(
    order: Order,
    reference: Annotated[str | None, typer.Option(help="the bank's own of the transfer")] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """the whole sum of an order on invoice has arrived"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk.refunds import find_order
    from paletta_cli.desk.words import amount
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = find_order(service, order)
        sum_ = amount(found["total"], found["currency"])
        if not out.confirm(f"{sum_} arrived for order {found['number']}, {found['email']}?", yes=yes):
            raise typer.Exit(1)
        done = service.post(
            f"/v1/admin/orders/{segment(found['id'])}/mark-paid", {"reference": reference}, idempotent=True
        )
    out.data(done)
    out.line(f"order {done['number']} is {done['status'].replace('_', ' ')}")


@app.command()
def cancel(order: Order, yes: Yes = False, json: Json = False) -> None:
    """give up an unpaid order for its customer; its clips go back into their cart"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk.refunds import find_order
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = find_order(service, order)
        if not out.confirm(f"give up order {found['number']} of {found['email']}?", yes=yes):
            raise typer.Exit(1)
        done = service.post(f"/v1/admin/orders/{segment(found['id'])}/cancel")
    out.data(done)
    out.line(f"order {done['number']} is cancelled")


@app.command()
def resend(order: Order, json: Json = False) -> None:
    """mail the customer a new download link"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        sent = service.post(f"/v1/admin/orders/{segment(order)}/resend")
    out.data(sent)
    out.line(f"a link is on its way to {sent['email']}, good for {sent['valid_hours']} hours")


@app.command()
def restore(
    order: Order,
    reason: Reason,
    item: Annotated[
        list[str] | None, typer.Option(metavar="ITEM", help="this item or clip alone; repeatable")
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """leave the customer what ended with a refund or a lost dispute, as goodwill

    It outlives later settling. A dispute that is lost afterwards ends it again.
    """
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    what = plural(len(item), "item") if item else "everything that has ended"
    with connect() as service:
        if not out.confirm(f"give back {what} of order {order} for nothing?", yes=yes):
            raise typer.Exit(1)
        done = service.post(
            f"/v1/admin/orders/{segment(order)}/restore", {"reason": reason, "items": item or []}
        )
    out.data(done)
    out.line(f"{what} of order {done['number']} is the customer's again; they are told by mail")


@app.command()
def attention(json: Json = False) -> None:
    """what needs a person: failed refunds, money that does not fit, events in vain, disputes near their end"""
    from paletta_cli.api import connect
    from paletta_cli.desk.orders import show_attention
    from paletta_cli.output import Output

    with connect() as service:
        show_attention(Output(json=json), service.get("/v1/admin/attention"))


@app.command("looked-at")
def looked_at(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="as `attention` names it")],
    note: Annotated[str, typer.Option(help="what came of it; it goes into the audit log")],
) -> None:
    """take something off the list of what needs a person"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    with connect() as service:
        service.post("/v1/admin/attention", {"subject": subject, "note": note}, idempotent=True)
    Output().note(f"`{subject}` is off the list")
