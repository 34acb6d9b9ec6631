"""`paletta earnings`, `profile payout`, `admin payouts` and `admin royalties`, as typed: code, stdout and stderr."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.payments import service as payments
from paletta_server.payments.sandbox import desk
from tests.cli.conftest import Run
from tests.conftest import MakeUser, Person
from tests.support.days import within_a_day
from tests.support.earnings import IBAN, hold_is_over
from tests.support.orders import Sold, Till, Wanted
from tests.support.payments import Counter


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    return {
        role: await make_user(role, email=f"{role}@example.org")
        for role in ("customer", "contributor", "admin")
    }


@pytest.fixture
async def counter(runtime: Runtime, people: dict[str, Person]) -> Counter:
    await within_a_day(runtime)
    return Counter(runtime, await Till.of(runtime, people["customer"].email, people["contributor"].email))


async def sell(counter: Counter, *wanted: Wanted) -> Sold:
    sold = await counter.till.sell(*wanted, paid=False, store=False)
    payment = await counter.begin(sold.order.id)
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), "success", desk.Telling(copies=0))
    await payments.settle(counter.runtime, payment.id)
    return sold


TRAM = Wanted("Yellow tram climbs a steep street", tier="hd", licence="business", price=12000)


async def test_a_contributor_reads_what_was_earned(
    counter: Counter, paletta: Run, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    nothing = await paletta("earnings", "--month", "2026-01")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == (
        "nothing earned until the end of 2026-01\nhint: `paletta profile payout set` says where to pay you\n"
    )
    sold = await sell(counter, TRAM, Wanted("=HYPERLINK(\x1b[31m)", price=4900))
    await payments.refund(counter.runtime, sold.order.id, {sold.items[0].id: 3000}, "asked for", None)
    told = json.loads((await paletta("earnings", "--json")).out)
    month = told["month"]
    shown = await paletta("earnings")
    day = f"{month}-{told['lines'][0]['at'][8:10]}"
    assert shown.out.splitlines() == [
        "opening balance\t0.00 USD", "sales\t84.50 USD", "refunds\t-15.00 USD", "disputes\t0.00 USD",
        "payouts\t0.00 USD", "closing balance\t69.50 USD", "  on hold\t69.50 USD", "  payable\t0.00 USD",
        "paid out, on its way\t0.00 USD", "paid out, arrived\t0.00 USD", "",
        f"{day}\tsale\tYellow tram climbs a steep street\tHD\tbusiness\t120.00\t50 %\t60.00 USD",
        f"{day}\tsale\t=HYPERLINK([31m)\toriginal\tindividual\t49.00\t50 %\t24.50 USD",
        f"{day}\trefund\tYellow tram climbs a steep street\tHD\tbusiness\t-30.00\t50 %\t-15.00 USD",
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((await paletta("earnings", "--csv")).out)))
    assert [(row["title"], row["royalty"]) for row in rows][1:] == [
        ("'=HYPERLINK([31m)", "24.50"), ("Yellow tram climbs a steep street", "-15.00"),
    ]  # fmt: skip
    seen = await on_a_terminal("earnings")
    assert "\x1b[31m" not in seen.out
    assert all(len(line) <= 80 for line in seen.out.splitlines()), seen.out
    assert "60.00" in seen.out
    assert "Yellow tram cli…" in seen.out
    for said in (shown.out, seen.out, json.dumps(told)):
        assert "Ada" not in said
        assert people["customer"].email not in said
    wrong = await paletta("earnings", "--month", "May")
    assert (wrong.code, wrong.err) == (
        2,
        "error: --month: `May` is not a month\nhint: months are like `2026-05`\n",
    )
    assert (await paletta("earnings", as_="customer")).code == 4


async def test_bank_details_are_set_shown_and_removed(paletta: Run) -> None:
    none = await paletta("profile", "payout", "show")
    assert none.code == 1
    assert none.err == (
        "error: no payout account for `contributor@example.org`\n"
        "hint: `paletta profile payout set` says where to pay you\n"
    )
    wrong = await paletta("profile", "payout", "set", "--holder", "Carla", "--iban", IBAN[:-1] + "9")
    assert (wrong.code, wrong.err.splitlines()[0]) == (1, "error: that is not an IBAN")
    assert (await paletta("profile", "payout", "set", "--holder", "Carla")).code == 2, "nobody to ask"
    done = await paletta("profile", "payout", "set", "--holder", "Carla", "--iban", IBAN)
    assert done.code == 0
    assert done.out.splitlines()[:3] == ["holder: Carla", "IBAN: DE…3000", "country: DE"]
    us = ("--holder", "Carla", "--account", "123456789", "--bic", "CHASUS33", "--country", "US")
    assert "account: …6789" in (await paletta("profile", "payout", "set", *us)).out
    assert (await paletta("profile", "payout", "remove")).code == 2
    assert (await paletta("profile", "payout", "remove", "--yes")).err == "your payout account is removed\n"


async def test_an_operator_pays(
    counter: Counter, paletta: Run, on_a_terminal: Run, tmp_path: Path, people: dict[str, Person]
) -> None:
    async def admin(*argv: str) -> tuple[int, str, str]:
        ran = await paletta("admin", "payouts", *argv, as_="admin")
        return ran.code, ran.out, ran.err

    assert await admin("plan") == (0, "", "nothing is payable to anybody\n")
    await sell(counter, TRAM)
    await hold_is_over(counter)
    skipped = "skip\tcontributor@example.org\t60.00 USD\t0.00\tno payout account\n"
    assert await admin("plan") == (0, skipped, "")
    code, _, err = await admin("run", "--yes")
    assert code == 1
    assert err.endswith("error: nobody is to be paid now\nhint: `paletta admin payouts plan` says why\n")
    await paletta("profile", "payout", "set", "--holder", "Carla", "--iban", IBAN)
    assert (await admin("run"))[0] == 2, "without a terminal nobody can agree"
    code, out, err = await admin("run", "--yes")
    run = out.strip()
    assert (code, run[:4]) == (0, "run_")
    assert err == (
        "pay  contributor@example.org  60.00 USD  0.00  DE…3000\n60.00 USD to be paid\n"
        f"hint: `paletta admin payouts export {run}` makes the bank's file\n"
    )
    assert (await admin("list"))[1].split("\t")[2:] == ["1", "1", "0", "0", "60.00 USD\n"]
    code, out, _ = await admin("export", run)
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["holder"], row["account"], row["amount"]) == ("Carla", IBAN, "60.00")
    assert (await admin("export", run, "--to", "bank.csv"))[0] == 0
    assert stat.S_IMODE((tmp_path / "bank.csv").stat().st_mode) == 0o600
    assert (await admin("export", run, "--to", "bank.csv"))[0] == 2, "nothing is overwritten"
    payout = (await admin("show", run))[1].split("\t")[0]
    argv = ("mark-failed", payout[:12], "--reason", "account closed")
    code, _, err = await admin(*argv)
    assert (code, err.splitlines()[0]) == (
        2,
        "error: cannot ask without a terminal: did 1 payout not arrive?",
    )
    token = people["admin"].token
    no = await on_a_terminal("admin", "payouts", *argv, answer="n", PALETTA_TOKEN=token)
    assert (no.code, no.out) == (1, "did 1 payout not arrive? [y/N] nothing was changed\n")
    code, out, _ = await admin(*argv, "--yes")
    assert (code, out.split("\t")[1:]) == (
        0,
        ["failed", "contributor@example.org", "60.00 USD", "account closed\n"],
    )
    run = (await admin("run", "--yes"))[1].strip()
    code, out, err = await admin("confirm", run, "--yes")
    assert (code, out.split("\t")[1:]) == (0, ["paid", "contributor@example.org", "60.00 USD", "DE…3000\n"])
    assert err == f"60.00 USD in run {run}\n"
    for words in (("plan",), ("list",), ("show", run)):
        seen = await on_a_terminal("admin", "payouts", *words, PALETTA_TOKEN=people["admin"].token)
        assert all(len(line) <= 80 for line in seen.out.splitlines()), seen.out
    assert (await paletta("admin", "payouts", "plan")).code == 4


async def test_the_check_tells_every_difference(counter: Counter, paletta: Run, runtime: Runtime) -> None:
    await sell(counter, TRAM)
    fine = await paletta("admin", "payouts", "check", as_="admin")
    assert (fine.code, fine.out, fine.err) == (
        0,
        "",
        "the ledger agrees with payments, sold items and payouts\n",
    )
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE order_items SET refunded = 3000"))
    found = await paletta("admin", "payouts", "check", as_="admin")
    assert found.code == 6
    assert [line.split("\t")[1:] for line in found.out.splitlines()] == [
        ["refund", "USD", "3000", "0"], ["platform", "USD", "4500", "6000"], ["royalty", "USD", "4500", "6000"],
    ]  # fmt: skip
    assert found.err.startswith("error: 3 differences between the ledger and what it follows from\n")
    listed = await paletta("admin", "payouts", "check", "--json", as_="admin")
    assert (listed.code, len(json.loads(listed.out))) == (6, 3)


async def test_an_operator_agrees_on_a_rate(paletta: Run) -> None:
    async def admin(*argv: str) -> tuple[int, str, str]:
        ran = await paletta("admin", "royalties", *argv, as_="admin")
        return ran.code, ran.out, ran.err

    assert (await admin("show"))[1] == "standard\t\t50 %\t\nexclusive\t\t60 %\t\n"
    mine = "contributor@example.org"
    assert await admin("set", mine, "62.5") == (0, "", f"{mine} gets 62.5 % of what is sold from now on\n")
    assert (await admin("show"))[1].splitlines()[2].split("\t")[1:3] == [mine, "62.5 %"]
    assert await admin("unset", mine) == (0, "", f"{mine} has no rate of its own any more\n")
    assert await admin("unset", mine) == (1, "", f"error: no royalty rate of its own for `{mine}`\n")
    code, _, err = await admin("set", mine, "half")
    assert (code, err.splitlines()[0]) == (1, "error: `half` is not a royalty rate")


async def test_money_asks_for_the_password_once_more(paletta: Run, runtime: Runtime) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET authenticated_at = now() - interval '1 hour'"))
    ran = await paletta("admin", "royalties", "set", "standard", "55", as_="admin")
    assert ran.code == 4
    assert ran.err.startswith("error: this needs your password once more\nhint: `paletta confirm`")
