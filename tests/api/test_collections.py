"""Saved lists: everybody's own, and 404 for everybody else."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.conftest import MakeUser
from tests.support.clips import Shelf
from tests.support.uploading import Uploader

TRAM, FERRY = "clip_tram22222222", "clip_ferry2222222"


@pytest.fixture
async def buyer(client: httpx.AsyncClient, make_user: MakeUser) -> Uploader:
    return Uploader(client, (await make_user("customer")).headers)


async def made(buyer: Uploader, name: str = "Lisbon") -> str:
    answer = await buyer.call("POST", "/collections", 201, json={"name": name})
    return str(answer["id"])


async def test_a_list_keeps_clips_in_the_order_in_which_they_came(shelf: Shelf, buyer: Uploader) -> None:
    await shelf.put("tram")
    await shelf.put("ferry")
    key = await made(buyer)
    await buyer.call("POST", f"/collections/{key}/clips", json={"clips": [FERRY[:10], TRAM]})
    again = await buyer.call("POST", f"/collections/{key}/clips", json={"clips": [TRAM, FERRY]})
    assert ([clip["id"] for clip in again["items"]], again["clips"], again["absent"]) == ([FERRY, TRAM], 2, 0)
    by_name = await buyer.call("GET", "/collections/lisbon")
    for one in (*by_name["items"], *again["items"]):
        del one["poster_url"]  # signed anew for every answer, with the second in it
    assert by_name == again
    left = await buyer.call("DELETE", f"/collections/{key}/clips/{FERRY}")
    assert [clip["id"] for clip in left["items"]] == [TRAM]
    await buyer.call("DELETE", f"/collections/{key}/clips/{FERRY}", 404)
    listed = await buyer.call("GET", "/collections")
    assert [(one["name"], one["clips"]) for one in listed["items"]] == [("Lisbon", 1)]
    renamed = await buyer.call("PATCH", f"/collections/{key}", json={"name": "Trams"})
    assert renamed["name"] == "Trams"
    await buyer.call("DELETE", f"/collections/{key}", 204)
    await buyer.call("GET", f"/collections/{key}", 404)


async def test_names_are_ones_own_and_unique(
    buyer: Uploader, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    await made(buyer)
    refused = await buyer.call("POST", "/collections", 409, json={"name": "LISBON"})
    assert refused["code"] == "exists"
    other = Uploader(client, (await make_user("customer")).headers)
    await made(other)
    second = await made(buyer, "Porto")
    assert (await buyer.call("PATCH", f"/collections/{second}", 409, json={"name": "lisbon"}))[
        "code"
    ] == "exists"
    for name in ("", "   ", "a\nb", "x" * 101, "\u202eevil"):
        await buyer.call("POST", "/collections", 422, json={"name": name})


async def test_a_list_is_nobody_elses_business(
    shelf: Shelf, buyer: Uploader, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    await shelf.put("tram")
    key = await made(buyer)
    await buyer.call("POST", f"/collections/{key}/clips", json={"clips": [TRAM]})
    for role in ("customer", "contributor", "admin"):
        stranger = Uploader(client, (await make_user(role)).headers)
        for text in (key, "Lisbon"):
            await stranger.call("GET", f"/collections/{text}", 404)
            await stranger.call("PATCH", f"/collections/{text}", 404, json={"name": "Mine"})
            await stranger.call("DELETE", f"/collections/{text}", 404)
            await stranger.call("POST", f"/collections/{text}/clips", 404, json={"clips": [TRAM]})
            await stranger.call("DELETE", f"/collections/{text}/clips/{TRAM}", 404)
        assert (await stranger.call("GET", "/collections"))["items"] == []
    assert (await buyer.call("GET", f"/collections/{key}"))["clips"] == 1


async def test_only_clips_that_may_be_seen_go_in_and_hidden_ones_are_not_shown(
    shelf: Shelf, buyer: Uploader
) -> None:
    await shelf.put("tram")
    hidden = await shelf.put("ferry", stage="in_review")
    key = await made(buyer)
    await buyer.call("POST", f"/collections/{key}/clips", 404, json={"clips": [TRAM, hidden]})
    assert (await buyer.call("GET", f"/collections/{key}"))["clips"] == 0  # all or none
    await buyer.call("POST", f"/collections/{key}/clips", json={"clips": [TRAM]})
    await shelf.up.call("DELETE", f"/clips/{TRAM}", 204)
    seen = await buyer.call("GET", f"/collections/{key}")
    assert (seen["items"], seen["clips"], seen["absent"]) == ([], 1, 1)
    await buyer.call("DELETE", f"/collections/{key}/clips/{TRAM}")  # what is gone can be taken out


async def test_two_at_once_make_one_list_and_add_each_clip_once(shelf: Shelf, buyer: Uploader) -> None:
    await shelf.put("tram")
    answers = await asyncio.gather(
        *(buyer.client.post("/v1/collections", json={"name": "One"}, headers=buyer.headers) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    await asyncio.gather(
        *(buyer.call("POST", "/collections/one/clips", json={"clips": [TRAM]}) for _ in range(4))
    )
    assert (await buyer.call("GET", "/collections/one"))["clips"] == 1
