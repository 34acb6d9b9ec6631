"""`paletta orders`: what was bought is listed, fetched, kept in step, and proved."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.orders import service as orders
from tests.cli.conftest import Run
from tests.conftest import MakeUser, Person
from tests.support.orders import Sold, Till, Wanted, revoke, suspend
from tests.support.stack import MailSink

HD, ORIGINAL = os.urandom(70_000), os.urandom(300_000)
FILES = {"hd": HD, "original": ORIGINAL}
SOME_FAILED = 6


@pytest.fixture
async def people(make_user: MakeUser) -> dict[str, Person]:
    return {role: await make_user(role) for role in ("customer", "contributor", "admin")}


@pytest.fixture
async def till(runtime: Runtime, people: dict[str, Person]) -> Till:
    return await Till.of(runtime, people["customer"].email, people["contributor"].email)


@pytest.fixture
def buyer(paletta: Run) -> Run:
    async def run(*argv: str, as_: str = "customer") -> Any:
        return await paletta(*argv, as_=as_)

    return run


async def change(runtime: Runtime, action: Any, *args: Any) -> None:
    async with runtime.db.transaction() as session:
        await action(session, *args)


def path_of(sold: Sold, number: int, title: str, ext: str = "mov") -> str:
    return f"{sold.order.number}/{sold.items[number].clip_uid}-{title}.{ext}"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- list, show, papers


async def test_orders_are_listed_and_shown(
    buyer: Run, till: Till, runtime: Runtime, on_a_terminal: Run, people: dict[str, Person]
) -> None:
    waiting = await till.sell(Wanted("Ferry", files=FILES), paid=False, store=False)
    sold = await till.sell(
        Wanted("Tram", "original", price=14900, files=FILES),
        Wanted("Bus", "hd", "business", files=FILES),
        store=False,
    )
    await change(runtime, orders.set_refunds, sold.order.id, {sold.items[1].id: 4900})
    await change(runtime, revoke, [sold.items[1].id])
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "WITH paid AS (INSERT INTO payments (uid, order_id, gateway, status, currency, amount, captured,"
                " refunded)"
                " VALUES ('pay_abcd', :order, 'sandbox', 'succeeded', 'USD', 19800, 19800, 4900) RETURNING id)"
                " INSERT INTO refunds (uid, payment_id, order_id, gateway, status, currency, amount, reason)"
                " SELECT 'ref_abcd', id, :order, 'sandbox', 'succeeded', 'USD', 4900, 'wrong clip' FROM paid"
            ),
            {"order": sold.order.id},
        )
    listed = await buyer("orders", "list")
    assert [line.split("\t")[:2] for line in listed.out.splitlines()] == [
        [sold.order.number, "partially refunded"],
        [waiting.order.number, "pending"],
    ]
    shown = await buyer("orders", "show", sold.order.number)
    assert f"{sold.items[0].clip_uid}\tTram\toriginal\tindividual\tyours\t149.00" in shown.out
    assert f"{sold.items[1].clip_uid}\tBus\tHD\tbusiness\tended\t49.00 (-49.00)" in shown.out
    assert "refund of 49.00 USD on " in shown.err
    assert f"paletta orders download {sold.order.number}" in shown.err
    document = json.loads((await buyer("orders", "show", sold.uid[:10], "--json")).out)
    assert [one["entitlement"] for one in document["items"]] == ["granted", "revoked"]
    wide = await on_a_terminal("orders", "show", sold.order.number, PALETTA_TOKEN=people["customer"].token)
    assert max(map(len, wide.out.splitlines())) <= 80, wide.out
    other = await buyer("orders", "show", sold.order.number, as_="admin")
    assert (other.code, "no order" in other.err) == (1, True)


async def test_receipt_and_certificate_are_saved(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), store=False)
    assert (await buyer("orders", "receipt", sold.order.number)).code == 0
    assert (tmp_path / f"receipt-{sold.order.number}.pdf").read_bytes().startswith(b"%PDF")
    for name in (sold.items[0].uid, sold.items[0].clip_uid[:12]):
        ran = await buyer("orders", "certificate", name, "--to", "mine.pdf", "--force")
        assert ran.code == 0, ran
        assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")
    again = await buyer("orders", "certificate", sold.items[0].uid, "--to", "mine.pdf")
    assert (again.code, "exists" in again.err) == (2, True)
    (tmp_path / "link.pdf").symlink_to(tmp_path / "elsewhere.pdf")
    linked = await buyer("orders", "receipt", sold.order.number, "--to", "link.pdf", "--force")
    assert "symbolic link" in linked.err
    assert not (tmp_path / "elsewhere.pdf").exists()


async def test_a_link_is_mailed(
    buyer: Run, till: Till, run_jobs: Any, mailbox: MailSink, runtime: Runtime, people: dict[str, Person]
) -> None:
    sold = await till.sell(Wanted(files=FILES), store=False)
    await run_jobs()
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE delivery_links SET created_at = now() - interval '1 hour'"))
    ran = await buyer("orders", "email", sold.order.number)
    assert f"on its way to {people['customer'].email}" in ran.out
    await run_jobs()
    assert len(mailbox.to(people["customer"].email)) == 2


# ---- download


async def test_an_order_lands_whole_with_its_licences(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", "hd", files=FILES, extension=".mp4"))
    ran = await buyer("orders", "download", sold.order.number, "--to", "films", "--json")
    assert ran.code == 0, ran
    document = json.loads(ran.out)
    assert {one["result"] for one in document["files"]} == {"downloaded"}
    assert (document["received"], document["skipped"]) == (len(ORIGINAL) + len(HD), 0)
    assert document["calls"] == 1, "one call for addresses"
    found = tree(tmp_path / "films")
    papers = {name: data for name, data in found.items() if name.endswith(".licence.pdf")}
    assert {name: found[name] for name in found.keys() - papers.keys()} == {
        path_of(sold, 0, "Tram"): ORIGINAL,
        path_of(sold, 1, "Bus", "mp4"): HD,
    }
    assert papers.keys() == {path_of(sold, 0, "Tram", "licence.pdf"), path_of(sold, 1, "Bus", "licence.pdf")}
    assert all(data.startswith(b"%PDF") for data in papers.values())

    again = await buyer("orders", "download", "--all", "--to", "films", "--json")
    document = json.loads(again.out)
    assert {one["result"] for one in document["files"]} == {"already there"}
    assert (document["received"], document["calls"]) == (0, 0), "not a byte, not an address"
    assert tree(tmp_path / "films") == found

    # Another machine has no memory of them: they are read, and still nothing is fetched.
    (tmp_path / "state" / "downloads.db").unlink()
    document = json.loads((await buyer("orders", "download", "--all", "--to", "films", "--json")).out)
    assert (document["received"], document["calls"]) == (0, 0)


async def test_tier_layout_and_clip_choose(buyer: Run, till: Till, tmp_path: Path) -> None:
    await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    other = await till.sell(Wanted("Tram", "hd", files=FILES))
    ran = await buyer(
        "orders", "download", "--all", "--tier", "hd", "--layout", "{title} {tier}.{ext}", "--no-certificates"
    )
    assert ran.code == 0, ran
    tail = other.items[0].uid.removeprefix("item_")
    names = sorted(path.name for path in tmp_path.glob("*.mov"))
    assert names[0] == "Bus hd.mov"
    assert len(names) == 3
    assert f"Tram hd-{tail}-hd.mov" in names, "two of one name are told apart by their items"
    ran = await buyer(
        "orders", "download", "--clip", other.items[0].clip_uid[:14], "--to", "one", "--no-certificates"
    )
    assert list(tree(tmp_path / "one")) == [path_of(other, 0, "Tram")]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "name orders"),
        (("--all", "P-2026-000001"), "name orders"),
        (("--all", "--layout", "../{title}"), "does not stay below"),
        (("--all", "--layout", "/{title}"), "does not stay below"),
        (("--all", "--layout", "{title.__class__}"), "no field"),
        (("--all", "--layout", "{title!r}"), "no field"),
        (("--all", "--layout", "{"), "--layout"),
        (("--all", "--limit-rate", "much"), "--limit-rate"),
    ],
)
async def test_impossible_wishes_are_refused(buyer: Run, argv: tuple[str, ...], words: str) -> None:
    ran = await buyer("orders", "download", *argv)
    assert (ran.code, words in ran.err) == (2, True), ran


async def test_hostile_titles_stay_in_their_folder(buyer: Run, till: Till, tmp_path: Path) -> None:
    titles = [
        "../../../etc/passwd",
        "/etc/passwd",
        "CON",
        "..",
        "a\u202egpj.exe",
        "x" * 400,
        "\n\x1b[31mred",
        "-rf ~",
        "🎬" * 99,
    ]
    sold = await till.sell(*(Wanted(title, "hd", files={"hd": title.encode()}) for title in titles))
    ran = await buyer(
        "orders", "download", "--all", "--to", "films", "--layout", "{title}.{ext}", "--no-certificates"
    )
    assert ran.code == 0, ran
    assert "\x1b" not in ran.out
    found = tree(tmp_path / "films")
    assert sorted(found.values()) == sorted(sold.data.values())
    assert all("/" not in name for name in found)
    assert {path.name for path in tmp_path.iterdir()} <= {"films", "state", "config"}


async def test_what_is_in_the_way_is_never_overwritten(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(*(Wanted(name, files=FILES) for name in ("Other", "Link", "Folder", "Fine")))
    films = tmp_path / "films"
    (films / sold.order.number).mkdir(parents=True)
    (films / path_of(sold, 0, "Other")).write_bytes(b"something of mine")
    outside = tmp_path / "outside"
    (films / path_of(sold, 1, "Link")).symlink_to(outside)
    (films / path_of(sold, 2, "Folder")).mkdir()
    ran = await buyer("orders", "download", "--all", "--to", "films", "--json")
    assert ran.code == SOME_FAILED, ran
    by_clip = {one["clip_id"]: one for one in json.loads(ran.out)["files"]}
    said = [by_clip[item.clip_uid]["why"] for item in sold.items]
    assert "another file is at" in said[0]
    assert "symbolic link" in said[1]
    assert "is no file" in said[2]
    assert said[3] is None
    assert (films / path_of(sold, 0, "Other")).read_bytes() == b"something of mine"
    assert not outside.exists()
    assert (films / path_of(sold, 3, "Fine")).read_bytes() == ORIGINAL


async def test_a_linked_folder_leads_nowhere(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    (tmp_path / "films").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "films" / sold.order.number).symlink_to(tmp_path / "outside")
    ran = await buyer("orders", "download", "--all", "--to", "films")
    assert (ran.code, "symbolic link" in ran.out) == (SOME_FAILED, True), ran
    assert list((tmp_path / "outside").iterdir()) == []


async def test_planted_part_files_are_not_written_through(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(*(Wanted(name, files=FILES) for name in ("A", "B", "C")))
    folder = tmp_path / "films" / sold.order.number
    folder.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"do not touch")
    first, second, third = (folder / Path(path_of(sold, n, name)).name for n, name in enumerate("ABC"))
    Path(f"{first}.part").symlink_to(secret)
    os.link(secret, f"{second}.part")
    Path(f"{third}.part.log").symlink_to(secret)
    ran = await buyer("orders", "download", "--all", "--to", "films", "--json")
    assert ran.code == SOME_FAILED, ran
    assert {one["result"] for one in json.loads(ran.out)["files"]} == {"failed"}
    assert secret.read_bytes() == b"do not touch"


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc").exists(), reason="needs a file system that refuses"
)
async def test_a_folder_that_may_not_be_written_says_so(buyer: Run, till: Till, tmp_path: Path) -> None:
    await till.sell(Wanted("Tram", files=FILES))
    ran = await buyer(
        "orders", "download", "--all", "--to", "/proc/films"
    )  # nobody may write there, root neither
    assert ran.code == 1, ran
    assert "cannot write `/proc/films`" in ran.err


async def test_held_back_and_ended_purchases_are_said(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    gone = await till.sell(Wanted("Bus", files=FILES))
    await change(runtime, suspend, gone.order.id)
    ran = await buyer("orders", "download", "--all", "--to", "films")
    assert ran.code == SOME_FAILED, ran
    assert f"`{gone.items[0].clip_uid}` of order {gone.order.number} is held back" in ran.err
    assert (tmp_path / "films" / path_of(sold, 0, "Tram")).exists()
    unpaid = await till.sell(Wanted("Ferry", files=FILES), paid=False, store=False)
    ran = await buyer("orders", "download", unpaid.order.number)
    assert (ran.code, f"paletta orders pay {unpaid.order.number}" in ran.err) == (1, True), ran


async def test_what_is_not_what_was_sold_never_gets_its_name(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    damaged = bytes([ORIGINAL[0] ^ 1]) + ORIGINAL[1:]
    await till.store([sold.items[0]], {(sold.items[0].uid, "original"): damaged})
    ran = await buyer("orders", "download", "--all", "--to", "films", "--json")
    assert ran.code == SOME_FAILED, ran
    bad, good = sorted(json.loads(ran.out)["files"], key=lambda one: str(one["result"]), reverse=True)
    assert (bad["code"], good["result"]) == ("damaged", "downloaded")
    left = {name for name in tree(tmp_path / "films") if not name.endswith(".pdf")}
    assert left == {path_of(sold, 1, "Bus")}, "neither under its name nor as a part"


# ---- sync


def locked(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "films" / "paletta.lock").read_text())["files"]
    return found


async def test_a_synchronised_folder_follows_what_is_owned(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    first = await till.sell(Wanted("Tram", files=FILES))
    assert (await buyer("orders", "sync", "films")).code == 0
    lock = (tmp_path / "films" / "paletta.lock").read_bytes()
    [entry] = locked(tmp_path)
    assert entry == {
        "path": path_of(first, 0, "Tram"), "item": first.items[0].uid, "order": first.order.number,
        "clip": first.items[0].clip_uid, "title": "Tram", "tier": "original", "size": len(ORIGINAL),
        "sha256": hashlib.sha256(ORIGINAL).hexdigest(), "licence": "individual", "licensee": "Ada Lovelace Films",
        "certificate": entry["certificate"],
    }  # fmt: skip
    second = await till.sell(Wanted("Bus", files=FILES))
    ran = await buyer("orders", "sync", "films", "--json")
    assert json.loads(ran.out)["received"] == len(ORIGINAL), "only what is new"
    assert [one["order"] for one in locked(tmp_path)] == [first.order.number, second.order.number]
    await buyer("orders", "sync", "films")
    assert lock != (tmp_path / "films" / "paletta.lock").read_bytes()

    await change(runtime, revoke, [first.items[0].id])
    ran = await buyer("orders", "sync", "films")
    assert (ran.code, "not licensed to you any more" in ran.err) == (0, True), ran
    assert (tmp_path / "films" / path_of(first, 0, "Tram")).exists(), "nothing is removed unless asked"
    ran = await buyer("orders", "sync", "films", "--prune", "--json")
    assert json.loads(ran.out)["pruned"] == [path_of(first, 0, "Tram")]
    assert {name for name in tree(tmp_path / "films") if name.endswith(".mov")} == {path_of(second, 0, "Bus")}
    assert not (tmp_path / "films" / first.order.number).exists()
    assert [one["order"] for one in locked(tmp_path)] == [second.order.number]


async def test_a_disputed_purchase_stays_where_it_is(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    await buyer("orders", "sync", "films")
    await change(runtime, suspend, sold.order.id)
    ran = await buyer("orders", "sync", "films", "--prune")
    assert (ran.code, "held back" in ran.err) == (0, True), ran
    assert (tmp_path / "films" / path_of(sold, 0, "Tram")).exists()
    assert len(locked(tmp_path)) == 1


async def test_a_folder_of_another_account_is_left_alone(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    await buyer("orders", "sync", "films")
    ran = await buyer("orders", "sync", "films", "--prune", as_="contributor")
    assert ran.code == 1, ran
    assert "is of another account" in ran.err
    assert (tmp_path / "films" / path_of(sold, 0, "Tram")).exists()


async def test_clips_narrow_orders_and_their_ids_may_be_short(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    short = sold.items[0].clip_uid.removeprefix("clip_")[:6]
    ran = await buyer("orders", "download", sold.order.number, "--clip", short, "--to", "films", "--json")
    assert ran.code == 0, ran
    assert [one["clip_id"] for one in json.loads(ran.out)["files"]] == [sold.items[0].clip_uid]


async def test_a_clip_is_fetched_from_whichever_order_has_it(buyer: Run, till: Till, tmp_path: Path) -> None:
    one = await till.sell(Wanted("Tram", files=FILES))
    other = await till.sell(Wanted("Bus", files=FILES))
    clip = one.items[0].clip_uid
    words = ("orders", "download", one.order.number, other.order.number, "--to", "films", "--json")
    ran = await buyer(*words, "--clip", clip)
    assert ran.code == 0, ran
    assert [file["clip_id"] for file in json.loads(ran.out)["files"]] == [clip]
    ran = await buyer(*words, "--clip", clip, "--clip", "clip_zebra234")
    assert ran.code == 1
    where = f"{one.order.number} or {other.order.number}"
    assert f"error: no clip `clip_zebra234` in order {where}" in ran.err


async def test_an_ended_licence_fails_no_nightly_download(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    await change(runtime, revoke, [sold.items[0].id])
    ran = await buyer("orders", "download", "--all", "--to", "films")
    assert (ran.code, "was refunded or charged back" in ran.err) == (0, True), ran
    ran = await buyer("orders", "download", "--clip", sold.items[0].clip_uid, "--to", "films")
    assert ran.code == SOME_FAILED, ran


async def test_what_was_bought_again_stays_where_it_lay(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{clip}-{title}.{ext}")
    first = await till.sell(Wanted("Tram", files=FILES))
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, revoke, [first.items[0].id])
    again = await till.sell(Wanted("Tram", files=FILES, clip_id=first.items[0].clip_id))
    for _ in range(2):
        ran = await buyer("orders", "sync", "films", *layout, "--prune")
        assert ran.code == 0, ran
        assert [one["item"] for one in locked(tmp_path)] == [again.items[0].uid]
        assert [name for name in tree(tmp_path / "films") if name.endswith(".mov")] == [
            f"{first.items[0].clip_uid}-Tram.mov"
        ]


async def test_bit_rot_is_found_and_healed(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    await buyer("orders", "sync", "films")
    victim = tmp_path / "films" / path_of(sold, 0, "Tram")
    was = victim.stat()
    with victim.open("r+b") as stream:  # a bit flips and no time changes, as when a disk rots
        stream.seek(1000)
        stream.write(bytes([ORIGINAL[1000] ^ 4]))
    os.utime(victim, ns=(was.st_atime_ns, was.st_mtime_ns))
    ran = await buyer("orders", "sync", "films", "--json")
    assert json.loads(ran.out)["received"] == 0, "its stamp says that nothing happened"
    ran = await buyer("orders", "sync", "films", "--verify", "--json")
    document = json.loads(ran.out)
    assert (ran.code, document["received"]) == (0, len(ORIGINAL)), ran
    assert victim.read_bytes() == ORIGINAL
    victim.unlink()
    await buyer("orders", "sync", "films")
    assert victim.read_bytes() == ORIGINAL


async def test_what_was_worked_on_is_not_overwritten_unasked(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES), Wanted("Bus", files=FILES))
    await buyer("orders", "sync", "films")
    graded = tmp_path / "films" / path_of(sold, 0, "Tram")
    graded.write_bytes(ORIGINAL + b"notes of an editing program")
    ran = await buyer("orders", "sync", "films", "--json")
    [failed] = [one for one in json.loads(ran.out)["files"] if one["result"] == "failed"]
    assert (ran.code, "was changed since it was downloaded" in failed["why"]) == (SOME_FAILED, True), ran
    assert graded.read_bytes() != ORIGINAL
    assert len(locked(tmp_path)) == 2
    assert (await buyer("orders", "sync", "films", "--verify")).code == 0
    assert graded.read_bytes() == ORIGINAL


async def test_another_tier_in_the_same_place_replaces_what_nobody_changed(
    buyer: Run, till: Till, tmp_path: Path
) -> None:
    await till.sell(Wanted("Tram", files=FILES))
    layout = ("--layout", "{title}.{ext}")
    await buyer("orders", "sync", "films", *layout)
    ran = await buyer("orders", "sync", "films", *layout, "--tier", "hd")
    assert ran.code == 0, ran
    assert (tmp_path / "films" / "Tram.mov").read_bytes() == HD


async def test_another_tier_takes_the_place_of_one_when_asked(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    layout = ("--layout", "{tier}/{title}.{ext}")
    await buyer("orders", "sync", "films", *layout)
    ran = await buyer("orders", "sync", "films", *layout, "--tier", "hd")
    assert "replaced by another tier" in ran.err
    assert [(one["tier"], one["path"]) for one in locked(tmp_path)] == [
        ("hd", "hd/Tram.mov"),
        ("original", "original/Tram.mov"),
    ]
    await buyer("orders", "sync", "films", *layout, "--tier", "hd", "--prune")
    assert [one["path"] for one in locked(tmp_path)] == ["hd/Tram.mov"]
    assert {name for name in tree(tmp_path / "films") if name.endswith(".mov")} == {"hd/Tram.mov"}
    assert (tmp_path / "films" / "hd" / "Tram.mov").read_bytes() == HD
    # Elsewhere by default, yet what is there stays where it is.
    ran = await buyer("orders", "sync", "films", "--tier", "hd", "--json")
    assert (json.loads(ran.out)["received"], [one["path"] for one in locked(tmp_path)]) == (
        0,
        ["hd/Tram.mov"],
    )
    assert sold.order.number in ran.out


async def test_nothing_goes_before_its_replacement_is_there(buyer: Run, till: Till, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    layout = ("--layout", "{tier}/{title}.{ext}", "--prune")
    await buyer("orders", "sync", "films", *layout, "--tier", "hd")
    [item] = sold.items
    await till.store([item], {(item.uid, "original"): ORIGINAL[:-1]})
    ran = await buyer("orders", "sync", "films", *layout)
    assert ran.code == SOME_FAILED, ran
    assert "replaced by another tier" not in ran.err
    assert [one["path"] for one in locked(tmp_path)] == ["hd/Tram.mov"]
    assert (tmp_path / "films" / "hd" / "Tram.mov").read_bytes() == HD
    await till.store([item], {(item.uid, "original"): ORIGINAL})
    ran = await buyer("orders", "sync", "films", *layout)
    assert ran.code == 0, ran
    assert {name for name in tree(tmp_path / "films") if name.endswith(".mov")} == {"original/Tram.mov"}


async def paper_of(buyer: Run, item: Any, tmp_path: Path) -> bytes:
    """An item's certificate, as it is printed alone."""
    ran = await buyer("orders", "certificate", item.uid, "--to", f"{item.uid}.pdf", "--force")
    assert ran.code == 0, ran
    return (tmp_path / f"{item.uid}.pdf").read_bytes()


