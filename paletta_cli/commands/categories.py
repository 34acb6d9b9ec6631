"""`paletta categories list | create | delete`."""

from typing import Annotated

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    mine: Annotated[bool, typer.Option("--mine", help="only those that you made")] = False,
    json: Json = False,
) -> None:
    """the categories that a clip can be in: one or two slugs in its manifest"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    with connect(login=mine) as service:
        rows = [row for row in service.get("/v1/categories")["items"] if row["mine"] or not mine]
    columns = [
        Column("slug"),
        Column("name"),
        Column("clip_count", "clips", right=True),
        Column("parent", "below"),
        Column("mine", show=lambda mine: "yes" if mine else ""),
        Column("description", wrap=True),
    ]
    Output(json=json).table(rows, columns, empty="no categories")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="its name, such as `Sea life`")],
    slug: Annotated[
        str | None, typer.Option(help="what manifests write; made from the name when left out")
    ] = None,
    description: Annotated[str, typer.Option(help="what belongs into it")] = "",
    parent: Annotated[str | None, typer.Option(metavar="SLUG", help="the category above it")] = None,
    json: Json = False,
) -> None:
    """make a category of your own"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    body = {"name": name, "slug": slug, "description": description, "parent": parent}
    with connect() as service:
        made = service.post("/v1/categories", {key: value for key, value in body.items() if value})
    out.data(made)
    out.line(made["slug"])


@app.command()
def delete(
    slugs: Annotated[
        list[str], typer.Argument(metavar="SLUG…", help="categories that you made and no clip uses")
    ],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """delete categories of your own that no clip uses"""
    from paletta_cli.commands.tags import remove
    from paletta_cli.text import plural

    remove("categories", slugs, plural(len(slugs), "category", "categories"), yes=yes, json=json)
