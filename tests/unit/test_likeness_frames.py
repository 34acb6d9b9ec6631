"""What a clip looks like: copies have the same hashes, other films have others, and nothing looks like nothing."""

from __future__ import annotations

from itertools import pairwise, permutations
from pathlib import Path

import pytest

from paletta_server.likeness.frames import KEPT, Frame, frames_of, spread
from paletta_server.likeness.service import LEAST_FRAMES, NEAR
from tests.support import media
from tests.support.looks import copied, looks

SIZE, SECONDS = (640, 360), 6.0
COPIES = {
    "encoded": ((), 0.0, SIZE),
    "scaled": (("-vf", "scale=320:180"), 0.0, (320, 180)),
    "trimmed": ((), 1.7, SIZE),
    "brightened": (("-vf", "eq=brightness=0.06:contrast=1.1"), 0.0, SIZE),
    "letterboxed": (("-vf", "pad=640:480:0:60"), 0.0, (640, 480)),
    "pillarboxed": (("-vf", "pad=860:360:110:0"), 0.0, (860, 360)),
    "all of it": (("-vf", "scale=480:270,eq=brightness=0.05,pad=480:360:0:45"), 1.7, (480, 360)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looks")


@pytest.fixture(scope="module")
def films(folder: Path) -> dict[str, tuple[Path, list[Frame]]]:
    """Films that move, by their looks."""
    made = {}
    wanted: list[tuple[media.Look, int]] = [("fractal", 0), ("cells", 0), ("cells", 7), ("chart", 0)]
    wanted += [("plasma", 0), ("gradients", 0), ("gradients", 7)]
    for look, seed in wanted:
        name = f"{look}{seed or ''}"
        film = media.clip(folder / f"{name}.mp4", look=look, seed=seed, size=SIZE, seconds=SECONDS)
        made[name] = (film, looks(film, SECONDS, SIZE))
    return made


def alike(some: list[Frame], kept: list[Frame]) -> int:
    """How many of the kept frames have a like among some."""
    return sum(
        min(((one.hash ^ other.hash).bit_count() for other in some), default=64) <= NEAR for one in kept
    )


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_looks_like_its_original(films: dict[str, tuple[Path, list[Frame]]], how: str) -> None:
    options, start, size = COPIES[how]
    for look in ("fractal", "chart"):
        film, frames = films[look]
        copy = looks(copied(film, f"{look}-copy.mp4", *options, start=start), SECONDS - start, size)
        assert alike(copy, spread(frames)) >= LEAST_FRAMES, look
        assert alike(frames, spread(copy)) >= LEAST_FRAMES, f"{look}: the copy was there first"


def test_other_films_look_different(films: dict[str, tuple[Path, list[Frame]]]) -> None:
    for (one, (_, some)), (other, (_, kept)) in permutations(films.items(), 2):
        assert alike(some, spread(kept)) == 0, f"{one}, {other}"


@pytest.mark.parametrize(
    "picture",
    [
        "color=black",
        "color=0x406080",
        "color=black,noise=alls=20:allf=t",
        "gradients=n=2:type=linear:seed=3:speed=0.02",
    ],
)
def test_what_shows_nothing_looks_like_nothing(folder: Path, picture: str) -> None:
    film = folder / "nothing.mp4"
    source = picture.replace("color=", "color=s=640x360:c=").replace("gradients=", "gradients=s=640x360:")
    media.ffmpeg("-f", "lavfi", "-i", source, "-t", "3", "-c:v", "libx264", "-preset", "ultrafast", film)
    assert looks(film, 3.0, SIZE) == []


def test_frames_are_kept_from_all_over_the_film() -> None:
    many = [Frame(float(at), at * 977) for at in range(60)]
    kept = spread(many)
    assert len(kept) == KEPT
    assert (kept[0].at < 8, kept[-1].at > 51) == (True, True)
    assert max(after.at - before.at for before, after in pairwise(kept)) < 10
    assert spread([Frame(at, 5) for at in (0.0, 1.0, 2.0)]) == [Frame(2.0, 5)], "a still film has one"
    assert spread(many[:3]) == many[:3]


def test_a_storyboard_that_is_none_is_told(folder: Path) -> None:
    picture = folder / "still.jpg"
    media.still(picture, size=(320, 90))
    with pytest.raises(ValueError, match="storyboard"):
        frames_of(picture, "WEBVTT\n")
    cue = "00:00:00.000 --> 00:00:01.000\nstoryboard.jpg#xywh={},0,160,90\n"
    with pytest.raises(ValueError, match="storyboard"):
        frames_of(picture, "WEBVTT\n\n" + cue.format(0) + cue.format(320))
    picture.write_bytes(b"no picture")
    with pytest.raises(OSError, match="cannot identify"):
        frames_of(picture, cue.format(0))
