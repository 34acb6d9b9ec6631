"""Search over HTTP: every filter, pages, what strangers may see, and the shop window."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from tests.api.test_permissions import PUBLIC
from tests.conftest import MakeUser, Person
from tests.support.clips import Shelf
from tests.support.searching import caught_up, counting, search_of
from tests.support.shop import Customer, set_prices

TRAM, FERRY, FOG = "clip_tram22222222", "clip_ferry2222222", "clip_fgg222222222"

FACTS = """
UPDATE clips SET width = 3840, height = 2160, fps = 59.94, duration = 20, listed_at = '2026-06-01T12:00Z',
  technical = '{"original_serves": ["uhd4k"]}' WHERE uid = 'clip_ferry2222222';
UPDATE clips SET width = 1080, height = 1920, fps = 23.976, duration = 5.5, listed_at = '2026-07-01T12:00Z'
  WHERE uid = 'clip_fgg222222222';
UPDATE users SET display_name = 'Ana Sá' WHERE role = 'contributor';
"""


@pytest.fixture
async def shop(shelf: Shelf, app: FastAPI, runtime: Runtime, client: httpx.AsyncClient) -> Shelf:
    """Three listed clips: a tram, an editorial ferry in 4k, and fog in portrait."""
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO categories (slug, name, parent_id) SELECT 'railways', 'Railways', id FROM categories;"
            )
        )
        await session.execute(text("INSERT INTO categories (slug, name) VALUES ('nature', 'Nature')"))
        await session.execute(text("""INSERT INTO tags (name, synonyms) VALUES ('tram', '["streetcar"]')"""))
    await shelf.put(
        "tram", categories=["railways"], location={"city": "Lisbon", "country": "PT"}, people={"count": 2},
        shot={"size": "wide", "angle": "eye", "move": "pan", "speed": "normal"}, price={"hd": "25.00"},
        shot_date="2026-05-01", batch="lisbon",
    )  # fmt: skip
    await shelf.put(
        "ferry", title="A ferry crosses the river", keywords=["ferry", "river", "lisbon", "boat", "water"],
        editorial={"text": "Lisbon, Portugal - May 1, 2026: a ferry", "city": "Lisbon", "country": "PT"},
        shot={"size": "close-up", "speed": "slow"}, batch="lisbon",
    )  # fmt: skip
    await shelf.put(
        "fgg", title="Morning fog in a forest", keywords=["fog", "forest", "trees", "morning", "mist"],
        categories=["nature"],
    )  # fmt: skip
    async with runtime.db.transaction() as session:
        for statement in FACTS.strip().split(";"):
            if statement.strip():
                await session.execute(text(statement.replace(":00Z", "\\:00Z")))
    await caught_up(app)
    return shelf


async def ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await client.get("/v1/clips", params=params)
    assert answer.status_code == 200, answer.text
    return [clip["id"] for clip in answer.json()["items"]]


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [FOG, FERRY, TRAM]),
    ({"q": "trams"}, [TRAM]),
    ({"q": "streetcar"}, [TRAM]),
    ({"q": "lisbon -ferry"}, [TRAM]),
    ({"q": '"ferry crosses"'}, [FERRY]),
    ({"q": "ana"}, []),  # contributors are a filter, not words
    ({"category": "transport"}, [FERRY, TRAM]),
    ({"category": ["railways", "nature"]}, [FOG, TRAM]),
    ({"tag": ["lisbon", "River"]}, [FERRY]),
    ({"any_tag": ["river", "mist"]}, [FOG, FERRY]),
    ({"tier": "uhd4k"}, [FERRY]),
    ({"tier": "hd"}, [FOG, FERRY, TRAM]),
    ({"licence": "individual"}, [FOG, FERRY, TRAM]),
    ({"licence": "premium"}, [FOG, TRAM]),  # the shipped book sells no editorial clip so
    ({"min_res": "4k"}, [FERRY]),
    ({"max_res": "hd"}, [FOG, TRAM]),
    ({"orientation": "portrait"}, [FOG]),
    ({"min_fps": 24, "max_fps": 24}, [FOG, TRAM]),
    ({"min_fps": 60}, [FERRY]),
    ({"min_duration": 5, "max_duration": 10}, [FOG, TRAM]),
    ({"editorial": True}, [FERRY]),
    ({"editorial": False}, [FOG, TRAM]),
    ({"people": "2"}, [TRAM]),
    ({"shot_size": "wide"}, [TRAM]),
    ({"shot_angle": "eye"}, [TRAM]),
    ({"shot_move": ["pan", "tilt"]}, [TRAM]),
    ({"shot_speed": "slow"}, [FERRY]),
    ({"location": "LISBON"}, [FERRY, TRAM]),
    ({"country": "pt"}, [FERRY, TRAM]),
    ({"city": "Lisbon"}, [FERRY, TRAM]),
    ({"contributor": "ana sa"}, [FOG, FERRY, TRAM]),
    ({"contributor": "bo"}, []),
    ({"min_price": "20", "max_price": "30"}, [TRAM]),
    ({"min_price": "49.00"}, [FOG, FERRY]),
    ({"since": "2026-06-01", "until": "2026-06-01"}, [FERRY]),
    ({"filmed_since": "2026-04-30", "filmed_until": "2026-05-01"}, [TRAM]),
    ({"sort": "price"}, [TRAM, FERRY, FOG]),
    ({"sort": "duration"}, [FOG, TRAM, FERRY]),
]


async def test_every_filter(shop: Shelf, app: FastAPI, client: httpx.AsyncClient, admin: Person) -> None:
    await set_prices(client, admin)
    await caught_up(app)
    for params, found in FILTERS:
        assert await ids(client, **params) == found, params


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"min_res": "huge"}, "unknown_resolution"),
        ({"q": "a b c d e f g h i j k l m n"}, "too_many_words"),
        ({"cursor": "x"}, "bad_cursor"),
        ({"sort": "random"}, "invalid_request"),
        ({"limit": 101}, "invalid_request"),
        ({"min_duration": "nan"}, "invalid_request"),
        ({"min_price": "1e9"}, "invalid_request"),
        ({"since": "yesterday"}, "invalid_request"),
        ({"people": "7"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_asked_is_said(
    client: httpx.AsyncClient, app: FastAPI, params: dict[str, Any], code: str
) -> None:
    await caught_up(app)
    answer = await client.get("/v1/clips", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_an_item_has_what_a_list_shows(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, admin: Person
) -> None:
    await set_prices(client, admin)
    found = (await client.get("/v1/clips", params={"q": "tram"})).json()
    assert (found["total"], found["total_relation"], found["sort"]) == (1, "exact", "relevance")
    (tram,) = found["items"]
    assert "/poster-2.jpg?" in tram.pop("poster_url")
    assert tram == {
        "id": TRAM,
        "title": "Yellow tram climbs a steep street",
        "duration": 8.04,
        "width": 1920,
        "height": 1080,
        "fps": 24.0,
        "category": "railways",
        "contributor": "Ana Sá",
        "editorial": False,
        "tiers": ["hd", "original"],
        "price": {"amount": "25.00", "currency": "USD"},
        "listed_at": tram["listed_at"],
    }
    assert "originals/" not in str(found)
    assert "sale/" not in str(found)


async def test_facets_and_corrections(shop: Shelf, client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/clips", params={"facets": True, "q": "lisbon"})).json()
    assert found["facets_relation"] == "exact"
    assert found["facets"]["category"] == [
        {"value": "transport", "clips": 2}, {"value": "railways", "clips": 1},
    ]  # fmt: skip
    typed = (await client.get("/v1/clips", params={"q": "forset"})).json()
    assert (typed["showing"], [clip["id"] for clip in typed["items"]]) == ("forest", [FOG])
    assert (await client.get("/v1/clips", params={"q": "forest"})).json()["showing"] is None


async def test_suggestions(shop: Shelf, client: httpx.AsyncClient) -> None:
    async def suggested(q: str) -> list[str]:
        found: list[str] = (await client.get("/v1/clips/suggest", params={"q": q})).json()["items"]
        return found

    assert await suggested("Lis") == ["lisbon"]
    assert await suggested("yellow st") == ["yellow steep", "yellow street"]
    assert await suggested("\x00*") == []
    assert await suggested("") == []


async def test_hidden_clips_never_leak(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, make_user: MakeUser, runtime: Runtime
) -> None:
    stages = {"aa": "in_review", "bb": "rejected", "cc": "failed", "dd": "live", "ee": "processing"}
    for name, stage in stages.items():
        await shop.put(
            f"zebra{name}",
            stage=stage,
            title=f"Zebra {stage.replace('_', ' ')} secret",
            keywords=["zebra", "secret", "hidden", "quagga", "striped"],
            location={"city": "Zanzibar"},
        )
    await caught_up(app)
    assert len(await ids(client, q="zebra")) == 1
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE clips SET review = 'taken_down' WHERE uid LIKE 'clip_zebradd%'"))
    await caught_up(app)
    owner = shop.up.headers
    for headers in ({}, owner, (await make_user("admin")).headers):
        for q in ("zebra", "zebre", "secret", "zanzibar"):
            found = (await client.get("/v1/clips", params={"q": q, "facets": True}, headers=headers)).json()
            assert (found["items"], found["total"], found["showing"]) == ([], 0, None), q
        everything = (await client.get("/v1/clips", params={"facets": True}, headers=headers)).json()
        assert everything["total"] == 3
        assert "zebra" not in str(everything).lower()
        assert "zanzibar" not in str(everything).lower()
        for q in ("z", "zeb", "sec", "quag", "zanz"):
            assert (await client.get("/v1/clips/suggest", params={"q": q}, headers=headers)).json() == {
                "items": []
            }
    tram = (await client.get(f"/v1/clips/{TRAM}")).json()
    assert {clip["id"] for clip in tram["related"]} <= {FERRY, FOG}


async def test_a_clip_withdrawn_a_moment_ago_is_not_shown(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    """The index may not know yet: the database has the last word."""
    follower = search_of(app).follower
    async with follower._turn:  # it cannot follow while we look
        async with runtime.db.transaction() as session:
            await session.execute(
                text("UPDATE clips SET review = 'taken_down' WHERE uid = :uid"), {"uid": TRAM}
            )
        assert await ids(client, q="tram") == []


async def test_pages_stay_in_step_while_clips_change(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    first = (await client.get("/v1/clips", params={"limit": 1, "q": "lisbon"})).json()
    async with runtime.db.transaction() as session:
        await session.execute(
            text("UPDATE clips SET title = 'Lisbon Lisbon Lisbon' WHERE uid = :uid"), {"uid": FOG}
        )
    await caught_up(app)
    second = (
        await client.get("/v1/clips", params={"limit": 1, "q": "lisbon", "cursor": first["next_cursor"]})
    ).json()
    assert {first["items"][0]["id"], second["items"][0]["id"]} == {TRAM, FERRY}
    assert second["next_cursor"] is None
    other = await client.get("/v1/clips", params={"q": "fog", "cursor": first["next_cursor"]})
    assert (other.status_code, other.json()["code"]) == (422, "bad_cursor")


async def test_a_clips_page_has_what_a_buyer_wants_to_know(
    shop: Shelf, client: httpx.AsyncClient, customer: Customer
) -> None:
    seen = (await client.get(f"/v1/clips/{FERRY}")).json()
    assert (seen["contributor"], seen["currency"], seen["views"]) == ("Ana Sá", "USD", None)
    tiers = {tier["tier"]: tier for tier in seen["tiers"]}
    assert list(tiers) == ["hd", "uhd4k", "original"]
    assert tiers["hd"]["prices"] == {"individual": "49.00", "business": "99.00"}  # editorial: no premium
    assert (tiers["uhd4k"]["width"], tiers["hd"]["codec"]) == (3840, "h264")
    assert [clip["id"] for clip in seen["related"]] == [TRAM, FOG]
    assert set(seen["media"]) == {"comp", "loop", "poster", "storyboard", "storyboard_vtt"}
    assert "originals/" not in str(seen)
    assert "sale/" not in str(seen)


async def test_a_view_counts_once_per_caller_and_never_the_owners(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    buyer = (await make_user("customer")).headers
    async with counting(app) as views:
        for headers in (buyer, buyer, {}, {}, shop.up.headers):
            assert (await client.get(f"/v1/clips/{TRAM}", headers=headers)).status_code == 200
            await views.flush()
    seen = (await client.get(f"/v1/clips/{TRAM}", headers=shop.up.headers)).json()
    assert seen["views"] == 2
    other = (await client.get(f"/v1/clips/{FOG}", headers=shop.up.headers)).json()
    assert other["views"] == 0


async def test_what_is_looked_at_becomes_popular(
    shop: Shelf, app: FastAPI, client: httpx.AsyncClient, run_jobs: Any, runtime: Runtime
) -> None:
    from paletta_server.search.tasks import popularity

    assert await ids(client, sort="popular") == [FOG, FERRY, TRAM]
    async with counting(app) as views:
        await client.get(f"/v1/clips/{FERRY}")
        await views.flush()
    await popularity(runtime)
    await caught_up(app)
    assert await ids(client, sort="popular") == [FERRY, FOG, TRAM]


def test_the_shop_window_is_public() -> None:
    assert {"GET /v1/clips", "GET /v1/clips/suggest", "GET /v1/clips/{clip}"} <= PUBLIC
