"""The gate: which films are refused, which are only remarked upon."""

from dataclasses import replace

import pytest

from paletta_server.ingest.gate import judge
from paletta_server.ingest.probe import Audio, MediaLimits, Probe, Video

LIMITS = MediaLimits()
GOOD_VIDEO = Video(
    codec="h264",
    profile="High",
    width=1920,
    height=1080,
    coded_width=1920,
    coded_height=1080,
    sar="1:1",
    rotation=0,
    pix_fmt="yuv420p",
    bit_depth=8,
    fps=25.0,
    rate="25/1",
    frames=250,
    duration=10.0,
    scan="progressive",
    alpha=False,
    color_range="tv",
    color_space="bt709",
    color_primaries="bt709",
    color_transfer="bt709",
    bit_rate=8_000_000,
    uneven=0.0,
    number=0,
)
GOOD = Probe(
    container="mp4",
    demuxer="mov",
    size=10_000_000,
    duration=10.0,
    bit_rate=8_000_000,
    video=GOOD_VIDEO,
    audio=(),
    other_streams=0,
)
SOUND = Audio("aac", 2, 48_000, 128_000, True)


def video(**changes: object) -> Probe:
    return replace(GOOD, video=replace(GOOD_VIDEO, **changes))  # type: ignore[arg-type]


def test_a_good_film_passes_without_a_remark() -> None:
    verdict = judge(GOOD, LIMITS)
    assert verdict.passed
    assert verdict.errors == ()
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("film", "code"),
    [
        (replace(GOOD, container="mxf"), None),
        (replace(GOOD, container="matroska"), "container_unsupported"),
        (video(codec="vp9"), "codec_unsupported"),
        (replace(GOOD, size=LIMITS.max_bytes), None),
        (replace(GOOD, size=LIMITS.max_bytes + 1), "too_large"),
        (video(width=1280, height=720), None),
        (video(width=1279, height=720), "too_small"),
        (video(width=720, height=1280), None),
        (video(coded_width=7680, coded_height=4688), "too_many_pixels"),
        (replace(GOOD, duration=3.0), None),
        (replace(GOOD, duration=2.99), "too_short"),
        (replace(GOOD, duration=120.0), None),
        (replace(GOOD, duration=120.01), "too_long"),
        (video(fps=120.0), None),
        (video(fps=121.0), "fps_too_high"),
        (video(fps=200_000.0), "fps_too_high"),
    ],
)
def test_each_limit_and_its_edge(film: Probe, code: str | None) -> None:
    assert [finding.code for finding in judge(film, LIMITS).errors] == ([code] if code else [])


def test_every_error_is_named_at_once_with_a_hint() -> None:
    film = replace(video(codec="vp9", width=640, height=360, fps=500.0), container="webm", duration=600.0)
    findings = judge(film, LIMITS).errors
    assert {finding.code for finding in findings} == {
        *("container_unsupported", "codec_unsupported", "too_small", "too_long", "fps_too_high")
    }
    assert all(finding.reason and finding.hint for finding in findings)


@pytest.mark.parametrize(
    ("film", "code"),
    [
        (replace(GOOD, duration=4.9), "short"),
        (replace(GOOD, duration=60.1), "long"),
        (video(fps=17.5), "odd_fps"),
        (video(uneven=0.2), "vfr"),
        (video(scan="interlaced"), "interlaced"),
        (video(width=1280, height=720), "below_1920"),
        (video(width=1080, height=1920), "portrait"),
        (replace(GOOD, audio=(SOUND,)), "audio"),
        (video(alpha=True), "alpha"),
        (video(color_transfer="smpte2084"), "hdr"),
    ],
)
def test_what_is_only_remarked_upon(film: Probe, code: str) -> None:
    verdict = judge(film, LIMITS)
    assert verdict.passed
    assert [finding.code for finding in verdict.warnings] == [code]


@pytest.mark.parametrize("rate", [23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 119.88])
def test_usual_rates_raise_no_eyebrow(rate: float) -> None:
    assert judge(video(fps=rate), LIMITS).warnings == ()


def test_unknown_sound_is_left_out_and_said_so() -> None:
    film = replace(GOOD, audio=(replace(SOUND, codec="apac", known=False), SOUND))
    codes = [finding.code for finding in judge(film, LIMITS).warnings]
    assert codes == ["audio", "several_audio", "audio_dropped"]
