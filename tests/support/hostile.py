"""Files that pretend to be clips, and the bait that shows whether one of them reached what it should not."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.support import media

MARK = "canary-5d41402abc4b2a76"


@dataclass
class Bait:
    """A text file, a film and a web server nobody has any business with. `hits`: paths that were asked
    for."""

    text: Path
    film: Path
    url: str
    hits: list[str] = field(default_factory=list)


@contextmanager
def bait(folder: Path) -> Iterator[Bait]:
    """Lays the bait; the server listens on 127.0.0.1 until the end of the block."""
    folder.mkdir()
    text = folder / "secret.txt"
    text.write_text(f"{MARK}\n" * 50)
    film = media.clip(folder / "secret.mp4", look="flat", size=(320, 180), seconds=2, faststart=False, seed=7)
    laid = Bait(text, film, "")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            laid.hits.append(self.path)
            body = film.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet: the hits are the log."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    laid.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield laid
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hls(target: str) -> bytes:
    """An HLS playlist of one segment."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n".encode()


def hls_with_key(segment: str, key: str) -> bytes:
    """A playlist that also fetches a key."""
    head = f'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-KEY:METHOD=AES-128,URI="{key}"\n'
    return f"{head}#EXTINF:10,\n{segment}\n#EXT-X-ENDLIST\n".encode()


def concat(target: str) -> bytes:
    """A list for the concat demuxer."""
    return f"ffconcat version 1.0\nfile '{target}'\nduration 4\n".encode()


def dash(target: str) -> bytes:
    """A DASH manifest of one segment."""
    return f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000"
 width="1920" height="1080"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>""".encode()


def svg(target: str) -> bytes:
    """A drawing that includes another file."""
    return f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="1920"
 height="1080"><image width="1920" height="1080" xlink:href="{target}"/></svg>""".encode()


def hidden_behind_boxes(playlist: bytes) -> bytes:
    """A playlist after a valid file type box: our look at the first bytes is content, the demuxer must not
    be."""
    return struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom") + playlist


