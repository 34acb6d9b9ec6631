"""`make bench-download`: paletta's download beside s5cmd, rclone, aws cli and aria2c, from the same store in the same
run.

Paletta's figures include everything it does beyond moving bytes: asking the API what was bought and for addresses,
SHA-256 of every byte, allocating the room, fsync, the name after the checksum. The peers only copy, into the
system's cache, whence "on disk" adds the `sync` that follows each; aria2c, which copies one object by many connections
as we do, is given its addresses for nothing. Rounds go in turn, so that a
machine that slows down slows everybody; ratios of medians are what counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config

from tests.benchmarks.measure import Cost, cpu_of, median, run
from tests.benchmarks.upload import BIN, LOADS, MIB, Bench, Load, service
from tests.faults.bought import write_order

BLOCK = 16 * MIB


class Downloads(Bench):
    """The same service, and everyone who downloads from it. `to` is where files land."""

    def __init__(self, home: Path, to: Path, peers: Path, stack: dict[str, Any]) -> None:
        super().__init__(home, peers, stack)
        self.to = to
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4")
        self.bucket = self.settings["PALETTA_S3_BUCKET"]
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=self.settings["PALETTA_S3_ENDPOINT"],
            region_name=self.settings["PALETTA_S3_REGION"],
            aws_access_key_id=self.settings["PALETTA_S3_ACCESS_KEY"],
            aws_secret_access_key=self.settings["PALETTA_S3_SECRET_KEY"],
            config=config,
        )
        self.person = {
            **self.environment(),
            **self.settings,
            "PALETTA_URL": stack["url"],
            "PALETTA_CONFIG_DIR": str(home / "config"),
            "PALETTA_KEYRING": "off",
        }
        self.email, password = f"{secrets.token_hex(6)}@example.org", secrets.token_urlsafe(18)
        for words in (
            ("paletta-server", "create-user", self.email, "--role", "customer", "--password-stdin"),
            ("paletta", "login", "--email", self.email, "--password-stdin"),
        ):
            subprocess.run(
                [str(BIN / words[0]), *words[1:]],
                env=self.person, input=password + "\n", text=True, check=True, capture_output=True,
            )  # fmt: skip

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings["PALETTA_DATABASE_URL"], autocommit=True) as connection:
            done = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def fill(self, load: Load, prefix: str) -> str:
        """Random films in the store, bought by our customer; the order's number."""
        films = []
        for number in range(load.files):
            key, digest = f"{prefix}/film_{number:05}.mov", hashlib.sha256()
            film = self.home / "film"
            with film.open("wb") as stream:
                for start in range(0, load.size, MIB):
                    block = os.urandom(min(MIB, load.size - start))
                    digest.update(block)
                    stream.write(block)
            # By a program of its own: what this one holds in memory would count as its children's peak.
            endpoint = self.settings["PALETTA_S3_ENDPOINT"]
            words = [str(self.peers / "bin" / "s5cmd"), "--endpoint-url", endpoint, "--log", "error", "cp"]
            subprocess.run(
                [*words, str(film), f"s3://{self.bucket}/{key}"],
                env=self.environment(), check=True, capture_output=True,
            )  # fmt: skip
            film.unlink()
            films.append((key, load.size, digest.hexdigest()))
        return write_order(self.sql, self.email, films)[0]

    def by_paletta(self, order: str, folder: Path) -> tuple[Cost, float]:
        """The cost of the command, and the CPU seconds that the API spent meanwhile."""
        before = cpu_of(self.api_pid)
        words = ("orders", "download", order, "--to", str(folder), "--no-certificates")
        state = tempfile.mkdtemp(dir=self.home)
        cost = run([str(BIN / "paletta"), *words], self.person | {"PALETTA_STATE_DIR": state}, cwd=self.home)
        return cost, cpu_of(self.api_pid) - before

    def by_peer(self, peer: str, prefix: str, folder: Path) -> Cost:
        return run(self.fetch(peer, prefix, folder), self.environment(), cwd=self.home)

    def fetch(self, peer: str, prefix: str, folder: Path) -> list[str]:
        """How a peer copies the objects, with its own defaults."""
        endpoint, program = self.settings["PALETTA_S3_ENDPOINT"], str(self.peers / "bin" / peer)
        source = f"s3://{self.bucket}/{prefix}"
        if peer == "s5cmd":
            return [program, "--endpoint-url", endpoint, "--log", "error", "cp", f"{source}/*", f"{folder}/"]
        if peer == "rclone":
            remote = f":s3,provider=SeaweedFS,env_auth=true,endpoint='{endpoint}':{self.bucket}/{prefix}"
            return [program, "copy", "--config", os.devnull, "--s3-no-check-bucket", remote, str(folder)]
        if peer == "aria2c":
            listed = folder.with_suffix(".list")
            listed.write_text("".join(f"{url}\n out={name}\n" for name, url in self.addresses(prefix)))
            found = shutil.which("aria2c")
            assert found is not None
            return [
                *(found, "--no-conf", "--quiet", "--file-allocation=falloc", "--allow-overwrite=true"),
                *("-x8", "-s8", "-j4", "--min-split-size=16M", "-d", str(folder), "-i", str(listed)),
            ]
        return [
            *(program, "--endpoint-url", endpoint, "s3", "cp", "--recursive", "--only-show-errors"),
            *(f"{source}/", str(folder)),
        ]

    def addresses(self, prefix: str) -> list[tuple[str, str]]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{prefix}/")["Contents"]
        return [
            (
                one["Key"].rpartition("/")[2],
                self.s3.generate_presigned_url("get_object", {"Bucket": self.bucket, "Key": one["Key"]}),
            )
            for one in found
        ]


