"""Talking to the service: one HTTP client with the token, bounded retries, and its errors as typed
exceptions.

    with api.connect() as service:
        me = service.get("/v1/me")
        for clip in service.pages("/v1/me/clips", stage="live"):
            …

Retries: a request that never left (connection refused) or was refused at the door (429, `overloaded`) is always
tried again; one whose answer was lost, or that got another 5xx, only when it is idempotent (GET, PUT, DELETE, and
POSTs marked so by their caller). Waits are full jitter, U(0, min(30, 2^n)) seconds; a Retry-After from the service
wins. Uploads that wait for others to be done (`ingest_busy`) have an hour of their own.
Redirects are never followed, so that the token cannot reach another host; certificates are always verified.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from paletta_cli import __version__
from paletta_cli.errors import (
    BUSY,
    OVERLOADED,
    PAUSED,
    ApiProblem,
    GaveUp,
    NotAuthorised,
    PalettaError,
    UsageError,
)
from paletta_cli.settings import Settings, checked_url, is_loopback, load
from paletta_cli.text import duration

if TYPE_CHECKING:
    import httpx

TRIES = 5  # for a person who waits; transfers ask for more
_RETRY_STATUS = frozenset({429, 500, 502, 503, 504})  # 500: a database that restarts looks like that
_AT_THE_DOOR = frozenset({401, 403, 408, 429})
"""Where these come from the service, it has looked at the login, the rate and how the body arrives, no further."""
_MOST_WAIT = 30.0
_MOST_ASKED = 60.0  # of a Retry-After: whoever asks for more is asked again, and the tries are counted
_MOST_BUSY = 3600.0  # for workers to catch up; whoever waits longer had better come back tomorrow
_BUSY_WAIT = 20.0  # where the service names no time
_NOTICED = 5.0  # from here on a person wonders whether the command hangs


def connect(settings: Settings | None = None, *, login: bool = True, tries: int = TRIES) -> "Service":
    """A client for the service in force, with the stored token.

    Raises NotAuthorised when nobody is logged in, unless `login` is False (public endpoints; the token is
    then sent if there is one), or when the profile is not there and nothing else says which service is meant.
    """
    from paletta_cli.credentials import token, where
    from paletta_cli.output import Output
    from paletta_cli.settings import names_a_service

    settings = settings or load()
    stored = token(settings)
    if stored is None and (login or not names_a_service(settings)):
        raise _not_logged_in(settings)
    service = Service(settings.url, stored, tries=tries)
    service.on_wait = Output().note
    if sys.stdin.isatty():
        service.ask_password = lambda: Output().prompt(
            "your password once more", option="--password-stdin", secret=True
        )
    if stored is not None and where(settings) == "PALETTA_TOKEN":
        service.login_hint = (
            "PALETTA_TOKEN is set: set a valid one, or unset it to use the login of this machine"
        )
    return service


class Service:
    """The HTTP API at `url`. Safe to share between threads. Every method raises the errors of
    `paletta_cli.errors`.

    `stop`, when set, ends waits between tries at once (the next step then raises GaveUp).
    """

    def __init__(
        self, url: str, token: str | None = None, *, tries: int = TRIES, stop: threading.Event | None = None
    ) -> None:
        import ssl

        import httpx

        self.url = checked_url(url)
        self.tries = tries
        self.on_trouble: Callable[[str], None] | None = None
        """Told once per outage, in words for a person, before a request is tried again."""
        self.on_wait: Callable[[str], None] | None = None
        """Told of each wait of some seconds that `on_trouble` was not told of."""
        self.ask_password: Callable[[], str] | None = None
        """Where somebody can give the password again when the service wants it, once."""
        self.login_hint: str | None = None
        """What helps when the token is refused, where it is not to log in."""
        self.on_busy: Callable[[str], None] | None = None
        """Told once when new uploads have to wait until others are done."""
        self._trouble = self._busy = False
        self.stop = stop or threading.Event()
        headers = {"user-agent": f"paletta/{__version__}", "accept": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        host = httpx.URL(self.url).host
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            follow_redirects=False,
            trust_env=not is_loopback(host),  # a proxy has no business between this machine and itself
            # Plain HTTP stays on this machine (`checked_url`) and needs no certificates, which take 15 ms to load.
            # Without any, nobody is trusted.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self.url.startswith("http://") else True,
            timeout=httpx.Timeout(30.0, connect=10.0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, *, timeout: float | None = None, **params: Any) -> Any:
        """GET; parameters that are None are left out. `timeout` in seconds, for long-polls."""
        return self.request("GET", path, params=params, timeout=timeout)

    def fetch(self, path: str) -> bytes:
        """GET a document that is no JSON, such as a PDF."""
        found: bytes = self.request("GET", path, raw=True)
        return found

    def post(self, path: str, body: Any = None, *, idempotent: bool = False) -> Any:
        """POST a JSON body.

        `idempotent`: the service answers a repetition the same way, so it may be repeated.
        """
        return self.request("POST", path, body=body, idempotent=idempotent)

    def put(self, path: str, body: Any = None) -> Any:
        return self.request("PUT", path, body=body)

    def patch(self, path: str, body: Any, *, if_match: str | None = None) -> Any:
        return self.request("PATCH", path, body=body, headers={"if-match": if_match} if if_match else None)

    def delete(self, path: str, **params: Any) -> Any:
        return self.request("DELETE", path, params=params)

    def pages(self, path: str, *, most: int | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page, at most `most`."""
        cursor: str | None = None
        sent = 0
        while True:
            page = self.get(path, cursor=cursor, **params)
            for item in page["items"]:
                yield item
                sent += 1
                if sent == most:
                    return
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = None,
        raw: bool = False,
        confirming: bool = True,
    ) -> Any:
        """The answer's JSON (None for 204); with `raw` its bytes.

        `confirming=False` where the caller sees to the password with `confirmed` itself.
        """
        options: dict[str, Any] = {
            "body": body,
            "params": params,
            "headers": headers,
            "idempotent": idempotent,
            "timeout": timeout,
            "raw": raw,
        }
        if not confirming:
            return self._request(method, path, **options)
        return self.confirmed(lambda: self._request(method, path, **options))

    def confirmed(self, send: Callable[[], Any]) -> Any:
        """What `send` returns. Where the service wants the password again, that is asked for, and `send` called anew.

        Raises what `send` raises, or what comes of the password; then `send` was refused and is not under way.
        """
        try:
            return send()
        except ApiProblem as problem:
            if problem.code != "login_not_fresh" or self.ask_password is None:
                raise
            ask, self.ask_password = self.ask_password, None
        self._request("POST", "/v1/auth/confirm", body={"password": ask()})
        return send()

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = None,
        raw: bool = False,
    ) -> Any:
        import httpx

        repeatable = method in ("GET", "PUT", "DELETE") if idempotent is None else idempotent
        query = {key: value for key, value in (params or {}).items() if value is not None}
        options: dict[str, Any] = {"params": query, "headers": dict(headers or {})}
        if body is not None:
            options["json"] = body
        if timeout is not None:
            options["timeout"] = timeout

        attempt = 0
        doubt = False  # an earlier try may have been taken, and only its answer been lost
        busy_until: float | None = None
        while True:
            last = attempt >= self.tries - 1
            try:
                response = self._client.request(method, path, **options)
            except httpx.TransportError as error:
                never_left = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                doubt = doubt or not never_left
                if last or not (repeatable or never_left):
                    gave_up = _unreachable(self.url, error)
                    gave_up.unbegun = not doubt
                    raise gave_up from error
                self._wait(f"cannot reach {self.url}", jitter(attempt))
                attempt += 1
                continue
            code = _code(response) if response.status_code in (429, 503) else ""
            asked = retry_after(response.headers.get("retry-after"))
            if code == BUSY:
                busy_until = busy_until or time.monotonic() + _MOST_BUSY
                if self.tries > 1 and time.monotonic() < busy_until:
                    self._wait_for_room(response, spread(_BUSY_WAIT if asked is None else asked))
                    continue
            elif (
                response.status_code in _RETRY_STATUS
                and not last
                and (repeatable or response.status_code == 429 or code == OVERLOADED)
                and code != PAUSED
            ):
                self._wait(
                    f"{self.url} answers {response.status_code}",
                    jitter(attempt) if asked is None else spread(asked) if code == OVERLOADED else asked,
                )
                doubt = doubt or (response.status_code >= 500 and code != OVERLOADED)
                attempt += 1
                continue
            self._trouble = self._busy = False
            try:
                return response.content if raw and response.is_success else _answer(response)
            except ApiProblem as problem:
                problem.unbegun = not doubt and _is_unbegun(problem)
                if problem.status == 401 and self.login_hint is not None:
                    problem.hint = self.login_hint
                raise

    def _wait_for_room(self, response: "httpx.Response", seconds: float) -> None:
        """Wait until the service takes new uploads again; said once, in its own words."""
        from paletta_cli.transfer.drill import hurried

        tell = self.on_busy or self.on_trouble or self.on_wait
        if tell is not None and not self._busy:
            from paletta_cli.text import clean

            tell(f"waiting for the service: {clean(str(response.json().get('detail') or 'it is busy'))}")
        self._busy = True
        if self.stop.wait(hurried(seconds)):
            raise GaveUp("stopped while waiting for the service")

    def _wait(self, why: str, seconds: float) -> None:
        if self.on_trouble is not None and not self._trouble:
            self.on_trouble(f"{why}; trying again")
        elif self.on_wait is not None and seconds >= _NOTICED:
            self.on_wait(f"{why}; trying again in {duration(seconds)}")
        self._trouble = True
        if self.stop.wait(seconds):
            raise GaveUp("stopped while waiting for the service")