async def test_two_files_of_one_name_have_each_its_own_licence(
    buyer: Run, till: Till, tmp_path: Path
) -> None:
    [base] = (await till.sell(Wanted("Tram", "hd", files=FILES, extension=".mp4"))).items
    more = Wanted("Tram", licence="business", files=FILES, clip_id=base.clip_id, upgrade_of=base.id)
    [upgrade] = (await till.sell(more)).items
    for command in (("download", "--all", "--to"), ("sync",)):
        folder = command[0]
        ran = await buyer("orders", *command, folder, "--layout", "{clip}-{title}.{ext}")
        assert ran.code == 0, ran
        found = tree(tmp_path / folder)
        for item, data, ext in ((base, HD, "mp4"), (upgrade, ORIGINAL, "mov")):
            [name] = [name for name in found if name.endswith(ext)]
            assert found[name] == data
            assert found[name.removesuffix(ext) + "licence.pdf"] == await paper_of(buyer, item, tmp_path)


async def test_two_files_that_shared_a_licence_are_told_apart(buyer: Run, till: Till, tmp_path: Path) -> None:
    """As folders may be from before."""
    [base] = (await till.sell(Wanted("Tram", "hd", files=FILES, extension=".mp4"))).items
    more = Wanted("Tram", licence="business", files=FILES, clip_id=base.clip_id, upgrade_of=base.id)
    [upgrade] = (await till.sell(more)).items
    await buyer("orders", "sync", "films", "--layout", "{item}/{title}.{ext}")
    films = tmp_path / "films"
    entries = locked(tmp_path)
    for entry in entries:
        where = films / entry["path"]
        entry["path"] = f"Tram{where.suffix}"
        where.rename(films / entry["path"])
        where.with_suffix(".licence.pdf").replace(films / "Tram.licence.pdf")
    document = json.dumps({"paletta_lock": 1, "files": entries})
    (films / "paletta.lock").write_text(document)
    ran = await buyer("orders", "sync", "films", "--layout", "{title}.{ext}", "--prune")
    assert ran.code == 0, ran
    found = tree(films)
    for entry in locked(tmp_path):
        item = {base.uid: base, upgrade.uid: upgrade}[entry["item"]]
        paper = Path(entry["path"]).with_suffix(".licence.pdf")
        assert found[str(paper)] == await paper_of(buyer, item, tmp_path)
    assert len(found) == 5, found.keys()


