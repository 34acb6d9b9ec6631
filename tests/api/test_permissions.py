"""Every route × every kind of caller, from the permission table. A new route without a rule fails here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import fastapi.routing
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from sqlalchemy import func, select, update

from paletta_server.accounts import service
from paletta_server.accounts.models import User
from paletta_server.accounts.permissions import PERMISSIONS, Permission, allowed
from paletta_server.accounts.security import Gate, Principal, permission_of, require
from paletta_server.audit.models import AuditLog
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person

ROLES = ("customer", "contributor", "admin")

PUBLIC = {
    # What a stranger may do. Everything else needs a permission of the table.
    "GET /healthz",
    "GET /readyz",
    "GET /startupz",
    "GET /metrics",  # has a token of its own (PALETTA_METRICS_TOKEN)
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/oauth2-redirect",
    "GET /redoc",
    "GET /v1/manifest-schema",
    "GET /v1/categories",
    "GET /v1/tags",
    "GET /v1/price-book",  # what things cost hangs in the window too
    "GET /v1/clips",  # the shop window, as is the next
    "GET /v1/clips/suggest",
    "GET /v1/clips/{clip}",  # the shop window: strangers see listed clips only
    "POST /v1/auth/register",
    "POST /v1/auth/login",
    "POST /v1/auth/password-reset",
    "POST /v1/auth/password-reset/confirm",
    "POST /v1/auth/verify-email",
    "POST /v1/auth/verify-email/confirm",
    "POST /v1/webhooks/{gateway}",  # the signature is the right to it
    "GET /checkout/return/{payment}",  # where gateways send customers back to, in whatever browser
    "GET /sandbox/checkout/{reference}",  # as an outside gateway's page; never in production
    "POST /sandbox/checkout/{reference}",
    "GET /account/verify",
    "POST /account/verify",
    "GET /account/reset",
    "POST /account/reset",
    "GET /v1/certificates/{code}",  # whoever holds the paper may check it
    "GET /orders/{token}",  # the mailed page: the link itself is the right to it
    "POST /orders/{token}/mail",
    "GET /orders/{token}/files/{item}/{tier}",
    "GET /orders/{token}/certificates/{item}",
}
ANY_TOKEN = {
    # What every token may do, whatever its scopes: see whose it is, prove it once more, and end itself.
    "GET /v1/me",
    "POST /v1/auth/confirm",
    "POST /v1/auth/logout",
}

TABLE = """
    permission        customer contributor admin
    profile           x        x           x
    search            x        x           x
    orders            x        x           x
    downloads         x        x           x
    reports           x        x           x
    taxonomy:create            x           x
    uploads                    x           x
    clips                      x           x
    earnings                   x           x
    admin:users                            x
    admin:taxonomy                         x
    admin:uploads                          x
    admin:moderate                         x
    admin:prices                           x
    admin:orders                           x
    admin:payouts                          x
    admin:logs                             x
    admin:flags                            x
    admin:analytics                        x
"""
"""The rows of the mission's role table that exist so far, column by column."""


@dataclass(frozen=True)
class Entry:
    """One method of one route; `gates` are what its dependencies ask for (None: any valid token)."""

    method: str
    path: str
    gates: tuple[Permission | None, ...]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def address(self) -> str:
        """The path with parameters that no object has."""
        return re.sub(r"\{[^}]*\}", "zz_2222222222", self.path)


FRESH = {
    # What a terminal left unlocked, or a token that leaked, is not enough for: money, roles, erasure, who a person is.
    "POST /v1/admin/contributor-applications/{application_id}/approve",
    "DELETE /v1/admin/users/{user}",
    "POST /v1/admin/users/{user}/disable",
    "POST /v1/admin/users/{user}/enable",
    "POST /v1/admin/users/{user}/role",
    "POST /v1/admin/users/{user}/erase",
    "GET /v1/admin/users/{user}/export",
    "PUT /v1/admin/flags/{name}",
    "DELETE /v1/admin/flags/{name}",
    "POST /v1/admin/orders/{order}/mark-paid",
    "POST /v1/admin/orders/{order}/refunds",
    "POST /v1/admin/orders/{order}/restore",
    "POST /v1/admin/refunds/{refund}/approve",
    "POST /v1/admin/refunds/{refund}/reject",
    "POST /v1/admin/refunds/{refund}/mark-sent",
    "POST /v1/admin/refunds/{refund}/mark-failed",
    "POST /v1/admin/disputes/{dispute}/submit",
    "POST /v1/admin/disputes/{dispute}/accept",
    "POST /v1/admin/payouts",
    "POST /v1/admin/payouts/mark-failed",
    "POST /v1/admin/payouts/{run}/confirm",
    "GET /v1/admin/payouts/{run}/export",
    "PUT /v1/admin/royalties/{whose}",
    "DELETE /v1/admin/royalties/{whose}",
    "PUT /v1/me/payout-account",
    "DELETE /v1/me/payout-account",
}
"""With `POST /v1/admin/users` (unless it is a customer), `PATCH /v1/admin/users/{user}` (the address) and
`POST /v1/admin/reconcile/…` (with `fix`), which ask for it within."""


