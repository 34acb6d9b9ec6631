"""`paletta admin taxonomy`: categories and tags as one file (plan, apply, export), and one change at a time."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="categories and tags: from a file, or merged, renamed, moved")

File = Annotated[Path, typer.Argument(metavar="FILE", help="the taxonomy, such as manifests/taxonomy.yaml")]
Prune = Annotated[
    bool, typer.Option("--prune", help="delete the operator's entries that the file does not name")
]
Moves = Annotated[
    list[str] | None,
    typer.Option(
        "--move",
        metavar="OLD=NEW",
        help="merge OLD into NEW, clips and all; repeatable; `tag:OLD=NEW` where a category has the name too",
    ),
]


class Kind(StrEnum):
    CATEGORY = "category"
    TAG = "tag"


Which = Annotated[Kind | None, typer.Option("--kind", help="where a category and a tag have the same name")]


@app.command()
def plan(file: File, prune: Prune = False, move: Moves = None, json: Json = False) -> None:
    """show what applying a file would change, and how many clips each change touches

    Marks: + is new, ~ changes or is renamed, - goes. Nothing is changed.
    """
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    body = _body(file, prune, move)
    with connect() as service:
        made = _post(out, service, "plan", body)
    _show(out, made, result=True)


@app.command()
def apply(file: File, prune: Prune = False, move: Moves = None, yes: Yes = False, json: Json = False) -> None:
    """make the service's categories and tags what a file says, all or nothing

    Shows the plan and asks first. Without a terminal it goes ahead by itself, unless something would be deleted:
    that needs --yes. Running it again changes nothing.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output
    from paletta_cli.taxonomy_plan import destroys, summary
    from paletta_cli.text import plural

    out = Output(json=json)
    body = _body(file, prune, move)
    with connect() as service:
        made = _post(out, service, "plan", body)
        blocked = sum(bool(change["blocked"]) for change in made["changes"])
        if blocked or not made["changes"]:
            _show(out, made, result=True)
        if blocked:
            raise PalettaError(
                f"{plural(blocked, 'deletion')} blocked, so nothing was changed",
                hint="say where the clips go with --move OLD=NEW, or under `moves:` in the file",
            )
        if not made["changes"]:
            return
        _show(out, made, result=False)
        if not _agreed(out, summary(made), destroys=destroys(made), yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        done = _post(out, service, "apply", {**body, "digest": made["digest"]})
    out.data(done)
    out.note(f"applied `{file}`")


@app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="where to; without it, stdout")
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """write the operator's categories and tags as a file that `apply` reads back without a change"""
    from paletta_cli.api import connect
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        document = service.get("/v1/admin/taxonomy")["document"]
    if file is None:
        out.data({"document": document})
        if not json:
            out.raw(document)
        return
    if file.exists() and not out.confirm(f"replace `{file}`, comments and all?", yes=yes):
        raise typer.Exit(1)
    draft = file.with_name(f".{file.name}.new")
    try:
        draft.write_text(document, encoding="utf-8", newline="\n")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise PalettaError(f"cannot write `{file}`: {(error.strerror or str(error)).lower()}") from error
    out.data({"file": str(file)})
    out.note(f"wrote `{file}`")