def _not_logged_in(settings: Settings) -> NotAuthorised:
    if settings.profiles and settings.profile not in settings.profiles:
        known = ", ".join(f"`{name}`" for name in settings.profiles)
        return NotAuthorised(
            f"there is no profile `{settings.profile}`",
            hint=f"there are {known}; `paletta --profile {settings.profile} login` makes another",
        )
    return NotAuthorised(
        f"not logged in to {settings.url}", hint="run `paletta login`, or set PALETTA_TOKEN for scripts"
    )


def segment(text: str) -> str:
    """`text` as one segment of a path, whatever a person typed.

    Raises UsageError for what a path would lose: nothing, and the names of folders themselves.
    """
    from urllib.parse import quote

    if text.strip() in ("", ".", ".."):
        raise UsageError(f"`{text}` is no id and no name")
    return quote(text, safe="")


def clip_segment(text: str) -> str:
    """As `segment`, for a clip's id or its beginning.

    Raises UsageError for what cannot be one, which a service need not be asked.
    """
    if not text.replace("_", "").isalnum():
        raise UsageError(
            f"`{text}` is not a clip's id", hint="ids are like `clip_7h3k9m2qxw4t`; the beginning is enough"
        )
    return segment(text)


def jitter(attempt: int, most: float = _MOST_WAIT, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait before try `attempt` + 1: uniform between 0 and min(most, 2^attempt) ("full jitter").

    Source: AWS Architecture Blog, "Exponential backoff and jitter" (2015); spreads out clients that failed
    together.
    """
    return draw() * min(most, 2.0 ** min(attempt, 16))


def spread(seconds: float, draw: Callable[[], float] = random.random) -> float:
    """A wait that was asked for, and up to a fifth more: clients that were sent away together come back one by one."""
    return seconds * (1 + draw() / 5)


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110 §10.2.3: seconds or a date), at most a minute, or None."""
    if not value:
        return None
    if value.isascii() and value.strip().isdigit():
        return min(float(value), _MOST_ASKED)
    from email.utils import parsedate_to_datetime

    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), _MOST_ASKED)
    except (ValueError, OverflowError):
        return None