def references(film: Path, target: Path) -> bytes:
    """`film` (index at the end) whose samples, by a QuickTime alias in its index, lie in `target`."""
    data = film.read_bytes()
    name = str(target).encode()
    alias = bytes(10 + 1 + 27 + 12) + bytes([0]) + bytes(63 + 16)
    alias += struct.pack(">hh", -1, -1) + bytes(16) + struct.pack(">hH", 2, len(name)) + name
    alias += b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    plain = struct.pack(">I4sI", 12, b"url ", 1)
    at = data.index(plain)
    grown = len(entry) - len(plain)
    patched = bytearray(data[:at] + entry + data[at + len(plain) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.rindex(kind, 0, at) - 4
        patched[start : start + 4] = struct.pack(">I", struct.unpack_from(">I", data, start)[0] + grown)
    return bytes(patched)


def pixel_bomb(folder: Path) -> bytes:
    """A small film of very large pictures (8192 x 8192, one colour)."""
    film = folder / "bomb.mp4"
    media.ffmpeg(
        *("-f", "lavfi", "-i", "color=gray:s=8192x8192:r=1:d=3,format=yuv420p"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "51", film),
    )
    return film.read_bytes()


def lying_size(film: Path) -> bytes:
    """A film whose index claims 60,000 x 60,000 pixels."""
    data = bytearray(film.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    data[entry + 28 : entry + 32] = struct.pack(">HH", 60_000, 60_000)
    head = data.index(b"tkhd") + 4
    data[head + 76 : head + 84] = struct.pack(">II", 60_000 << 16, 60_000 << 16)
    return bytes(data)


def frame_bomb(folder: Path) -> bytes:
    """20,000 frames in three seconds, of one picture that is told over and over."""
    one, film = folder / "one.mp4", folder / "frames.mp4"
    media.ffmpeg(
        *("-f", "lavfi", "-i", "color=gray:s=1280x720:r=25:d=4", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-crf", "51", "-g", "1", "-video_track_timescale", "12800", one),
    )
    stamps = "setts=pts=N*2:dts=N*2:duration=2"
    media.ffmpeg("-stream_loop", "199", "-i", one, "-c", "copy", "-bsf:v", stamps, film)
    return film.read_bytes()


def many_streams(folder: Path, film: Path) -> bytes:
    """A film with forty tracks."""
    path = folder / "tracks.mov"
    media.ffmpeg("-i", film, *(["-map", "0:v"] * 40), "-c", "copy", path)
    return path.read_bytes()


Maker = Callable[[Path, Bait], bytes]


def corpus() -> dict[str, tuple[str, Maker]]:
    """Name → (file name to use, maker of its bytes). None of them is a clip."""
    found: dict[str, tuple[str, Maker]] = {}
    for kind, maker in (("hls", hls), ("concat", concat), ("dash", dash), ("svg", svg)):
        for what in ("file", "http"):

            def make(_: Path, laid: Bait, maker: Callable[[str], bytes] = maker, what: str = what) -> bytes:
                return maker(f"file://{laid.film}" if what == "file" else f"{laid.url}/{what}")

            def text(_: Path, laid: Bait, maker: Callable[[str], bytes] = maker) -> bytes:
                return maker(str(laid.text))

            def hidden(_: Path, laid: Bait, maker: Callable[[str], bytes] = maker) -> bytes:
                return hidden_behind_boxes(maker(str(laid.film)))

            found[f"{kind}-{what}-as-mp4"] = ("clip.mp4", make)
            found[f"{kind}-{what}-as-mov"] = ("clip.mov", make)
        found[f"{kind}-text-as-mp4"] = ("clip.mp4", text)
        found[f"{kind}-behind-a-box"] = ("clip.mp4", hidden)
    found["hls-with-key"] = ("clip.mp4", lambda _, laid: hls_with_key(str(laid.film), f"{laid.url}/key"))
    found["playlist-by-its-own-name"] = ("clip.m3u8", lambda _, laid: hls(str(laid.film)))
    found["pixel-bomb"] = ("clip.mp4", lambda folder, _: pixel_bomb(folder))
    found["lying-size"] = ("clip.mp4", lambda _, laid: lying_size(laid.film))
    found["frame-bomb"] = ("clip.mp4", lambda folder, _: frame_bomb(folder))
    found["many-streams"] = ("clip.mov", lambda folder, laid: many_streams(folder, laid.film))
    found["empty"] = ("clip.mp4", lambda *_: b"")
    found["zeros"] = ("clip.mov", lambda *_: bytes(100_000))
    found["garbage"] = ("clip.mp4", lambda *_: bytes(range(7, 256)) * 500)
    found["garbage-behind-a-box"] = ("clip.mp4", lambda *_: hidden_behind_boxes(bytes(range(7, 256)) * 500))
    found["text"] = ("clip.mp4", lambda *_: b"not a film\n" * 1000)
    found["sound-only"] = ("clip.mp4", lambda folder, _: media.audio_only(folder / "a.mp4").read_bytes())
    found["subtitles-only"] = (
        "clip.mp4",
        lambda folder, _: media.subtitles_only(folder / "s.mp4").read_bytes(),
    )
    for suffix in ("png", "jpg", "gif", "bmp", "webp"):
        found[f"picture-{suffix}"] = (
            "clip.mov",
            lambda folder, _, suffix=suffix: media.still(folder / f"p.{suffix}").read_bytes(),
        )
    for suffix, codec in (
        ("mkv", "h264"),
        ("avi", "mjpeg"),
        ("webm", "vp9"),
        ("ts", "h264"),
        ("mpg", "mpeg2video"),
    ):
        found[f"wrong-extension-{suffix}"] = (
            "clip.mp4",
            lambda folder, _, suffix=suffix, codec=codec: media.clip(  # type: ignore[misc]
                folder / f"w.{suffix}", codec=codec, size=(320, 180), seconds=1, fps="25"
            ).read_bytes(),
        )
    found["headless"] = (
        "clip.mp4",
        lambda folder, laid: media.damaged(laid.film, folder / "h.mp4", "headless").read_bytes(),
    )
    found["index-only"] = ("clip.mp4", lambda _, laid: _without_samples(laid.film))
    return found


def _without_samples(film: Path) -> bytes:
    data = film.read_bytes()
    return data[:40] + data[data.index(b"moov") - 4 :]
