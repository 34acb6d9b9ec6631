"""`paletta admin orders | refunds | disputes | reconcile`: an operator's day, on the real program."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_cli.desk import disputes
from paletta_server.core.runtime import Runtime
from paletta_server.payments import service
from paletta_server.payments.models import Payment
from paletta_server.payments.sandbox import desk
from tests.cli.conftest import PROGRAM, Run
from tests.conftest import MakeUser, Person
from tests.faults.proxy import Exchange, Fault, FaultProxy
from tests.support.orders import Sold, Till, Wanted
from tests.support.payments import Counter, at_its_address

SOME_FAILED = 6


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    roles = {role: await make_user(role) for role in ("customer", "contributor", "admin")}
    return roles | {"other": await make_user("admin")}


@pytest.fixture
async def counter(app: FastAPI, people: dict[str, Person]) -> AsyncIterator[Counter]:
    async with at_its_address(app, refund_approval_above=10_000) as runtime:
        yield Counter(runtime, await Till.of(runtime, people["customer"].email, people["contributor"].email))


@pytest.fixture
def admin(counter: Counter, paletta: Run) -> Run:
    async def run(*argv: str, as_: str = "admin") -> Any:
        return await paletta("admin", *argv, as_=as_)

    return run


async def paid(counter: Counter, *wanted: Wanted, heard: bool = True) -> tuple[Sold, Payment]:
    chosen = wanted or (Wanted("Tram", price=4900), Wanted("=cmd|' /C calc'!A0", price=7900))
    sold = await counter.till.sell(*chosen, paid=False, store=False)
    payment = await counter.begin(sold.order.id)
    await press(counter, payment, "success", heard=heard)
    return sold, payment


async def press(counter: Counter, payment: Payment, action: desk.Action, *, heard: bool = True) -> None:
    async with counter.runtime.db.transaction() as session:
        await desk.act(session, str(payment.reference), action, desk.Telling(copies=0))
    if heard:
        await service.settle(counter.runtime, payment.id)


def narrow(out: str) -> None:
    too_wide = [line for line in out.splitlines() if len(line) > 80]
    assert not too_wide, too_wide


# ---- orders


async def test_orders_are_listed_shown_and_written_as_a_sheet(
    admin: Run, counter: Counter, people: dict[str, Person], on_a_terminal: Run
) -> None:
    sold, _ = await paid(counter)
    waiting = await counter.order()
    listed = await admin("orders", "list")
    assert [line.split("\t")[:3] for line in listed.out.splitlines()] == [
        [waiting.order.number, "pending", people["customer"].email],
        [sold.order.number, "paid", people["customer"].email],
    ]
    one = await admin("orders", "list", "--status", "paid", "--json")
    assert [row["number"] for row in json.loads(one.out)] == [sold.order.number]
    more = await admin("orders", "list", "--limit", "1")
    assert (len(more.out.splitlines()), "--all shows all" in more.err) == (1, True)
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE orders SET licensee = '=HYPERLINK(1)', purchase_order = '-1'"))
    sheet = list(csv.DictReader(io.StringIO((await admin("orders", "list", "--csv")).out)))
    assert {row["licensee"] for row in sheet} == {"'=HYPERLINK(1)"}, "no cell is a formula"
    assert {row["purchase_order"] for row in sheet} == {"'-1"}
    for argv in (("--csv", "--json"), ("--since", "yesterday")):
        assert (await admin("orders", "list", *argv)).code == 2

    await counter.work()
    shown = await admin("orders", "show", sold.order.number)
    for words in (sold.items[0].uid, people["customer"].email, "captured 128.00", "your clips are ready",
                  "payment:captured"):  # fmt: skip
        assert words in shown.out, shown
    token = people["admin"].token
    for argv in (("show", sold.order.number), ("list",)):
        seen = await on_a_terminal("admin", "orders", *argv, PALETTA_TOKEN=token)
        assert seen.code == 0, seen
        narrow(seen.out)
        assert "128.00" in seen.out
        assert sold.order.number in seen.out
    document = json.loads((await admin("orders", "show", sold.order.number, "--json")).out)
    assert [item["right"] for item in document["items"]] == ["granted", "granted"]
    assert (await admin("orders", "show", "P-2020-000001")).code == 1


async def test_a_declined_attempt_is_history_once_the_order_is_paid(admin: Run, counter: Counter) -> None:
    sold = await counter.till.sell(Wanted("Tram", price=4900), paid=False, store=False)
    payment = await counter.begin(sold.order.id)
    await press(counter, payment, "decline")
    declined = await admin("orders", "show", sold.order.number)
    assert f"warning: {payment.uid}: " in declined.err, declined
    await press(counter, payment, "success")
    settled = await admin("orders", "show", sold.order.number)
    assert ("captured 49.00" in settled.out, settled.err.count("warning")) == (True, 0), settled


async def test_orders_are_cancelled_paid_and_mailed_for_customers(
    admin: Run, counter: Counter, people: dict[str, Person]
) -> None:
    waiting = await counter.order()
    await counter.begin(waiting.order.id)
    refused = await admin("orders", "cancel", waiting.order.number)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert "is cancelled" in (await admin("orders", "cancel", waiting.order.number, "--yes")).out
    invoice = await counter.order(gateway="invoice", purchase_order="PO 1")
    shown = await admin("orders", "show", invoice.order.number)
    assert f"paletta admin orders mark-paid {invoice.order.number}" in shown.err
    done = await admin("orders", "mark-paid", invoice.order.number, "--reference", "TX 9", "--yes")
    assert done.out == f"order {invoice.order.number} is paid\n"
    sent = await admin("orders", "resend", invoice.order.number)
    assert f"on its way to {people['customer'].email}" in sent.out
    number = invoice.order.number
    made = await admin("refunds", "create", number, "--amount", "10", "--reason", "asked for", "--yes")
    assert "are to be sent by bank" in made.out
    refund = made.out.split(":")[0]
    assert f"mark-sent {refund}" in made.err
    assert f"mark-sent {refund}" in (await admin("orders", "attention")).out
    assert f"mark-sent {refund}" in (await admin("orders", "show", number)).err
    assert refund in (await admin("refunds", "list", "--status", "pending", "--json")).out
    refused = await admin("refunds", "mark-sent", refund, "--reference", "TX 10")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    done = await admin("refunds", "mark-sent", refund, "--reference", "TX 10", "--yes")
    assert done.out == f"{refund}: 10.00 USD went back\n"
    back = await admin("refunds", "mark-failed", refund, "--reason", "the bank returned it", "--yes")
    assert back.out == f"{refund} failed: the bank returned it\n"


# ---- refunds


async def test_a_refund_is_planned_made_and_restored(
    admin: Run, counter: Counter, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    sold, _ = await paid(counter)
    number, first = sold.order.number, sold.items[0]
    create = ("refunds", "create", number, "--reason", "wrong clip")
    plan = await admin(*create, "--item", first.uid, "--dry-run", "--json")
    assert [one["right"] for one in json.loads(plan.out)["items"]] == ["ends"]
    assert "the licence ends" in plan.err
    assert (await admin("refunds", "list")).out == ""
    for argv, words in (
        ((), "say how much"),
        (("--all", "--amount", "1"), "say how much"),
        (("--item", f"{first.uid}=1.005"), "no amount in USD"),
        (("--item", first.uid, "--item", first.uid), "named twice"),
        (("--item", first.uid), "--yes"),
    ):
        refused = await admin(*create, *argv)
        assert (refused.code, words in refused.err) == (2, True), refused
    too_much = await admin(*create, "--item", f"{first.uid}=50.00", "--yes")
    assert (too_much.code, "49.00 USD at most" in too_much.err) == (1, True)
    asked = await on_a_terminal(
        "admin", *create, "--item", first.clip_uid, answer="y", PALETTA_TOKEN=people["admin"].token
    )
    assert asked.code == 0, asked
    assert "49.00 USD went back" in asked.out
    narrow(asked.out)
    restored = await admin("orders", "restore", number, "--item", first.uid, "--reason", "sorry", "--yes")
    assert restored.code == 0, restored
    assert "\tgoodwill\t" in (await admin("orders", "show", number)).out
    kept = await admin(*create, "--amount", "10.00", "--keep", "--yes")
    assert "10.00 USD went back" in kept.out
    listed = await admin("refunds", "list", "--order", number)
    assert [line.split("\t")[2] for line in listed.out.splitlines()] == ["succeeded", "succeeded"]


async def last_login(counter: Counter, *, hours_ago: int) -> None:
    async with counter.runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE api_tokens SET authenticated_at = now() - make_interval(hours => :hours)"),
            {"hours": hours_ago},
        )


async def test_a_refund_that_was_refused_before_it_began_is_planned_and_asked_about_anew(
    admin: Run,
    counter: Counter,
    people: dict[str, Person],
    on_a_terminal: Run,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sold, _ = await paid(counter)
    create = ("refunds", "create", sold.order.number, "--reason", "sorry", "--amount", "10.00", "--keep")
    kept = tmp_path / "state" / "unanswered"
    await last_login(counter, hours_ago=1)
    stale = await admin(*create, "--yes")
    assert (stale.code, "password once more" in stale.err) == (4, True), stale
    assert not list(kept.glob("*.json"))
    for answer, words in (("not it", "error: "), ("\x04", "the input ended")):
        wrong = await on_a_terminal(
            *("admin", *create, "--yes"),
            asked="your password once more: ", answer=answer, PALETTA_TOKEN=people["admin"].token,
        )  # fmt: skip
        assert (wrong.code != 0, words in wrong.out, "may have been done" in wrong.out) == (
            True, True, False,
        ), wrong  # fmt: skip
        assert not list(kept.glob("*.json"))
    await last_login(counter, hours_ago=0)
    anew = await admin(*create)
    assert (anew.code, "goes back" in anew.err, "cannot ask" in anew.err) == (2, True, True), anew
    assert "not known" not in anew.err

    def block(exchange: Exchange) -> Fault | None:
        return Fault("answer", status=403) if exchange.path.endswith("/refunds") else None

    with FaultProxy(url, plan=block) as proxy:  # whatever that is: it does not know what the service did
        monkeypatch.setenv("PALETTA_URL", proxy.url)
        blocked = await admin(*create, "--yes")
    assert (blocked.code, "may have been done" in blocked.err) == (4, True), blocked
    assert len(list(kept.glob("*.json"))) == 1
    assert (await admin("refunds", "list", "--order", sold.order.number)).out == ""


async def test_a_refund_whose_answer_was_lost_is_not_made_twice(
    admin: Run,
    counter: Counter,
    people: dict[str, Person],
    on_a_terminal: Run,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sold, _ = await paid(counter)
    create = (
        "refunds",
        "create",
        sold.order.number,
        "--reason",
        "sorry",
        "--amount",
        "10.00",
        "--keep",
        "--yes",
    )

    def lose(exchange: Exchange) -> Fault | None:
        return Fault("lose_reply") if exchange.path.endswith("/refunds") else None

    with FaultProxy(url, plan=lose) as proxy:
        monkeypatch.setenv("PALETTA_URL", proxy.url)
        lost = await admin(*create)
        assert (lost.code, "it may have been done" in lost.err) == (5, True), lost
        proxy.plan = None
        await last_login(counter, hours_ago=1)
        stale = await admin(*create)
        assert (stale.code, "password once more" in stale.err) == (4, True), stale
        await last_login(counter, hours_ago=0)
        declined = await on_a_terminal(
            *("admin", *create[:-1]),
            answer="n", PALETTA_URL=proxy.url, PALETTA_TOKEN=people["admin"].token,
        )  # fmt: skip
        assert declined.code == 1, declined
        words = (
            sold.items[0].uid,
            "10.00 USD of order",
            "what became of it is not known",
            "ask again? [y/N]",
        )
        assert [word for word in words if word not in declined.out] == []
        narrow(declined.out)
        again = await admin(*create)
        assert again.code == 0, again
        assert "asked again, and not done twice" in again.err
        assert "10.00 USD went back" in again.out
        listed = await admin("refunds", "list", "--order", sold.order.number)
        assert len(listed.out.splitlines()) == 1
        another = await admin(*create)
        assert another.code == 0, another
        listed = await admin("refunds", "list", "--order", sold.order.number)
    assert len(listed.out.splitlines()) == 2, "one that was answered may be wanted again"


async def test_a_large_refund_wants_two_operators(
    admin: Run, counter: Counter, people: dict[str, Person]
) -> None:
    sold, _ = await paid(counter)
    made = await admin(
        "refunds", "create", sold.order.number, "--all", "--reason", "asked for", "--yes", "--json"
    )
    assert "needs a second operator" in made.err
    refund = json.loads(made.out)["id"]
    assert f"refunds approve {refund}" in (await admin("orders", "attention")).out
    own = await admin("refunds", "approve", refund, "--yes")
    assert (own.code, "needs a second operator" in own.err) == (4, True)
    shown = await admin("refunds", "show", refund, as_="other")
    assert f"asked by: {people['admin'].email}" in shown.out
    approved = await admin("refunds", "approve", refund, "--yes", as_="other")
    assert approved.out == f"{refund}: 128.00 USD went back\n"
    late = await admin("refunds", "reject", refund, "--reason", "no", as_="other")
    assert (late.code, "is succeeded already" in late.err) == (1, True)
    both = await admin("refunds", "list", "--csv", "--json")
    assert both.code == 2
    async with counter.runtime.db.transaction() as session:
        await session.execute(text("UPDATE refunds SET reason = '=1+1'"))
    [row] = csv.DictReader(io.StringIO((await admin("refunds", "list", "--csv")).out))
    assert (row["id"], row["amount"], row["keep"], row["decided_by"]) == (
        refund, "12800", "no", people["other"].email,
    )  # fmt: skip
    assert row["reason"] == "'=1+1", "no cell is a formula"
    assert "nothing needs you" in (await admin("orders", "attention")).err


async def test_the_log_knows_what_was_done_about_a_refund(
    admin: Run, counter: Counter, people: dict[str, Person], on_a_terminal: Run, url: str
) -> None:
    sold, _ = await paid(counter)
    create = ("refunds", "create", sold.order.number, "--reason", "asked for", "--yes", "--json", "--amount")
    first, second = [json.loads((await admin(*create, sum_)).out)["id"] for sum_ in ("10", "20")]
    for argv, refund in (((), first), (("--limit", "2"), second), (("--action", "refund:"), first[:12])):
        told = json.loads((await admin("logs", "--object", refund, "--json", *argv)).out)
        assert [one["action"] for one in told] == ["refund:succeeded", "refund:requested"]
        assert {one["details"]["refund"][:12] for one in told} == {refund[:12]}
    one = await admin("logs", "--object", first, "--limit", "1")
    assert one.out.split("\t")[2] == "refund:succeeded"
    nobody = await admin("logs", "--object", "refund_zzzzzzzzzzzz")
    assert (nobody.code, nobody.err.splitlines()[0]) == (1, "error: no refund `refund_zzzzzzzzzzzz`")
    seen = await on_a_terminal("admin", "logs", "--object", first, PALETTA_TOKEN=people["admin"].token)
    narrow(seen.out)
    assert seen.out.count("refund:") == 2
    following = await asyncio.create_subprocess_exec(
        *PROGRAM, "admin", "logs", "--object", second, "--follow", "--json",
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PALETTA_URL": url, "PALETTA_TOKEN": people["admin"].token},
    )  # fmt: skip
    assert following.stdout is not None
    for action in ("requested", "succeeded"):
        told = json.loads(await asyncio.wait_for(following.stdout.readline(), 30))
        assert (told["action"], told["details"]["refund"]) == (f"refund:{action}", second)
    following.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(following.wait(), 30) == 130


# ---- disputes


async def test_a_dispute_is_answered_from_the_terminal(
    admin: Run, counter: Counter, on_a_terminal: Run, people: dict[str, Person], tmp_path: Path
) -> None:
    _, payment = await paid(counter)
    await press(counter, payment, "dispute")
    [line] = (await admin("disputes", "list")).out.splitlines()
    dispute = line.split("\t")[0]
    token = {"PALETTA_TOKEN": people["admin"].token}
    for argv in (("list",), ("show", dispute)):
        seen = await on_a_terminal("admin", "disputes", *argv, **token)
        assert seen.code == 0, seen
        assert "…" not in seen.out, seen.out
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7 a letter")
    changed = await admin(
        "disputes", "evidence", dispute, "--set", "refund_refusal=They used it.", "--file", "other=letter.pdf"
    )
    assert "refund_refusal (changed)\n  They used it." in changed.out
    assert "file other: application/pdf" in changed.out
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text = path.read_text()\n"
        "path.write_text(text.replace('They used it.', 'They used it in a film.'))\n"
    )
    edited = await on_a_terminal(
        "admin", "disputes", "evidence", dispute, "--edit", **token, EDITOR=f"{sys.executable} {editor}"
    )
    assert edited.code == 0, edited
    document = json.loads((await admin("disputes", "show", dispute, "--json")).out)
    changes = {name for name, one in document["evidence"].items() if one["source"] == "operator"}
    assert changes == {"refund_refusal"}, "what nobody touched stays our draft"
    assert document["evidence"]["refund_refusal"]["text"] == "They used it in a film."
    for argv, words in (
        (("--edit",), "needs a terminal"),
        (("--set", "colour"), "FIELD=TEXT"),
        (("--file", "other=nothing.pdf"), "cannot read"),
    ):
        refused = await admin("disputes", "evidence", dispute, *argv)
        assert (refused.code != 0, words in refused.err) == (True, True), refused
    assert (await admin("disputes", "submit", dispute)).code == 2
    sent = await admin("disputes", "submit", dispute, "--yes")
    assert sent.out == "the bank has it: under review\n"
    again = await admin("disputes", "submit", dispute, "--yes")
    assert (again.code, "answered already" in again.err) == (1, True)
    await press(counter, payment, "dispute-won")
    assert (await admin("disputes", "list")).out == ""
    assert (await admin("disputes", "list", "--closed")).out.startswith(dispute)


async def test_a_dispute_is_given_up(admin: Run, counter: Counter) -> None:
    sold, payment = await paid(counter)
    await press(counter, payment, "dispute")
    blocked = await admin("refunds", "create", sold.order.number, "--all", "--reason", "x", "--yes")
    assert (blocked.code, "paletta admin disputes accept" in blocked.err) == (1, True)
    dispute = (await admin("disputes", "list")).out.split("\t")[0]
    assert "cannot be taken back" in (await admin("disputes", "accept", dispute)).err
    done = await admin("disputes", "accept", dispute, "--yes")
    assert done.out == f"the dispute of order {sold.order.number} is given up\n"


def test_evidence_survives_the_editor() -> None:
    texts = {"explanation": "# a heading\n ## deeper\nplain\n\nlast", "access_log": "a  b\n#c"}
    fields = dict.fromkeys([*texts, "refund_terms"], "what belongs into it")
    assert {
        name: text for name, text in disputes.parse(disputes.document(texts, fields), fields).items() if text
    } == texts


# ---- the books


async def test_the_books_are_compared_and_mended(admin: Run, counter: Counter, runtime: Runtime) -> None:
    sold, payment = await paid(counter, heard=False)
    lost, forgotten = await paid(counter, heard=False)
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE payments SET reference = NULL WHERE id = :id"), {"id": forgotten.id}
        )
    found = await admin("reconcile", "--since", "2020-01-01")
    assert found.code == SOME_FAILED, found
    assert f"{sold.order.number}\t{payment.uid}\tsandbox\tcaptured\t0.00\t128.00" in found.out
    assert f"{lost.order.number}\t{forgotten.uid}\tsandbox\tcheckout" in found.out
    assert "--fix settles" in found.err
    fixed = await admin("reconcile", "--since", "2020-01-01", "--fix", "--json")
    assert fixed.code == 0, fixed
    document = json.loads(fixed.out)
    assert (document["left"], {one["fixed"] for one in document["differences"]}) == (0, {True})
    again = await admin("reconcile")
    assert (again.code, again.out, "the books agree" in again.err) == (0, "", True)
    assert (await admin("reconcile", "--order", sold.order.number)).code == 0
    assert (await admin("reconcile", "--order", "x", "--since", "2020-01-01")).code == 2


async def test_the_desk_is_for_admins(admin: Run) -> None:
    for argv in (("orders", "list"), ("refunds", "list"), ("disputes", "list"), ("reconcile",)):
        assert (await admin(*argv, as_="contributor")).code == 4
