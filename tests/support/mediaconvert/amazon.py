"""Amazon's part of a fleet that transcodes there: a queue that speaks SQS, the simulator's API over HTTP, and events
that come late, twice, out of order, or never."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from tests.support import aws
from tests.support.mediaconvert.bench import ROLE
from tests.support.mediaconvert.bus import envelope
from tests.support.mediaconvert.encoder import Encoder
from tests.support.mediaconvert.service import REGION, Job, Service
from tests.support.mediaconvert.wire import Server, Wire

CREDENTIALS = {"AWS_ACCESS_KEY_ID": aws.KEY, "AWS_SECRET_ACCESS_KEY": aws.KEY}


@dataclass(frozen=True)
class Amazon:
    """`settings` of the service, without their prefix, and `connect`, which gives the encoder its store."""

    settings: dict[str, str]
    connect: Callable[[Any], None]


@contextmanager
def amazon(seed: int) -> Iterator[Amazon]:
    """Everything that MediaConvert is to a service of ours. The encoder needs a boto3 client of the store first."""
    with aws.server() as address:
        sqs = boto3.client(
            "sqs", endpoint_url=address, region_name=REGION, aws_access_key_id=aws.KEY, aws_secret_access_key=aws.KEY
        )  # fmt: skip
        url = sqs.create_queue(QueueName="completions")["QueueUrl"]
        dice, one = random.Random(seed), threading.Lock()

        def on_change(job: Job, status: str) -> None:
            with one:
                copies = dice.choices((0, 1, 2, 3), (1, 6, 2, 1))[0]
                for _ in range(copies):
                    sqs.send_message(
                        QueueUrl=url,
                        MessageBody=envelope(job, status),
                        DelaySeconds=dice.choice((0, 0, 0, 1)),
                    )

        service = Service(on_change)

        def connect(s3: Any) -> None:
            service.on_create = Encoder(service, s3).start

        with Server(Wire(service)) as api:
            settings = {
                "TRANSCODER": "mediaconvert",
                "MEDIACONVERT_ENDPOINT": api.url,
                "MEDIACONVERT_ROLE": ROLE,
                "AWS_REGION": REGION,
                "AWS_ENDPOINT": address,
                "COMPLETIONS_QUEUE_URL": url,
            }
            yield Amazon(settings, connect)
