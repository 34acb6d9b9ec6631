"""`paletta admin refunds`: money back to customers, and what became of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from paletta_cli.commands import DryRun, Json, Yes
from paletta_cli.commands.orders import Order

app = typer.Typer(
    no_args_is_help=True, help="money back: create, list, show, approve, reject, and what was sent by bank"
)

Refund = Annotated[str, typer.Argument(metavar="REFUND", help="its id; the beginning is enough")]


class Status(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    REQUESTED = "requested"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"


@app.command()
def create(
    order: Order,
    reason: Annotated[
        str, typer.Option(help="why; no mail to the customer says so, an export of their data does")
    ],
    everything: Annotated[bool, typer.Option("--all", help="all that is left of the order")] = False,
    item: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ITEM[=AMOUNT]", help="an item or clip: all that is left of it, or so much; repeatable"
        ),
    ] = None,
    amount: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="so much, spread over what is left of the items")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep/--revoke",
            help="goodwill: what goes back whole stays the customer's, at the shop's cost; or it ends",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """give money back: all, by item, or an amount; says first what it does to the licences

    A large one waits for a second operator. What was fetched is not taken back; the right to fetch it ends.
    """
    from paletta_cli import settings
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.desk.unanswered import Unanswered
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = refunds.find_order(service, order)
        wish = ("refund", found["id"], item or (), amount, everything, keep, reason)
        unanswered = Unanswered(settings.state_dir(), service.url, wish)
        body = refunds.wish(
            found, items=item or (), amount_=amount, everything=everything, keep=keep, reason=reason
        )
        path = f"/v1/admin/orders/{segment(found['id'])}/refunds"

        def send(asked: Mapping[str, Any], key: str) -> Any:
            headers = {"idempotency-key": key}
            return service.request(
                "POST", path, body=asked, headers=headers, idempotent=True, confirming=False
            )

        def ask(asked: Mapping[str, Any]) -> Any:
            # The password is asked for between two askings, when nothing is under way.
            return service.confirmed(lambda: unanswered.ask(asked, send))

        if (before := unanswered.before()) is not None and not dry_run:
            refunds.show_unanswered(out, found, before, unanswered.asked_at())
            if not out.confirm("ask again?", yes=yes):
                out.note("it was not asked again")
                raise typer.Exit(1)
            made = ask(before)
        else:
            plan = service.post(f"{path}/plan", body, idempotent=True)
            refunds.show_plan(out, plan)
            if dry_run:
                out.data(plan)
                out.note("nothing was changed")
                return
            if not out.confirm("give it back?", yes=yes):
                out.note("nothing was changed")
                raise typer.Exit(1)
            # The amounts that were shown: what somebody else gives back meanwhile must not change them.
            parts = {one["id"]: one["amount"] for one in plan["items"]}
            made = ask({**body, "amount": None, "items": parts})
    refunds.tell(out, made)
    if made["status"] == "failed":
        raise typer.Exit(1)


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="only those that stand there")] = None,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="of this order")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    csv: Annotated[bool, typer.Option("--csv", help="print a sheet; amounts in minor units")] = False,
    json: Json = False,
) -> None:
    """everybody's refunds, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.desk import refunds
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    if csv and json:
        raise UsageError("--csv and --json are two ways of printing: choose one")
    with connect() as service:
        found = service.pages(
            "/v1/admin/refunds",
            most=limit,
            limit=min(limit, 200),
            status=status.value if status else None,
            order=order,
        )
        refunds.show_list(Output(json=json), list(found), csv=csv)


@app.command()
def show(refund: Refund, json: Json = False) -> None:
    """one refund: how much of what, who asked, who decided"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.output import Output

    with connect() as service:
        refunds.show(Output(json=json), service.get(f"/v1/admin/refunds/{segment(refund)}"))


@app.command()
def approve(refund: Refund, yes: Yes = False, json: Json = False) -> None:
    """let a refund go ahead that another operator asked for"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.desk.words import amount
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/admin/refunds/{segment(refund)}")
        sum_ = amount(found["amount"], found["currency"])
        asked = (
            f"{found['requested_by']} wants to give back {sum_} of order {found['order']}: {found['reason']}"
        )
        out.note(asked)
        if not out.confirm("approve?", yes=yes):
            raise typer.Exit(1)
        done = service.post(f"/v1/admin/refunds/{segment(found['id'])}/approve", idempotent=True)
    refunds.tell(out, done)
    if done["status"] == "failed":
        raise typer.Exit(1)


@app.command()
def reject(
    refund: Refund,
    reason: Annotated[str, typer.Option(help="why not; whoever asked for it sees it")],
    json: Json = False,
) -> None:
    """give up a refund that waits for approval, or withdraw your own"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.output import Output

    with connect() as service:
        done = service.post(
            f"/v1/admin/refunds/{segment(refund)}/reject", {"reason": reason}, idempotent=True
        )
    refunds.tell(Output(json=json), done)


@app.command("mark-sent")
def mark_sent(
    refund: Refund,
    reference: Annotated[str, typer.Option(metavar="TEXT", help="the bank's own of the transfer")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """you sent a refund of an invoice by bank; its customer is told, and licences end that it pays back whole"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.desk.words import amount
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/admin/refunds/{segment(refund)}")
        sum_ = amount(found["amount"], found["currency"])
        if not out.confirm(f"were {sum_} sent for order {found['order']}?", yes=yes):
            raise typer.Exit(1)
        path = f"/v1/admin/refunds/{segment(found['id'])}/mark-sent"
        done = service.post(path, {"reference": reference}, idempotent=True)
    refunds.tell(out, done)


@app.command("mark-failed")
def mark_failed(
    refund: Refund,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why; operators see it")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """a refund of an invoice cannot be sent, or came back from the bank: its money is free for another"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import refunds
    from paletta_cli.desk.words import amount
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/admin/refunds/{segment(refund)}")
        sum_ = amount(found["amount"], found["currency"])
        if not out.confirm(f"did {sum_} for order {found['order']} not arrive?", yes=yes):
            raise typer.Exit(1)
        path = f"/v1/admin/refunds/{segment(found['id'])}/mark-failed"
        done = service.post(path, {"reason": reason}, idempotent=True)
    refunds.tell(out, done)