async def test_what_was_bought_again_has_its_new_licence_beside_it(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{clip}-{title}.{ext}")
    [first] = (await till.sell(Wanted("Tram", files=FILES))).items
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, revoke, [first.id])
    [again] = (await till.sell(Wanted("Tram", licence="premium", files=FILES, clip_id=first.clip_id))).items
    paper = tmp_path / "films" / f"{first.clip_uid}-Tram.licence.pdf"
    assert (await buyer("orders", "sync", "films", *layout)).code == 0
    assert paper.read_bytes() == await paper_of(buyer, again, tmp_path)
    paper.write_bytes(b"signed by me")
    assert (await buyer("orders", "sync", "films", *layout)).code == 0
    assert paper.read_bytes() == b"signed by me", "what is of this licence stays as it is"


async def test_a_file_that_may_not_be_used_any_more_gives_its_licence_up_once(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{title}.{ext}")
    [first] = (await till.sell(Wanted("Tram", "hd", files=FILES, extension=".mp4"))).items
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, revoke, [first.id])
    [again] = (await till.sell(Wanted("Tram", files=FILES, clip_id=first.clip_id))).items
    paper = tmp_path / "films" / "Tram.licence.pdf"
    await buyer("orders", "sync", "films", *layout)
    assert paper.read_bytes() == await paper_of(buyer, again, tmp_path)
    paper.write_bytes(b"signed by me")
    await buyer("orders", "sync", "films", *layout)
    assert paper.read_bytes() == b"signed by me"
    await buyer("orders", "sync", "films", *layout, "--prune")
    assert tree(tmp_path / "films").keys() == {"Tram.mov", "Tram.licence.pdf", "paletta.lock"}


