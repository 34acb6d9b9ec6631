"""Logs: one JSON object per line, bound to their request or job, and without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from paletta_server.core.logging import bind_job, configure_logging, mask
from paletta_server.core.settings import Settings

TOKEN = "plt_dev_9fX2kQw7ZbT4LmN8"
PRESIGNED = (
    "http://127.0.0.1:8333/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIASECRET%2F20261122"
    "&X-Amz-Expires=900&X-Amz-Signature=0123456789abcdef0123456789abcdef"
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = before
    root.setLevel(level)


def configured() -> logging.Logger:
    """A logger, set up within the test: the handler keeps the standard error that it was made with."""
    configure_logging(Settings(_env_file=None, log_level="DEBUG"))  # type: ignore[call-arg]
    return logging.getLogger("paletta_server.test")


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    written = capsys.readouterr()
    assert written.out == ""
    assert "Logging error" not in written.err, written.err
    found: dict[str, object] = json.loads(written.err.splitlines()[-1])
    return found


def test_a_line_is_an_object_with_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    logs = configured()
    bind_job("ingest.run", 7, clip="clip_x")
    logs.info("probed %s", "it", extra={"frames": 12})
    line = last(capsys)
    assert line["message"] == "probed it"
    assert (line["job"], line["job_id"], line["clip"], line["frames"]) == ("ingest.run", 7, "clip_x", 12)
    assert (line["level"], line["logger"]) == ("info", "paletta_server.test")
    assert str(line["timestamp"]).endswith("Z")


def test_an_exception_is_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError:
        configured().exception("failed")
    line = last(capsys)
    assert "ValueError: bad plt_***" in str(line["exception"])


def test_a_hostile_text_cannot_begin_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configured().info('x\n{"level": "forged"}\r\n\x1b[2J', extra={"file": "a\nb"})
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert json.loads(written)["file"] == "a\nb"


@pytest.mark.parametrize(
    ("extra", "secret"),
    [
        ({"header": f"Bearer {TOKEN}"}, TOKEN[8:]),
        ({"url": PRESIGNED}, "0123456789abcdef"),
        ({"url": PRESIGNED}, "AKIASECRET"),
        ({"link": "https://example.org/account/reset?token=abcdefgh"}, "abcdefgh"),
        ({"dsn": "postgresql://paletta:hunter22@/paletta?host=x"}, "hunter22"),
        ({"password": "hunter22"}, "hunter22"),
        ({"body": {"new_password": "hunter22", "s3_secret_key": "k3y"}}, "hunter22"),
        ({"body": {"new_password": "hunter22", "s3_secret_key": "k3y"}}, "k3y"),
        ({"list": [{"token": "abc"}]}, "abc"),
    ],
)
def test_secrets_do_not_reach_the_log(
    capsys: pytest.CaptureFixture[str], extra: dict[str, object], secret: str
) -> None:
    configured().warning("see %s", json.dumps(extra) if "url" in extra else "extra", extra=extra)
    written = capsys.readouterr().err
    assert secret not in written
    assert "***" in written


@given(st.text())
def test_masking_leaves_no_token_in_any_surroundings(text: str) -> None:
    assert TOKEN not in mask(f"{text} {TOKEN} {text}")


def test_what_is_no_secret_stays() -> None:
    plain = "GET /v1/uploads/upl_7h3k9m2qxw4t?after=3&wait=25 from postgresql://127.0.0.1/paletta"
    assert mask(plain) == plain


def test_a_row_that_the_database_refused_is_not_quoted() -> None:
    refused = 'null value in column "uid"\nDETAIL:  Failing row contains (1, ana@example.org, (a)\nb, $argon2id$x).\n'
    assert mask(refused) == 'null value in column "uid"\nDETAIL:  Failing row contains (***).\n'
