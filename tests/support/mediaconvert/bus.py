"""EventBridge's part: an envelope for each change of a job, and a way to the queue on which anything may happen."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

from tests.support.mediaconvert.service import ACCOUNT, REGION, Job


def envelope(job: Job, status: str, *, event_id: str | None = None) -> str:
    """The event of a job that is now at `status`, as a message's body."""
    stamp = job.created_at.timestamp()
    detail: dict[str, Any] = {
        "timestamp": int(stamp * 1000),
        "accountId": ACCOUNT,
        "queue": job.queue,
        "jobId": job.id,
        "status": status,
        "userMetadata": job.metadata,
    }
    if status == "STATUS_UPDATE":
        detail["framesDecoded"] = 10 * (job.percent or 0)
        detail["jobProgress"] = {
            "phaseProgress": {
                "PROBING": {"status": "COMPLETE", "percentComplete": 100},
                "TRANSCODING": {"status": "PROGRESSING", "percentComplete": job.percent},
                "UPLOADING": {"status": "PENDING", "percentComplete": 0},
            },
            "jobPercentComplete": job.percent,
            "currentPhase": "TRANSCODING",
            "retryCount": 0,
        }
    elif status == "ERROR" and job.error:
        detail["errorCode"], detail["errorMessage"] = job.error
    elif status == "COMPLETE":
        detail["outputGroupDetails"] = job.outputs
    elif status == "NEW_WARNING":
        detail["warningCode"], detail["warningMessage"] = 220001, "a warning"
    return json.dumps(
        {
            "version": "0",
            "id": event_id or str(uuid.uuid4()),
            "detail-type": "MediaConvert Job State Change",
            "source": "aws.mediaconvert",
            "account": ACCOUNT,
            "time": job.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [job.arn],
            "detail": detail,
        }
    )


class Bus:
    """Events on their way. Each is dropped, or delivered once or more often, in any order, as the dice fall."""

    def __init__(self, dice: random.Random, *, drop: float = 0.0, repeat: float = 0.0) -> None:
        self._dice, self._drop, self._repeat = dice, drop, repeat
        self.under_way: list[str] = []

    def on_change(self, job: Job, status: str) -> None:
        """Hears the service's changes."""
        event_id = str(uuid.UUID(int=self._dice.getrandbits(128)))
        if self._dice.random() >= self._drop:
            self.under_way.append(envelope(job, status, event_id=event_id))

    def next(self) -> str | None:
        """One of the events under way, whichever; it may come again."""
        if not self.under_way:
            return None
        at = self._dice.randrange(len(self.under_way))
        if self._dice.random() < self._repeat:
            return self.under_way[at]
        return self.under_way.pop(at)
