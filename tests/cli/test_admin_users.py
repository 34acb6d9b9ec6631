"""`paletta admin users`, run as programs against a served application."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import update

from paletta_server.accounts.models import ApiToken
from paletta_server.core.runtime import Runtime
from tests.cli.conftest import Run
from tests.cli.test_account import Terminal
from tests.conftest import MakeUser, Person


@pytest.fixture
async def ben(make_user: MakeUser) -> Person:
    return await make_user("customer", email="ben@example.org")


async def test_make_list_show_and_edit(paletta: Run, people: dict[str, Person]) -> None:
    made = await paletta("admin", "users", "create", "Eve@example.org", "--role", "contributor", as_="admin")
    assert made.code == 0, made.err
    uid = made.out.strip()
    assert uid.startswith("user_")
    assert "eve@example.org is a contributor once they have chosen a password" in made.err
    again = await paletta("admin", "users", "create", "eve@example.org", as_="admin")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: `eve@example.org` has an account already\nhint: ")
    edited = await paletta(
        "admin", "users", "edit", uid[:11], "--name", "=Eve", "--email", "new@example.org", as_="admin"
    )
    assert edited.code == 0, edited.err
    assert edited.out.splitlines() == [
        f"{uid} changed",
        "a mail is on its way to new@example.org: once it is confirmed there, it replaces eve@example.org",
    ]
    assert (await paletta("admin", "users", "edit", uid, as_="admin")).code == 2
    listed = await paletta("admin", "users", "list", "EVE", "--json", as_="admin")
    assert [one["id"] for one in json.loads(listed.out)] == [uid]
    [row] = csv.DictReader(
        io.StringIO((await paletta("admin", "users", "list", "eve", "--csv", as_="admin")).out)
    )
    assert (row["email"], row["display_name"], row["email_verified"]) == ("eve@example.org", "'=Eve", "no")
    both = await paletta("admin", "users", "list", "--csv", "--json", as_="admin")
    assert both.code == 2
    shown = await paletta("admin", "users", "show", "eve@example.org", as_="admin")
    assert shown.out.splitlines()[:5] == [
        f"id: {uid}", "e-mail: eve@example.org", "confirmed: no", "to be confirmed: new@example.org", "name: =Eve",
    ]  # fmt: skip
    some = await paletta("admin", "users", "list", "--limit", "1", as_="admin")
    assert len(some.out.splitlines()) == 1
    assert "--all shows all of them" in some.err
    none = await paletta("admin", "users", "list", "--status", "erased", as_="admin")
    assert (none.out, none.err) == ("", "no such accounts\n")
    wrong = await paletta("admin", "users", "list", "--since", "yesterday", as_="admin")
    assert (wrong.code, wrong.err.splitlines()[0]) == (2, "error: --since: `yesterday` is no moment")
    assert (
        await paletta("admin", "users", "list", "--since", "1h", "--until", "2100-01-01", as_="admin")
    ).out
    assert (await paletta("admin", "users", "list")).code == 4, "not for a contributor"


async def test_shut_out_and_let_in(paletta: Run, people: dict[str, Person], ben: Person) -> None:
    done = await paletta("admin", "users", "disable", ben.email, "--reason", "chargebacks", as_="admin")
    assert (done.code, done.out) == (0, f"{ben.uid} is disabled\n")
    assert (
        await paletta("admin", "users", "enable", ben.uid, as_="admin")
    ).out == f"{ben.uid} is open again\n"
    unasked = await paletta("admin", "users", "role", ben.uid, "contributor", as_="admin")
    assert (unasked.code, unasked.err.splitlines()[0]) == (
        2, f"error: cannot ask without a terminal: {ben.email} is customer: make them contributor?",
    )  # fmt: skip
    role = await paletta("admin", "users", "role", ben.uid, "contributor", "--yes", as_="admin")
    assert role.out == f"{ben.uid} is contributor now\n"
    again = await paletta("admin", "users", "role", ben.uid, "contributor", as_="admin")
    assert again.out == role.out, "nothing is asked where nothing changes"
    asked = await paletta("admin", "users", "delete", ben.uid, as_="admin")
    assert asked.code == 2, "nobody to ask"
    assert (
        await paletta("admin", "users", "delete", ben.uid, "--yes", as_="admin")
    ).out == f"{ben.uid} deleted\n"
    mine = people["admin"].uid
    kept = await paletta("admin", "users", "delete", mine, "--yes", as_="admin")
    assert "the last admin" in kept.err, "and not that --yes is missing"
    refused = await paletta("admin", "users", "disable", mine, "--reason", "none", as_="admin")
    assert (refused.code, refused.err) == (
        1, "error: this is your own account\nhint: pass --yes if you mean it\n",
    )  # fmt: skip
    for argv in (("role", mine, "customer"), ("disable", mine, "--reason", "none")):
        last = await paletta("admin", "users", *argv, "--yes", as_="admin")
        assert last.err.startswith(f"error: {mine} is the last admin who can log in\nhint: ")


async def test_sessions(paletta: Run, ben: Person) -> None:
    listed = await paletta("admin", "users", "sessions", "list", ben.email, as_="admin")
    token = listed.out.split("\t")[0]
    revoked = await paletta("admin", "users", "sessions", "revoke", ben.email, token, as_="admin")
    assert (revoked.code, revoked.out) == (0, "revoked 1 token\n")
    empty = await paletta("admin", "users", "sessions", "list", ben.email, as_="admin")
    assert (empty.out, empty.err) == ("", "logged in nowhere\n")
    assert (await paletta("admin", "users", "sessions", "revoke", ben.email, as_="admin")).code == 2
    rest = await paletta("admin", "users", "sessions", "revoke", ben.email, "--all", "--json", as_="admin")
    assert json.loads(rest.out) == {"ended": 0}


async def test_an_export_goes_where_it_is_wanted(paletta: Run, ben: Person, tmp_path: Path) -> None:
    printed = await paletta("admin", "users", "export", ben.uid, as_="admin")
    assert json.loads(printed.out)["account"][0]["email"] == ben.email
    for target in ("ben.json", "ben.zip", "folder/"):
        done = await paletta("admin", "users", "export", ben.uid, "--to", target, as_="admin")
        assert (done.code, done.out) == (0, ""), done.err
    one = tmp_path / "ben.json"
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert json.loads(one.read_text())["user"] == ben.uid
    with zipfile.ZipFile(tmp_path / "ben.zip") as archive:
        assert json.loads(archive.read("account.json"))[0]["id"] == ben.uid
    assert json.loads((tmp_path / "folder" / "orders.json").read_text()) == []
    twice = await paletta("admin", "users", "export", ben.uid, "--to", "ben.json", as_="admin")
    assert twice.code == 2
    assert "is there already" in twice.err
    forced = await paletta("admin", "users", "export", ben.uid, "--to", "ben.json", "--force", as_="admin")
    assert forced.code == 0
    nowhere = await paletta("admin", "users", "export", ben.uid, "--to", "no/such/file.json", as_="admin")
    assert (nowhere.code, nowhere.err.startswith("error: cannot write `no/such/file.json`")) == (1, True)


async def test_erasing_wants_the_id(
    paletta: Run, on_a_terminal: Run, people: dict[str, Person], ben: Person, make_user: MakeUser
) -> None:
    without = await paletta("admin", "users", "erase", ben.uid, as_="admin")
    assert (without.code, without.err.splitlines()[0]) == (
        2,
        "error: erasing wants the id typed on a terminal",
    )
    token = people["admin"].token
    wrong = await on_a_terminal("admin", "users", "erase", ben.uid[:11], answer="yes", PALETTA_TOKEN=token)
    assert wrong.code == 1
    assert "that is not the id; nothing was erased" in wrong.out
    right = await on_a_terminal("admin", "users", "erase", ben.email, answer=ben.uid, PALETTA_TOKEN=token)
    assert right.code == 0, right.out
    assert f"this erases {ben.email} for good" in right.out
    assert right.out.splitlines()[-1].endswith(f"{ben.uid} erased")
    eve = await make_user("customer")
    assert (
        await paletta("admin", "users", "erase", eve.uid, "--yes", as_="admin")
    ).out == f"{eve.uid} erased\n"


async def test_power_asks_for_the_password_once_more(
    paletta: Run, url: str, people: dict[str, Person], ben: Person, runtime: Runtime
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(update(ApiToken).values(authenticated_at=None))
    argv = ("admin", "users", "role", ben.uid, "contributor", "--yes")
    without = await paletta(*argv, as_="admin")
    assert (without.code, "`paletta confirm`" in without.err) == (4, True)
    admin = people["admin"]
    async with Terminal(argv, os.environ | {"PALETTA_URL": url, "PALETTA_TOKEN": admin.token}) as terminal:
        await terminal.see("your password once more: ")
        terminal.type(admin.password)
        assert await terminal.end() == 0
        assert f"{ben.uid} is contributor now" in terminal.seen


async def test_tables_fit_a_terminal(
    on_a_terminal: Run, people: dict[str, Person], make_user: MakeUser
) -> None:
    await make_user("contributor", email="a-rather-long-name@a-rather-long-domain.example.org")
    token = people["admin"].token
    for argv in (("list",), ("show", people["contributor"].uid), ("sessions", "list", people["admin"].uid)):
        shown = await on_a_terminal("admin", "users", *argv, PALETTA_TOKEN=token)
        assert shown.code == 0, shown.out
        assert max(map(len, shown.out.splitlines())) <= 80
        assert "user_" in shown.out or "tok_" in shown.out
        assert "…" not in shown.out, "ids are whole"
