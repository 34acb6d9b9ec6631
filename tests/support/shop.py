"""A shop with prices, and customers who buy in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.conftest import Person

BOOK = (Path(__file__).resolve().parents[2] / "manifests" / "price-book.yaml").read_text(encoding="utf-8")
TAXED = BOOK.replace("# tax:", "tax:")


async def set_prices(client: httpx.AsyncClient, admin: Person, document: str = BOOK) -> None:
    """Put a price book in force."""
    answer = await client.post("/v1/admin/prices/apply", json={"document": document}, headers=admin.headers)
    assert answer.status_code == 200, answer.text


def priced(tier: str, licence: str, amount: str, document: str = BOOK) -> str:
    """The book with one price changed."""
    row = re.search(rf"^  {tier}:.*$", document, re.MULTILINE)
    assert row, tier
    changed = re.sub(rf'({licence}: )"[^"]*"', rf'\1"{amount}"', row[0])
    return document.replace(row[0], changed)


class Customer:
    """Somebody who buys, through the API."""

    def __init__(self, client: httpx.AsyncClient, person: Person) -> None:
        self.client, self.person = client, person

    async def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The answer's JSON; fails unless it has `status`."""
        headers = {**self.person.headers, **options.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def add(self, clip: str, status: int = 200, **wish: Any) -> Any:
        body = {"clips": [{"clip_id": clip, **wish}]}
        return await self.call("POST", "/v1/cart/items", status, json=body)

    async def cart(self) -> Any:
        return await self.call("GET", "/v1/cart")

    async def check_out(self, status: int = 201, **wish: Any) -> Any:
        headers = {"Idempotency-Key": wish.pop("key")} if "key" in wish else {}
        return await self.call("POST", "/v1/checkout", status, json=wish, headers=headers)


async def withdraw(runtime: Runtime, clip: str) -> None:
    """A moderator takes a clip down."""
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET review = 'taken_down' WHERE uid = :uid"), {"uid": clip})