async def test_an_old_licence_does_not_stay_where_no_new_one_is_wanted(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{clip}-{title}.{ext}")
    [first] = (await till.sell(Wanted("Tram", files=FILES))).items
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, revoke, [first.id])
    await till.sell(Wanted("Tram", files=FILES, clip_id=first.clip_id))
    assert (await buyer("orders", "sync", "films", *layout, "--no-certificates")).code == 0
    assert tree(tmp_path / "films").keys() == {f"{first.clip_uid}-Tram.mov", "paletta.lock"}


async def test_pruning_leaves_the_licence_of_what_stays(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    [item] = (await till.sell(Wanted("Tram", files=FILES))).items
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE order_item_files SET extension = '.mp4' WHERE tier = 'hd'"))
    layout = ("--layout", "{clip}-{title}.{ext}")
    await buyer("orders", "sync", "films", *layout, "--tier", "hd")
    ran = await buyer("orders", "sync", "films", *layout, "--prune")
    assert ran.code == 0, ran
    name = f"{item.clip_uid}-Tram"
    assert tree(tmp_path / "films").keys() == {f"{name}.mov", f"{name}.licence.pdf", "paletta.lock"}


async def test_what_was_bought_again_at_another_tier_takes_its_place(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{clip}-{title}.{ext}")
    [first] = (await till.sell(Wanted("Tram", "hd", files=FILES))).items
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, revoke, [first.id])
    [again] = (await till.sell(Wanted("Tram", files=FILES, clip_id=first.clip_id))).items
    ran = await buyer("orders", "sync", "films", *layout)
    assert ran.code == 0, ran
    assert (tmp_path / "films" / f"{first.clip_uid}-Tram.mov").read_bytes() == ORIGINAL
    assert [one["item"] for one in locked(tmp_path)] == [again.uid]


async def test_what_is_disputed_keeps_its_place_from_what_is_bought_again(
    buyer: Run, till: Till, runtime: Runtime, tmp_path: Path
) -> None:
    layout = ("--layout", "{clip}-{title}.{ext}")
    first = await till.sell(Wanted("Tram", "hd", files=FILES))
    await buyer("orders", "sync", "films", *layout)
    await change(runtime, suspend, first.order.id)
    await till.sell(Wanted("Tram", files=FILES, clip_id=first.items[0].clip_id))
    ran = await buyer("orders", "sync", "films", *layout)
    assert ran.code == 0, ran
    assert (tmp_path / "films" / f"{first.items[0].clip_uid}-Tram.mov").read_bytes() == HD
    assert sorted(one["tier"] for one in locked(tmp_path)) == ["hd", "original"]


async def test_a_file_of_ours_that_no_lockfile_knows_makes_way(
    buyer: Run, till: Till, tmp_path: Path
) -> None:
    """A run was killed between the file and its lockfile."""
    await till.sell(Wanted("Tram", files=FILES))
    layout = ("--layout", "{title}.{ext}")
    await buyer("orders", "sync", "films", *layout)
    (tmp_path / "films" / "paletta.lock").unlink()
    ran = await buyer("orders", "sync", "films", *layout, "--tier", "hd")
    assert ran.code == 0, ran
    assert (tmp_path / "films" / "Tram.mov").read_bytes() == HD


async def test_a_file_that_was_never_ours_is_not_touched(buyer: Run, till: Till, tmp_path: Path) -> None:
    await till.sell(Wanted("Tram", files=FILES))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "Tram.mov").write_bytes(b"my own tram")
    for more in ((), ("--verify",)):
        ran = await buyer("orders", "sync", "films", "--layout", "{title}.{ext}", *more)
        assert (ran.code, "another file is at" in ran.out + ran.err) == (SOME_FAILED, True), ran
        assert (tmp_path / "films" / "Tram.mov").read_bytes() == b"my own tram"


