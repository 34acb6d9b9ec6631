"""What was bought can be fetched by who bought it, as long as the right to it lives, and every address is recorded."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from email.message import EmailMessage
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from paletta_server.core.runtime import Runtime
from paletta_server.delivery import announcing, service
from paletta_server.delivery.models import DownloadGrant
from paletta_server.orders import service as orders
from tests.conftest import MakeUser, Person
from tests.support.orders import Till, Wanted, restore, revoke, suspend
from tests.support.stack import MailSink

RunJobs = Callable[[], Awaitable[None]]
HD, ORIGINAL = b"an hd file " * 1000, b"the original file " * 5000
FILES = {"hd": HD, "original": ORIGINAL}
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Shop:
    """A customer, a contributor, and ways to sell and ask."""

    client: httpx.AsyncClient
    runtime: Runtime
    customer: Person
    contributor: Person
    till: Till

    async def get(self, path: str, who: Person | None = None, expect: int = 200) -> Any:
        answer = await self.client.get(path, headers=(who or self.customer).headers)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if "json" in answer.headers["content-type"] else answer

    async def post(self, path: str, body: Any = None, who: Person | None = None, expect: int = 200) -> Any:
        answer = await self.client.post(path, json=body, headers=(who or self.customer).headers)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    async def ask(self, *items: Any, expect: int = 200, who: Person | None = None) -> Any:
        """Addresses for items, or for (item, tier)."""
        wanted = [
            {"item_id": one[0].uid, "tier": one[1]} if isinstance(one, tuple) else {"item_id": one.uid}
            for one in items
        ]
        return await self.post("/v1/downloads", {"files": wanted}, who, expect)

    async def change(self, action: Callable[..., Awaitable[None]], *args: Any) -> None:
        async with self.runtime.db.transaction() as session:
            await action(session, *args)

    async def grants(self) -> list[DownloadGrant]:
        async with self.runtime.db.transaction() as session:
            return list(await session.scalars(select(DownloadGrant).order_by(DownloadGrant.id)))

    async def sql(self, statement: str, **values: Any) -> None:
        async with self.runtime.db.transaction() as session:
            await session.execute(text(statement), values)


@pytest.fixture
async def shop(client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser) -> Shop:
    customer, contributor = await make_user("customer"), await make_user("contributor")
    till = await Till.of(runtime, customer.email, contributor.email)
    return Shop(client, runtime, customer, contributor, till)


async def fetched(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as store:
        return await store.get(url, headers=headers)


# ---- lists and addresses


async def test_purchases_are_listed_page_by_page_with_what_one_needs(shop: Shop) -> None:
    first = await shop.till.sell(
        Wanted("Tram", files=FILES), Wanted("Bus", "hd", "business", files=FILES), store=False
    )
    second = await shop.till.sell(Wanted("Ferry", files=FILES), store=False)
    page = await shop.get("/v1/me/purchases?limit=2")
    rest = await shop.get(f"/v1/me/purchases?limit=2&cursor={page['next_cursor']}")
    assert [one["title"] for one in page["items"] + rest["items"]] == ["Ferry", "Bus", "Tram"]
    assert rest["next_cursor"] is None
    bus = page["items"][1]
    assert (bus["tier"], bus["licence"], bus["status"]) == ("hd", "business", "granted")
    assert [file["tier"] for file in bus["files"]] == ["hd"], "no tier above the one that was bought"
    assert bus["files"][0]["sha256"] == hashlib.sha256(HD).hexdigest()
    only = await shop.get(f"/v1/me/purchases?order={second.order.number}")
    assert [one["title"] for one in only["items"]] == ["Ferry"]
    only = await shop.get(f"/v1/me/purchases?clip={first.items[0].clip_uid[:11]}")
    assert [one["title"] for one in only["items"]] == ["Tram"]


async def test_an_address_gives_the_frozen_file_and_is_recorded(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted("Tram", files=FILES))
    [item] = sold.items
    answer = await shop.ask(item, (item, "hd"))
    best, hd = answer["files"]
    assert (best["tier"], hd["tier"]) == ("original", "hd")
    got = await fetched(best["url"], **{"if-match": best["etag"], "range": "bytes=4-9"})
    assert (got.status_code, got.content) == (206, ORIGINAL[4:10])
    assert got.headers["etag"] == best["etag"]
    assert hashlib.sha256((await fetched(hd["url"])).content).hexdigest() == hd["sha256"]
    swapped = await fetched(best["url"], **{"if-match": '"another"'})
    assert swapped.status_code == 412
    recorded = await shop.grants()
    assert [(one.tier, one.via, one.ip, one.user_id) for one in recorded] == [
        ("original", "api", "127.0.0.1", shop.till.customer),
        ("hd", "api", "127.0.0.1", shop.till.customer),
    ]
    assert (recorded[0].client or "").startswith("python-httpx")
    assert (await shop.get("/v1/me/purchases"))["items"][0]["downloads"] == 2


async def test_a_hundred_files_are_one_call(shop: Shop) -> None:
    sold = await shop.till.sell(*(Wanted(f"Clip {n}", "hd", files={"hd": b"%d" % n}) for n in range(100)))
    answer = await shop.ask(*sold.items)
    assert len({one["url"] for one in answer["files"]}) == 100
    assert len(await shop.grants()) == 100


async def test_a_tier_that_was_not_bought_is_not_there(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted(tier="hd", files=FILES), store=False)
    refused = await shop.ask((sold.items[0], "original"), expect=404)
    assert "there is hd" in refused["hint"]
    assert await shop.grants() == []


async def test_files_of_a_clip_that_is_gone_can_be_fetched(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted(files=FILES))
    await shop.sql("UPDATE clips SET deleted_at = now(), review = 'taken_down'")
    [file] = (await shop.ask(*sold.items))["files"]
    assert (await fetched(file["url"])).content == ORIGINAL


async def test_an_object_that_is_not_what_was_sold_is_said_so(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted("A", files=FILES), Wanted("B", files=FILES))
    await shop.runtime.store.delete([f"sale/{sold.items[0].uid}/original"])
    gone, fine = (await shop.ask(*sold.items))["files"]
    assert (gone["url"], gone["problem"]["code"], gone["problem"]["status"]) == (None, "file_missing", 503)
    assert fine["url"]
    assert len(await shop.grants()) == 1, "only what was given out is recorded"


# ---- who may


async def test_held_back_and_ended_purchases_say_so(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted("A", files=FILES), Wanted("B", files=FILES))
    kept, gone = sold.items
    await shop.change(revoke, [gone.id])
    both = await shop.ask(kept, gone)
    assert [one["problem"] and one["problem"]["code"] for one in both["files"]] == [None, "revoked"]
    assert both["files"][1]["url"] is None
    assert (await shop.ask(gone, expect=403))["code"] == "revoked"
    await shop.change(suspend, sold.order.id)
    refused = await shop.ask(kept, expect=403)
    assert refused["code"] == "suspended"
    assert sold.order.number in refused["detail"]
    await shop.change(restore, sold.order.id)
    assert (await shop.ask(kept))["files"][0]["url"]
    assert len(await shop.grants()) == 2


@pytest.mark.parametrize("role", ["customer", "contributor", "admin"])
async def test_what_is_not_ones_own_is_not_there(shop: Shop, make_user: MakeUser, role: str) -> None:
    """Not for the contributor of the clip either, nor for an operator."""
    sold = await shop.till.sell(Wanted(files=FILES), store=False)
    [item] = sold.items
    for who in [await make_user(role)] + ([shop.contributor] if role == "contributor" else []):
        assert (await shop.get("/v1/me/purchases", who))["items"] == []
        await shop.get(f"/v1/me/purchases?order={sold.uid}", who, expect=404)
        await shop.ask(item, who=who, expect=404)
        await shop.post("/v1/me/certificates", {"item_ids": [item.uid]}, who, expect=404)
        await shop.get(f"/v1/me/purchases/{item.uid}/certificate", who, expect=404)
        await shop.get(f"/v1/orders/{sold.uid}/receipt", who, expect=404)
        await shop.post(f"/v1/orders/{sold.order.number}/email", None, who, expect=404)
    assert await shop.grants() == []


async def test_one_foreign_item_among_ones_own_gives_nothing(shop: Shop, make_user: MakeUser) -> None:
    other = await Till.of(shop.runtime, (await make_user("customer")).email, shop.contributor.email)
    mine, theirs = await shop.till.sell(Wanted(files=FILES)), await other.sell(Wanted(files=FILES))
    await shop.ask(mine.items[0], theirs.items[0], expect=404)
    assert await shop.grants() == []


async def test_an_unpaid_order_has_nothing_to_fetch(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted(files=FILES), paid=False, store=False)
    await shop.ask(sold.items[0], expect=404)
    assert (await shop.get(f"/v1/orders/{sold.uid}/receipt", expect=409))["code"] == "order_not_paid"
    assert (await shop.post(f"/v1/orders/{sold.uid}/email", expect=409))["code"] == "order_not_paid"


HOSTILE = (
    'x"\r\nSet-Cookie: a=b\r\n\r\n<script>\u202egpj.exe/../../etc/passwd;filename=evil.exe %0d%0a Straße 東京'
)


async def test_a_title_cannot_leave_its_header(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted(HOSTILE, files=FILES))
    [file] = (await shop.ask(*sold.items))["files"]
    got = await fetched(file["url"])
    assert got.status_code == 200
    assert "set-cookie" not in got.headers
    said = got.headers["content-disposition"]
    parts = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([\w.!#$&+^`|~%-]+)", said)
    assert parts is not None, said
    plain, encoded = parts.groups()
    assert plain.isascii()
    assert not set("/\\\r\n%") & set(plain)
    from urllib.parse import unquote

    name = unquote(encoded)
    assert name == file["name"]
    assert name.startswith(f"{sold.items[0].clip_uid}-x Set-Cookie")
    assert name.endswith("東京.mov")
    assert not set('/\\\r\n\u202e"<>:') & set(name)


# ---- papers


def words_of(data: bytes) -> str:
    """The text streams of a PDF in Western letters, unpacked."""
    import zlib

    found = []
    # What is packed may end in any byte, in that of a line's end too.
    for match in re.finditer(rb"stream\n(.*?)\nendstream", data, re.DOTALL):
        try:
            found.append(zlib.decompress(match[1]).decode("latin-1"))
        except zlib.error:
            continue
    return " ".join(re.findall(r"\(((?:[^()\\]|\\.)*)\)", " ".join(found))).replace("\\", "")


async def test_a_certificate_says_what_was_sold_and_can_be_checked_by_anybody(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted("Tram", files=FILES))
    [item] = sold.items
    paper = await shop.get(f"/v1/me/purchases/{item.uid}/certificate")
    assert paper.headers["content-type"] == "application/pdf"
    assert f"licence-{item.clip_uid}-{sold.order.number}.pdf" in paper.headers["content-disposition"]
    said = words_of(paper.content)
    [bought] = (await shop.get("/v1/me/purchases"))["items"]
    for wanted in (
        "Ada Lovelace Films", "Tram", item.clip_uid, "Carla Contributor", "Individual", sold.order.number,
        hashlib.sha256(ORIGINAL).hexdigest(), bought["certificate"], "/v1/certificates/",
    ):  # fmt: skip
        assert wanted in said, wanted
    again = await shop.post("/v1/me/certificates", {"item_ids": [item.uid]})
    assert base64.b64decode(again["certificates"][0]["pdf"]) == paper.content, (
        "the same paper is the same bytes"
    )

    checked = (await shop.client.get(f"/v1/certificates/{bought['certificate'].lower()}")).json()
    assert (checked["status"], checked["licensee"], checked["clip_id"]) == (
        "valid",
        "Ada Lovelace Films",
        item.clip_uid,
    )
    assert checked["files"][-1]["sha256"] == hashlib.sha256(ORIGINAL).hexdigest()
    await shop.change(revoke, [item.id])
    ended = (await shop.client.get(f"/v1/certificates/{bought['certificate'].replace('-', '')}")).json()
    assert ended["status"] == "revoked"
    assert ended["revoked_at"]
    assert "Not in force" in words_of((await shop.get(f"/v1/me/purchases/{item.uid}/certificate")).content)
    assert (await shop.client.get("/v1/certificates/2222-2222-2222-2222")).status_code == 404


async def test_a_browser_is_shown_what_a_certificate_says(shop: Shop) -> None:
    sold = await shop.till.sell(Wanted("<b>Tram</b>", files=FILES))
    [item] = sold.items
    [bought] = (await shop.get("/v1/me/purchases"))["items"]
    where = f"/v1/certificates/{bought['certificate']}"
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
    page = await shop.client.get(where, headers=browser)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["vary"] == (await shop.client.get(where)).headers["vary"] == "Accept"
    for wanted in (
        "In force.", "&lt;b&gt;Tram&lt;/b&gt;", "Ada Lovelace Films", item.clip_uid, sold.order.number,
        bought["certificate"], hashlib.sha256(ORIGINAL).hexdigest(),
    ):  # fmt: skip
        assert wanted in page.text, wanted
    await shop.change(revoke, [item.id])
    ended = (await shop.client.get(where, headers=browser)).text
    assert "Not in force: " in ended
    assert "In force." not in ended
    unknown = await shop.client.get("/v1/certificates/2222-2222-2222-2222", headers=browser)
    assert (unknown.status_code, "no such certificate" in unknown.text) == (404, True)


async def test_papers_take_any_title(shop: Shop) -> None:
    titles = [
        HOSTILE,
        "東京の路面電車 😀",
        "الترام الأصفر",
        "\u0000\ud7ff\U000e0001",
        "ﷺ" * 200,
        "x" * 300,
        " ",
    ]
    sold = await shop.till.sell(
        *(Wanted(title.replace("\0", ""), files=FILES) for title in titles), store=False
    )
    await shop.post("/v1/me/certificates", {"item_ids": [item.uid for item in sold.items]})
    assert (await shop.get(f"/v1/orders/{sold.uid}/receipt")).content.startswith(b"%PDF")


async def test_a_receipt_adds_up_and_follows_refunds(shop: Shop) -> None:
    sold = await shop.till.sell(
        Wanted("Tram", price=10000, tax=1900, files=FILES), store=False, tax_name="VAT", tax_rate="0.19"
    )
    said = words_of((await shop.get(f"/v1/orders/{sold.order.number}/receipt")).content)
    for wanted in ("100.00", "VAT 19 %", "19.00", "119.00 USD", shop.customer.email):
        assert wanted in said, wanted
    await shop.change(orders.set_refunds, sold.order.id, {sold.items[0].id: 1900})
    said = words_of((await shop.get(f"/v1/orders/{sold.order.number}/receipt")).content)
    assert "-19.00" in said
    assert "100.00 USD" in said


# ---- mails and the page


def link_in(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    [found] = re.findall(r"^http://\S+?(/orders/plt_o_\w+)\r?$", body.get_content(), re.MULTILINE)
    return str(found)


async def the_link(shop: Shop, run_jobs: RunJobs, mailbox: MailSink) -> str:
    await run_jobs()
    return link_in(mailbox.to(shop.customer.email)[-1])


async def test_a_paid_order_is_confirmed_once(shop: Shop, run_jobs: RunJobs, mailbox: MailSink) -> None:
    sold = await shop.till.sell(Wanted("Tram <b>& Bus", files=FILES))
    await run_jobs()
    for _ in range(2):
        await shop.change(announcing.confirm, shop.runtime.settings, sold.order.id)
    await run_jobs()
    [mail] = mailbox.to(shop.customer.email)
    assert sold.order.number in mail["Subject"]
    plain, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and html is not None  # noqa: PT018
    assert "Tram <b>& Bus" in plain.get_content()
    assert "Tram &lt;b&gt;&amp; Bus" in html.get_content()
    assert link_in(mail) in html.get_content()
    assert f"paletta orders download {sold.order.number}" in plain.get_content()
    [receipt] = mail.iter_attachments()
    assert receipt.get_filename() == f"receipt-{sold.order.number}.pdf"
    assert receipt.get_content().startswith(b"%PDF")
    async with shop.runtime.db.transaction() as session:
        kept = (await session.execute(text("SELECT body, html FROM outbox_emails"))).one()
    assert kept == ("", None), "no link stays behind"


async def test_the_page_lists_files_and_leads_to_them(
    shop: Shop, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    sold = await shop.till.sell(Wanted("Tram <script>alert(1)</script>", files=FILES))
    path = await the_link(shop, run_jobs, mailbox)
    for _ in range(3):
        page = await shop.client.get(path)
        assert page.status_code == 200, "looking uses nothing up"
    assert (await shop.client.head(path)).status_code == 200, "mail scanners look before they fetch"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text
    for wanted in (
        "Tram &lt;script&gt;", sold.order.number, hashlib.sha256(ORIGINAL).hexdigest(), hashlib.sha256(HD).hexdigest(),
        "87.9 KiB", f"paletta orders download {sold.order.number}",
    ):  # fmt: skip
        assert wanted in page.text, wanted
    assert await shop.grants() == []
    buttons = re.findall(r'href="(/orders/\S+/files/\S+)"', page.text)
    assert len(buttons) == 2
    there = await shop.client.get(buttons[0])
    assert there.status_code == 303
    assert (await fetched(there.headers["location"])).content == ORIGINAL
    assert [(one.via, one.tier) for one in await shop.grants()] == [("page", "original")]
    [paper] = re.findall(r'href="(/orders/\S+/certificates/\S+)"', page.text)
    assert (await shop.client.get(paper)).content.startswith(b"%PDF")


async def test_the_page_leads_to_its_own_order_only(
    shop: Shop, make_user: MakeUser, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    await shop.till.sell(Wanted(files=FILES))
    path = await the_link(shop, run_jobs, mailbox)
    other = await Till.of(shop.runtime, (await make_user("customer")).email, shop.contributor.email)
    theirs = await other.sell(Wanted(files=FILES))
    again = await shop.till.sell(Wanted(files=FILES))  # mine, but another order
    for item in (*theirs.items, *again.items):
        assert (await shop.client.get(f"{path}/files/{item.uid}/original")).status_code == 404
        assert (await shop.client.get(f"{path}/certificates/{item.uid}")).status_code == 404
    assert (await shop.client.get(path[:-1] + ("A" if path[-1] != "A" else "B"))).status_code == 404
    assert (await shop.client.get("/orders/nonsense")).status_code == 404
    assert await shop.grants() == []


async def test_an_expired_link_offers_a_new_one_to_the_buyer(
    shop: Shop, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    sold = await shop.till.sell(Wanted(files=FILES))
    path = await the_link(shop, run_jobs, mailbox)
    await shop.sql(
        "UPDATE delivery_links SET expires_at = now() - interval '1 second', created_at = now() - interval '2 days'"
    )
    page = await shop.client.get(path)
    assert page.status_code == 410
    assert "Mail a new link" in page.text
    assert (await shop.client.get(f"{path}/files/{sold.items[0].uid}/original")).status_code == 410
    assert (await shop.client.post(f"{path}/mail")).status_code == 403, "a form of another site"
    for _ in range(3):  # an impatient finger
        assert (await shop.client.post(f"{path}/mail", headers=SAME_SITE)).status_code == 200
    fresh = await the_link(shop, run_jobs, mailbox)
    assert len(mailbox.to(shop.customer.email)) == 2, "the confirmation and one new link"
    assert (await shop.client.get(fresh)).status_code == 200
    assert await shop.grants() == []


async def test_a_link_ends_with_the_right_to_the_files(
    shop: Shop, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    sold = await shop.till.sell(Wanted("A", files=FILES), Wanted("B", files=FILES))
    path = await the_link(shop, run_jobs, mailbox)
    first, second = sold.items
    await shop.change(suspend, sold.order.id)
    held = await shop.client.get(path)
    assert held.status_code == 200
    assert "/files/" not in held.text
    assert (await shop.client.get(f"{path}/files/{first.uid}/original")).status_code == 403
    assert (await shop.post(f"/v1/orders/{sold.uid}/email", expect=403))["code"] == "suspended"
    await shop.change(restore, sold.order.id)
    await shop.change(revoke, [first.id])
    assert (await shop.client.get(f"{path}/files/{first.uid}/original")).status_code == 403
    assert (await shop.client.get(f"{path}/files/{second.uid}/original")).status_code == 303
    await shop.change(revoke, [second.id])
    assert (await shop.client.get(path)).status_code == 410
    assert (await shop.client.get(f"{path}/files/{second.uid}/original")).status_code == 410
    assert (await shop.client.get(f"{path}/certificates/{second.uid}")).status_code == 410
    assert (await shop.post(f"/v1/orders/{sold.uid}/email", expect=403))["code"] == "revoked"


async def test_a_new_link_is_mailed_on_request(shop: Shop, run_jobs: RunJobs, mailbox: MailSink) -> None:
    sold = await shop.till.sell(Wanted(files=FILES))
    await run_jobs()
    await shop.sql("UPDATE delivery_links SET created_at = now() - interval '1 hour'")
    told = await shop.post(f"/v1/orders/{sold.order.number}/email", expect=202)
    assert told == {"order_id": sold.uid, "email": shop.customer.email, "valid_hours": 48}
    path = await the_link(shop, run_jobs, mailbox)
    assert (await shop.client.get(path)).status_code == 200


async def test_who_asks_for_a_link_first_gets_the_receipt_all_the_same(
    shop: Shop, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    sold = await shop.till.sell(Wanted(files=FILES))
    await shop.post(f"/v1/orders/{sold.order.number}/email", expect=202)
    await run_jobs()
    told = sorted(str(mail["Subject"]).rpartition(": ")[2] for mail in mailbox.to(shop.customer.email))
    assert told == ["a new download link", "your clips are ready"]


async def test_refunds_and_disputes_are_told_once(shop: Shop, run_jobs: RunJobs, mailbox: MailSink) -> None:
    sold = await shop.till.sell(
        Wanted("A", price=5000, files=FILES), Wanted("B", price=3000, files=FILES), store=False
    )
    await run_jobs()
    mailbox.clear()
    first, _ = sold.items
    for sums in ({first.id: 2000}, {first.id: 2000}, {first.id: 5000}):
        await shop.change(orders.set_refunds, sold.order.id, sums)
        await shop.change(service.notice_refund, sold.order.id)
        await run_jobs()
    half, full = (mail.get_body(("plain",)).get_content() for mail in mailbox.to(shop.customer.email))  # type: ignore[union-attr]
    assert "20.00 USD of the 80.00 USD" in half
    assert "the licence goes on" in half
    assert "50.00 USD of the 80.00 USD" in full
    assert "the licence has ended" in full
    mailbox.clear()
    await shop.change(suspend, sold.order.id)
    await run_jobs()
    [told] = mailbox.to(shop.customer.email)
    assert "disputed" in told["Subject"]


async def test_contributors_hear_of_their_sales_once_a_day(
    shop: Shop, run_jobs: RunJobs, mailbox: MailSink
) -> None:
    await shop.till.sell(Wanted("Tram", price=4900, files=FILES), Wanted("Bus", files=FILES), store=False)
    async with shop.runtime.db.transaction() as session:
        today = await announcing.today(session)

    async def digest(day: date) -> None:
        await shop.change(announcing.tell_sales, shop.runtime.settings, day)
        await run_jobs()

    await digest(today)
    assert mailbox.to(shop.contributor.email) == [], "the day is not over"
    for later in (1, 1, 2, 8):
        await digest(today + timedelta(days=later))
    [mail] = mailbox.to(shop.contributor.email)
    body = mail.get_body(("plain",))
    assert body is not None
    assert "2 clips" in mail["Subject"]
    assert "49.00 USD" in body.get_content()
    assert shop.customer.email not in body.get_content()
