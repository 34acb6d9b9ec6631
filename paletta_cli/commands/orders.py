"""`paletta orders list | show | pay | cancel | download | sync | email | receipt | certificate`: what this account
bought."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Tier, Yes
from paletta_cli.commands.checkout import NoBrowser, NoWait, PayWith

if TYPE_CHECKING:
    from paletta_cli.shop.downloads import Options

app = typer.Typer(no_args_is_help=True)

Order = Annotated[str, typer.Argument(metavar="ORDER", help="its number, or its id; the beginning is enough")]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=64, metavar="N", help="connections at once, instead of finding out")
]
LimitRate = Annotated[str | None, typer.Option(metavar="RATE", help="bytes per second at most, such as 20M")]
Layout = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="where files go: {order}, {clip}, {title}, {ext}, {tier}, {licence}, {contributor}, {item}",
    ),
]
Certificates = Annotated[
    bool, typer.Option("--certificates/--no-certificates", help="lay the licence PDF beside each file")
]
Force = Annotated[bool, typer.Option("--force", help="overwrite the file")]


class Status(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


BestTier = Annotated[Tier | None, typer.Option(help="this tier, or the best below it that you bought")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="only those that stand there")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    json: Json = False,
) -> None:
    """your orders, newest first"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop.orders import show_list

    out = Output(json=json)
    most = None if everything else limit + 1  # one more tells whether there are more
    with connect() as service:
        found = list(
            service.pages(
                "/v1/orders", most=most, limit=min(most or 200, 200), status=status.value if status else None
            )
        )
    more = not everything and len(found) > limit
    show_list(out, found[:limit] if more else found)
    if more:
        out.note(f"the newest {limit}")
        out.hint("--all shows all of them, --limit N more")


@app.command()
def show(order: Order, json: Json = False) -> None:
    """one order: items, licences, amounts, refunds, files"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop.orders import show_order

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/orders/{segment(order)}")
        found["refunds"] = service.get(f"/v1/orders/{found['id']}/refunds")["items"]
        bought = {
            one["item_id"]: one for one in service.pages("/v1/me/purchases", limit=200, order=found["id"])
        }
    for item in found["items"]:
        purchase = bought.get(item["id"], {})
        item["entitlement"] = purchase.get("status")
        item["certificate"] = purchase.get("certificate")
        item["downloads"] = purchase.get("downloads")
    show_order(out, found)


@app.command()
def pay(
    order: Order,
    no_browser: NoBrowser = False,
    no_wait: NoWait = False,
    pay_with: PayWith = None,
    json: Json = False,
) -> None:
    """go on paying an order that waits for its payment

    Shows the payment gateway's page and waits. Interrupting the wait leaves the order payable.
    """
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop import paying

    out = Output(json=json)
    with connect() as service:
        page = service.post(f"/v1/orders/{segment(order)}/pay", idempotent=True)
        found = paying.settle(service, out, page, paying.Ways(not no_browser, not no_wait, pay_with))
    out.data(found)
    paying.tell_paid(out, found)


@app.command()
def cancel(order: Order, yes: Yes = False, json: Json = False) -> None:
    """give up an order that waits for its payment; its clips go back into the cart"""
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.text import money

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/orders/{segment(order)}")
        if found["status"] != "pending":
            raise PalettaError(
                f"order {found['number']} is {found['status'].replace('_', ' ')}",
                hint="only one that waits for its payment can be given up",
            )
        total = f"{money(found['total'], found['currency'])} {found['currency']}"
        if not out.confirm(f"give up order {found['number']} of {total}?", yes=yes):
            raise typer.Exit(1)
        found = service.post(f"/v1/orders/{segment(found['id'])}/cancel")
    out.data(found)
    out.note(f"order {found['number']} is cancelled; its clips are in the cart again")


@app.command()
def download(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="ORDER…", help="numbers or ids of orders")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="everything that you ever bought")] = False,
    clip: Annotated[
        list[str] | None, typer.Option(metavar="CLIP", help="this clip, in whatever order; repeatable")
    ] = None,
    to: Annotated[Path, typer.Option(metavar="DIR", help="the folder; made where it is missing")] = Path(),
    tier: BestTier = None,
    layout: Layout = None,
    jobs: Jobs = None,
    limit_rate: LimitRate = None,
    certificates: Certificates = True,
    json: Json = False,
) -> int:
    """fetch what you bought, resumed where it was cut and verified to the last bit

    Interrupted for whatever reason, the same command goes on where it stopped. What is there already is verified and
    not fetched again; a file that is not what was sold never gets its name.
    """
    from paletta_cli.output import Output
    from paletta_cli.shop import downloads

    options = _options(to, tier, layout, jobs, limit_rate, certificates=certificates)
    return downloads.download(
        options, Output(json=json), orders=orders or (), clips=clip or (), everything=everything
    )


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder; made where it is missing")],
    verify: Annotated[
        bool, typer.Option("--verify", help="read every file again, and fetch anew what has rotted")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="remove files that are not licensed to you any more")
    ] = False,
    tier: BestTier = None,
    layout: Layout = None,
    jobs: Jobs = None,
    limit_rate: LimitRate = None,
    certificates: Certificates = True,
    json: Json = False,
) -> int:
    """keep a folder equal to everything you own

    Its `paletta.lock` says which file is which purchase, under which licence and with which checksum; commit it with
    your production. Nothing is removed unless you ask.
    """
    from paletta_cli.output import Output
    from paletta_cli.shop import downloads

    options = _options(
        folder, tier, layout, jobs, limit_rate, certificates=certificates, verify=verify, prune=prune
    )
    return downloads.sync(options, Output(json=json))


@app.command()
def email(order: Order, json: Json = False) -> None:
    """mail yourself a new download link"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        sent = service.post(f"/v1/orders/{segment(order)}/email")
    out.data(sent)
    out.line(f"a link is on its way to {sent['email']}, good for {sent['valid_hours']} hours")


@app.command()
def receipt(
    order: Order,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="where to write it")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """save an order's receipt as a PDF"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop.orders import save

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/orders/{segment(order)}")
        data = service.fetch(f"/v1/orders/{found['id']}/receipt")
    save(out, data, to, f"receipt-{found['number']}.pdf", force=force)


@app.command()
def certificate(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="id of an order's item, or of its clip")],
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="where to write it")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """save the licence certificate of a purchase as a PDF"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop.orders import save, the_purchase

    out = Output(json=json)
    with connect() as service:
        found = the_purchase(service, item)
        data = service.fetch(f"/v1/me/purchases/{segment(found['item_id'])}/certificate")
    save(out, data, to, f"licence-{found['clip_id']}-{found['order_number']}.pdf", force=force)


def _options(
    to: Path, tier: Tier | None, layout: str | None, jobs: int | None, limit_rate: str | None, **more: Any
) -> "Options":
    from paletta_cli.errors import UsageError
    from paletta_cli.shop import names
    from paletta_cli.shop.downloads import Options
    from paletta_cli.text import parse_size

    try:
        rate = parse_size(limit_rate) if limit_rate else None
    except ValueError as error:
        raise UsageError(f"--limit-rate: {error}") from error
    return Options(
        to=to,
        tier=tier.value if tier else None,
        layout=layout if layout is not None else names.LAYOUT,
        jobs=jobs,
        limit_rate=rate,
        **more,
    )
