"""How the checks of an installation ask and answer. They only ever read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["ok", "problem", "unknown"]
AT_ONCE = 8

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccessDenied.AWS",
        "AuthorizationError",
        "UnauthorizedOperation",
        "403",
    }
)
_ACTIONS = {
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketCors": "s3:GetBucketCORS",
    "GetDistribution": "cloudfront:GetDistribution",
    "GetQueueUrl": "sqs:GetQueueUrl",
}
"""Where a right is called otherwise than the request that needs it."""


@dataclass(frozen=True)
class Finding:
    """A line of the report. `fix` is empty where all is well."""

    check: str
    outcome: Outcome
    detail: str
    fix: str = ""


class Problem(Exception):
    """Something is not as it should be."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


class Unknown(Exception):
    """It could not be found out."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


class Missing(Exception):
    """What was asked for does not exist. `code` is AWS's own."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


Check = Callable[[], str]
"""Answers with what is well, or raises `Problem` or `Unknown`."""


def ask(call: Callable[..., Any], **arguments: Any) -> Any:
    """One request. Raises `Missing`, or `Unknown` with the right that is missing or why AWS does not answer."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        return call(**arguments)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _DENIED or "AccessDenied" in code:
            action = right(call, error.operation_name)
            raise Unknown(f"not allowed to look: {action}", f"allow {action} to who runs this") from error
        if _says_missing(code):
            raise Missing(code) from error
        raise Unknown(
            f"{error.operation_name}: AWS answers {code or 'nothing clear'}", "try again"
        ) from error
    except (NoCredentialsError, NoRegionError) as error:
        raise Unknown("there are no credentials", "log in: AWS_PROFILE, or `aws sso login`") from error
    except BotoCoreError as error:
        raise Unknown(f"AWS does not answer ({type(error).__name__})", "check network and region") from error


def right(call: Callable[..., Any], operation: str) -> str:
    """The IAM action that `operation` needs."""
    if known := _ACTIONS.get(operation):
        return known
    client = getattr(call, "__self__", None)
    service = client.meta.service_model.signing_name if client is not None else "?"
    return f"{service}:{operation}"


def _says_missing(code: str) -> bool:
    gone = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist", "404")
    return any(word in code for word in gone) or code == "ValidationError"


def run(checks: dict[str, Check]) -> Iterator[Finding]:
    """Every check's finding, in their order; none of them ends the run. They wait beside each other, since each may
    wait for a network that says nothing."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(_finding, checks, checks.values())


def _finding(name: str, check: Check) -> Finding:
    try:
        return Finding(name, "ok", check())
    except Problem as problem:
        return Finding(name, "problem", str(problem), problem.fix)
    except Unknown as unknown:
        return Finding(name, "unknown", str(unknown), unknown.fix)
    except Missing as missing:
        return Finding(name, "problem", f"it does not exist ({missing.code})", "compare with the stack")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        # An answer in a shape that we do not know.
        return Finding(
            name, "unknown", f"AWS's answer is not understood ({type(error).__name__})", "look there"
        )


def need(value: str | None, setting: str) -> str:
    """A name that has to be known. Raises `Problem`."""
    if not value:
        raise Problem("it is not set", f"set {setting}, or name the stack with --stack")
    return value
