"""What a clip is, told without decoding it: formats, damage, limits."""

from pathlib import Path

import pytest

from paletta_cli.manifests import MediaLimits, Rules, lint, load_folder
from paletta_cli.manifests.preflight import check_limits
from paletta_cli.manifests.probe import MediaError, probe
from tests.support import media

SMALL = (320, 180)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    media.clip(folder / "h264.mov", seconds=1, size=SMALL)
    media.clip(folder / "late.mp4", seconds=1, size=SMALL, faststart=False, audio=True)
    media.clip(folder / "dnxhd.mxf", codec="dnxhd", seconds=0.5)
    return folder


def refusal(path: Path) -> MediaError:
    with pytest.raises(MediaError) as raised:
        probe(path)
    return raised.value


def test_headers(clips: Path) -> None:
    found = probe(clips / "h264.mov")
    assert (found.family, found.codec, found.width, found.height) == ("mov", "h264", 320, 180)
    assert found.seconds == pytest.approx(1)
    assert found.fps == pytest.approx(24)
    assert not found.audio
    assert probe(clips / "late.mp4").audio
    found = probe(clips / "dnxhd.mxf")
    assert (found.family, found.codec) == ("mxf", "dnxhd")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#EXTM3U\nhttp://192.0.2.1/x.ts\n", "a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a playlist"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG picture"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "an AVI file"),
        (b"\x1a\x45\xdf\xa3rest", "a Matroska or WebM file"),
        (b"garbage, nothing but garbage", "no known video format"),
    ],
)
def test_what_is_not_a_clip_is_named_whatever_it_is_called(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "clip.mov"
    path.write_bytes(content)
    error = refusal(path)
    assert error.code == "media_container"
    assert error.message == f"is {says}"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.mov").write_bytes(b"")
    assert refusal(tmp_path / "x.mov").code == "media_empty"


@pytest.mark.parametrize("name", ["h264.mov", "late.mp4", "dnxhd.mxf"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_cut_short_at_any_place(clips: Path, tmp_path: Path, name: str, kept: float) -> None:
    whole = (clips / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(path).code == "media_truncated"


def test_an_index_that_points_outside(clips: Path, tmp_path: Path) -> None:
    """The boxes are whole, but frames that the index lists are not there: the file is shorter than it was."""
    whole = bytearray((clips / "h264.mov").read_bytes())
    at = whole.index(b"mdat") - 4
    keep = (len(whole) - at) // 2
    whole[at : at + 4] = keep.to_bytes(4, "big")
    path = tmp_path / "x.mov"
    path.write_bytes(whole[: at + keep])
    assert refusal(path).code == "media_truncated"


def test_without_its_index(clips: Path, tmp_path: Path) -> None:
    path = media.damaged(clips / "late.mp4", tmp_path / "x.mp4", "headless")
    assert "moov" in refusal(path).message


def test_sound_alone(tmp_path: Path) -> None:
    assert refusal(media.audio_only(tmp_path / "x.mp4", seconds=1)).code == "media_no_video"


def test_mutants_never_crash_the_probe(clips: Path, tmp_path: Path) -> None:
    import random

    source = (clips / "h264.mov").read_bytes()
    dice = random.Random(7)
    outcomes = set()
    for _ in range(60):
        path = tmp_path / "m.mov"
        path.write_bytes(media.mutant(source, dice))
        try:
            probe(path)
        except MediaError as error:
            outcomes.add(error.code)
        else:
            outcomes.add("readable")
    assert len(outcomes) > 1


def test_limits(clips: Path) -> None:
    found = probe(clips / "h264.mov")
    strict = MediaLimits(max_bytes=10, min_seconds=2, min_long_edge=1280, max_fps=10, codecs=("prores",))
    codes = [error.code for error in check_limits(Path("h264.mov"), found, 100, strict)]
    assert codes == ["media_codec", "media_size", "media_short", "media_small", "media_fps"]
    loose = MediaLimits(min_seconds=0.5, min_long_edge=320)
    assert list(check_limits(Path("h264.mov"), found, 100, loose)) == []
    assert [e.code for e in check_limits(Path("h264.mxf"), found, 100, loose)] == ["media_container"]
    assert [e.code for e in check_limits(Path("h264.avi"), found, 100, loose)] == ["media_container"]


def test_problems_stand_at_the_clip_s_entry(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes((clips / "h264.mov").read_bytes())
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: A tram on a hill\n  keywords: [a, b, c, d, e]\n"
        "  categories: [travel]\n  poster_at: 3\n  price: {uhd4k: 99}\n"
    )
    rules = Rules.shipped()
    found = {(p.line, p.col, p.code, p.severity) for p in lint(load_folder(tmp_path), rules, media=True)}
    assert found == {
        (3, 9, "media_short", "error"),
        (3, 9, "media_small", "error"),
        (7, 14, "poster_at", "error"),
        (8, 18, "media_tier", "warning"),
    }


def test_an_agency_s_media_limits_only_when_it_is_named(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes((clips / "h264.mov").read_bytes())
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: A tram, on a hill\n  keywords: [a, b, c, d, e]\n"
        "  categories: [travel]\n"
    )
    folder = load_folder(tmp_path)
    assert not [p for p in lint(folder, Rules.shipped(), media=True) if p.code == "agency_limit"]
    found = [
        p.message
        for p in lint(folder, Rules.shipped(), media=True, agencies=["adobe"])
        if p.code == "agency_limit"
    ]
    assert "Adobe Stock: `title` must not contain `,`" in found
    assert "Adobe Stock: `a.mov` lasts 1.0 s, at least 5 s wanted" in found
