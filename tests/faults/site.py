"""A service to do things to: its API as a process of its own, a proxy before it and one before its store.

The command line is run as a contributor runs it, in a process too: whatever is killed here is really killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from paletta_server.embedded.ports import free_ports
from paletta_server.embedded.process import Process, Spec, clean_environment
from tests.faults.proxy import FaultProxy
from tests.support import prefork

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
PART = 16 * MIB
SECONDS = 120
"""How long a command may take before a test calls it hung. Nothing here takes a quarter of it."""
HASTE = 40
"""What waits and time limits of the command line are divided by: 120 s without a byte become 3."""
PATIENT = 4
"""The same where requests are counted: 30 s, which a busy machine does not take for an answer. A second that it took
would be one more try."""
EMAIL = "ana@example.org"
PASSWORD = "seven umbrellas under a lazy viaduct"


def program(name: str) -> str:
    """A command of ours, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


@dataclass
class Server:
    """One of our server processes; `start` returns when it serves. Start it from the main thread."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    ready_url: str | None = None
    ready_file: Path | None = None
    process: Process | None = None

    def start(self) -> Self:
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
        self.process = Process(
            Spec(self.name, self.argv, log=self.log, env=clean_environment(**self.env), cwd=self.folder)
        )
        self.process.start()

    def wait_ready(self) -> Self:
        assert self.process is not None
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self.process.running, f"{self.name} ended on start\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} does not answer\n{self.tail()}"
            time.sleep(0.02)  # nothing announces itself across processes here
        return self

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def kill(self) -> None:
        """SIGKILL, to the whole group; returns when it is gone."""
        if self.process is not None:
            self.process.kill()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _ready(self) -> bool:
        if self.ready_file is not None:
            return self.ready_file.exists()
        assert self.ready_url is not None
        with suppress(OSError), urllib.request.urlopen(self.ready_url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@dataclass(frozen=True)
class StoreAddress:
    """The store itself, behind all proxies."""

    endpoint: str
    access_key: str
    secret_key: str


@dataclass
class Site:
    """A service on `database_url` and a bucket of `store`; use it as a context manager."""

    folder: Path
    database_url: str
    store: StoreAddress
    bucket: str
    settings: dict[str, str] = field(default_factory=dict)
    token: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.to_store = FaultProxy(self.store.endpoint)
        self.port = free_ports(1)[0]
        self.to_api = FaultProxy(f"http://127.0.0.1:{self.port}")
        self.extra: list[Server] = []

    def __enter__(self) -> Self:
        self.to_store.__enter__()
        self.to_api.__enter__()
        with suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):  # a site of an earlier test
            self.s3.create_bucket(Bucket=self.bucket)
        self._start_api()
        self._make_contributor()
        return self

    def _start_api(self) -> None:
        """On a port that was free a moment ago: where somebody was quicker, on another."""
        for left in (2, 1, 0):
            self.api = self.make_api(self.port)
            try:
                self.api.start()
                return
            except AssertionError:
                if not left or "address already in use" not in self.api.tail():
                    raise
            self.port = free_ports(1)[0]
            self.to_api.upstream = f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        for server in (self.api, *self.extra):
            server.kill()
        self.to_api.__exit__()
        self.to_store.__exit__()

    def make_api(self, port: int, name: str = "api", **settings: str) -> Server:
        """An API on this database, not yet started."""
        argv = (program("paletta-server"), "api", "--port", str(port))
        url = f"http://127.0.0.1:{port}/healthz"
        return Server(name, argv, self.env(**settings), self.folder, ready_url=url)

    def make_worker(self, name: str, **settings: str) -> Server:
        """A worker on this database, not yet started. It talks to the store without the proxy."""
        ready = self.folder / f"{name}.ready"
        argv = (program("paletta-server"), "worker", "--name", name, "--ready-file", str(ready))
        env = self.env(**{"S3_ENDPOINT": self.store.endpoint, **settings})
        made = Server(name, argv, env, self.folder, ready_file=ready)
        self.extra.append(made)
        return made

    def env(self, **settings: str) -> dict[str, str]:
        chosen = {
            "DATABASE_URL": self.database_url,
            "S3_ENDPOINT": self.to_store.url,
            "S3_BUCKET": self.bucket,
            "S3_ACCESS_KEY": self.store.access_key,
            "S3_SECRET_KEY": self.store.secret_key,
            "SCRATCH_DIR": str(self.folder / "scratch"),
            "SEARCH_DIR": str(self.folder / "search"),
            "REVIEW": "auto",
            **self.settings,
            **settings,
        }
        return {f"PALETTA_{name}": value for name, value in chosen.items()}

    def _make_contributor(self) -> None:
        made = subprocess.run(
            [program("paletta-server"), "create-user", EMAIL, "--role", "contributor", "--password-stdin"],
            input=f"{PASSWORD}\n",
            text=True,
            env=clean_environment(**self.env()),
            cwd=self.folder,
            check=False,
            capture_output=True,
            timeout=SECONDS,
        )
        assert made.returncode == 0, made.stderr
        body = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
        login = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/auth/login", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(login, timeout=30) as answer:
            self.token = json.load(answer)["token"]
        self.sql(
            "INSERT INTO categories (slug, name) VALUES ('transport', 'Transport') ON CONFLICT DO NOTHING"
        )

    # ---- the command line

    def upload(
        self,
        *paths: Path,
        state: Path,
        until: str = "uploaded",
        kill_at: str | None = None,
        haste: float = HASTE,
        url: str | None = None,
        options: Sequence[str] = (),
    ) -> Command:
        """`paletta upload` of these paths, running. `state` is the machine's memory of its uploads."""
        argv = ["upload", *map(str, paths), "--json", "--no-check-media", "--until", until, *options]
        env = {
            "PALETTA_URL": url or self.to_api.url,
            "PALETTA_TOKEN": self.token,
            "PALETTA_STATE_DIR": str(state),
            "PALETTA_CONFIG_DIR": str(state / "config"),
            "PALETTA_KEYRING": "off",
            "PALETTA_TEST_HASTE": str(haste),
        }
        if kill_at:
            env["PALETTA_TEST_KILL_AT"] = kill_at
        return Command(argv, clean_environment(**env), cwd=self.folder)

    def download(
        self,
        *argv: str,
        state: Path,
        kill_at: str | None = None,
        haste: float = 120,
        url: str | None = None,
        range_bytes: int | None = None,
        most_file: int | None = None,
    ) -> Command:
        """`paletta orders` with these words, running. `range_bytes` is what it asks for at once, `most_file` the
        largest file that the system lets it write."""
        env = {
            "PALETTA_URL": url or self.to_api.url,
            "PALETTA_TOKEN": self.token,
            "PALETTA_STATE_DIR": str(state),
            "PALETTA_CONFIG_DIR": str(state / "config"),
            "PALETTA_KEYRING": "off",
            "PALETTA_TEST_HASTE": str(haste),
        }
        if kill_at:
            env["PALETTA_TEST_KILL_AT"] = kill_at
        if range_bytes:
            env["PALETTA_TEST_RANGE"] = str(range_bytes)
        words = ["orders", *argv, "--json"]
        return Command(words, clean_environment(**env), cwd=self.folder, most_file=most_file)

    # ---- what came of it

    @cached_property
    def s3(self) -> S3Client:
        """A client of the store itself."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.store.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.store.access_key,
            aws_secret_access_key=self.store.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 8}),
        )

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement on the service's database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            done = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def empty(self, tables: str) -> None:
        """Take everything out of these tables, also what triggers keep."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(f"TRUNCATE {tables} CASCADE")  # type: ignore[arg-type]

    def check(self, files: Iterable[Path]) -> None:
        """Each file is one clip, whose bytes are in the store; there is no other clip."""
        wanted = sorted(sha256(file.read_bytes()) for file in files)
        rows = self.sql(
            "SELECT clips.sha256, uploads.key, uploads.state FROM clips"
            " LEFT JOIN uploads ON uploads.clip_id = clips.id ORDER BY clips.sha256"
        )
        assert [row[0] for row in rows] == wanted, "each clip exactly once"
        assert {row[2] for row in rows} <= {"stored", "verified"}, rows
        for sha, key, _ in rows:
            assert sha256(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()) == sha, key

    def clear(self) -> None:
        """No clips, no uploads, no jobs, no objects, no faults."""
        self.to_store.heal()
        self.to_api.heal()
        self.empty("clips, uploads, upload_batches, ingest_runs, procrastinate_jobs")
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            if found := page.get("Contents"):
                self.s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": one["Key"]} for one in found]}
                )