def test_every_route_that_wants_a_fresh_login_is_known(app: FastAPI) -> None:
    flatten = getattr(fastapi.routing, "iter_route_contexts", iter)
    found = {
        f"{method} {route.path}"
        for route in flatten(app.routes)
        if getattr(route, "dependant", None) and _fresh(route.dependant)
        for method in route.methods
    }
    assert found == FRESH


def entries(app: FastAPI) -> Iterator[Entry]:
    # Newer releases of FastAPI keep included routers as they are and flatten them on request.
    flatten = getattr(fastapi.routing, "iter_route_contexts", iter)
    for route in flatten(app.routes):
        dependant = getattr(route, "dependant", None)
        gates = tuple(_gates(dependant)) if dependant else ()
        for method in sorted((route.methods or {"*"}) - {"HEAD"}):
            yield Entry(method, route.path, gates)


def _fresh(dependant: Dependant) -> bool:
    own = isinstance(dependant.call, Gate) and dependant.call.fresh
    return own or any(_fresh(inner) for inner in dependant.dependencies)


def _gates(dependant: Dependant) -> Iterator[Permission | None]:
    found = permission_of(dependant.call)
    if not isinstance(found, bool):
        yield found
    for inner in dependant.dependencies:
        yield from _gates(inner)


def without_a_rule(app: FastAPI) -> set[str]:
    return {entry.name for entry in entries(app) if not entry.gates} - PUBLIC


@pytest.fixture
def guarded(app: FastAPI) -> list[Entry]:
    found = [entry for entry in entries(app) if entry.gates]
    assert len(found) > 30, "the walk over the routes lost its way"
    return found


# ---- the table


def test_the_table_is_the_mission() -> None:
    lines = TABLE.strip("\n").splitlines()
    columns = {role: lines[0].index(role) for role in ROLES}
    told = {
        line.split()[0]: frozenset(role for role in ROLES if line[columns[role] :][:1] == "x")
        for line in lines[1:]
    }
    assert told == {permission.value: roles for permission, roles in PERMISSIONS.items()}
    assert set(PERMISSIONS) == set(Permission)


def test_every_route_has_a_rule(app: FastAPI) -> None:
    assert without_a_rule(app) == set(), "give the route a permission, or stand by its being public"


def test_public_and_any_token_are_exactly_what_we_say(app: FastAPI) -> None:
    everything = list(entries(app))
    assert {entry.name for entry in everything} >= PUBLIC | ANY_TOKEN, "the lists name routes that are gone"
    assert {entry.name for entry in everything if None in entry.gates} == ANY_TOKEN
    assert not {entry.name for entry in everything if entry.gates} & PUBLIC


def test_a_new_route_without_a_rule_is_noticed() -> None:
    app = FastAPI(openapi_url=None)

    @app.get("/open")
    async def open_to_all() -> None: ...

    @app.post("/closed")
    async def closed(user: Annotated[Principal, Depends(require(Permission.UPLOAD))]) -> None: ...

    assert without_a_rule(app) == {"GET /open"}


# ---- the walk


@dataclass
class Walk:
    """Calls routes as one account, with whatever role and scopes the step needs."""

    client: httpx.AsyncClient
    runtime: Runtime
    person: Person

    async def call(self, entry: Entry, *, role: str, scopes: tuple[str, ...] = ()) -> httpx.Response:
        """A fresh token each time, since some routes end the token or change the role that calls them."""
        async with self.runtime.db.transaction() as session:
            user = await service.find_user(session, self.person.email)
            await session.execute(update(User).where(User.id == user.id).values(role=role))
            token, _ = await service.issue_token(session, user, scopes=scopes)
        return await self.send(entry, {"Authorization": f"Bearer {token}"})

    async def send(self, entry: Entry, headers: dict[str, str]) -> httpx.Response:
        body = None if entry.method in ("GET", "DELETE") else {}
        return await self.client.request(entry.method, entry.address, json=body, headers=headers)


