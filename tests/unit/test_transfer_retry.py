"""What each answer of the store means for the part, the file and the run."""

from __future__ import annotations

import http.client
import ssl

import pytest

from paletta_cli.api import jitter, retry_after
from paletta_cli.transfer.retry import Verdict, judge, judge_error
from paletta_cli.transfer.wire import Answer


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (200, "", Verdict.STORED),
        (500, "InternalError", Verdict.AGAIN),
        (502, "", Verdict.AGAIN),
        (408, "", Verdict.AGAIN),
        (409, "ConditionalRequestConflict", Verdict.AGAIN),
        (400, "RequestTimeout", Verdict.AGAIN),
        (400, "IncompleteBody", Verdict.AGAIN),
        (503, "SlowDown", Verdict.SLOWER),
        (503, "", Verdict.SLOWER),
        (429, "", Verdict.SLOWER),
        (400, "BadDigest", Verdict.DAMAGED),
        (400, "XAmzContentChecksumMismatch", Verdict.DAMAGED),
        (403, "AccessDenied", Verdict.SIGN),
        (403, "", Verdict.SIGN),
        (401, "", Verdict.SIGN),
        (404, "NoSuchUpload", Verdict.GONE),
        (404, "", Verdict.GONE),
        (400, "InvalidArgument", Verdict.FILE),
        (413, "EntityTooLarge", Verdict.FILE),
        (412, "PreconditionFailed", Verdict.FILE),
        (307, "TemporaryRedirect", Verdict.ALL),
    ],
)
def test_answers(status: int, code: str, verdict: Verdict) -> None:
    assert judge(Answer(status, code), one_put=False) is verdict


def test_a_precondition_that_fails_for_one_put_means_stored() -> None:
    assert judge(Answer(412, "PreconditionFailed"), one_put=True) is Verdict.STORED


def test_errors_on_the_way() -> None:
    for error in (
        ConnectionResetError(),
        TimeoutError(),
        OSError("no route"),
        http.client.IncompleteRead(b""),
    ):
        assert judge_error(error) is Verdict.AGAIN
    assert judge_error(ssl.SSLCertVerificationError()) is Verdict.ALL
    with pytest.raises(KeyError):
        judge_error(KeyError("a bug is not the network"))


def test_full_jitter() -> None:
    assert jitter(0, draw=lambda: 1.0) == 1.0
    assert jitter(3, draw=lambda: 1.0) == 8.0
    assert jitter(50, draw=lambda: 1.0) == 30.0
    assert jitter(5, draw=lambda: 0.0) == 0.0


def test_retry_after() -> None:
    assert retry_after("17") == 17.0
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    # However long a server asks for, whoever waits looks again within a minute.
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") == retry_after("99999999") == 60.0
