"""The HTTP client against a small real server: what is repeated, what is sent along, what is refused."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from paletta_cli import api
from paletta_cli.api import Service
from paletta_cli.desk.unanswered import Unanswered
from paletta_cli.errors import ApiProblem, GaveUp, PalettaError, UsageError

Reply = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """Answers with the next reply of its script, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append(
            (self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        )
        status, headers, document = self.server.script.pop(0)
        if status == 0:  # hang up without an answer
            self.close_connection = True
            return
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def service(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(api, "jitter", lambda _attempt: 0.0)
    with Service(server.url, "plt_token", tries=4) as made:
        yield made


BUSY: Reply = (503, {}, {"detail": "busy"})
LOST: Reply = (0, {}, None)
FINE: Reply = (200, {}, {"ok": True})


def test_sends_the_token_and_who_it_is(server: Server, service: Service) -> None:
    server.script = [FINE]
    assert service.get("/v1/me", q="a b", nothing=None) == {"ok": True}
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/v1/me?q=a+b") or path == "/v1/me?q=a%20b"
    assert headers["authorization"] == "Bearer plt_token"
    assert headers["user-agent"].startswith("paletta/")


@pytest.mark.parametrize("trouble", [BUSY, LOST, (500, {}, {}), (502, {}, b"<html>"), (429, {}, {})])
def test_what_is_safe_is_repeated(server: Server, service: Service, trouble: Reply) -> None:
    server.script = [trouble, trouble, FINE]
    assert service.get("/v1/me") == {"ok": True}
    server.script = [trouble, FINE]
    assert service.post("/v1/x", {"a": 1}, idempotent=True) == {"ok": True}
    assert json.loads(server.asked[-1][3]) == {"a": 1}


@pytest.mark.parametrize("trouble", [BUSY, LOST, (500, {}, {})])
def test_what_is_not_is_not(server: Server, service: Service, trouble: Reply) -> None:
    server.script = [trouble, FINE]
    with pytest.raises((GaveUp, ApiProblem)) as caught:
        service.post("/v1/orders", {})
    assert caught.value.exit_code == 5
    assert len(server.asked) == 1


def test_a_request_that_was_turned_away_unread_is_repeated_whatever_it_is(
    server: Server, service: Service
) -> None:
    server.script = [(429, {"retry-after": "0"}, {}), FINE]
    assert service.post("/v1/orders", {}) == {"ok": True}


PROBLEM = {"content-type": "application/problem+json"}


def test_what_was_refused_at_the_door_is_repeated_whatever_it_is(server: Server, service: Service) -> None:
    refused: Reply = (503, {"retry-after": "0", **PROBLEM}, {"code": "overloaded"})
    server.script = [refused, FINE]
    assert service.post("/v1/orders", {}) == {"ok": True}
    server.script = [refused] * 9
    with pytest.raises(ApiProblem):
        service.post("/v1/orders", {})
    assert len(server.asked) == 2 + 4, "as often as anything else"


def test_waiting_for_workers_is_not_counted_as_tries_and_said_once(server: Server, service: Service) -> None:
    told: list[str] = []
    service.on_busy = told.append
    full: Reply = (
        429,
        {"retry-after": "0", **PROBLEM},
        {"code": "ingest_busy", "detail": "900 films\x1b[2J wait"},
    )
    server.script = [full] * 20 + [FINE]
    assert service.post("/v1/upload-batches/b/items", {}, idempotent=True) == {"ok": True}
    assert told == ["waiting for the service: 900 films[2J wait"]


def test_waiting_for_workers_ends(server: Server, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_MOST_BUSY", 0.0)
    server.script = [(429, {"retry-after": "0", **PROBLEM}, {"code": "ingest_busy", "detail": "full"})]
    with pytest.raises(ApiProblem) as caught:
        service.post("/v1/upload-batches/b/items", {}, idempotent=True)
    assert caught.value.exit_code == 5


def test_tries_are_bounded(server: Server, service: Service) -> None:
    server.script = [BUSY] * 9
    with pytest.raises(ApiProblem) as caught:
        service.get("/v1/me")
    assert caught.value.message == "busy"
    assert len(server.asked) == 4


def test_the_services_wish_to_wait_is_heard(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    told: list[str] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    server.script = [(503, {"retry-after": "7"}, {}), (503, {"retry-after": "7000"}, {}), FINE]
    with Service(server.url, stop=Stop()) as service:
        service.get("/v1/me")
        service.on_wait = told.append
        server.script = [(503, {"retry-after": "99999999"}, {}), (503, {"retry-after": "1"}, {}), FINE]
        service.get("/v1/me")
    assert waited == [7.0, 60.0, 60.0, 1.0]
    assert told == [f"{server.url} answers 503; trying again in 1:00"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((None, None), ("7", 7.0), ("99999999", 60.0), ("soon", None), ("²", None)),
        *(("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0)),
    ],
)
def test_no_wish_to_wait_is_heard_for_more_than_a_minute(value: str | None, seconds: float | None) -> None:
    assert api.retry_after(value) == seconds


def test_a_stop_ends_the_waiting(server: Server) -> None:
    server.script = [BUSY] * 5
    stop = threading.Event()
    stop.set()
    with Service(server.url, stop=stop) as service, pytest.raises(GaveUp):
        service.get("/v1/me")
    assert len(server.asked) == 1


def test_nobody_there(service: Service) -> None:
    with Service("http://127.0.0.1:9", tries=2) as nobody, pytest.raises(GaveUp) as caught:
        nobody.post("/v1/x", {})
    assert caught.value.message.startswith("cannot reach http://127.0.0.1:9: ")
    assert "paletta-server up" in str(caught.value.hint)


def test_a_redirect_never_gets_the_token(server: Server, service: Service) -> None:
    server.script = [(307, {"location": "http://elsewhere.example/v1/me"}, {})]
    with pytest.raises(PalettaError, match=r"redirects to http://elsewhere.example/v1/me"):
        service.get("/v1/me")
    assert len(server.asked) == 1


def test_problems_are_typed(server: Server, service: Service) -> None:
    problem = {
        "title": "Conflict",
        "status": 409,
        "code": "near_duplicate",
        "detail": "nearly `x`",
        "hint": "use `x`",
    }
    server.script = [(409, {"content-type": "application/problem+json"}, {**problem, "did_you_mean": ["x"]})]
    with pytest.raises(ApiProblem) as caught:
        service.post("/v1/tags", {})
    error = caught.value
    assert (error.status, error.code, error.message, error.hint) == (
        409,
        "near_duplicate",
        "nearly `x`",
        "use `x`",
    )
    assert error.body["did_you_mean"] == ["x"]


@pytest.mark.parametrize("reply", [(200, {}, b"<html>hello"), (200, {}, [1]), (404, {}, b"nginx")])
def test_something_else_at_that_address(server: Server, service: Service, reply: Reply) -> None:
    server.script = [reply]
    with pytest.raises(PalettaError, match="unexpected answer") as caught:
        service.get("/v1/me")
    assert "PALETTA_URL" in str(caught.value.hint)


@pytest.mark.parametrize("word", ["", " ", ".", ".."])
def test_what_a_path_would_lose_is_no_id(word: str) -> None:
    with pytest.raises(UsageError, match="is no id and no name"):
        api.segment(word)
    assert api.segment("../x") == "..%2Fx"


def test_a_refused_token_of_the_environment_is_not_mended_by_a_login(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALETTA_TOKEN", "plt_p_revoked")
    monkeypatch.setenv("PALETTA_URL", server.url)
    server.script = [(401, {}, {"detail": "the token was revoked", "hint": "log in with `paletta login`"})]
    with api.connect() as service, pytest.raises(ApiProblem) as caught:
        service.get("/v1/me")
    assert str(caught.value.hint).startswith("PALETTA_TOKEN is set")
    assert caught.value.exit_code == 4


def test_an_answer_that_lacks_a_member(server: Server, service: Service) -> None:
    server.script = [(200, {}, {"user": {}})]
    answer = service.get("/v1/me")
    with pytest.raises(PalettaError, match="unexpected answer from the service: it lacks `email`"):
        answer["user"]["email"]


def test_pages(server: Server, service: Service) -> None:
    server.script = [
        (200, {}, {"items": [{"n": 1}, {"n": 2}], "next_cursor": "c"}),
        (200, {}, {"items": [{"n": 3}], "next_cursor": None}),
    ]
    assert [item["n"] for item in service.pages("/v1/x", limit=2)] == [1, 2, 3]
    assert [path for _, path, _, _ in server.asked] == ["/v1/x?limit=2", "/v1/x?cursor=c&limit=2"]
    server.script = [(200, {}, {"items": [{"n": 1}, {"n": 2}], "next_cursor": "c"})]
    assert [item["n"] for item in service.pages("/v1/x", most=2)] == [1, 2]


def test_nothing_to_say(server: Server, service: Service) -> None:
    server.script = [(204, {}, b"")]
    assert service.delete("/v1/x") is None


def test_trouble_is_told_once_per_outage() -> None:
    told: list[str] = []
    with Service("http://127.0.0.1:1", tries=3) as service:
        service.on_trouble = told.append
        with pytest.raises(GaveUp):
            service.get("/v1/me")
    assert told == ["cannot reach http://127.0.0.1:1; trying again"]


def refused(status: int, code: str) -> Reply:
    return status, PROBLEM, {"detail": "no", "code": code}


NOT_FRESH = refused(403, "login_not_fresh")


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ([FINE], False),
        ([NOT_FRESH], False),
        ([refused(401, "not_logged_in")], False),
        ([refused(408, "too_slow")], False),
        ([refused(429, "too_many_requests")] * 4, False),
        ([refused(503, "overloaded")] * 4, False),
        ([refused(503, "service_paused")], False),
        ([refused(409, "refund_too_large")], False),
        # Something before the service, which does not know:
        ([(403, {}, {})], True),
        ([(403, {}, b"<html>")], True),
        ([(408, {}, b"<html>")], True),
        ([(429, {}, {})] * 4, True),
        ([(504, {}, b"<html>")] * 4, True),
        ([(404, {}, {"message": "no such route"})], True),
        ([LOST, (404, {}, {"message": "no such route"})], True),
        # The service, but after a try of which nobody knows:
        ([LOST, NOT_FRESH], True),
        ([(502, {}, b"<html>"), refused(401, "not_logged_in")], True),
        ([LOST] * 4, True),
        ([refused(503, "overloaded"), NOT_FRESH], False),
    ],
)
def test_a_request_is_remembered_where_it_may_have_been_begun(
    server: Server, service: Service, tmp_path: Path, script: list[Reply], kept: bool
) -> None:
    unanswered = Unanswered(tmp_path, server.url, ["refund"])

    def send(body: Mapping[str, Any], key: str) -> Any:
        headers = {"idempotency-key": key}
        return service.request("POST", "/v1/x", body=body, headers=headers, idempotent=True, confirming=False)

    server.script = list(script)
    with suppress(PalettaError):
        unanswered.ask({"amount": 1}, send)
    assert (unanswered.before() is not None) is kept
    first = server.asked[-1][2]["idempotency-key"]
    server.script = [NOT_FRESH]
    with suppress(PalettaError):
        unanswered.ask({"amount": 1}, send)
    assert (unanswered.before() is not None) is kept, "a second asking does not say what became of the first"
    assert (server.asked[-1][2]["idempotency-key"] == first) is kept
    server.script = [FINE]
    unanswered.ask({"amount": 1}, send)
    assert unanswered.before() is None


def test_a_request_that_never_left_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "jitter", lambda _attempt: 0.0)
    with socket.socket() as unheard:  # bound and not listening: nobody else gets the port
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        unanswered = Unanswered(tmp_path, url, ["refund"])
        with Service(url, "plt_token", tries=2) as service, pytest.raises(GaveUp) as caught:
            unanswered.ask({}, lambda body, _: service.post("/v1/x", body, idempotent=True))
    assert unanswered.before() is None
    assert "may have been done" not in str(caught.value.hint)


def test_the_password_is_asked_for_while_nothing_is_under_way(
    server: Server, service: Service, tmp_path: Path
) -> None:
    unanswered = Unanswered(tmp_path, server.url, ["refund"])
    seen: list[object] = []

    def password() -> str:
        seen.append(unanswered.before())
        return "secret"

    def send(body: Mapping[str, Any], _: str) -> Any:
        return service.request("POST", "/v1/x", body=body, idempotent=True, confirming=False)

    service.ask_password = password
    server.script = [NOT_FRESH, (204, {}, b""), FINE]
    assert service.confirmed(lambda: unanswered.ask({}, send)) == {"ok": True}
    assert ([path for _, path, _, _ in server.asked], seen) == (
        ["/v1/x", "/v1/auth/confirm", "/v1/x"], [None],
    )  # fmt: skip
