"""What is believed of files and logs: first bytes, ffmpeg's words, indexes, candidate frames."""

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from paletta_server.ingest.boxes import read_film
from paletta_server.ingest.damage import Decoding, assess, read_log
from paletta_server.ingest.frames import LEAST_POSTERS, choose_posters
from paletta_server.ingest.plan import Posters
from paletta_server.ingest.sniff import sniff
from paletta_server.ingest.transcode import open_output
from paletta_server.ingest.watermark import watermark
from tests.support import media


@pytest.mark.parametrize(
    ("head", "demuxer", "container"),
    [
        (b"\0\0\0\x20ftypisom" + bytes(20), "mov", "mp4"),
        (b"\0\0\0\x14ftypqt  " + bytes(20), "mov", "mov"),
        (b"\0\0\0\x1cftypM4V " + bytes(20), "mov", "m4v"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mov", "mov"),
        (b"\0\0\0\x01mdat" + bytes(20), "mov", "mov"),
        (bytes.fromhex("060e2b34020501010d01020101020400") + bytes(20), "mxf", "mxf"),
        (b"", None, "an empty file"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", None, "a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", None, "a playlist"),
        (b'<?xml version="1.0"?><MPD>', None, "an XML or HTML text"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None, "an XML or HTML text"),
        (b"\x1aE\xdf\xa3" + bytes(40), None, "a Matroska or WebM film"),
        (b"RIFF\0\0\0\0AVI LIST", None, "an AVI film"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), None, "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(40), None, "a JPEG picture"),
        (b"\0\0\0\x1cftypheic" + bytes(20), None, "a HEIF, AVIF or JPEG 2000 picture"),
        (b"\0\0\0\x04moov" + bytes(20), None, "a file of an unknown kind"),
        (bytes(4096), None, "a file full of zeros"),
        (b"hello world, this is no film\n" * 10, None, "a text file"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(
    tmp_path: Path, head: bytes, demuxer: str | None, container: str
) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(head)
    assert (sniff(file).demuxer, sniff(file).container) == (demuxer, container)


LOG = """\
[h264 @ 0x5613] [error] error while decoding MB 27 40, bytestream -7
[vist#0:0/h264 @ 0x561] [dec:h264 @ 0x562] [warning] corrupt decoded frame
[in#0/mov,mp4,m4a,3gp,3g2,mj2 @ 0x55] [error] stream 0, offset 0x3bc: partial file
[h264 @ 0x5613] [error] mmco: unref short failure
[aac @ 0x5613] [error] something about sound
[libx264 @ 0x9] [info] frame I:4 Avg QP:26.38
[in#0/mov @ 0x55] [verbose]   Input stream #0:0 (video): 59 packets read (1916793 bytes); 58 frames decoded; 1 decode errors; 
[in#1/rawvideo @ 0x56] [verbose]   Input stream #1:0 (video): 1 packets read (9 bytes); 1 frames decoded; 0 decode errors; 
"""  # noqa: E501 - as ffmpeg writes it


def test_ffmpegs_words_are_counted() -> None:
    assert read_log(LOG, 0, "h264") == Decoding(
        packets=59, frames=58, errors=1, corrupt_frames=1, corrupt_packets=1, complaints=1
    )


def test_a_log_without_totals_means_that_nothing_was_decoded() -> None:
    finding = assess(read_log("[h264 @ 0x1] [error] no frame", 0, "h264"), 100)
    assert finding is not None
    assert finding.code == "undecodable"


@pytest.mark.parametrize(
    ("decoding", "declared", "damaged"),
    [
        (Decoding(100, 100, 0, 0, 0, 0), 100, False),
        (Decoding(98, 98, 0, 0, 0, 0), 100, False),
        (Decoding(97, 97, 0, 0, 0, 0), 100, True),
        (Decoding(14_330, 14_330, 0, 0, 0, 0), 14_400, False),
        (Decoding(14_320, 14_320, 0, 0, 0, 0), 14_400, True),
        (Decoding(101, 101, 0, 0, 0, 0), 100, False),
        (Decoding(100, 100, 0, 0, 0, 0), None, False),
        (Decoding(100, 99, 1, 0, 0, 0), 100, True),
        (Decoding(100, 100, 0, 1, 0, 0), 100, True),
        (Decoding(100, 100, 0, 0, 1, 0), 100, True),
        (Decoding(100, 100, 0, 0, 0, 1), 100, True),
    ],
)
def test_what_counts_as_damage(decoding: Decoding, declared: int | None, damaged: bool) -> None:
    finding = assess(decoding, declared)
    assert (finding is not None) is damaged


@given(st.binary(max_size=400))
def test_any_bytes_make_an_index_or_a_value_error(data: bytes) -> None:
    for prefix in (b"", b"\0\0\1\x90moov", b"\0\0\0\x98moov\0\0\0\x90trak"):
        try:
            read_film(io.BytesIO(prefix + data))
        except ValueError:
            continue


def test_a_film_that_ends_too_soon_is_none_wherever_its_index_stands(tmp_path: Path) -> None:
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    whole = media.clip(tmp_path / "whole.mp4", seconds=1.0, size=(320, 180)).read_bytes()
    film = read_film(io.BytesIO(whole))
    assert (film.width, film.height) == (320, 180)
    kinds = {kind: (at, size) for at, size, kind in top_boxes(whole)}
    moov, mdat = (whole[at : at + size] for at, size in (kinds[b"moov"], kinds[b"mdat"]))
    first = box(b"ftyp", b"isom\0\0\2\0") + moov + mdat
    assert read_film(io.BytesIO(first)) == film
    # A size of zero means as far as the file goes; one of 1 that 64 bits follow.
    assert read_film(io.BytesIO(moov + b"\0\0\0\0" + mdat[4:])) == film
    long = struct.pack(">I4sQ", 1, b"mdat", len(mdat) + 8) + mdat[8:]
    assert read_film(io.BytesIO(moov + long)) == film
    for cut in (1, 7, len(mdat) // 3, len(mdat) - 9):
        for data in (first, moov + long):
            with pytest.raises(ValueError, match=r"cut short: [0-9,]+ bytes are missing"):
                read_film(io.BytesIO(data[:-cut]))
    with pytest.raises(ValueError):
        read_film(io.BytesIO(first + b"\0\0"))


def top_boxes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield at, size, kind
        at += size


def test_only_a_plain_file_with_one_name_is_an_output(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not publish")
    out = tmp_path / "out"
    out.mkdir()
    (out / "soft.mp4").symlink_to(secret)
    other = tmp_path / "other"
    other.write_text("nor this")
    (out / "hard.mp4").hardlink_to(other)
    (out / "folder.mp4").mkdir()
    os.mkfifo(out / "pipe.mp4")
    (out / "good.mp4").write_text("fine")
    for name in ("soft.mp4", "hard.mp4", "folder.mp4", "pipe.mp4", "missing.mp4"):
        with pytest.raises(OSError):
            open_output(out, name)
    with open_output(out, "good.mp4") as file:
        assert file.read() == b"fine"


def picture(path: Path, *, black: bool = False, blur: float = 0) -> Path:
    image = Image.new("RGB", (640, 360), (2, 2, 2) if black else (90, 110, 130))
    if not black:
        pen = ImageDraw.Draw(image)
        for x in range(0, 640, 24):
            pen.rectangle((x, x % 100, x + 11, 300), fill=(230, 200, 40 + x % 200))
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    image.save(path, quality=90)
    return path


def test_black_and_blurred_frames_are_passed_over(tmp_path: Path) -> None:
    files = []
    for number in range(16):
        kind = {"black": number % 2 == 0} if number < 8 else {"blur": 6 * (number % 2)}
        files.append((number / 2, picture(tmp_path / f"{number}.jpg", **kind)))
    posters = choose_posters(files, Posters(640, 360, tuple(at for at, _ in files), 8, None))
    assert [poster.at for poster in posters] == [0.5, 1.5, 2.5, 3.5, 4.0, 5.0, 6.0, 7.0]
    assert all(poster.score > 0 for poster in posters)
    assert sum(poster.chosen for poster in posters) == 1


def test_a_black_film_still_gets_its_posters(tmp_path: Path) -> None:
    files = [(float(number), picture(tmp_path / f"{number}.jpg", black=True)) for number in range(16)]
    posters = choose_posters(files, Posters(640, 360, tuple(at for at, _ in files), 8, None))
    assert len(posters) == LEAST_POSTERS
    assert {poster.score for poster in posters} == {0.0}


def test_the_contributors_wish_wins_even_when_it_is_black(tmp_path: Path) -> None:
    files = [(float(number), picture(tmp_path / f"{number}.jpg", black=number == 5)) for number in range(16)]
    posters = choose_posters(files, Posters(640, 360, tuple(at for at, _ in files), 8, 4.98))
    chosen = [poster for poster in posters if poster.chosen]
    assert [(poster.at, poster.requested) for poster in chosen] == [(5.0, True)]
    assert len(posters) >= LEAST_POSTERS


def test_candidates_must_be_the_jpegs_that_were_asked_for(tmp_path: Path) -> None:
    plan = Posters(640, 360, (0.0,), 1, None)
    picture(tmp_path / "a.jpg")
    with pytest.raises(ValueError):
        choose_posters([(0.0, tmp_path / "a.jpg")], Posters(1280, 720, (0.0,), 1, None))
    (tmp_path / "b.jpg").write_bytes(b"<svg/>")
    with pytest.raises(OSError):
        choose_posters([(0.0, tmp_path / "b.jpg")], plan)


def test_the_mark_covers_the_frame_and_lets_it_through() -> None:
    mark = Image.frombytes("RGBA", (960, 540), watermark(960, 540))
    alpha = mark.getchannel("A")
    assert alpha.getextrema() == (0, 89)  # 35 % of 255
    for x in range(0, 960, 240):
        for y in range(0, 540, 180):
            assert alpha.crop((x, y, x + 240, y + 180)).getextrema()[1] == 89, "a corner without a mark"
    covered = sum(alpha.histogram()[1:]) / (960 * 540)
    assert 0.03 < covered < 0.35
