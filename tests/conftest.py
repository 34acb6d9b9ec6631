"""Fixtures that every folder of tests may use; `tests/README.md` says how they hang together.

`settings`, `runtime`, `client`: a service with a real database and a real object store, in this process.
`make_user`: people with a role and a token. `mailbox`: what was mailed. `run_jobs`: work off the queue.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from paletta_server.core.runtime import Runtime
    from paletta_server.core.settings import Settings
    from tests.support.stack import Addresses, Emptier, MailSink, TestStack

HERE = "127.0.0.1"
_stack: TestStack | None = None


def _start_stack() -> Addresses:
    from tests.support.stack import TestStack, known_addresses

    global _stack
    known = known_addresses()
    if known is not None:
        return known
    _stack = TestStack()
    return _stack.start()


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before xdist's workers, which inherit the addresses; without xdist, on first use."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it puts into the background so, and the commands that tests interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _examples_have_time()
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        _start_stack()


def _examples_have_time() -> None:
    """How long an example takes, and how long drawing it, is up to what else runs on the machine at that moment."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("paletta", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("paletta")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes lives as long as the run: looking through it for garbage took a third of the time."""
    from paletta_server.core import loading

    with loading.for_good():
        return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    global _stack
    if _stack is not None:
        _stack.stop()
        _stack = None


# ---- the stack


@pytest.fixture(autouse=True)
def _logs_go_where_they_went() -> Iterator[None]:
    """A command that runs in this process sends its logs to a stream of the test's, which is closed afterwards."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if handler not in before and type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def stack() -> Addresses:
    """Addresses of the run's PostgreSQL and object store."""
    return _start_stack()


@pytest.fixture(scope="session")
def worker_name(request: pytest.FixtureRequest) -> str:
    """`gw0`, `gw1`, … under xdist, else `main`."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(scope="session")
def session_database_url(stack: Addresses, worker_name: str) -> str:
    """A migrated database of this worker's own (libpq address); tests ask for `database_url`."""
    from tests.support.stack import make_database

    return make_database(stack, f"paletta_{worker_name}")


@pytest.fixture(scope="session")
def session_emptier(session_database_url: str) -> Iterator[Emptier]:
    from tests.support.stack import Emptier

    emptier = Emptier(session_database_url)
    yield emptier
    emptier.close()


@pytest.fixture(scope="session")
def session_mailbox() -> Iterator[MailSink]:
    from tests.support.stack import MailSink

    sink = MailSink()
    sink.start()
    yield sink
    sink.stop()


@pytest.fixture(scope="session")
async def session_settings(
    stack: Addresses,
    session_database_url: str,
    worker_name: str,
    session_mailbox: MailSink,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    from paletta_server.core.bucket import bootstrap
    from paletta_server.core.settings import Settings
    from paletta_server.core.storage import ObjectStore

    made = Settings(
        _env_file=None,
        database_url=session_database_url,
        s3_endpoint=stack.endpoint,
        s3_access_key=stack.access_key,
        s3_secret_key=stack.secret_key,
        s3_bucket=f"paletta-{worker_name}",
        smtp_port=session_mailbox.port,
        review="auto",
        contributors="auto",
        gateways=("sandbox", "invoice"),
        sandbox_secret=secrets.token_urlsafe(24),
        scratch_dir=tmp_path_factory.mktemp("scratch"),
        search_dir=tmp_path_factory.mktemp("search"),
    )
    async with ObjectStore(made) as store:
        await bootstrap(store, made)
    return made


@pytest.fixture(scope="session")
async def session_app(session_settings: Settings) -> AsyncIterator[FastAPI]:
    from paletta_server.app import create_app

    app = create_app(session_settings)
    async with app.router.lifespan_context(app):
        yield app


# ---- what tests ask for


@pytest.fixture
async def _empty_afterwards(session_emptier: Emptier, session_mailbox: MailSink) -> AsyncIterator[None]:
    yield
    # In a thread: the application's own tasks, on this loop, may hold a lock that emptying waits for.
    await asyncio.to_thread(session_emptier.empty)
    session_mailbox.clear()


@pytest.fixture
def database_url(session_database_url: str, _empty_afterwards: None) -> str:
    """The libpq address of a migrated database; its tables are emptied after the test."""
    return session_database_url


@pytest.fixture
def settings(session_settings: Settings, _empty_afterwards: None) -> Settings:
    """Settings of a service on this worker's database and bucket; vary them with `model_copy(update=…)`."""
    return session_settings


@pytest.fixture
def app(session_app: FastAPI, _empty_afterwards: None) -> FastAPI:
    """The application, started."""
    return session_app


@pytest.fixture
def runtime(app: FastAPI) -> Runtime:
    """The application's database, store, settings and notifier."""
    found: Runtime = app.state.runtime
    return found


@pytest.fixture
async def client(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application, in process, without a login."""
    import httpx

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=settings.public_url) as made:
        yield made


@pytest.fixture
def mailbox(session_mailbox: MailSink, _empty_afterwards: None) -> MailSink:
    """The SMTP server that the settings name, and its mails."""
    return session_mailbox


@dataclass(frozen=True)
class Person:
    """Someone with an account and a token."""

    uid: str
    email: str
    password: str
    role: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


MakeUser = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="session")
def session_passwords() -> list[tuple[str, str]]:
    """Passwords and their hashes: argon2 takes 50 ms, and most people of most tests never give theirs."""
    return []


@pytest.fixture
def make_user(runtime: Runtime, session_passwords: list[tuple[str, str]]) -> MakeUser:
    """`await make_user("contributor", email=…)`: a `Person` whose address is confirmed, and what a login leaves.

    Everybody in a test has another password. `tests/api/test_accounts*.py` log in for real.
    """
    from sqlalchemy import func
    from structlog.contextvars import bound_contextvars

    from paletta_server.accounts import addresses, passwords, service, throttle
    from paletta_server.accounts.service import Acting
    from paletta_server.audit.service import record

    people = count()

    async def make(role: str = "contributor", *, email: str | None = None) -> Person:
        address = addresses.normal(email or f"{role}-{secrets.token_hex(4)}@example.org")
        number = next(people)
        while len(session_passwords) <= number:
            fresh = secrets.token_urlsafe(24)
            session_passwords.append((fresh, await passwords.hashed(fresh)))
        password, stored = session_passwords[number]
        with bound_contextvars(ip=HERE):
            async with runtime.db.transaction() as session:
                user = await service.insert_user(
                    session, email=address, password_hash=stored, role=role, email_verified_at=func.now()
                )
                assert user is not None, f"{address} has an account already"
                await record(
                    session, None, "account:created", user.uid, details={"role": role, "verified": True}
                )
                await throttle.succeeded(session, address, HERE, throttle.account_key(address))
                token, row = await service.issue_token(session, user)
                await record(
                    session, Acting(user.id), "account:logged_in", user.uid, details={"token": row.uid}
                )
        return Person(user.uid, address, password, role, token)

    return make


@pytest.fixture
def run_jobs(runtime: Runtime) -> Callable[[], Awaitable[None]]:
    """`await run_jobs()`: be a worker until every queue is empty."""
    from sqlalchemy import text

    from tests.support.working import work_off

    async def run() -> None:
        waiting = text(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"
            " AND (scheduled_at IS NULL OR scheduled_at <= now())"
        )
        while True:
            # Jobs defer jobs: a worker that does not wait may leave before its last one has.
            await work_off(runtime)
            async with runtime.db.transaction() as session:
                if not await session.scalar(waiting):
                    return

    return run


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds `pyproject.toml`."""
    return Path(__file__).resolve().parent.parent
