"""The plan: sizes, tiers, times."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_server.ingest.command import arguments, graph
from paletta_server.ingest.plan import fit, plan_outputs
from paletta_server.ingest.probe import MediaLimits, Probe
from paletta_server.ingest.storyboard import webvtt
from tests.unit.test_ingest_gate import GOOD, GOOD_VIDEO, SOUND, video

sizes = st.integers(16, 8192)


def sized(width: int, height: int, **changes: object) -> Probe:
    return video(width=width, height=height, coded_width=width, coded_height=height, **changes)


@given(sizes, sizes, st.sampled_from([(1920, 1080), (4096, 2160), (1280, 1280)]))
def test_fitting_never_enlarges_and_keeps_the_shape(width: int, height: int, box: tuple[int, int]) -> None:
    made_width, made_height = fit(width, height, box)
    assert made_width % 2 == made_height % 2 == 0
    assert 2 <= made_width <= width
    assert 2 <= made_height <= height
    assert max(made_width, made_height) <= max(box)
    assert min(made_width, made_height) <= min(box)
    # At most two pixels from the true shape, in either direction: what evenness costs.
    scale = min(1.0, max(box) / max(width, height), min(box) / min(width, height))
    assert abs(made_width - width * scale) <= 2
    assert abs(made_height - height * scale) <= 2


@given(sizes, sizes, st.floats(0.2, 120), st.floats(1, 120), st.none() | st.floats(-10, 1000))
def test_every_plan_stays_inside_its_film(
    width: int, height: int, seconds: float, fps: float, wish: float | None
) -> None:
    film = replace(
        GOOD,
        duration=seconds,
        video=replace(
            *(GOOD_VIDEO,),
            width=width,
            height=height,
            duration=seconds,
            fps=fps,
            frames=max(1, round(seconds * fps)),
        ),
    )
    plan = plan_outputs(film, poster_at=wish)
    assert all(0 <= at < seconds for at in plan.posters.times)
    assert list(plan.posters.times) == sorted(set(plan.posters.times))
    assert plan.posters.requested is None or plan.posters.requested in plan.posters.times
    assert 0 <= plan.loop.start <= plan.loop.start + plan.loop.seconds <= seconds + 0.001
    assert plan.loop.seconds <= 6
    board = plan.storyboard
    assert 1 <= board.cells <= 60
    assert board.columns * (board.rows - 1) < board.cells <= board.columns * board.rows
    assert graph(film, plan).count("[comp]") == 1


@pytest.mark.parametrize(
    ("film", "made", "served"),
    [
        (GOOD, {}, ("hd",)),
        (replace(GOOD, container="mov"), {"hd": (1920, 1080)}, ()),
        (video(codec="prores", pix_fmt="yuv422p10le"), {"hd": (1920, 1080)}, ()),
        (video(rotation=90, width=1080, height=1920), {"hd": (1080, 1920)}, ()),
        (video(scan="interlaced"), {"hd": (1920, 1080)}, ()),
        (sized(1280, 720, codec="hevc"), {"hd": (1280, 720)}, ()),
        (sized(2704, 1520), {"hd": (1920, 1080)}, ()),
        (sized(3840, 2160), {"hd": (1920, 1080)}, ("uhd4k",)),
        (sized(3840, 2160, codec="hevc"), {"hd": (1920, 1080), "uhd4k": (3840, 2160)}, ()),
        (sized(4096, 2160, codec="hevc"), {"hd": (1920, 1012), "uhd4k": (4096, 2160)}, ()),
        (sized(2160, 3840, codec="hevc"), {"hd": (1080, 1920), "uhd4k": (2160, 3840)}, ()),
        (sized(7680, 4320, codec="prores"), {"hd": (1920, 1080), "uhd4k": (3840, 2160)}, ()),
        (sized(6144, 3456, codec="hevc"), {"hd": (1920, 1080), "uhd4k": (3840, 2160)}, ()),
        (sized(4096, 2304), {"hd": (1920, 1080), "uhd4k": (3840, 2160)}, ()),
    ],
)
def test_which_tiers_are_made(film: Probe, made: dict[str, tuple[int, int]], served: tuple[str, ...]) -> None:
    plan = plan_outputs(film)
    assert {rendition.tier: (rendition.width, rendition.height) for rendition in plan.renditions} == made
    assert plan.original_serves == served


def test_sound_is_copied_when_it_is_aac_and_encoded_when_not() -> None:
    film = replace(GOOD, container="mov", audio=(SOUND,))
    assert plan_outputs(film).renditions[0].audio == "copy"
    pcm = replace(SOUND, codec="pcm_s24le")
    assert plan_outputs(replace(film, audio=(pcm,))).renditions[0].audio == "aac"
    strange = replace(SOUND, codec="apac", known=False)
    assert plan_outputs(replace(film, audio=(strange,))).renditions[0].audio is None


def test_fast_films_get_calmer_previews() -> None:
    assert plan_outputs(video(fps=60.0)).comp.rate_divisor == 1
    assert plan_outputs(video(fps=120.0)).comp.rate_divisor == 2
    assert plan_outputs(video(fps=60.0)).loop.rate_divisor == 2
    assert plan_outputs(video(fps=25.0)).loop.rate_divisor == 1


def test_the_storyboard_covers_the_film_without_gaps() -> None:
    board = plan_outputs(GOOD).storyboard
    lines = webvtt(board, 10.0).split("\n")
    assert lines[0] == "WEBVTT"
    cues = [line.split(" --> ") for line in lines if "-->" in line]
    assert cues[0][0] == "00:00:00.000"
    assert cues[-1][1] == "00:00:10.000"
    assert all(earlier[1] == later[0] for earlier, later in pairwise(cues))
    places = [line for line in lines if line.startswith("storyboard.jpg#xywh=")]
    assert places[0] == "storyboard.jpg#xywh=0,0,160,90"
    assert places[9] == "storyboard.jpg#xywh=1440,0,160,90"
    assert len(places) == len(cues) == board.cells == 10


def test_the_source_is_opened_as_one_kind_from_one_place() -> None:
    command = arguments(GOOD, plan_outputs(GOOD), MediaLimits(), threads=2)
    source = command.index("file:/in/source")
    before = command[:source]
    assert before[-5:] == ["-f", "mov", "-t", "121", "-i"]
    for option, value in (
        ("-protocol_whitelist", "file"),
        ("-format_whitelist", "mov,mxf"),
        ("-max_streams", "16"),
        ("-max_pixels", "36000000"),
        ("-enable_drefs", "0"),
    ):
        assert before[before.index(option) + 1] == value
