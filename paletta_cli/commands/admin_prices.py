"""`paletta admin prices plan | apply`: the price book from a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="what clips cost, from a file: plan, apply")

File = Annotated[Path, typer.Argument(metavar="FILE", help="the prices, such as manifests/price-book.yaml")]


@app.command()
def plan(file: File, json: Json = False) -> None:
    """show which prices, licences and terms a file would change

    Nothing is changed.
    """
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output(json=json)
    body = _body(file)
    with connect() as service:
        made = _post(out, service, "plan", body)
    out.data(made)
    for line in _lines(made):
        out.line(line)


@app.command()
def apply(file: File, yes: Yes = False, json: Json = False) -> None:
    """sell at the prices of a file from now on

    Orders keep the prices at which they were made; carts show what changed. Running it again changes nothing.
    """
    import sys

    from paletta_cli.api import connect
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    body = _body(file)
    with connect() as service:
        made = _post(out, service, "plan", body)
        for line in _lines(made):
            out.note(line)
        if not made["changes"]:
            out.data(made)
            return
        count = plural(len(made["changes"]), "change")
        if sys.stdin.isatty() and not out.confirm(f"{count}: apply?", yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        done = _post(out, service, "apply", {**body, "digest": made["digest"]})
    out.data(done)
    out.note(f"applied `{file}`")


def _lines(made: dict[str, Any]) -> list[str]:
    """`~ prices.hd.business: 99.00 → 109.00`, `+ …` for what is new, `- …` for what goes."""
    lines = []
    for change in made["changes"]:
        before, after = (_short(change[side]) for side in ("before", "after"))
        if change["before"] is None:
            lines.append(f"+ {change['key']}: {after}")
        elif change["after"] is None:
            lines.append(f"- {change['key']}: {before}")
        else:
            lines.append(f"~ {change['key']}: {before} → {after}")
    return lines or ["nothing to change"]


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= 60 else text[:59] + "…"


def _body(file: Path) -> dict[str, Any]:
    from paletta_cli.operator_files import read_text

    return {
        "document": read_text(file),
        "filename": str(file)[-1024:].encode("utf-8", "replace").decode(),
    }


def _post(out: "Output", service: "Service", verb: str, body: dict[str, Any]) -> Any:
    """Ask for a plan or an apply; what is wrong with the file is listed before the error is raised."""
    from paletta_cli.errors import ApiProblem, ManifestInvalid
    from paletta_cli.operator_files import problem_lines

    try:
        return service.post(f"/v1/admin/prices/{verb}", body, idempotent=True)
    except ApiProblem as problem:
        if problem.code != "prices_invalid":
            raise
        found = problem.body.get("problems", [])
        out.data({"problems": found})
        for line in problem_lines(found):
            out.line(line)
        raise ManifestInvalid(f"{problem.message}, so nothing was changed") from None
