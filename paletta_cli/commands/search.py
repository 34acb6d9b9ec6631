"""`paletta search WORDS…`: find clips in the shop. Needs no account."""

from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from paletta_cli.commands import Json, Licence, Tier


class Sort(StrEnum):
    RELEVANCE = "relevance"
    NEWEST = "newest"
    POPULAR = "popular"
    PRICE = "price"
    DURATION = "duration"


class Orientation(StrEnum):
    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"


_MANY = "; repeat it for alternatives"
_DATE = ["%Y-%m-%d"]


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORDS…", help='all must be there; "a phrase" in quotes inside quotes'),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="WORD", help="must not be there")] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="SLUG", help=f"and what is below it{_MANY}")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="repeat it to ask for all of them")
    ] = None,
    any_tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help=f"has this tag{_MANY}")] = None,
    min_res: Annotated[
        str | None, typer.Option(metavar="SIZE", help="720p, hd, 2k, 4k, 5k, 6k, 8k or WxH")
    ] = None,
    max_res: Annotated[str | None, typer.Option(metavar="SIZE", help="the same")] = None,
    tier: Annotated[list[Tier] | None, typer.Option(help="can be bought so")] = None,
    duration: Annotated[str | None, typer.Option(metavar="5..20", help="seconds; also 5.. and ..20")] = None,
    fps: Annotated[
        str | None, typer.Option(metavar="24", help="frames a second; also 24..30; 23.976 is 24")
    ] = None,
    orientation: Annotated[list[Orientation] | None, typer.Option(help="how the picture lies")] = None,
    editorial: Annotated[
        bool | None, typer.Option("--editorial/--no-editorial", help="only editorial clips, or none")
    ] = None,
    licence: Annotated[list[Licence] | None, typer.Option(help="can be licensed so")] = None,
    people: Annotated[
        list[str] | None, typer.Option(metavar="N", help=f"0, 1, 2, 3, group, crowd{_MANY}")
    ] = None,
    shot: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="a size, angle, move or speed: wide, aerial, pan, slow, …"),
    ] = None,
    location: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help=f"city, region or country{_MANY}")
    ] = None,
    contributor: Annotated[list[str] | None, typer.Option(metavar="NAME", help="who filmed it")] = None,
    price: Annotated[
        str | None, typer.Option(metavar="20..80", help="the lowest price; also 20.. and ..80")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_DATE, metavar="DATE", help="in the shop since")
    ] = None,
    filmed: Annotated[str | None, typer.Option(metavar="FROM..TO", help="filmed between these days")] = None,
    sort: Annotated[Sort | None, typer.Option(help="relevance; without words, newest")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many")] = 20,
    facets: Annotated[bool, typer.Option("--facets", help="how many clips there are of which kind")] = False,
    json: Json = False,
) -> None:
    """find clips in the shop

    For example: paletta search tram lisbon --category transport --min-res 4k --duration 5..20 --sort newest
    """
    from paletta_cli.api import connect
    from paletta_cli.clips import finding
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.wrong_values import told_of

    out = Output(json=json)
    params = {
        "q": finding.text(words or (), without or ()) or None,
        "category": category,
        "tag": tag,
        "any_tag": any_tag,
        "min_res": min_res,
        "max_res": max_res,
        "tier": [one.value for one in tier or ()],
        "orientation": [one.value for one in orientation or ()],
        "licence": [one.value for one in licence or ()],
        "editorial": editorial,
        "people": people,
        "location": location,
        "contributor": contributor,
        "since": since.date().isoformat() if since else None,
        "sort": sort.value if sort else None,
        **finding.shots(shot or ()),
        **finding.between("duration", duration, "--duration"),
        **finding.between("fps", fps, "--fps", single=True),
        **finding.between("price", price, "--price"),
        **finding.days("filmed", filmed, "--filmed"),
    }
    sizes = {"--min-res": min_res, "--max-res": max_res}
    with connect(login=False) as service:
        with told_of({"min_res": "--min-res", "max_res": "--max-res"}, sizes):
            found = finding.find(
                service,
                {name: value for name, value in params.items() if value not in (None, [])},
                limit,
                facets=facets,
            )
        finding.show(out, found, facets=facets)
        if not found["items"]:
            with suppress(PalettaError):  # the answer is there; a hint is worth no error
                finding.explain_nothing(service, out, category or (), (*(tag or ()), *(any_tag or ())))
