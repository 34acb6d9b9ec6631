"""The jobs of the simulated service: created, listed, cancelled, moved on, each change told to a listener."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.mediaconvert import model

ACCOUNT, REGION = "111122223333", "eu-west-1"
OVER = ("COMPLETE", "CANCELED", "ERROR")
TOKEN_LIVES = timedelta(minutes=1)
PAGE = 20


class NoSuchJob(Exception):
    """404."""


class Conflict(Exception):
    """409: the job is over."""


@dataclass
class Job:
    id: str
    request: dict[str, Any]
    created_at: datetime
    status: str = "SUBMITTED"
    percent: int | None = None
    error: tuple[int, str] | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """`outputGroupDetails` of the event COMPLETE."""

    @property
    def arn(self) -> str:
        return f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:jobs/{self.id}"

    @property
    def queue(self) -> str:
        default = f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:queues/Default"
        return str(self.request.get("Queue", default))

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.request.get("UserMetadata", {}))

    def shown(self) -> dict[str, Any]:
        """As GetJob shows it: without the paths of its outputs."""
        code, message = self.error or (None, None)
        kept = ("Role", "Settings", "UserMetadata", "ClientRequestToken", "Priority", "AccelerationSettings")
        return {
            **{name: self.request[name] for name in kept if name in self.request},
            "Id": self.id,
            "Arn": self.arn,
            "Queue": self.queue,
            "CreatedAt": self.created_at,
            "Status": self.status,
            "JobPercentComplete": self.percent,
            "ErrorCode": code,
            "ErrorMessage": message,
        }


class Service:
    """All jobs of an account. `on_change` hears of every change, with the status that its event carries."""

    def __init__(self, on_change: Callable[[Job, str], None] = lambda job, status: None) -> None:
        self.jobs: dict[str, Job] = {}
        self.on_create: Callable[[Job], object] = lambda job: None
        self.on_change = on_change
        self.lock = threading.RLock()
        self.later = timedelta()
        """How far the service's clock was put on."""
        self.created = 0
        self._numbers = itertools.count(1)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    def create(self, body: dict[str, Any]) -> Job:
        request = model.read("CreateJob", body)
        token = request.get("ClientRequestToken")
        with self.lock:
            for job in self.jobs.values():
                young = self.now() - job.created_at < TOKEN_LIVES
                if token and young and job.request.get("ClientRequestToken") == token:
                    return job
            number = next(self._numbers)
            job = Job(f"{int(self.now().timestamp() * 1000)}-sim{number:06}", request, self.now())
            self.jobs[job.id] = job
            self.created += 1
        self.on_create(job)
        return job

    def get(self, job_id: str) -> Job:
        with self.lock:
            if job_id not in self.jobs:
                raise NoSuchJob(job_id)
            return self.jobs[job_id]

    def listed(self, *, newest_first: bool, queue: str | None, start: int) -> tuple[list[Job], int | None]:
        """A page of jobs, and where the next one starts."""
        with self.lock:
            found = [job for job in self.jobs.values() if queue is None or job.queue == queue]
        if newest_first:
            found.reverse()
        end = start + PAGE
        return found[start:end], end if end < len(found) else None

    def cancel(self, job_id: str) -> None:
        job = self.get(job_id)
        if job.status in OVER:
            raise Conflict(job_id)
        self.move(job, "CANCELED")

    def move(self, job: Job, status: str, *, percent: int | None = None) -> bool:
        """Move a job on; False when it is over already."""
        with self.lock:
            if job.status in OVER:
                return False
            job.status = status if status in (*OVER, "PROGRESSING") else "PROGRESSING"
            job.percent = 100 if status == "COMPLETE" else percent if percent is not None else job.percent
        self.on_change(job, status)
        return True

    def fail(self, job: Job, code: int, message: str) -> bool:
        with self.lock:
            if job.status in OVER:
                return False
            job.error = (code, message)
        return self.move(job, "ERROR")

    def running(self) -> list[Job]:
        with self.lock:
            return [job for job in self.jobs.values() if job.status not in OVER]
