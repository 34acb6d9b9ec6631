"""The whole way through MediaConvert in one call, without a database: a transcoder like any other, for its contract."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore
from paletta_server.ingest import checkup
from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.mediaconvert import events, faults, marks, outputs
from paletta_server.ingest.mediaconvert.api import Api
from paletta_server.ingest.mediaconvert.orders import Order, from_dict
from paletta_server.ingest.mediaconvert.request import job_request, submission_folder
from paletta_server.ingest.plan import OutputPlan
from paletta_server.ingest.probe import MediaLimits, Probe
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.transcode import TranscodeResult
from tests.support.mediaconvert.bus import envelope
from tests.support.mediaconvert.encoder import Encoder
from tests.support.mediaconvert.service import Job, Service
from tests.support.mediaconvert.wire import Wire, client

ROLE = "arn:aws:iam::111122223333:role/paletta-mediaconvert"


def s3_client(settings: Settings) -> Any:
    """A plain client of the tests' store: MediaConvert has credentials of its own."""
    import boto3

    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
    )


@dataclass
class Bench:
    """See `ingest.transcode.Transcoder`."""

    store: ObjectStore
    settings: Settings
    sandbox: Sandbox
    limits: MediaLimits
    scratch: Path

    async def run(
        self,
        source: Path,
        probe: Probe,
        plan: OutputPlan,
        out_dir: Path,
        on_progress: Callable[[float], None],
    ) -> TranscodeResult:
        decoded = await checkup.run(source, probe, self.sandbox, self.limits, out_dir)
        # As the row in the database has it.
        order = from_dict(Order(plan, probe, decoded, (), {}).to_dict())
        run = f"run_{uuid.uuid4().hex[:12]}"
        prefix = f"media/clip_bench/{run}/"
        await self.store.upload(source, f"originals/{run}", content_type="video/mp4", cache_seconds=60)
        mark = await marks.ensure(self.store, self.scratch, plan.comp, run)
        told: list[float] = []

        def on_change(job: Job, status: str) -> None:
            share = events.parse(envelope(job, status)).news.share
            if share is not None:
                told.append(share)

        service = Service(on_change)
        api = Api(client(Wire(service)))
        request = job_request(
            order,
            bucket=self.settings.s3_bucket,
            source_key=f"originals/{run}",
            prefix=prefix,
            mark_key=mark,
            run=run,
            attempt=1,
            submission=1,
            role=ROLE,
            queue=None,
        )
        made = await api.create(request)
        await asyncio.to_thread(Encoder(service, s3_client(self.settings)).run, service.get(made["Id"]))
        news = events.answered(await api.get(made["Id"]))
        if news.status != "COMPLETE":
            fault = faults.judge(news.error_code, news.error_message)
            if isinstance(fault, EngineFailed):
                raise fault
            raise Rejected(fault.code, fault.reason, fault.hint)
        for share in told:
            on_progress(share)
        result = await outputs.collect(
            self.store, order, prefix + submission_folder(1), out_dir, self.sandbox
        )
        on_progress(1.0)
        return result
