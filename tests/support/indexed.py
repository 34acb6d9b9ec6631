"""Documents to try an index of clips with."""

from __future__ import annotations

import random
from dataclasses import replace

from paletta_server.search.document import Document

TRAM = Document(
    id=1,
    title="Yellow tram climbs a steep street",
    tags=("tram", "lisbon", "são bento"),
    synonyms=("streetcar", "trolley"),
    categories=("railways", "transport"),
    category_names=("Railways", "Transport"),
    description="On its way up to the castle.",
    places=("Lisbon", "PT"),
    country="PT",
    city="Lisbon",
    contributor="Ana Sá",
    contributor_id=7,
    tiers=("hd", "original"),
    licences=("individual", "business"),
    long_edge=1920,
    orientation="landscape",
    fps=24,
    duration=8_040,
    people="2",
    shot={"size": "wide", "angle": "eye", "move": "pan", "speed": "normal"},
    shoot="7/lisbon",
    price=4_900,
    listed=1_000,
    filmed=20_000,
    popularity=3,
)
FERRY = Document(
    id=2,
    title="A ferry crosses the river",
    tags=("ferry", "lisbon", "river"),
    categories=("transport",),
    category_names=("Transport",),
    description="A tram waits at the pier.",
    places=("Lisbon", "PT"),
    country="PT",
    city="Lisbon",
    contributor="Ana Sá",
    contributor_id=7,
    tiers=("hd", "uhd4k", "original"),
    licences=("individual", "business", "premium"),
    long_edge=3840,
    orientation="portrait",
    fps=60,
    duration=20_000,
    editorial=True,
    people="crowd",
    shot={"size": "close-up", "angle": "aerial", "move": "drone", "speed": "slow"},
    shoot="7/lisbon",
    price=9_900,
    listed=2_000,
    filmed=20_100,
    popularity=1,
)
FOREST = Document(
    id=3,
    title="Morning fog in a forest",
    tags=("forest", "fog"),
    categories=("nature",),
    category_names=("Nature",),
    places=("Oslo", "NO"),
    country="NO",
    city="Oslo",
    contributor="Bo",
    contributor_id=8,
    tiers=("original",),
    licences=("individual",),
    long_edge=7680,
    orientation="square",
    fps=25,
    duration=5_000,
    listed=3_000,
)
ALL = (TRAM, FERRY, FOREST)


def many(count: int) -> list[Document]:
    noise = random.Random(5)
    return [
        replace(
            TRAM,
            id=10 + number,
            title=f"Tram {'night ' * noise.randrange(4)}{number}",
            listed=noise.randrange(50),
            price=noise.randrange(5) * 100,
            duration=noise.randrange(9) * 1000,
            popularity=noise.randrange(3),
        )
        for number in range(count)
    ]
