"""`paletta profile payout show | set | remove`: where a contributor is paid."""

from typing import Annotated, Any

import typer

from paletta_cli.commands import Json, Yes

app = typer.Typer(no_args_is_help=True, help="where you are paid: show, set, remove")


@app.command()
def show(json: Json = False) -> None:
    """the account that payouts go to; of its number only the end is shown"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    with connect() as service:
        _print(Output(json=json), service.get("/v1/me/payout-account"))


@app.command("set")
def set_(
    holder: Annotated[str | None, typer.Option(help="whose account it is, as the bank has it")] = None,
    iban: Annotated[str | None, typer.Option(help="its IBAN; blanks do not matter")] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="its number, where there are no IBANs")
    ] = None,
    bic: Annotated[
        str | None, typer.Option(help="the bank's BIC (SWIFT code); needed with --account")
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="CC", help="the bank's country, such as US; needed with --account")
    ] = None,
    json: Json = False,
) -> None:
    """have payouts go to a bank account from the next one on; a mail tells you of the change

    Your password is asked for once more. What is not given is asked for on a terminal.
    """
    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    out = Output(json=json)
    if iban is not None and account is not None:
        raise UsageError("one of --iban and --account")
    with connect() as service:
        body = {"bic": bic, "country": country, "account": account}
        body["holder"] = holder or out.prompt("account's holder", option="--holder")
        if account is None:
            body["iban"] = iban or out.prompt("IBAN", option="--iban, or --account with --bic and --country")
        given = {key: value for key, value in body.items() if value is not None}
        _print(out, service.put("/v1/me/payout-account", given))


@app.command()
def remove(yes: Yes = False) -> None:
    """be paid nowhere; what is payable waits until you say where to"""
    from paletta_cli.api import connect
    from paletta_cli.output import Output

    out = Output()
    with connect() as service:
        if not out.confirm("remove your payout account?", yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        service.delete("/v1/me/payout-account")
    out.note("your payout account is removed")


def _print(out: Any, account: dict[str, Any]) -> None:
    from paletta_cli.output import Column

    columns = [
        Column("holder"),
        Column("number", "IBAN" if account["kind"] == "iban" else "account"),
        Column("bic", "BIC"),
        Column("country"),
        Column("changed_at", "since", show=lambda value: str(value)[:10]),
    ]
    out.record(account, columns)
