"""The main job, shown with real commands: `make demo`.

A service on this machine, a contributor, a folder of clips with a mistake in its manifest, an upload that is
killed half way and goes on, and clips that are live at the end. Leaves pictures in `demo-out/` and nothing
running. Any step that does not end as it should ends the demo with exit code 1.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OUT = ROOT / "demo-out"

MANIFEST = """\
# yaml-language-server: $schema=paletta.schema.json
paletta: 1
defaults:
  source: Sony FX3
  copyright: A. Rossi
  location: {city: Lisbon, country: PT}
  keywords: [lisbon, portugal, city, street, travel]
  categories: [transport]
clips:
- file: tram_28.mp4
  title: Yellow tram climbs a steep street
  keywords: [tram, lisbon, street, yellow, hill]
- file: harbour.mp4
  title: Harbour at dusk with cranes
  categories: [industry]
- file: fish_market.mov
  title: Fish market in the morning
  categories: [fodo]
- file: bridge_4k.mp4
  title: Red bridge over the river
  categories: [architecture, travel]
  shot: {size: wide, move: drone}
- file: square_music.mov
  title: Street musicians on the square
  categories: [culture]
- file: ferry.mp4
  title: Ferry leaves the terminal
- file: tram_28_copy.mp4
  title: Yellow tram climbs a steep street again
