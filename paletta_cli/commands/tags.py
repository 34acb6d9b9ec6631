"""`paletta tags list | create | delete`."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    q: Annotated[
        str | None, typer.Argument(metavar="[WORD]", help="only tags and synonyms with this in it")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="only those that you made")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="at most so many")] = None,
    json: Json = False,
) -> None:
    """the tags that clips can carry, by name"""
    from paletta_cli.api import connect
    from paletta_cli.output import Column, Output

    with connect(login=mine) as service:
        pages = service.pages(
            "/v1/tags", most=limit, q=q, mine="true" if mine else None, limit=min(limit or 200, 200)
        )
        rows = list(pages)
    columns = [
        Column("name"),
        Column("clip_count", "clips", right=True),
        Column("mine", show=lambda mine: "yes" if mine else ""),
        Column("synonyms", wrap=True),
    ]
    Output(json=json).table(rows, columns, empty="no tags")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="the tag, such as `time lapse`")],
    force: Annotated[
        bool, typer.Option("--force", help="make it although it nearly repeats another")
    ] = False,
    json: Json = False,
) -> None:
    """make a tag (an upload makes the tags of its manifest by itself)

    A tag that nearly repeats an existing one is refused with that one's name.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import ApiProblem, PalettaError
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        try:
            made = service.post("/v1/tags", {"name": name, "force": force}, idempotent=True)
        except ApiProblem as problem:
            near = problem.body.get("did_you_mean")
            if problem.code != "near_duplicate" or not near:
                raise
            hint = f"did you mean `{near[0]}`? --force makes it all the same"
            raise PalettaError(problem.message, hint=hint) from problem
    out.data(made)
    out.line(made["name"])


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="tags that you made and no clip uses")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """delete tags of your own that no clip uses"""
    from paletta_cli.text import plural

    remove("tags", names, plural(len(names), "tag"), yes=yes, json=json)


def remove(noun: str, keys: list[str], counted: str, *, yes: bool, json: bool) -> None:
    """Delete each, after a question about `counted`; what cannot be deleted is said and the others go.

    Raises the one error of a single key, `SomeFailed` where some of several stay.
    """
    from paletta_cli.api import connect, segment
    from paletta_cli.errors import ApiProblem, SomeFailed
    from paletta_cli.output import Output

    out = Output(json=json)
    done: list[str] = []
    failed: list[dict[str, Any]] = []
    with connect() as service:
        named = f"`{keys[0]}`" if len(keys) == 1 else counted
        if not out.confirm(f"delete {named}?", yes=yes):
            out.note("nothing was deleted")
            raise typer.Exit(1)
        for key in keys:
            try:
                service.delete(f"/v1/{noun}/{segment(key)}")
            except ApiProblem as problem:
                if len(keys) == 1 or problem.status not in (403, 404, 409):
                    raise
                out.error(problem.message, problem.hint)
                failed.append({"key": key, "code": problem.code, "detail": problem.message})
            else:
                done.append(key)
                out.note(f"deleted `{key}`")
    out.data({"deleted": done, "failed": failed})
    if failed:
        raise SomeFailed(f"{len(failed)} of {len(keys)} were not deleted")
