"""What is ordered from MediaConvert, held to Amazon's own model; what its events and errors are taken for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.validate import ParamValidator

from paletta_server.ingest.checkup import Decoded
from paletta_server.ingest.errors import EngineFailed, Finding
from paletta_server.ingest.mediaconvert import events, faults, h264, orders
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.mediaconvert.request import captures_prefix, comp_key, job_request, rendition_key
from paletta_server.ingest.plan import plan_outputs
from paletta_server.ingest.probe import Audio, Probe, Video
from tests.support.mediaconvert import model
from tests.support.mediaconvert.bench import ROLE

HD = Video(
    *("prores", "HQ", 1920, 1080, 1920, 1080, "1:1", 0, "yuv422p10le", 10, 25.0, "25/1", 250, 10.0),
    *("progressive", False, "tv", "bt709", "bt709", "bt709", 100_000_000, 0.0, 0),
)
FILMS: dict[str, dict[str, Any]] = {
    "hd": {},
    "4k-hevc-hlg": {
        "codec": "hevc",
        "width": 3840,
        "height": 2160,
        "coded_width": 3840,
        "coded_height": 2160,
        "color_transfer": "arib-std-b67",
        "color_primaries": "bt2020",
        "fps": 59.94,
        "rate": "60000/1001",
    },
    "dci-120": {
        "width": 4096,
        "height": 2160,
        "coded_width": 4096,
        "coded_height": 2160,
        "fps": 120.0,
        "rate": "120/1",
    },
    "phone": {"width": 1080, "height": 1920, "rotation": 90, "codec": "hevc"},
    "interlaced": {"scan": "interlaced", "rate": "30000/1001", "fps": 29.97},
    "full-range": {"codec": "mjpeg", "color_range": "pc"},
    "tiny": {"width": 160, "height": 90, "coded_width": 160, "coded_height": 90},
}
TRACKS = {
    "none": (),
    "mono": (Audio("pcm_s24le", 1, 48000, None, True),),
    "stereo-aac": (Audio("aac", 2, 44100, 128_000, True),),
    "surround": (Audio("pcm_s24le", 6, 48000, None, True),),
    "strange": (Audio("truehd", 8, 48000, None, False),),
}


def order(film: str = "hd", sound: str = "none", *, poster_at: float | None = None) -> Order:
    video = replace(HD, **FILMS[film])
    probe = Probe("mov", "mov", 100_000_000, 10.0, 80_000_000, video, TRACKS[sound], 0)
    return Order(
        plan_outputs(probe, poster_at=poster_at), probe, Decoded(250, (4.0,)), ("short",), {"probe": 0.2}
    )


def request(made: Order, **changes: Any) -> dict[str, Any]:
    given = {
        "bucket": "paletta",
        "source_key": "originals/upl_1",
        "prefix": "media/clip_1/run_1/",
        "attempt": 1,
        "mark_key": "_paletta/marks/a.png",
        "run": "run_1",
        "submission": 1,
        "role": ROLE,
        "queue": None,
        **changes,
    }
    return job_request(made, **given)


def outputs(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        output["NameModifier"]: output
        for group in found["Settings"]["OutputGroups"]
        for output in group["Outputs"]
    }


@pytest.mark.parametrize("poster_at", [None, 0.0, 2.51])
@pytest.mark.parametrize("sound", TRACKS)
@pytest.mark.parametrize("film", FILMS)
def test_every_request_is_one_that_the_service_knows(film: str, sound: str, poster_at: float | None) -> None:
    found = request(
        order(film, sound, poster_at=poster_at), queue="arn:aws:mediaconvert:eu-west-1:1:queues/a"
    )
    shape = model.api().operation_model("CreateJob").input_shape
    report = ParamValidator().validate(found, shape)
    assert not report.has_errors(), report.generate_report()
    # And as the service reads it off the wire: enumerations, ranges and patterns too.
    assert model.read("CreateJob", model._write(shape, found)) == found
    assert all(len(key) <= 64 for key in (found["ClientRequestToken"], *found["UserMetadata"]))


@pytest.mark.parametrize(
    ("width", "height"),
    [(4096, 2304), (4096, 3072), (5952, 3968), (7680, 4320), (4320, 7680), (8192, 1024), (3840, 2400)],
)
def test_no_picture_is_larger_than_they_make(width: int, height: int) -> None:
    film = order("4k-hevc-hlg").probe
    seen = replace(
        film.video, width=width, height=height, coded_width=width, coded_height=height, pix_fmt="yuv420p"
    )
    large = replace(film, video=seen)
    found = request(replace(order(), probe=large, plan=plan_outputs(large)))
    model.read("CreateJob", model._write(model.api().operation_model("CreateJob").input_shape, found))
    assert "-uhd4k" in outputs(found)


def test_a_setting_that_amazon_does_not_have_is_refused() -> None:
    found = request(order())
    found["Settings"]["Inputs"][0]["Rotation"] = "AUTO"
    with pytest.raises(KeyError, match="Rotation"):
        model._write(model.api().operation_model("CreateJob").input_shape, found)
    with pytest.raises(model.BadRequest, match="unknown"):
        model.read("CreateJob", {"role": ROLE, "settings": {"inputs": [{"rotation": "AUTO"}]}})
    with pytest.raises(model.BadRequest, match="is none of"):
        model.read("CreateJob", {"role": ROLE, "settings": {}, "statusUpdateInterval": "SECONDS_7"})


def test_what_is_sold_is_whole_and_what_is_shown_is_marked() -> None:
    found = outputs(request(order("hd", "stereo-aac", poster_at=2.5)))
    assert set(found) == {"-hd", "-comp", "-frame", "-wish"}
    sold, comp = found["-hd"]["VideoDescription"], found["-comp"]["VideoDescription"]
    assert (sold["Width"], sold["Height"], sold["ScalingBehavior"]) == (1920, 1080, "STRETCH_TO_OUTPUT")
    assert "VideoPreprocessors" not in sold
    mark = comp["VideoPreprocessors"]["ImageInserter"]["InsertableImages"][0]
    assert mark["ImageInserterInput"] == "s3://paletta/_paletta/marks/a.png"
    assert (mark["Width"], mark["Height"]) == (comp["Width"], comp["Height"]) == (960, 540)
    assert found["-hd"]["AudioDescriptions"][0]["CodecSettings"]["AacSettings"]["Bitrate"] == 192_000
    assert "AudioDescriptions" not in found["-comp"]
    wish = found["-wish"]["VideoDescription"]["CodecSettings"]["FrameCaptureSettings"]
    assert (wish["FramerateDenominator"] / wish["FramerateNumerator"], wish["MaxCaptures"]) == (2.5, 2)
    every = found["-frame"]["VideoDescription"]["CodecSettings"]["FrameCaptureSettings"]
    assert (every["FramerateDenominator"] / every["FramerateNumerator"], every["MaxCaptures"]) == (1.0, 10)


def test_what_the_film_needs_is_done_to_every_output() -> None:
    for output in outputs(request(order("interlaced"))).values():
        assert output["VideoDescription"]["VideoPreprocessors"]["Deinterlacer"]["Mode"] == "DEINTERLACE"
    for output in outputs(request(order("4k-hevc-hlg"))).values():
        corrector = output["VideoDescription"]["VideoPreprocessors"]["ColorCorrector"]
        assert corrector["ColorSpaceConversion"] == "FORCE_709"
    found = request(order("full-range"))
    assert found["Settings"]["Inputs"][0]["VideoSelector"]["SampleRange"] == "FULL_RANGE"
    fast = outputs(request(order("dci-120")))["-comp"]["VideoDescription"]["CodecSettings"]["H264Settings"]
    assert (fast["FramerateNumerator"], fast["FramerateDenominator"]) == (60, 1)


def test_each_submission_writes_elsewhere_and_has_a_token_of_its_own() -> None:
    first, second = request(order()), request(order(), submission=2)
    assert (first["ClientRequestToken"], second["ClientRequestToken"]) == ("run_1", "run_1-2")
    assert second["UserMetadata"] == {"run": "run_1", "attempt": "1", "submission": "2"}
    groups = second["Settings"]["OutputGroups"]
    bases = [group["OutputGroupSettings"]["FileGroupSettings"]["Destination"] for group in groups]
    folder = "media/clip_1/run_1/job2/"
    assert f"{bases[0]}-hd.mp4" == f"s3://paletta/{rendition_key(folder, 'hd')}"
    assert f"{bases[1]}-comp.mp4" == f"s3://paletta/{comp_key(folder)}"
    assert f"{bases[1]}-frame." == f"s3://paletta/{captures_prefix(folder, 'frame')}"


def test_large_films_are_accelerated_and_small_ones_go_first() -> None:
    small, large = request(order()), request(replace(order("4k-hevc-hlg"), probe=long("4k-hevc-hlg")))
    assert (small["AccelerationSettings"]["Mode"], large["AccelerationSettings"]["Mode"]) == (
        "DISABLED",
        "PREFERRED",
    )
    assert small["Priority"] > large["Priority"]


def long(film: str) -> Probe:
    return replace(order(film).probe, duration=100.0)


@pytest.mark.parametrize(
    ("width", "height", "fps", "kbps", "level"),
    [
        (1920, 1080, 30, 24_000, "LEVEL_4"),
        (1920, 1080, 25, 30_000, "LEVEL_4_1"),
        (1920, 1080, 60, 36_000, "LEVEL_4_2"),
        (1920, 1080, 120, 36_000, "LEVEL_5_1"),
        (3840, 2160, 30, 60_000, "LEVEL_5_1"),
        (3840, 2160, 60, 90_000, "LEVEL_5_2"),
        (4096, 2160, 120, 90_000, "AUTO"),
        (960, 540, 30, 1_800, "LEVEL_3_1"),
    ],
)
def test_levels_are_the_standards(width: int, height: int, fps: float, kbps: int, level: str) -> None:
    assert h264.level_for(width, height, fps, kbps) == level


@pytest.mark.parametrize("film", FILMS)
def test_an_order_comes_back_from_its_row_as_it_was(film: str) -> None:
    made = order(film, "stereo-aac", poster_at=1.0)
    assert orders.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert made.digest("a") != made.digest("b")


def event(status: str, **detail: Any) -> str:
    base = {"jobId": "1-a", "status": status, "userMetadata": {"run": "run_1", "submission": "2"}, **detail}
    return json.dumps(
        {
            "id": "e1",
            "source": "aws.mediaconvert",
            "detail-type": "MediaConvert Job State Change",
            "detail": base,
        }
    )


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        ({"jobPercentComplete": 37}, 0.37),
        ({"jobPercentComplete": 100}, 0.99),
        ({"jobPercentComplete": -4}, 0.0),
        ({"phaseProgress": {"TRANSCODING": {"percentComplete": 50}}}, 0.5),
        ({"phaseProgress": {"TRANSCODING": {}}}, None),
        ({"phaseProgress": []}, None),
        ("half", None),
        (None, None),
    ],
)
def test_progress_is_believed_within_bounds(progress: Any, share: float | None) -> None:
    news = events.parse(event("STATUS_UPDATE", jobProgress=progress)).news
    assert (news.share, news.run, news.submission) == (share, "run_1", 2)


@pytest.mark.parametrize(
    "body",
    [
        *("", "no", "[]", "null", '"x"', "{}", "[" * 100_000),
        event("ERROR").replace("aws.mediaconvert", "aws.s3"),
        event("ERROR").replace('"1-a"', "7"),
        event("ERROR").replace('"1-a"', '"\\u0000"'),
        event("ERROR").replace('"1-a"', '"1-\\ud800"'),
        event("ERROR").replace('"e1"', json.dumps("e" * 1000)),
        event(""),
    ],
)
def test_what_is_no_event_is_malformed(body: str) -> None:
    with pytest.raises(events.Malformed):
        events.parse(body)


def test_letters_and_numbers_that_cannot_be_stored_are_left_out() -> None:
    said = {"errorMessage": "no\0pe \ud83d", "errorCode": 10**12, "errorDetails": {"a\0": ["b\0", 7]}}
    found = events.parse(event("ERROR", **said).replace("7]", "1e999]"))
    assert (found.news.error_message, found.news.error_code) == ("nope ", None)
    assert found.payload["detail"]["errorMessage"] == "nope "
    assert found.payload["detail"]["errorDetails"] == {"a": ["b", None]}
    job = {
        "Id": "1-a",
        "Status": "ERROR",
        "ErrorMessage": "no\0pe",
        "ErrorCode": 1404,
        "JobPercentComplete": 10**400,
    }
    news = events.answered(job)
    assert (news.error_message, news.error_code, news.share) == ("nope", 1404, 0.99)
    assert events.answered({}).status not in events.KNOWN


def test_metadata_of_others_is_nothing_to_us() -> None:
    for metadata in (None, [], {"run": 5}, {"run": ""}, {"submission": "9" * 40}, {"submission": "-1"},
                     {"submission": "²"}, {"submission": "9" * 5000}):  # fmt: skip
        news = events.parse(event("PROGRESSING", userMetadata=metadata)).news
        assert news.run is None
        assert 0 <= news.submission < 2**31


def test_only_what_is_in_the_file_is_the_files_fault() -> None:
    for code in (1020, 1030, 1075, 1076, 1092):
        assert isinstance(faults.judge(code, "words of theirs s3://paletta/originals/a"), Finding), code
    for code in (None, 0, 1040, 1401, 1404, 1432, 1999, 3999, 77):
        assert isinstance(faults.judge(code, None), EngineFailed), code
    opened = "Unable to open input file [s3://b/k]: [Failed probe/open: [No parser found for container]]"
    assert isinstance(faults.judge(1010, opened), Finding)
    assert isinstance(faults.judge(1010, "Unable to open input file: Access Denied"), EngineFailed)
    for code in (1076, 1432):
        found = faults.judge(code, "s3://paletta/originals/a")
        assert "s3://" not in (found.reason + getattr(found, "hint", "")), "their words are for the log"