"""


class DemoFailed(Exception):
    """A step did not end as it should."""


def main() -> int:
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    home = Path(tempfile.mkdtemp(prefix="paletta-demo-"))
    try:
        with service(home) as stack:
            show(home, stack)
    except DemoFailed as failed:
        print(f"\nthe demo failed: {failed}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    say(f"That took {time.monotonic() - started:.0f} s. Nothing is left running. Look at:")
    for path in sorted(OUT.iterdir()):
        print(f"  {path.relative_to(ROOT)}")
    return 0


def show(home: Path, stack: dict[str, Any]) -> None:
    """The story, step by step."""
    person = Person(home, stack)
    password = secrets.token_urlsafe(18)

    say("An operator makes two accounts and seeds the categories.")
    for email, role in (("olga@example.org", "admin"), ("ana@example.org", "contributor")):
        person.run(f"paletta-server create-user {email} --role {role} --password-stdin", text=password)
    person.run("paletta --profile olga login --email olga@example.org --password-stdin", text=password)
    shutil.copy(ROOT / "manifests" / "taxonomy.yaml", home / "taxonomy.yaml")
    person.run("paletta --profile olga admin taxonomy apply taxonomy.yaml --yes", head=12)

    say(
        "A contributor has a folder of clips: H.264, HEVC, ProRes, one in 4K, one with sound; one is damaged,"
    )
    print("one is a copy, and the manifest has a mistake.")
    make_folder(home / "lisbon")
    person.run("paletta login --email ana@example.org --password-stdin", text=password)
    person.run("ls -sh lisbon")
    person.run("paletta manifest check lisbon", expect=3)
    person.run("sed -i 's/fodo/food/' lisbon/paletta.yaml")
    person.run("paletta manifest check lisbon")

    say("The upload is killed half way …")
    person.run_and_kill("paletta upload lisbon --limit-rate 1M")
    say("… and the same command goes on: what arrived is not sent again.")
    # 6: the damaged clip is rejected, and the command says so.
    person.run("paletta upload lisbon", expect=6)

    say("What is live now, and what is not.")
    person.run("paletta clips list")
    person.run("paletta uploads list")
    listed = json.loads(person.output("paletta clips list --json"))
    live = [clip for clip in listed if clip["stage"] == "live"]
    require(len(live) == 5, f"5 clips should be live, not {len(live)}")
    require(
        [clip["file"] for clip in listed if clip["stage"] == "rejected"] == ["ferry.mp4"],
        "the damaged clip should be the one that was rejected",
    )
    contact_sheet(live, OUT / "contact-sheet.png")
    keep_mails(Path(stack["maildir"]), OUT)


def say(words: str) -> None:
    print(f"\n# {words}", flush=True)


def require(truth: bool, words: str) -> None:
    if not truth:
        raise DemoFailed(words)


class Person:
    """Types commands into a shell of their own: own home, own configuration, in the demo's folder."""

    def __init__(self, home: Path, stack: dict[str, Any]) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PALETTA_")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PALETTA_URL": stack["url"],
            "PALETTA_CONFIG_DIR": str(home / "config"),
            "PALETTA_STATE_DIR": str(home / "state"),
            "PALETTA_KEYRING": "off",
            **stack_environment(Path(stack["data"])),
        }

    def run(self, command: str, *, expect: int = 0, text: str | None = None, head: int | None = None) -> None:
        """Echo and run one command; `head` shows only the first lines of what it prints."""
        print(f"\n$ {command}", flush=True)
        done = subprocess.run(
            shlex.split(command),
            cwd=self.home,
            env=self.environment,
            input=None if text is None else text + "\n",
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE if head else None,
            stderr=subprocess.STDOUT if head else None,
            text=True,
            check=False,
        )
        if head:
            lines = done.stdout.splitlines()
            print("\n".join(lines[:head]))
            if len(lines) > head:
                print(f"… and {len(lines) - head} lines more")
        if expect:
            print(f"(exit code {done.returncode})", flush=True)
        require(done.returncode == expect, f"`{command}` ended with {done.returncode}, not {expect}")

    def output(self, command: str) -> str:
        """What a command prints, without showing it."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def run_and_kill(self, command: str) -> None:
        """Start a command, and `kill -9` it when the first clips have arrived and others have not."""
        print(f"\n$ {command} &", flush=True)
        process = subprocess.Popen(
            shlex.split(command), cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL
        )
        try:
            self._wait_for_some_to_arrive(process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        print(f"$ kill -9 {process.pid}", flush=True)

    def _wait_for_some_to_arrive(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            batches = json.loads(self.output("paletta uploads list --json"))
            if batches:
                counts = dict(batches[0]["counts"])
                under_way = counts.pop("waiting", 0) + counts.pop("uploading", 0)
                if under_way and sum(counts.values()):
                    return
        raise DemoFailed("the upload ended before it could be interrupted")


def stack_environment(data: Path) -> dict[str, str]:
    """What lets `paletta-server` commands join the running stack."""
    lines = (data / "stack.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}


@contextlib.contextmanager
def service(home: Path) -> Iterator[dict[str, Any]]:
    """`paletta-server up` in the background: its ready line, and a clean end."""
    say("One command starts the whole service on this machine: PostgreSQL, object store, mail, API, worker.")
    port = str(free_port())
    command = [str(BIN / "paletta-server"), "up", "--ephemeral", "--port", port, "--json"]
    print(f"\n$ paletta-server up --ephemeral --port {port} &", flush=True)
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        require(bool(line), "the service did not start:\n" + (home / "up.log").read_text())
        stack = json.loads(line)
        print(f"ready at {stack['url']}", flush=True)
        yield stack
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_folder(folder: Path) -> None:
    """Seven small films and their manifest."""
    from tests.support import media

    folder.mkdir()
    full, short = media.FULL_HD, 3.2
    makers: list[Callable[[], Path]] = [
        lambda: media.clip(folder / "tram_28.mp4", seconds=5, size=full, look="gradients", fps="25", seed=1),
        lambda: media.clip(folder / "harbour.mp4", codec="hevc", seconds=short, look="fractal", seed=2),
        lambda: media.clip(folder / "fish_market.mov", codec="prores", seconds=short, look="cells", seed=3),
        lambda: media.clip(
            folder / "bridge_4k.mp4", seconds=short, size=media.UHD_4K, look="gradients", seed=4
        ),
        lambda: media.clip(folder / "square_music.mov", seconds=short, size=full, audio=True, seed=5),
        lambda: media.clip(folder / "whole.mp4", seconds=4, look="cells", seed=6),
    ]
    for make in makers:
        make()
    media.damaged(folder / "whole.mp4", folder / "ferry.mp4", "holes")
    (folder / "whole.mp4").unlink()
    shutil.copy(folder / "tram_28.mp4", folder / "tram_28_copy.mp4")
    shutil.copy(ROOT / "manifests" / "paletta.schema.json", folder / "paletta.schema.json")
    (folder / "paletta.yaml").write_text(MANIFEST, encoding="utf-8")


def contact_sheet(clips: list[dict[str, Any]], target: Path) -> None:
    """The posters of the live clips, side by side with their titles."""
    import httpx
    from PIL import Image, ImageDraw, ImageFont

    width, height, gap, line = 480, 270, 16, 44
    columns = 3
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), "#14161a")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, clip in enumerate(clips):
        answer = httpx.get(clip["poster_url"], trust_env=False).raise_for_status()
        poster = Image.open(io.BytesIO(answer.content)).convert("RGB")
        poster.thumbnail((width, height))
        left = gap + (number % columns) * (width + gap)
        top = gap + (number // columns) * (height + line + gap)
        sheet.paste(poster, (left + (width - poster.width) // 2, top + (height - poster.height) // 2))
        label = f"{clip['title'][:40]} · {clip['duration']:.1f} s"
        draw.text((left, top + height + 10), label, fill="#d8dce2", font=font)
    sheet.save(target)
    print(f"\nwrote {target.relative_to(ROOT)}: the posters of {len(clips)} live clips", flush=True)


def keep_mails(maildir: Path, target: Path) -> None:
    """Copy the mails that the service sent: one for the batch, not one per clip."""
    mails = [path for folder in ("new", "cur") for path in sorted((maildir / folder).glob("*"))]
    require(len(mails) >= 1, "the batch should have been announced by mail")
    for number, path in enumerate(mails, start=1):
        shutil.copy(path, target / f"mail-{number}.eml")
    print(f"wrote {len(mails)} mail{'s' if len(mails) > 1 else ''} that the contributor got", flush=True)


if __name__ == "__main__":
    sys.exit(main())