async def test_a_changed_file_is_not_pruned(buyer: Run, till: Till, runtime: Runtime, tmp_path: Path) -> None:
    sold = await till.sell(Wanted("Tram", files=FILES))
    await buyer("orders", "sync", "films")
    mine = tmp_path / "films" / path_of(sold, 0, "Tram")
    mine.write_bytes(b"cut and graded by me")
    await change(runtime, revoke, [sold.items[0].id])
    ran = await buyer("orders", "sync", "films", "--prune")
    assert "was changed since it was downloaded, and stays" in ran.err
    assert mine.read_bytes() == b"cut and graded by me"


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "a/../../secret", "CON", "x\u202e.mov", ""])
async def test_a_lockfile_cannot_name_places_elsewhere(
    buyer: Run, till: Till, tmp_path: Path, path: str
) -> None:
    """It comes with somebody's repository."""
    await till.sell(Wanted("Tram", files=FILES))
    await buyer("orders", "sync", "films")
    lock = tmp_path / "films" / "paletta.lock"
    document = json.loads(lock.read_text())
    document["files"][0]["path"] = path
    lock.write_text(json.dumps(document))
    (tmp_path.parent / "secret").write_bytes(b"do not touch")
    ran = await buyer("orders", "sync", "films", "--prune")
    assert (ran.code, "not below its folder" in ran.err) == (1, True), ran
    assert (tmp_path.parent / "secret").read_bytes() == b"do not touch"


async def test_a_damaged_lockfile_is_not_guessed_at(buyer: Run, till: Till, tmp_path: Path) -> None:
    await till.sell(Wanted("Tram", files=FILES))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "paletta.lock").write_text('{"paletta_lock": 1, "files": [{"path": 7')
    ran = await buyer("orders", "sync", "films")
    assert (ran.code, "cannot be read" in ran.err, "hint: restore it" in ran.err) == (1, True, True), ran