@app.command()
def merge(
    source: Annotated[str, typer.Argument(help="the category or tag that goes")],
    target: Annotated[str, typer.Argument(help="the one that it becomes")],
    kind: Which = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """make one category or tag of two, clips and all

    SOURCE goes on working in searches, manifests and links: it leads to TARGET.
    """
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    if not out.confirm(f"merge `{source}` into `{target}`, which cannot be taken apart again?", yes=yes):
        out.note("nothing was changed")
        raise typer.Exit(1)
    done = _operate(out, "merge", {"kind": kind, "source": source, "target": target})
    out.note(f"{done['kind']} `{done['source']}` is `{done['target']}` now: {plural(done['clips'], 'clip')}")


@app.command()
def rename(
    old: Annotated[str, typer.Argument(help="a category's slug, or a tag")],
    new: Annotated[str, typer.Argument(help="what it is from now on")],
    name: Annotated[str | None, typer.Option(help="a category's name for people, changed with it")] = None,
    kind: Which = None,
    json: Json = False,
) -> None:
    """give a category another slug, or a tag another name; the old one goes on working"""
    from paletta_cli.output import Output

    out = Output(json=json)
    done = _operate(out, "rename", {"kind": kind, "source": old, "target": new, "name": name})
    out.note(f"{done['kind']} `{done['source']}` is `{done['target']}` now")


@app.command()
def move(
    category: Annotated[str, typer.Argument(help="the category, with everything below it")],
    parent: Annotated[str | None, typer.Argument(metavar="[NEW-PARENT]", help="below which one")] = None,
    top: Annotated[bool, typer.Option("--top", help="to the top instead")] = False,
    json: Json = False,
) -> None:
    """put a category below another, or at the top"""
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    if (parent is None) != top:
        raise UsageError("say where it goes", hint="name the category above it, or pass --top")
    out = Output(json=json)
    done = _operate(out, "move", {"category": category, "parent": parent})
    out.note(f"`{done['source']}` is " + (f"below `{done['target']}` now" if parent else "at the top now"))


@app.command("move-clips")
def move_clips(
    source: Annotated[str, typer.Argument(help="the category or tag that they have")],
    target: Annotated[str, typer.Argument(help="the one that they get in its place")],
    clips: Annotated[
        list[str] | None, typer.Argument(metavar="[CLIP…]", help="only these; whole ids; all without any")
    ] = None,
    kind: Which = None,
    json: Json = False,
) -> None:
    """move clips from one category or tag to another; both stay"""
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    body = {"kind": kind, "source": source, "target": target, "clips": clips or None}
    done = _operate(out, "move-clips", body)
    out.note(f"{plural(done['clips'], 'clip')} moved from `{done['source']}` to `{done['target']}`")


def _operate(out: "Output", verb: str, body: dict[str, Any]) -> Any:
    from paletta_cli.api import connect

    with connect() as service:
        done = service.post(f"/v1/admin/taxonomy/{verb}", body)
    out.data(done)
    return done


def _body(file: Path, prune: bool, moves: list[str] | None) -> dict[str, Any]:
    from paletta_cli.operator_files import read_text

    return {
        "document": read_text(file),
        "filename": str(file)[-1024:].encode("utf-8", "replace").decode(),
        "prune": prune,
        "moves": [_move(move) for move in moves or []],
    }


def _move(text: str) -> dict[str, str]:
    from paletta_cli.errors import UsageError

    old, equals, new = text.partition("=")
    kind, colon, rest = old.partition(":")
    move = {"old": old, "new": new}
    if colon and kind in ("category", "tag"):
        move = {"kind": kind, "old": rest, "new": new}
    if not equals or not move["old"].strip() or not new.strip():
        raise UsageError(f"`--move {text}` does not say what goes where", hint="write --move OLD=NEW")
    return move


def _post(out: "Output", service: "Service", verb: str, body: dict[str, Any]) -> Any:
    """Ask for a plan or an apply; what is wrong with the file is listed before the error is raised."""
    from paletta_cli.errors import ApiProblem, ManifestInvalid
    from paletta_cli.operator_files import problem_lines

    try:
        # An apply that was done already changes nothing, but its digest then says so: never repeat it blindly.
        return service.post(f"/v1/admin/taxonomy/{verb}", body, idempotent=verb == "plan")
    except ApiProblem as problem:
        if problem.code != "taxonomy_invalid":
            raise
        found = problem.body.get("problems", [])
        out.data({"problems": found})
        for line in problem_lines(found):
            out.line(line)
        raise ManifestInvalid(f"{problem.message}, so nothing was changed") from None


def _show(out: "Output", made: dict[str, Any], *, result: bool) -> None:
    """The plan: the result of `plan`, and what `apply` says before it asks."""
    import shutil

    from paletta_cli.taxonomy_plan import render, summary

    if result:
        out.data(made)
    width = min(shutil.get_terminal_size().columns, 120)
    if result:
        for line in render(made, width):
            out.line(line)
    else:
        for line in render(made, width):
            out.note(line)
    for warning in made["warnings"]:
        out.warn(warning)
    if made["changes"]:
        out.note(summary(made))


def _agreed(out: "Output", what: str, *, destroys: bool, yes: bool) -> bool:
    import sys

    if not sys.stdin.isatty() and not destroys:
        return True
    return out.confirm(f"{what}: apply?", yes=yes)
