"""`paletta cart add | list | remove | clear | accept`: the cart of this account, on whatever machine."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Licence, Tier, Yes

app = typer.Typer(invoke_without_command=True)


@app.callback()
def cart(context: typer.Context, json: Json = False) -> None:
    """what you are about to buy: add, list, remove, clear, accept

    Without a verb it lists.
    """
    if context.invoked_subcommand is None:
        list_(json=json)


@app.command("list")
def list_(json: Json = False) -> None:
    """the clips in the cart, at the prices of now"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop.showing import show_cart

    out = Output(json=json)
    with connect() as service:
        found = service.get("/v1/cart")
    show_cart(out, found)


@app.command()
def add(
    clips: Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; the beginnings are enough")],
    tier: Annotated[
        Tier | None, typer.Option(help="hd, uhd4k or original; a higher one includes the lower")
    ] = None,
    licence: Annotated[
        Licence | None, typer.Option(help="who may use it, and how widely; individual unless you say")
    ] = None,
    json: Json = False,
) -> None:
    """put clips into the cart, the best tier there is unless you say

    A clip that is in the cart already changes its tier or licence where you give one. All of them go in, or none.
    """
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop.showing import show_cart

    out = Output(json=json)
    given = {"tier": tier, "licence": licence}
    wishes = [
        {"clip_id": clip} | {name: choice.value for name, choice in given.items() if choice} for clip in clips
    ]
    with connect() as service:
        found = service.post("/v1/cart/items", {"clips": wishes}, idempotent=True)
    show_cart(out, found)


@app.command()
def remove(
    clips: Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; the beginnings are enough")],
    json: Json = False,
) -> None:
    """take clips out of the cart"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.shop.showing import show_cart

    out = Output(json=json)
    with connect() as service:
        for clip in clips:
            found = service.request("DELETE", f"/v1/cart/items/{segment(clip)}")
    show_cart(out, found)


@app.command()
def clear(yes: Yes = False) -> None:
    """take everything out of the cart"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output()
    with connect() as service:
        if not out.confirm("empty the cart?", yes=yes):
            raise typer.Exit(1)
        service.request("DELETE", "/v1/cart")
    out.note("the cart is empty")


@app.command()
def accept(json: Json = False) -> None:
    """agree to prices that changed, and drop what is not for sale any more"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.shop.showing import show_cart

    out = Output(json=json)
    with connect() as service:
        before = service.get("/v1/cart")
        for item in before["items"]:
            if item["problem"]:
                out.note(f"`{item['clip_id']}` {item['problem_text']}")
        found = service.request(
            "POST", "/v1/cart/accept", params={"version": before["version"]}, idempotent=False
        )
    show_cart(out, found)