def measure(bench: Downloads, load: Load, rounds: int) -> None:
    """Every downloader in turn, `rounds` times."""
    prefix = f"bench/{secrets.token_hex(4)}"
    order = bench.fill(load, prefix)
    costs: dict[str, list[Cost]] = {}
    settled: dict[str, list[float]] = {}
    api: list[float] = []

    def paletta(folder: Path) -> Cost:
        cost, of_api = bench.by_paletta(order, folder)
        api.append(of_api)
        return cost

    downloaders: dict[str, Callable[[Path], Cost]] = {"paletta": paletta}
    for peer in ("s5cmd", "rclone", "aws", *(["aria2c"] if shutil.which("aria2c") else [])):
        downloaders[peer] = lambda folder, peer=peer: bench.by_peer(peer, prefix, folder)
    for number in range(rounds + 1):
        for name, download in downloaders.items():
            folder = bench.to / "landed"
            folder.mkdir()
            cost = download(folder)
            got = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            assert got == load.files * load.size, f"{name} brought {got:,} bytes"
            began = time.perf_counter()
            os.sync()  # nobody pays for what another left to be written
            settling = time.perf_counter() - began
            shutil.rmtree(folder)
            os.sync()
            if number:  # the first round warms caches and counts for nobody
                costs.setdefault(name, []).append(cost)
                settled.setdefault(name, []).append(cost.wall + settling)
    report(load, costs, settled, sum(api[1:]) / rounds)


def hashing(count: int) -> float:
    """CPU seconds of SHA-256 over so many bytes."""
    block, digest, began = os.urandom(BLOCK), hashlib.sha256(), time.process_time()
    for _ in range(count // BLOCK):
        digest.update(block)
    return time.process_time() - began


def report(load: Load, costs: dict[str, list[Cost]], settled: dict[str, list[float]], api: float) -> None:
    """A table with ratios: wall against the fastest peer, until the command ends and until the bytes are on the disk;
    CPU against the leanest, and what the hash is of it."""
    medians = {name: median(measured) for name, measured in costs.items()}
    peers = [cost for name, cost in medians.items() if name != "paletta"]
    fastest, leanest = min(cost.wall for cost in peers), min(cost.cpu for cost in peers)
    durable = {name: statistics.median(walls) for name, walls in settled.items()}
    surest = min(wall for name, wall in durable.items() if name != "paletta")
    hashed = hashing(load.files * load.size)
    print(f"\n{load.name}, SHA-256 alone {hashed:.2f} CPU s")
    print(
        f"  {'':10} {'wall s':>8} {'× fastest':>10} {'on disk s':>10} {'× fastest':>10} {'CPU s':>8}"
        f" {'× (leanest + hash)':>19} {'peak MiB':>9}"
    )
    for name, cost in medians.items():
        print(
            f"  {name:10} {cost.wall:8.2f} {cost.wall / fastest:10.2f}"
            f" {durable[name]:10.2f} {durable[name] / surest:10.2f} {cost.cpu:8.2f}"
            f" {cost.cpu / (leanest + hashed):19.2f} {cost.memory:9.0f}"
        )
    print(f"  (the API spent {api:.2f} CPU s per round of paletta's, not counted above)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="the peers' virtual environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=int, action="append", choices=range(2), help="only this load")
    parser.add_argument(
        "--to", type=Path, help="a folder on the disk to land on (default: the temporary one)"
    )
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="paletta-bench-"))
    to = Path(tempfile.mkdtemp(prefix="paletta-bench-", dir=arguments.to))
    try:
        with service(home) as stack:
            bench = Downloads(home, to, arguments.peers.resolve(), stack)
            print(
                f"medians of {arguments.rounds} rounds; bars: wall ≤ the fastest, CPU ≤ the leanest + the hash"
            )
            for number in arguments.load or range(2):
                measure(bench, LOADS[number], arguments.rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(to, ignore_errors=True)


if __name__ == "__main__":
    main()