class Command:
    """A `paletta` command that runs in a process of its own."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], *, cwd: Path, most_file: int | None = None
    ) -> None:
        self._told = Path(tempfile.mkdtemp(prefix="paletta-command-"))
        self._process = prefork.start(
            argv, env, cwd=cwd, out=self._told / "out", err=self._told / "err", most_file=most_file
        )
        self._ended: tuple[str, str] | None = None

    def kill(self) -> None:
        """SIGKILL, at once."""
        self._process.kill()

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self._process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)

    def wait(self) -> Self:
        """Wait for its end. A command that hangs is killed, and fails the test."""
        if self._ended is None:
            self._process.join(SECONDS)
            hangs = self._process.is_alive()
            if hangs:
                self.kill()
                self._process.join()
            files = (self._told / "out", self._told / "err")  # killed very early it had none
            out, err = (file.read_text(errors="replace") if file.exists() else "" for file in files)
            self._ended = out, err
            shutil.rmtree(self._told)
            if hangs:
                raise AssertionError(f"the command hangs\n{self}")
        return self

    @property
    def code(self) -> int:
        """Its exit status, once it has ended; negative: the signal that ended it."""
        self.wait()
        assert self._process.exitcode is not None
        return self._process.exitcode

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def stderr(self) -> str:
        self.wait()
        assert self._ended is not None
        return self._ended[1]

    @property
    def result(self) -> dict[str, Any]:
        """The JSON document on standard output."""
        self.wait()
        assert self._ended is not None
        document: dict[str, Any] = json.loads(self._ended[0])
        return document

    def __str__(self) -> str:
        out, err = self._ended or ("", "")
        return f"exit {self._process.exitcode}\n{err[-3000:]}\n{out[-1500:]}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_folder(folder: Path, sizes: Sequence[int], *, seed: int | str) -> list[Path]:
    """A folder of random bytes that call themselves clips, with its manifest; the files."""
    folder.mkdir(parents=True)
    draw = random.Random(f"folder {seed}")
    lines = ["paletta: 1", "defaults:", "  keywords: [tram, lisbon, street, yellow, hill]"]
    lines += ["  categories: [transport]", "clips:"]
    files = []
    for number, size in enumerate(sizes, start=1):
        file = folder / f"clip{number:02}.mp4"
        file.write_bytes(draw.randbytes(size))
        files.append(file)
        lines += [f"- file: {file.name}", f"  title: Tram number {number} climbs a street"]
    (folder / "paletta.yaml").write_text("\n".join(lines) + "\n")
    return files


def runs(variable: str, default: int) -> int:
    """How many seeds to run: `default`, or what the environment variable says."""
    return int(os.environ.get(variable) or default)