def _answer(response: "httpx.Response") -> Any:
    if response.is_success:
        if response.status_code == 204 or not response.content:
            return None
        try:
            found = response.json(object_hook=_Members)
        except ValueError as error:
            raise _not_the_service(response) from error
        if not isinstance(found, _Members):  # all answers are objects
            raise _not_the_service(response)
        return found
    if response.is_redirect:
        target = response.headers.get("location", "elsewhere")
        raise PalettaError(
            f"the service at {response.request.url.host} redirects to {target}",
            hint="set PALETTA_URL (or the profile's url) to the final address",
        )
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        if response.status_code in (401, 403, 429) or response.status_code >= 500:
            raise ApiProblem(response.status_code, {})
        raise _not_the_service(response)
    if response.status_code == 422 and not isinstance(body.get("detail"), str):
        body["detail"] = body.get("title") or "the service did not understand the request"
    raise ApiProblem(response.status_code, body)


def _is_unbegun(problem: ApiProblem) -> bool:
    """Whether the service itself says that it refused a request before it began with it.

    What stands before the service, such as a balancer that waited too long, gives the same statuses and does not know;
    it lacks the service's `code`.
    """
    if problem.status in _AT_THE_DOOR:
        return bool(problem.body.get("code"))
    return problem.code in (OVERLOADED, PAUSED)


_OTHER = "is PALETTA_URL the address of a paletta service, and is this `paletta` recent enough for it?"


class _Members(dict[str, Any]):
    """An object of an answer. Where a member is missing, the answer is wrong and not the command."""

    def __missing__(self, key: str) -> Any:
        raise PalettaError(f"unexpected answer from the service: it lacks `{key}`", hint=_OTHER)


def _not_the_service(response: "httpx.Response") -> PalettaError:
    asked = response.request.url
    return PalettaError(
        f"unexpected answer {response.status_code} from {asked.host}{asked.path}", hint=_OTHER
    )


def _code(response: "httpx.Response") -> str:
    """The service's own word for why it refused; "" where a balancer answered, which has none."""
    if "problem+json" not in response.headers.get("content-type", ""):
        return ""
    try:
        return str(response.json().get("code") or "")
    except (ValueError, AttributeError):
        return ""


def _unreachable(url: str, error: Exception) -> GaveUp:
    reason = str(error) or type(error).__name__
    hint = (
        "is the service running? on this machine: `paletta-server up`"
        if is_local(url)
        else "check the network"
    )
    return GaveUp(f"cannot reach {url}: {reason[:200]}", hint=hint)


def is_local(url: str) -> bool:
    """Whether the service at `url` runs on this machine."""
    from urllib.parse import urlsplit

    return is_loopback(urlsplit(url).hostname or "")
