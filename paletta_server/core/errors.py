"""What can go wrong, as small classes: a status, a stable code, and words that a person can act on.

Rendered as problem+json (RFC 9457). Routes declare what they may raise with `responses=problems(NotFound, …)`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """An error as the API sends it (`application/problem+json`); `code` is stable, the rest is for people."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    hint: str | None = None
    request_id: str | None = None


class PalettaError(Exception):
    """Base of every error that a caller may see. `extra` becomes further members of the problem."""

    status: ClassVar[int] = 500
    code: str = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})
        self.extra = extra
        if code is not None:
            self.code = code

    def problem(self, request_id: str | None = None) -> Problem:
        return Problem(
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            hint=self.hint,
            request_id=request_id,
            **self.extra,
        )


class Unauthorized(PalettaError):
    status, code, title = 401, "not_logged_in", "Not logged in"

    def __init__(self, detail: str = "this needs a valid token", **kwargs: Any) -> None:
        kwargs.setdefault("hint", "log in with `paletta login`")
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **kwargs)


class Forbidden(PalettaError):
    status, code, title = 403, "forbidden", "Not allowed"


class NotFound(PalettaError):
    """Also what a foreign object answers: existence is nobody else's business."""

    status, code, title = 404, "not_found", "Not found"

    def __init__(self, kind: str, key: str, **kwargs: Any) -> None:
        super().__init__(f"no {kind} `{key}`", **kwargs)


class Conflict(PalettaError):
    status, code, title = 409, "conflict", "Conflict"


class PreconditionFailed(PalettaError):
    status, code, title = 412, "changed_since", "Changed since you read it"


class Invalid(PalettaError):
    status, code, title = 422, "invalid", "Invalid input"


class TooLarge(PalettaError):
    status, code, title = 413, "body_too_large", "Too large"


class TooManyRequests(PalettaError):
    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, detail: str, *, retry_after: int, **kwargs: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after))}, **kwargs)


class TooSlow(PalettaError):
    """The rest of a request did not come. The connection is of no more use."""

    status, code, title = 408, "too_slow", "Request timeout"

    def __init__(self, detail: str, **kwargs: Any) -> None:
        super().__init__(detail, headers={"Connection": "close"}, **kwargs)


class Unavailable(PalettaError):
    """Something behind us does not answer; the same request may work in a moment."""

    status, code, title = 503, "unavailable", "Unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1, **kwargs: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, **kwargs)


class Overloaded(Unavailable):
    """We have too much to do. Nothing was done about the request, so any request may be sent again."""

    code, title = "overloaded", "Overloaded"


class IngestBusy(TooManyRequests):
    """As many films wait for a worker as may; what is registered already goes on. Meant so, and no fault of ours."""

    code, title = "ingest_busy", "Too many films wait"


def problems(*errors: type[PalettaError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may raise these errors."""
    return {
        error.status: {
            "description": error.title,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for error in errors
    }
