"""A listed clip as an index keeps it, made from the facts of the domains that own them."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.accounts import service as accounts
from paletta_server.clips import searchable
from paletta_server.clips.searchable import Searchable
from paletta_server.search import offers, views
from paletta_server.search.offers import Offers
from paletta_server.taxonomy import service as taxonomy

RESOLUTIONS = {"720p": 1280, "hd": 1920, "2k": 2048, "4k": 3840, "5k": 5120, "6k": 6144, "8k": 7680}
"""Names that people know, by the least long edge in pixels. `4k` begins with UHD, where the tier does."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Document:
    """What an index keeps of a clip. Texts are as people wrote them; values to filter by are folded.

    `duration` in milliseconds, `fps` rounded to whole frames (23.976 is 24), `price` in minor units, `listed` in
    seconds since 1970, `shot` in days since 1970. None is unknown.
    """

    id: int
    title: str
    tags: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    """Slugs, with the categories above them."""
    category_names: tuple[str, ...] = ()
    description: str = ""
    places: tuple[str, ...] = ()
    """City, region, country and place in words."""
    country: str | None = None
    city: str | None = None
    contributor: str | None = None
    contributor_id: int = 0
    tiers: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    long_edge: int = 0
    orientation: str | None = None
    fps: int | None = None
    duration: int = 0
    editorial: bool = False
    people: str | None = None
    shot: Mapping[str, str] = field(default_factory=dict)
    """Size, angle, move and speed."""
    shoot: str | None = None
    """What clips of one shoot share: contributor and batch."""
    price: int | None = None
    listed: int = 0
    filmed: int | None = None
    popularity: int = 0

    @property
    def resolution(self) -> str | None:
        """The highest name that the clip is entitled to."""
        return next((name for name in reversed(RESOLUTIONS) if self.long_edge >= RESOLUTIONS[name]), None)


def fold(text: str) -> str:
    """Text as filters compare it: case and accents do not count, nor does space around or between."""
    if text.isascii():  # most are, and a build folds every word there is
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(char for char in plain if not unicodedata.combining(char)).split())


def words_of(text: str) -> list[str]:
    """The folded words of a text, in order."""
    return _WORD.findall(fold(text))


def seconds(moment: datetime) -> int:
    return max(0, int(moment.timestamp()))


def days(day: date) -> int:
    """Days since 1970; what was filmed before counts as 0."""
    return max(0, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 86_400)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the documents of one round have in common."""

    categories: dict[str, tuple[str, str | None]]
    """Name and parent of each slug."""
    offers: Offers


async def shared(session: AsyncSession) -> Shared:
    categories = await taxonomy.all_categories(session)
    return Shared({one.slug: (one.name, one.parent) for one in categories}, await offers.in_force(session))


async def documents(session: AsyncSession, clip_ids: Collection[int], common: Shared) -> list[Document]:
    """The documents of those clips that are listed. A handful of statements, however many clips."""
    clips = await searchable.searchable(session, clip_ids)
    keys = [clip.id for clip in clips]
    tags = await taxonomy.tag_words(session, keys)
    categories = await taxonomy.category_slugs(session, keys)
    names = await accounts.public_names(session, {clip.owner_id for clip in clips})
    popularity = await views.recent(session, keys)
    return [
        _document(
            clip,
            tags[clip.id],
            _upwards(categories[clip.id], common.categories),
            names.get(clip.owner_id),
            popularity.get(clip.id, 0),
            common,
        )
        for clip in clips
    ]


def _upwards(slugs: Sequence[str], known: Mapping[str, tuple[str, str | None]]) -> list[str]:
    """The categories and all above them, each once."""
    found: dict[str, None] = {}
    for slug in slugs:
        here: str | None = slug
        while here is not None and here not in found:
            found[here] = None
            here = known.get(here, ("", None))[1]
    return list(found)


def _document(
    clip: Searchable,
    tags: Sequence[tuple[str, Sequence[str]]],
    categories: Sequence[str],
    contributor: str | None,
    popularity: int,
    common: Shared,
) -> Document:
    offer = common.offers.of(clip.tiers, own=clip.price, editorial=clip.editorial is not None)
    place = _place(clip)
    width, height = clip.width or 0, clip.height or 0
    return Document(
        id=clip.id,
        title=clip.title,
        tags=tuple(name for name, _ in tags),
        synonyms=tuple(word for _, synonyms in tags for word in synonyms),
        categories=tuple(categories),
        category_names=tuple(common.categories.get(slug, (slug, None))[0] for slug in categories),
        description="\n".join(filter(None, (clip.description, (clip.editorial or {}).get("text")))),
        places=tuple(dict.fromkeys(place.values())),
        country=place.get("country"),
        city=place.get("city"),
        contributor=contributor,
        contributor_id=clip.owner_id,
        tiers=clip.tiers,
        licences=offer.licences,
        long_edge=max(width, height),
        orientation=_orientation(width, height),
        fps=round(clip.fps) if clip.fps else None,
        duration=round((clip.duration or 0) * 1000),
        editorial=clip.editorial is not None,
        people=(clip.people or {}).get("count"),
        shot={key: value for key, value in (clip.shot or {}).items() if isinstance(value, str)},
        shoot=f"{clip.owner_id}/{fold(clip.batch)}" if clip.batch else None,
        price=offer.least,
        listed=seconds(clip.listed_at) if clip.listed_at else 0,
        filmed=days(clip.shot_date) if clip.shot_date else None,
        popularity=popularity,
    )


def _place(clip: Searchable) -> dict[str, str]:
    """Where it was filmed; an editorial clip's caption says so, if nothing else does."""
    named = {key: (clip.editorial or {}).get(key) for key in ("city", "state", "country")}
    named |= {key: (clip.location or {}).get(key) or named.get(key) for key in (*named, "region", "text")}
    return {key: value for key, value in named.items() if isinstance(value, str) and value}


def _orientation(width: int, height: int) -> str | None:
    if not width or not height:
        return None
    return "square" if width == height else "landscape" if width > height else "portrait"