@pytest.fixture
async def walk(client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser) -> Walk:
    return Walk(client, runtime, await make_user("customer"))


def told(entry: Entry, answer: httpx.Response, expected: str) -> str:
    return f"{entry.name}: {answer.status_code} {answer.text[:100]}, expected {expected}"


async def audit_rows(runtime: Runtime) -> int:
    async with runtime.db.transaction() as session:
        return await session.scalar(select(func.count()).select_from(AuditLog)) or 0


async def test_strangers_are_turned_away(guarded: list[Entry], walk: Walk, runtime: Runtime) -> None:
    before = await audit_rows(runtime)
    wrong = []
    for entry in guarded:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await walk.send(entry, headers)
            if answer.status_code != 401 or answer.headers.get("www-authenticate") != "Bearer":
                wrong.append(told(entry, answer, "401"))
    assert wrong == []
    assert await audit_rows(runtime) == before, "who is turned away leaves no trace"


async def test_public_routes_ask_for_nothing(app: FastAPI, walk: Walk) -> None:
    wrong = []
    for entry in entries(app):
        if entry.name in PUBLIC and not entry.path.startswith(("/account", "/orders", "/sandbox")):
            answer = await walk.send(entry, {})
            if answer.status_code in (401, 403) or answer.status_code >= 500:
                wrong.append(told(entry, answer, "no login"))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_gets_what_the_table_gives(
    role: str, guarded: list[Entry], walk: Walk, runtime: Runtime
) -> None:
    wrong = []
    for entry in guarded:
        may = all(gate is None or allowed(role, (), gate) for gate in entry.gates)
        before = await audit_rows(runtime)
        answer = await walk.call(entry, role=role)
        if may and answer.status_code in (401, 403):
            wrong.append(told(entry, answer, "to be let in"))
        if not may and answer.status_code != 403:
            wrong.append(told(entry, answer, "403"))
        if not may and await audit_rows(runtime) != before:
            wrong.append(f"{entry.name}: a refused call left a trace")
        if answer.status_code >= 500:
            wrong.append(told(entry, answer, "no crash"))
    assert wrong == []


async def test_a_token_gets_what_its_scopes_give(guarded: list[Entry], walk: Walk) -> None:
    wrong = []
    for entry in guarded:
        needed = {gate.value for gate in entry.gates if gate is not None}
        rest = tuple(sorted({permission.value for permission in Permission} - needed))
        answer = await walk.call(entry, role="admin", scopes=tuple(needed) or rest[:1])
        if answer.status_code in (401, 403):
            wrong.append(told(entry, answer, "to be let in with just that scope"))
        if needed:
            answer = await walk.call(entry, role="admin", scopes=rest)
            if answer.status_code != 403 or answer.json()["code"] != "missing_scope":
                wrong.append(told(entry, answer, "403 missing_scope"))
    assert wrong == []


async def test_a_scope_gives_nothing_that_the_role_does_not_have(guarded: list[Entry], walk: Walk) -> None:
    for entry in guarded:
        for gate in entry.gates:
            if gate is not None and not allowed("customer", (), gate):
                answer = await walk.call(entry, role="customer", scopes=(gate.value,))
                assert answer.status_code == 403, told(entry, answer, "403")


# ---- the role is the role of now


async def test_a_demotion_counts_from_the_next_request(
    client: httpx.AsyncClient, runtime: Runtime, make_user: MakeUser
) -> None:
    admin = await make_user("admin")
    path = "/v1/admin/contributor-applications"
    assert (await client.get(path, headers=admin.headers)).status_code == 200
    async with runtime.db.transaction() as session:
        await service.set_role(session, None, await service.find_user(session, admin.email), "contributor")
    refused = await client.get(path, headers=admin.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await client.get("/v1/me", headers=admin.headers)).json()["role"] == "contributor"
    async with runtime.db.transaction() as session:
        [event] = await session.scalars(select(AuditLog).where(AuditLog.action == "account:role_changed"))
    assert event.details == {"before": "admin", "after": "contributor"}


async def test_the_refusal_says_what_would_help(client: httpx.AsyncClient, make_user: MakeUser) -> None:
    customer = await make_user("customer")
    answer: Any = await client.get("/v1/upload-batches", headers=customer.headers)
    assert answer.json()["code"] == "not_a_contributor"
    assert "become-contributor" in answer.json()["hint"]
