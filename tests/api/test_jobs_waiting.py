"""How many jobs wait, in the log: what a fleet of workers is sized by (`aws/template/compute.py` reads it there)."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from paletta_server.aws.options import Options
from paletta_server.aws.template import render
from paletta_server.core import queue
from paletta_server.core.jobs import FILMS, REST, defer
from paletta_server.core.runtime import Runtime
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


def test_the_template_reads_the_words_that_are_logged() -> None:
    found = render(Options())["Resources"]
    filters = {
        name: resource["Properties"]["FilterPattern"]
        for name, resource in found.items()
        if "Filter" in resource["Type"]
    }
    assert filters == {
        "FilmsWaiting": '{ $.event = "jobs wait" && $.queue = "ingest" }',
        "JobsGivenUp": '{ $.event = "job given up" }',
    }
