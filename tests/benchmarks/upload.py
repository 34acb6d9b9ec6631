"""`make bench-upload`: paletta's upload beside s5cmd, rclone and aws cli, on the same store in the same run.

Paletta's figures include everything it does beyond moving bytes: reading and checking the manifest, SHA-256 and
CRC64NVME of every file, registering with the API, completing with full-object checksums. The peers only copy.
Rounds go in turn, so that a machine that slows down slows everybody; ratios of medians are what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Cost, cpu_of, median, run

MIB = 1024 * 1024
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Load:
    """So many files of so many bytes."""

    name: str
    files: int
    size: int


LOADS = (
    Load("48 × 32 MiB", 48, 32 * MIB),
    Load("1 × 1.5 GiB", 1, 1536 * MIB),
    Load("2,000 × 1 MiB", 2000, MIB),
)

CLIP = """\
- file: {name}
  title: Benchmark clip {name}
"""
MANIFEST = """\
paletta: 1
defaults:
  keywords: [one, two, three, four, five]
  categories: [transport]
clips:
"""


class Bench:
    """A service of its own, and everyone who uploads to it."""

    def __init__(self, home: Path, peers: Path, stack: dict[str, Any]) -> None:
        self.home = home
        self.peers = peers
        self.stack = stack
        self.settings = _settings(Path(stack["data"]))
        self.api_pid: int = stack["pids"]["api"]

    def environment(self) -> dict[str, str]:
        s3 = self.settings
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("PALETTA_", "AWS_"))
        }
        return {
            **clean,
            "HOME": str(self.home),
            "AWS_ACCESS_KEY_ID": s3["PALETTA_S3_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": s3["PALETTA_S3_SECRET_KEY"],
            "AWS_REGION": s3["PALETTA_S3_REGION"],
            "AWS_DEFAULT_REGION": s3["PALETTA_S3_REGION"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def command(self, peer: str, folder: Path, prefix: str) -> list[str]:
        """How a peer copies the folder, with its own defaults."""
        endpoint, bucket = self.settings["PALETTA_S3_ENDPOINT"], self.settings["PALETTA_S3_BUCKET"]
        program = str(self.peers / "bin" / peer)
        if peer == "s5cmd":
            return [
                program,
                "--endpoint-url",
                endpoint,
                "--log",
                "error",
                "cp",
                f"{folder}/",
                f"s3://{bucket}/{prefix}/",
            ]
        if peer == "rclone":
            remote = f":s3,provider=SeaweedFS,env_auth=true,endpoint='{endpoint}':{bucket}/{prefix}"
            return [program, "copy", "--config", os.devnull, "--s3-no-check-bucket", str(folder), remote]
        return [
            *(program, "--endpoint-url", endpoint, "s3", "cp", "--recursive", "--only-show-errors"),
            *(str(folder), f"s3://{bucket}/{prefix}/"),
        ]

    def upload_by_peer(self, peer: str, folder: Path) -> Cost:
        prefix = f"peers/{secrets.token_hex(6)}"
        cost = run(self.command(peer, folder, prefix), self.environment(), cwd=self.home)
        self._empty(f"{prefix}/")
        return cost

    def upload_by_paletta(self, folder: Path) -> tuple[Cost, float]:
        """The cost of the command, and the CPU seconds that the API spent meanwhile."""
        environment = {
            **self.environment(),
            **self.settings,
            "PALETTA_URL": self.stack["url"],
            "PALETTA_CONFIG_DIR": str(self.home / "config"),
            # No fingerprint is known from the last round.
            "PALETTA_STATE_DIR": tempfile.mkdtemp(dir=self.home),
            "PALETTA_KEYRING": "off",
        }
        email, password = f"{secrets.token_hex(6)}@example.org", secrets.token_urlsafe(18)

        def prepare(*arguments: str) -> None:
            subprocess.run(
                [str(BIN / arguments[0]), *arguments[1:]],
                env=environment,
                input=password + "\n",
                text=True,
                check=True,
                capture_output=True,
            )

        # A contributor of its own each time: the same bytes would be recognised and not be sent.
        prepare("paletta-server", "create-user", email, "--role", "contributor", "--password-stdin")
        prepare("paletta", "login", "--email", email, "--password-stdin")
        before = cpu_of(self.api_pid)
        command = [str(BIN / "paletta"), "upload", str(folder), "--until", "uploaded", "--no-check-media"]
        cost = run(command, environment, cwd=self.home)
        api = cpu_of(self.api_pid) - before
        self._empty("originals/")
        return cost, api

    def _empty(self, prefix: str) -> None:
        """Remove what a round stored, so that the next one finds the same store."""
        program = str(self.peers / "bin" / "s5cmd")
        bucket = self.settings["PALETTA_S3_BUCKET"]
        command = [program, "--endpoint-url", self.settings["PALETTA_S3_ENDPOINT"], "--log", "error"]
        subprocess.run(
            [*command, "rm", f"s3://{bucket}/{prefix}*"],
            env=self.environment(),
            check=True,
            capture_output=True,
        )


def _settings(data: Path) -> dict[str, str]:
    pairs = [line.partition("=") for line in (data / "stack.env").read_text().splitlines() if line[:1] != "#"]
    return {name: json.loads(value) for name, _, value in pairs if name}


@contextlib.contextmanager
def service(home: Path) -> Iterator[dict[str, Any]]:
    """The embedded stack without workers: what is measured is the way into the store."""
    ready = home / "ready.json"
    command = [
        str(BIN / "paletta-server"),
        "up",
        "--ephemeral",
        "--workers",
        "0",
        "--json",
        "--port",
        _free_port(),
    ]
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the service did not start: see {ready.with_name('up.log')}")
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def make_files(folder: Path, load: Load) -> None:
    """Random bytes, named as clips, with a manifest."""
    folder.mkdir()
    names = [f"clip_{number:05}.mp4" for number in range(load.files)]
    for name in names:
        with (folder / name).open("wb") as file:
            for _ in range(0, load.size, MIB):
                file.write(os.urandom(min(MIB, load.size)))
    (folder / "paletta.yaml").write_text(MANIFEST + "".join(CLIP.format(name=name) for name in names))


def measure(bench: Bench, load: Load, rounds: int) -> dict[str, list[Cost]]:
    """Every uploader in turn, `rounds` times."""
    folder = bench.home / "load"
    make_files(folder, load)
    costs: dict[str, list[Cost]] = {}
    api: list[float] = []

    def paletta() -> Cost:
        cost, of_api = bench.upload_by_paletta(folder)
        api.append(of_api)
        return cost

    uploaders: dict[str, Callable[[], Cost]] = {
        "paletta": paletta,
        **{peer: lambda peer=peer: bench.upload_by_peer(peer, folder) for peer in ("s5cmd", "rclone", "aws")},
    }
    for number in range(rounds + 1):
        for name, upload in uploaders.items():
            cost = upload()
            if number:  # the first round warms caches and counts for nobody
                costs.setdefault(name, []).append(cost)
    shutil.rmtree(folder)
    report(load, costs, sum(api[1:]) / rounds)
    return costs


def report(load: Load, costs: dict[str, list[Cost]], api: float) -> None:
    """A table with ratios: wall against the fastest peer, CPU against the leanest."""
    medians = {name: median(measured) for name, measured in costs.items()}
    peers = [cost for name, cost in medians.items() if name != "paletta"]
    fastest, leanest = min(cost.wall for cost in peers), min(cost.cpu for cost in peers)
    print(f"\n{load.name}")
    print(
        f"  {'':10} {'wall s':>8} {'× fastest':>10} {'CPU s':>8} {'× leanest':>10} {'peak MiB':>9} {'files/s':>8}"
    )
    for name, cost in medians.items():
        print(
            f"  {name:10} {cost.wall:8.2f} {cost.wall / fastest:10.2f} {cost.cpu:8.2f} {cost.cpu / leanest:10.2f}"
            f" {cost.memory:9.0f} {load.files / cost.wall:8.1f}"
        )
    print(f"  (the API spent {api:.2f} CPU s per round of paletta's, not counted above)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="the peers' virtual environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=int, action="append", choices=range(len(LOADS)), help="only this load")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="paletta-bench-"))
    try:
        print(
            f"medians of {arguments.rounds} rounds, each after the other's; bars: wall ≤ 0.9, CPU ≤ 0.5, 200 MiB"
        )
        for number in arguments.load or range(len(LOADS)):
            # A store of its own for each load: it gives back the room of what was deleted long after.
            with service(home) as stack:
                bench = Bench(home, arguments.peers.resolve(), stack)
                _seed(bench)
                measure(bench, LOADS[number], arguments.rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _seed(bench: Bench) -> None:
    """The category that the manifest names."""
    import psycopg

    with psycopg.connect(bench.settings["PALETTA_DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO categories (slug, name) VALUES ('transport', 'Transport')")


if __name__ == "__main__":
    main()
