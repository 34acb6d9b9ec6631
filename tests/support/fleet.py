"""A service on many nodes, as in production but for its size: API processes with a search replica each, workers, nginx
before them, one database and one store. Whatever is killed here is really killed.

nginx in its free edition looks at nobody's health by itself, so a thread here does what a balancer of a cloud does:
asks every node's `/readyz` and sends requests to those alone that say yes. nginx's log of accesses is the witness of
what clients met.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest

from paletta_server.embedded.ports import free_ports
from paletta_server.embedded.process import Process, Spec, clean_environment
from tests.faults.site import Server, StoreAddress, program
from tests.support.stack import MailSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LOOK_SECONDS = 0.15
"""Between two looks at a node. Clouds take 5 to 10 s; DRAIN_SECONDS is to this as 30 s are to those."""
DRAIN_SECONDS = 2.0


def nginx() -> str:
    """The balancer's program; the test is skipped where there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed: `apt install nginx-light`, or your system's package of nginx")
    return found


CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
  log_format witness escape=json '{{"at":$msec,"took":$request_time,"status":$status,"method":"$request_method",'
    '"uri":"$request_uri","nodes":"$upstream_addr","answers":"$upstream_status","agent":"$http_user_agent",'
    '"token":"$http_authorization"}}';
  access_log {folder}/access.log witness;
  client_body_temp_path {folder}/tmp-body;
  proxy_temp_path {folder}/tmp-proxy;
  fastcgi_temp_path {folder}/tmp-1;
  uwsgi_temp_path {folder}/tmp-2;
  scgi_temp_path {folder}/tmp-3;
  upstream paletta {{
    # A node that does not answer is left alone for no time at all: whether it is well is asked elsewhere.
{servers}
    keepalive 32;
    keepalive_timeout 20s;  # shorter than the 65 s after which a node itself closes
  }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 16m;
    location = /generation {{ access_log off; return 200 "{generation}"; }}
    location / {{
      proxy_pass http://paletta;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;  # not what the client claims
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_connect_timeout 2s;
      proxy_read_timeout 75s;  # the longest long poll takes 55 s
      # To the next node where this one cannot be reached, or hangs up on a request that may be sent again: nginx leaves
      # alone POST and PATCH that have been sent.
      proxy_next_upstream error timeout;
      proxy_next_upstream_tries 2;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Access:
    """A request as nginx saw it; times in seconds since the epoch."""

    at: float
    took: float
    status: int
    method: str
    uri: str
    nodes: str
    answers: str
    agent: str
    token: str
    """The header that says who asked: of all who run the same program only this tells them apart."""

    @property
    def began(self) -> float:
        return self.at - self.took

    @property
    def path(self) -> str:
        return self.uri.partition("?")[0]


class Balancer:
    """nginx before some nodes, and the thread that looks after them."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder, self.nodes = folder, tuple(ports)
        self.port = free_ports(1)[0]
        self._sent_to: tuple[int, ...] = ()
        self._generation = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="health", daemon=True)
        self._changed = threading.Condition()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(self.nodes)
        config = str(self.folder / "nginx.conf")
        argv = (nginx(), "-p", str(self.folder), "-e", str(self.folder / "nginx-error.log"), "-c", config)
        env = clean_environment()
        self.process = Process(
            Spec("nginx", argv, self.folder / "nginx.log", env, stop_signal=signal.SIGQUIT)
        )
        self.process.start()
        deadline = time.monotonic() + 20
        while not _answers(f"{self.url}/healthz"):
            assert self.process.running, (self.folder / "nginx-error.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "nginx does not answer"
            time.sleep(0.02)
        self._told(self.nodes)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        if self.process is not None:
            self.process.signal(signal.SIGTERM)
            self.process.stop(5)

    def accesses(self) -> list[Access]:
        lines = (self.folder / "access.log").read_text().splitlines()
        return [Access(**json.loads(line)) for line in lines]

    def wait_until(self, *, sends_to: int, seconds: float = 60) -> None:
        """Return once requests go to this node."""
        with self._changed:
            assert self._changed.wait_for(lambda: sends_to in self._sent_to, seconds), "it never got ready"

    def _look_after(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            while not self._stop.wait(LOOK_SECONDS):
                well = pool.map(lambda port: _answers(f"http://127.0.0.1:{port}/readyz"), self.nodes)
                ready = tuple(port for port, is_well in zip(self.nodes, well, strict=True) if is_well)
                # As the balancers of clouds do: when nobody is well, everybody is asked.
                if (ready or self.nodes) != self._sent_to:
                    self._write(ready or self.nodes)
                    os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGHUP)
                    self._told(ready or self.nodes)

    def _write(self, ports: Sequence[int]) -> None:
        self._generation += 1
        servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in ports)
        user = "user root;" if hasattr(os, "getuid") and os.getuid() == 0 else ""
        new = self.folder / "nginx.conf.new"
        values = {"folder": self.folder, "port": self.port, "servers": servers, "user": user}
        new.write_text(CONFIG.format(**values, generation=self._generation))
        new.replace(self.folder / "nginx.conf")

    def _told(self, ports: Sequence[int]) -> None:
        """Return once nginx works by the configuration that was written last, and say so."""
        deadline = time.monotonic() + 30
        while _read(f"{self.url}/generation") != str(self._generation) and not self._stop.is_set():
            assert time.monotonic() < deadline, "nginx does not read its configuration"
            time.sleep(0.01)
        with self._changed:
            self._sent_to = tuple(ports)
            self._changed.notify_all()


def _answers(url: str) -> bool:
    return _read(url) is not None


def _read(url: str) -> str | None:
    """What is there, or None where that is no good answer."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
    return None


@dataclass(frozen=True)
class Outage:
    """When a process was killed and when it was ready again, in seconds since the epoch."""

    name: str
    port: int | None
    began: float
    ended: float


@dataclass
class Fleet:
    """Use it as a context manager. `extras`: further kinds of processes, each made of the fleet when it stands."""

    folder: Path
    database_url: str
    store: StoreAddress
    bucket: str
    nodes: int = 2
    workers: int = 3
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """What processes find beside settings of ours."""
    extras: Sequence[Callable[[Fleet], Server]] = ()
    outages: list[Outage] = field(default_factory=list)

    def __enter__(self) -> Self:
        nginx()
        self._stack = ExitStack()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mail = MailSink()
        self.mail.start()
        self._stack.callback(self.mail.stop)
        ports = free_ports(self.nodes)
        self.balancer = Balancer(self.folder / "nginx", ports)
        self.secret = secrets.token_urlsafe(24)
        self.api = [self._make_node(number, port) for number, port in enumerate(ports)]
        self.work = [self.make_worker(number) for number in range(self.workers)]
        self.others = [make(self) for make in self.extras]
        with suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket=self.bucket)
        try:
            for server in (*self.api, *self.work, *self.others):
                self._stack.callback(server.kill)
                server.launch()
            for server in (*self.api, *self.work, *self.others):
                server.wait_ready()
            self._stack.callback(self.balancer.stop)
            self.balancer.start()
            for port in ports:
                self.balancer.wait_until(sends_to=port)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self.balancer.url

    def port_of(self, server: Server) -> int | None:
        return self.balancer.nodes[self.api.index(server)] if server in self.api else None

    def _make_node(self, number: int, port: int) -> Server:
        argv = (program("paletta-server"), "api", "--port", str(port))
        env = self.env(SEARCH_DIR=str(self.folder / f"search-{number}"))
        return Server(f"node-{number}", argv, env, self.folder, ready_url=f"http://127.0.0.1:{port}/readyz")

    def make_worker(self, number: int) -> Server:
        name = f"worker-{number}"
        ready = self.folder / f"{name}.ready"
        argv = (program("paletta-server"), "worker", "--name", name, "--ready-file", str(ready))
        env = self.env(SCRATCH_DIR=str(self.folder / f"scratch-{number}"))
        return Server(name, argv, env, self.folder, ready_file=ready)

    def make_completions(self, number: int) -> Server:
        name = f"completions-{number}"
        ready = self.folder / f"{name}.ready"
        argv = (program("paletta-server"), "completions", "--ready-file", str(ready))
        return Server(name, argv, self.env(), self.folder, ready_file=ready)

    def env(self, **settings: str) -> dict[str, str]:
        """The environment of a process of this fleet."""
        chosen = {
            "DATABASE_URL": self.database_url,
            "DATABASE_POOL_SIZE": "5",
            "S3_ENDPOINT": self.store.endpoint,
            "S3_BUCKET": self.bucket,
            "S3_ACCESS_KEY": self.store.access_key,
            "S3_SECRET_KEY": self.store.secret_key,
            "PUBLIC_URL": self.url,
            "TRUSTED_PROXIES": "127.0.0.1",
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
            "SMTP_PORT": str(self.mail.port),
            "REVIEW": "auto",
            "CONTRIBUTORS": "auto",
            "GATEWAYS": "sandbox",
            "SANDBOX_SECRET": self.secret,
            "STALLED_SECONDS": "5",
            "UPLOAD_CLAIM_SECONDS": "2",
            # Kills come thicker than anywhere else: they are not the films' fault.
            "INGEST_ATTEMPTS": "30",
            **self.settings,
            **settings,
        }
        return {f"PALETTA_{name}": value for name, value in chosen.items()} | self.environment

    # ---- what happens to it

    def kill(
        self, server: Server, *, away: float = 0.0, when_dead: Callable[[], object] = lambda: None
    ) -> Outage:
        """SIGKILL; start it again after `away` seconds; return when it serves."""
        for other in set(self.balancer.nodes) - {self.port_of(server)}:
            self.balancer.wait_until(
                sends_to=other
            )  # one at a time: a service without any node is another matter
        began = time.time()
        server.kill()
        when_dead()
        time.sleep(away)
        self._come_back(server)
        self.outages.append(Outage(server.name, self.port_of(server), began, time.time()))
        return self.outages[-1]

    def restart(self, server: Server) -> int:
        """SIGTERM; start it again when it has ended; its exit status."""
        assert server.process is not None
        server.process.signal(signal.SIGTERM)
        status = server.process.wait(60)
        assert status is not None, f"{server.name} does not end\n{server.tail()}"
        self._come_back(server)
        return status

    def _come_back(self, server: Server) -> None:
        server.start()
        port = self.port_of(server)
        if port is not None:
            self.balancer.wait_until(sends_to=port)

    # ---- people and what they do

    def person(self, email: str, role: str, password: str) -> str:
        """An account of that role; a token of it."""
        made = subprocess.run(
            [program("paletta-server"), "create-user", email, "--role", role, "--password-stdin"],
            input=f"{password}\n", text=True, env=clean_environment(**self.env()), cwd=self.folder,
            check=False, capture_output=True, timeout=120,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        answer = self.ask("POST", "/v1/auth/login", body={"email": email, "password": password})
        return str(answer["token"])

    def ask(self, method: str, path: str, *, token: str | None = None, body: Any = None) -> Any:
        """A call through the balancer; its JSON. Raises HTTPError."""
        headers = {"content-type": "application/json"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=90) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def paletta(self, *argv: str, token: str, home: Path) -> subprocess.CompletedProcess[str]:
        """A `paletta` command to its end."""
        home.mkdir(parents=True, exist_ok=True)
        env = {
            "PALETTA_URL": self.url,
            "PALETTA_TOKEN": token,
            "PALETTA_STATE_DIR": str(home / "state"),
            "PALETTA_CONFIG_DIR": str(home / "config"),
            "PALETTA_KEYRING": "off",
        }
        return subprocess.run(
            [program("paletta"), *argv], cwd=home, env=clean_environment(**env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    # ---- what came of it

    @property
    def s3(self) -> S3Client:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.store.endpoint, region_name="us-east-1",
            aws_access_key_id=self.store.access_key, aws_secret_access_key=self.store.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 4}),
        )  # fmt: skip

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            done = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def told(self) -> str:
        """The end of every log."""
        logs = [server.log for server in (*self.api, *self.work, *self.others)]
        logs.append(self.balancer.folder / "nginx-error.log")
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists()
        )


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[threading.Event]:
    """Do `work` again and again in a thread until the block ends; what it raises is raised there. The event is set once
    it has been done for the first time."""
    stop, begun = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def loop() -> None:
        try:
            while not stop.is_set():
                work()
                begun.set()
        except BaseException as error:
            raised.append(error)
            begun.set()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield begun
    finally:
        stop.set()
        thread.join(90)
    if raised:
        raise raised[0]
