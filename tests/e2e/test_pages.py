"""The page behind a mailed download link, in a real browser, at the widths of a telephone and of a desk.

PALETTA_TEST_PICTURES names a folder to keep the pictures in.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.browser import chromium, look
from tests.support.orders import Till, Wanted
from tests.support.serving import serving
from tests.support.stack import MailSink

WIDTHS = {"phone": (412, 1700), "desk": (1280, 1500)}
FILES = {"hd": b"hd" * 40_000, "uhd4k": b"4k" * 900_000, "original": b"original" * 4_000_000}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PALETTA_TEST_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def path(runtime: Runtime, make_user: MakeUser, run_jobs: Any, mailbox: MailSink) -> str:
    """The path of a page, as it was mailed."""
    chromium()
    customer, contributor = await make_user("customer"), await make_user("contributor")
    till = await Till.of(runtime, customer.email, contributor.email)
    await till.sell(
        Wanted("Yellow tram climbs a steep street in the Alfama, Lisbon, early morning", files=FILES),
        Wanted("東京の路面電車 <script>document.title='broken'</script>", "hd", "business", files=FILES),
        Wanted("x" * 120, "uhd4k", "premium", files=FILES),
        store=False,
    )
    await run_jobs()
    [mail] = mailbox.to(customer.email)
    body = mail.get_body(("plain",))
    assert body is not None
    [found] = re.findall(r"(/orders/plt_o_\w+)", body.get_content())
    return str(found)


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return width, height


@pytest.mark.parametrize("device", WIDTHS)
async def test_the_download_page_reads_well(app: FastAPI, path: str, pictures: Path, device: str) -> None:
    width, height = WIDTHS[device]
    picture = pictures / f"download-{device}.png"
    async with serving(app) as url:
        document = await asyncio.to_thread(look, url + path, width=width, height=height, picture=picture)
    assert size_of(picture) == (width, height)
    assert "<title>Order P-" in document, "no script of a title ran"
    assert document.count(">Download</a>") == 3 + 1 + 2
    assert "東京の路面電車 &lt;script&gt;" in document
    assert "paletta orders download P-" in document


@pytest.mark.parametrize("device", WIDTHS)
async def test_an_expired_page_shows_its_one_button(
    app: FastAPI, runtime: Runtime, path: str, pictures: Path, device: str
) -> None:
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE delivery_links SET expires_at = now() - interval '1 minute'"))
    width, _ = WIDTHS[device]
    async with serving(app) as url:
        document = await asyncio.to_thread(
            look, url + path, width=width, height=700, picture=pictures / f"expired-{device}.png"
        )
    assert document.count("<button>") == 1
    assert "Mail a new link" in document
