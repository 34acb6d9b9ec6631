"""`paletta collections list | create | show | add | remove | rename | delete | to-cart`: saved lists of clips."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Licence, Tier, Yes

if TYPE_CHECKING:
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True)

List = Annotated[str, typer.Argument(metavar="LIST", help="its name or id")]
Clips = Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; the beginnings are enough")]


@app.command("list")
def list_(json: Json = False) -> None:
    """your lists, the newest first"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    out = Output(json=json)
    with connect() as service:
        found = list(service.pages("/v1/collections", limit=200))
    columns = [Column("name", "list"), Column("clips", "clips", right=True), Column("id", "id")]
    out.table(found, columns, empty="no lists yet: `paletta collections create NAME` makes one")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    clips: Annotated[
        list[str] | None, typer.Argument(metavar="CLIP…", help="put these into it at once")
    ] = None,
    json: Json = False,
) -> None:
    """make a list"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        made = service.post("/v1/collections", {"name": name})
        if clips:
            made = service.post(f"/v1/collections/{made['id']}/clips", {"clips": clips}, idempotent=True)
    _told(out, made)


@app.command()
def show(name: List, json: Json = False) -> None:
    """the clips in a list"""
    from paletta_cli.api import connect, segment
    from paletta_cli.clips.finding import show_cards
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/collections/{segment(name)}")
    out.data(found)
    if out.mode != "json":
        show_cards(out, found["items"], empty=f"`{found['name']}` is empty")
    if found["absent"]:
        out.note(f"{plural(found['absent'], 'clip')} left the shop")


@app.command()
def add(name: List, clips: Clips, json: Json = False) -> None:
    """put clips into a list"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.post(f"/v1/collections/{segment(name)}/clips", {"clips": clips}, idempotent=True)
    _told(out, found)


@app.command()
def remove(name: List, clips: Clips, json: Json = False) -> None:
    """take clips out of a list"""
    from paletta_cli.api import connect, segment
    from paletta_cli.clips.several import Several
    from paletta_cli.output import Output

    out = Output(json=json)
    gone = Several(out, clips)
    with connect() as service:
        gone.each(lambda clip: service.delete(f"/v1/collections/{segment(name)}/clips/{segment(clip)}"))
    if gone.done:
        _told(out, gone.done[-1])
    gone.end("taken out")


@app.command()
def rename(name: List, new: Annotated[str, typer.Argument(metavar="NAME")], json: Json = False) -> None:
    """give a list another name"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.patch(f"/v1/collections/{segment(name)}", {"name": new})
    _told(out, found)


@app.command()
def delete(name: List, yes: Yes = False, json: Json = False) -> None:
    """delete a list; the clips stay in the shop"""
    from paletta_cli.api import connect, segment
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/collections/{segment(name)}")
        if not out.confirm(f"delete `{found['name']}` with {plural(found['clips'], 'clip')}?", yes=yes):
            out.note("nothing was deleted")
            raise typer.Exit(1)
        service.delete(f"/v1/collections/{found['id']}")
    out.data({"deleted": found["id"]})
    out.line(f"{found['id']} deleted")


@app.command("to-cart")
def to_cart(
    name: List,
    tier: Annotated[Tier | None, typer.Option(help="the best there is, unless you say")] = None,
    licence: Annotated[
        Licence | None, typer.Option(help="who may use it, and how widely; individual unless you say")
    ] = None,
    json: Json = False,
) -> None:
    """put every clip of a list into the cart"""
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.shop.showing import show_cart
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/collections/{segment(name)}")
        if not found["items"]:
            raise PalettaError(f"nothing in `{found['name']}` is for sale")
        given = {"tier": tier, "licence": licence}
        choice = {name: one.value for name, one in given.items() if one}
        wishes = [{"clip_id": clip["id"]} | choice for clip in found["items"]]
        cart = service.post("/v1/cart/items", {"clips": wishes}, idempotent=True)
    show_cart(out, cart)
    if found["absent"]:
        out.note(f"{plural(found['absent'], 'clip')} left the shop")


def _told(out: "Output", found: dict[str, Any]) -> None:
    from paletta_cli.text import plural

    out.data(found)
    out.line(f"{found['id']} `{found['name']}` has {plural(found['clips'], 'clip')}")
