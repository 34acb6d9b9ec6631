"""A film from the command line to a live clip by way of MediaConvert: processes of ours, a queue that speaks SQS, the
simulator's API over HTTP, and events that come twice and out of order."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.faults.site import Server, Site, StoreAddress, program
from tests.support import media
from tests.support.mediaconvert.bench import ROLE
from tests.support.mediaconvert.bus import envelope
from tests.support.mediaconvert.encoder import Encoder
from tests.support.mediaconvert.service import REGION, Job, Service
from tests.support.mediaconvert.wire import Server as ApiServer
from tests.support.mediaconvert.wire import Wire

if TYPE_CHECKING:
    from tests.support.stack import Addresses

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a-test", "AWS_SECRET_ACCESS_KEY": "a-test"}


@pytest.fixture
def sqs() -> Iterator[Any]:
    """A client of a server that speaks SQS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "sqs",
        endpoint_url=f"http://{host}:{port}",
        region_name=REGION,
        aws_access_key_id="a-test",
        aws_secret_access_key="a-test",
    )
    server.stop()


@pytest.fixture
def site(stack: Addresses, worker_name: str, tmp_path: Path) -> Iterator[Site]:
    from tests.support.stack import make_database

    address = StoreAddress(stack.endpoint, stack.access_key, stack.secret_key)
    database = make_database(stack, f"paletta_mediaconvert_{worker_name}")
    with Site(tmp_path / "site", database, address, f"mediaconvert-{worker_name}") as made:
        yield made


def test_a_film_goes_live_by_way_of_mediaconvert(sqs: Any, site: Site, tmp_path: Path) -> None:
    url = sqs.create_queue(QueueName="completions")["QueueUrl"]
    dice, held = random.Random(5), list[str]()

    def on_change(job: Job, status: str) -> None:
        """Each event twice, and none in its order: the last word goes out first."""
        held.extend([envelope(job, status)] * 2)
        if status in ("COMPLETE", "ERROR"):
            dice.shuffle(held)
            for body in reversed(held):
                sqs.send_message(QueueUrl=url, MessageBody=body)

    service = Service(on_change)
    encoder = Encoder(service, site.s3)
    service.on_create = encoder.start
    wire = Wire(service)
    wire.faults.extend(("throttle", "fine"))
    # Photo-JPEG: nothing of the original will do for sale, so that an `hd` is made.
    folder = tmp_path / "shoot"
    folder.mkdir()
    media.clip(folder / "tram.mov", codec="mjpeg", seconds=3.2, look="gradients", audio=True)
    (folder / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- {file: tram.mov, title: Tram number 28 climbs, categories: [transport],"
        " keywords: [tram, lisbon, street, yellow, hill]}\n"
    )
    with ApiServer(wire) as api:
        settings = {
            "TRANSCODER": "mediaconvert",
            "MEDIACONVERT_ENDPOINT": api.url,
            "MEDIACONVERT_ROLE": ROLE,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT": sqs.meta.endpoint_url,
            "COMPLETIONS_QUEUE_URL": url,
        }
        worker = site.make_worker("worker", **settings)
        worker.env = {**worker.env, **CREDENTIALS}
        ready = site.folder / "completions.ready"
        completions = Server(
            "completions",
            (program("paletta-server"), "completions", "--ready-file", str(ready)),
            {**site.env(**settings), **CREDENTIALS},
            site.folder,
            ready_file=ready,
        )
        site.extra.append(completions)
        worker.start()
        completions.start()
        upload = site.upload(folder, state=tmp_path / "state", until="live").wait()
        assert upload.code == 0, f"{upload}\n{worker.tail()}\n{completions.tail()}"
        assert completions.process is not None
        completions.process.signal(signal.SIGTERM)
        assert completions.process.wait(30) == 0, completions.tail()
    (run,) = site.sql("SELECT status, prefix FROM ingest_runs")
    assert run[0] == "done"
    keys = dict(site.sql("SELECT kind, key FROM renditions WHERE number = 1"))
    assert set(keys) >= {"comp", "loop", "hd", "poster", "storyboard", "storyboard_vtt"}
    assert all(key.startswith(run[1]) for key in keys.values())
    for key in keys.values():
        assert site.s3.head_object(Bucket=site.bucket, Key=key)["ContentLength"] > 0
    # The first one was told to slow down: nothing is tried again behind our back, where a token may have run out.
    assert site.sql("SELECT status, submissions FROM transcode_jobs") == [("complete", 2)]
    outcomes = dict(site.sql("SELECT outcome, count(*) FROM transcode_events GROUP BY 1"))
    assert outcomes["handled"] >= 1
    assert set(outcomes) <= {"handled", "late"}
    assert sum(outcomes.values()) <= len(held) // 2, "each event once, however often it came"
    assert service.created == 1
