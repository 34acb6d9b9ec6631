"""`paletta admin disputes list | show | evidence | submit | accept`: customers' banks against the shop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

if TYPE_CHECKING:
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="customers' banks: list, show, evidence, submit, accept")

Dispute = Annotated[str, typer.Argument(metavar="DISPUTE", help="its id; the beginning is enough")]


@app.command("list")
def list_(
    closed: Annotated[bool, typer.Option("--closed", help="those that are over")] = False,
    everything: Annotated[bool, typer.Option("--all", help="open and closed ones")] = False,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="of this order")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    json: Json = False,
) -> None:
    """open disputes, newest first, and how long there is left to answer"""
    from paletta_cli.api import connect
    from paletta_cli.desk import disputes
    from paletta_cli.output import Output

    open_ = None if everything else "false" if closed else "true"
    with connect() as service:
        found = service.pages(
            "/v1/admin/disputes", most=limit, limit=min(limit, 200), open=open_, order=order
        )
        disputes.show_list(Output(json=json), list(found))


@app.command()
def show(dispute: Dispute, json: Json = False) -> None:
    """one dispute, and what the bank would be told now, or was"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk import disputes
    from paletta_cli.output import Output

    with connect() as service:
        disputes.show(Output(json=json), service.get(f"/v1/admin/disputes/{segment(dispute)}"))


@app.command()
def evidence(
    dispute: Dispute,
    edit: Annotated[bool, typer.Option("--edit", help="in your editor ($EDITOR)")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=TEXT", help="this text; empty leaves it out; repeatable"),
    ] = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="our draft again; repeatable")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=PATH", help="add a PDF, JPEG or PNG; repeatable")
    ] = None,
    remove_file: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="take a file out again; repeatable")
    ] = None,
    json: Json = False,
) -> None:
    """show or change what the bank is told; nothing is sent before `submit`

    It is drafted from the order, its licences and terms, the downloads and the mails. What you write takes the
    place of the draft. Where the gateway takes files the receipt goes along by itself.
    """
    import sys

    from paletta_cli.api import connect, segment
    from paletta_cli.desk import disputes
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    out = Output(json=json)
    wanted = disputes.changes(set_ or (), reset or ())
    files = [disputes.read_file(one) for one in file or ()]
    if edit and not sys.stdin.isatty():
        raise UsageError("--edit needs a terminal", hint="use --set FIELD=TEXT")
    with connect() as service:
        found = service.get(f"/v1/admin/disputes/{segment(dispute)}")
        path = f"/v1/admin/disputes/{segment(found['id'])}"
        if edit:
            wanted = disputes.edit(found) | wanted
        if wanted:
            found = service.patch(f"{path}/evidence", {"fields": wanted, "version": found["version"]})
        for field, data in files:
            found = service.put(f"{path}/files/{segment(field)}", {"data": data})
        for field in remove_file or ():
            found = service.delete(f"{path}/files/{segment(field)}")
    disputes.show(out, found)
    if edit and not wanted:
        out.note("nothing was changed")


@app.command()
def submit(dispute: Dispute, yes: Yes = False, json: Json = False) -> None:
    """send the evidence to the bank; it takes it once each time that it asks"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk.words import words
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/admin/disputes/{segment(dispute)}")
        out.note("evidence: " + ", ".join([*found["evidence"], *(one["field"] for one in found["files"])]))
        if not out.confirm(f"send it for order {found['order']}? it cannot be changed afterwards", yes=yes):
            raise typer.Exit(1)
        done = service.post(f"/v1/admin/disputes/{segment(found['id'])}/submit")
    out.data(done)
    _tell(out, done, {"submitted": f"the bank has it: {words(done['status'])}"})


@app.command()
def accept(dispute: Dispute, yes: Yes = False, json: Json = False) -> None:
    """leave the money to the customer, for good: the dispute is lost and the licences end"""
    from paletta_cli.api import connect, segment
    from paletta_cli.desk.words import amount
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        found = service.get(f"/v1/admin/disputes/{segment(dispute)}")
        sum_ = amount(found["amount"], found["currency"])
        question = f"leave {sum_} of order {found['order']} to {found['email']}? this cannot be taken back"
        if not out.confirm(question, yes=yes):
            raise typer.Exit(1)
        done = service.post(f"/v1/admin/disputes/{segment(found['id'])}/accept")
    out.data(done)
    _tell(out, done, {"accepted": f"the dispute of order {done['order']} is given up"})


def _tell(out: "Output", done: Mapping[str, Any], said: Mapping[str, str]) -> None:
    from paletta_cli.errors import PalettaError

    if done["response"] == "none":
        raise PalettaError(f"the gateway refused the answer: {done['response_failure']}")
    out.line(said.get(done["response"], "the gateway does not answer; it is asked again until it does"))
