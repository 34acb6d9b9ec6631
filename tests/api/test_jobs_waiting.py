"""How many jobs wait, in the log: what a fleet of workers is sized by (`aws/template/compute.py` reads it there)."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from sqlalchemy import text

from paletta_server.aws.options import Options
from paletta_server.aws.template import render
from paletta_server.core import queue
from paletta_server.core.jobs import FILMS, REST, defer
from paletta_server.core.logging import configure_logging
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.operations.tasks import watch_jobs


async def test_what_is_due_is_counted_and_what_is_later_or_running_is_not(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async with runtime.db.transaction() as session:
        for number in range(4):
            await defer(session, "ingest.run", upload_id=number)
        await session.execute(
            text(
                "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour'"
                " WHERE id = (SELECT max(id) FROM procrastinate_jobs)"
            )
        )
    async with runtime.db.transaction() as session:
        assert await queue.waiting(session, (*FILMS, *REST)) == {"ingest": 3, "default": 0, "mail": 0}
    with caplog.at_level(logging.INFO):
        await watch_jobs(runtime)
    said = [record for record in caplog.records if record.getMessage() == "jobs wait"]
    assert {(record.queue, record.waiting) for record in said} == {("ingest", 3), ("default", 0), ("mail", 0)}  # type: ignore[attr-defined]


def test_the_template_reads_the_lines_that_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """The filters, applied to lines as a worker of production writes them."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure_logging(Settings(_env_file=None, log_format="json"))
        logging.getLogger("paletta").info("jobs wait", extra={"queue": "ingest", "waiting": 3})
        logging.getLogger("paletta").info("jobs wait", extra={"queue": "mail", "waiting": 9})
        logging.getLogger("paletta").error(
            "job given up", extra={"job": "ingest.run", "job_id": 7, "tries": 3}
        )
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 3
    values = {}
    for resource in render(Options())["Resources"].values():
        if resource["Type"] == "AWS::Logs::MetricFilter":
            (metric,) = resource["Properties"]["MetricTransformations"]
            matching = [line for line in lines if matches(resource["Properties"]["FilterPattern"], line)]
            values[metric["MetricName"]] = [
                line[metric["MetricValue"][2:]]
                if metric["MetricValue"].startswith("$.")
                else metric["MetricValue"]
                for line in matching
            ]
    assert values == {"FilmsWaiting": [3], "JobsGivenUp": ["1"]}


def matches(pattern: str, line: dict[str, Any]) -> bool:
    """CloudWatch's filter patterns for JSON, as far as the template uses them: equal words, being there, both."""
    terms = re.findall(r'\$\.(\w+) = (?:"([^"]*)"|(\*))', pattern)
    rest = re.sub(r'\$\.\w+ = (?:"[^"]*"|\*)', "", pattern)
    assert terms
    assert set(rest) <= set("{} ()&"), rest
    return all(name in line if anything else line.get(name) == word for name, word, anything in terms)
