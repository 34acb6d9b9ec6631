"""From an order to a job of MediaConvert: one job for each attempt, all outputs in one decode.

Not everything of the plan is theirs to make. Clippings belong to inputs, hence to all outputs of a job: the loop is cut
out of the finished comp by us (`outputs`), which is cheaper than a second job. Posters, storyboard and its WebVTT are
made of the frames that they capture.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from paletta_server.ingest.mediaconvert import h264
from paletta_server.ingest.mediaconvert.orders import Order
from paletta_server.ingest.plan import Posters, Preview, Rendition

COMP, FRAME, WISH = "comp", "frame", "wish"
WORK = "work/"
"""Below a submission's folder: what is used up when the attempt is finished."""
_STEM = "film"
_JPEG_QUALITY = 90
_LARGE = 3840 * 2160 * 24 * 30
"""Pixels over the whole film: half a minute of 4K. From here on acceleration is worth asking for."""
_AAC_BITRATES = (64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 576)


def submission_folder(number: int) -> str:
    """Where, below the attempt's prefix, the outputs of its submission of this number are."""
    return f"job{number}/"


def rendition_key(folder: str, tier: str) -> str:
    """Where a film for sale is written, and stays. `folder` is the submission's, with its slash."""
    return f"{folder}{_STEM}-{tier}.mp4"


def comp_key(folder: str) -> str:
    """Where the comp is written, to be stored again with our own headers."""
    return f"{folder}{WORK}{_STEM}-{COMP}.mp4"


def captures_prefix(folder: str, kind: str) -> str:
    """What the keys of captured frames begin with; a number of seven digits and ``.jpg`` follow."""
    return f"{folder}{WORK}{_STEM}-{kind}."


def job_request(
    order: Order,
    *,
    bucket: str,
    source_key: str,
    prefix: str,
    mark_key: str,
    run: str,
    attempt: int,
    submission: int,
    role: str,
    queue: str | None,
) -> dict[str, Any]:
    """The request of CreateJob. `prefix` is the attempt's, with its slash."""
    folder = f"s3://{bucket}/{prefix}{submission_folder(submission)}"
    films = [
        _output(f"-{made.tier}", _sold(made, order), _audio(made, order)) for made in order.plan.renditions
    ]
    comp = _output(f"-{COMP}", _comp(order, f"s3://{bucket}/{mark_key}"), None)
    work = [comp, *_captures(order)]
    request: dict[str, Any] = {
        "Role": role,
        # Keeps twins away for one minute; what keeps them away for good is the row that this is made from.
        "ClientRequestToken": run if submission == 1 else f"{run}-{submission}",
        "UserMetadata": {"run": run, "attempt": str(attempt), "submission": str(submission)},
        "StatusUpdateInterval": "SECONDS_30",
        "Priority": _priority(order),
        # PREFERRED falls back where ENABLED would fail (1041 to 1043): as long as captured frames are not on Amazon's
        # list of outputs that can be accelerated, with every job of ours.
        "AccelerationSettings": {"Mode": "PREFERRED" if _pixels(order) >= _LARGE else "DISABLED"},
        "Settings": {
            "TimecodeConfig": {"Source": "ZEROBASED"},
            "Inputs": [_input(order, f"s3://{bucket}/{source_key}")],
            "OutputGroups": [
                *([_group("for sale", folder, films)] if films else []),
                _group("work", folder + WORK, work),
            ],
        },
    }
    if queue:
        request["Queue"] = queue
    return request


def _pixels(order: Order) -> float:
    video = order.probe.video
    return video.coded_width * video.coded_height * video.fps * order.probe.duration


def _priority(order: Order) -> int:
    """Small films first: their contributors wait for little, and hold nobody up."""
    return 10 if _pixels(order) < _LARGE / 8 else 0 if _pixels(order) < _LARGE else -10


def _input(order: Order, address: str) -> dict[str, Any]:
    video = order.probe.video
    selector: dict[str, Any] = {"Rotate": "AUTO", "ColorSpace": "FOLLOW", "AlphaBehavior": "DISCARD"}
    if video.color_range == "pc":
        selector["SampleRange"] = "FULL_RANGE"
    found: dict[str, Any] = {"FileInput": address, "TimecodeSource": "ZEROBASED", "VideoSelector": selector}
    if any(made.audio for made in order.plan.renditions):
        found["AudioSelectors"] = {
            "Audio Selector 1": {"DefaultSelection": "DEFAULT", "SelectorType": "TRACK", "Tracks": [1]}
        }
    return found


def _group(name: str, destination: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    # A name at the end of the destination takes the place of the original's, which is a key of ours and tells nothing.
    settings = {"Type": "FILE_GROUP_SETTINGS", "FileGroupSettings": {"Destination": f"{destination}{_STEM}"}}
    return {"Name": name, "OutputGroupSettings": settings, "Outputs": outputs}


def _output(modifier: str, video: dict[str, Any], audio: dict[str, Any] | None) -> dict[str, Any]:
    output: dict[str, Any] = {
        "NameModifier": modifier,
        # The index in front: a browser starts a comp without reading its end.
        "ContainerSettings": {"Container": "MP4", "Mp4Settings": {"MoovPlacement": "PROGRESSIVE_DOWNLOAD"}},
        "VideoDescription": video,
    }
    if audio is not None:
        output["AudioDescriptions"] = [audio]
    return output


def _picture(width: int, height: int, order: Order, codec: dict[str, Any]) -> dict[str, Any]:
    """A picture of exactly this size. The plan has kept its shape, so that stretching to it evens out no more than the
    rounding and an anamorphic lens; any other way would leave bars."""
    found: dict[str, Any] = {
        "Width": width,
        "Height": height,
        "ScalingBehavior": "STRETCH_TO_OUTPUT",
        "TimecodeInsertion": "DISABLED",
        "CodecSettings": codec,
    }
    steps = _preprocessors(order)
    if steps:
        found["VideoPreprocessors"] = steps
    return found


def _preprocessors(order: Order) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    if order.plan.deinterlace:
        steps["Deinterlacer"] = {"Mode": "DEINTERLACE", "Algorithm": "INTERPOLATE", "Control": "NORMAL"}
    corrector: dict[str, Any] = {}
    if order.plan.tone_map:
        corrector = {"ColorSpaceConversion": "FORCE_709", "HdrToSdrToneMapper": "PRESERVE_DETAILS"}
    if order.probe.video.color_range == "pc":
        corrector["SampleRangeConversion"] = "LIMITED_RANGE_SQUEEZE"
    if corrector:
        steps["ColorCorrector"] = corrector
    return steps


def _h264(order: Order, width: int, height: int, level: int, kbps: int, divisor: int) -> dict[str, Any]:
    rate = Fraction(order.probe.video.rate) / divisor
    settings: dict[str, Any] = {
        "RateControlMode": "QVBR",
        "QvbrSettings": {"QvbrQualityLevel": level},
        "MaxBitrate": kbps * 1000,
        "CodecProfile": "HIGH",
        "CodecLevel": h264.level_for(width, height, float(rate), kbps),
        # One pass that looks ahead: two passes double the price for what QVBR has mostly found already.
        "QualityTuningLevel": "SINGLE_PASS_HQ",
        "InterlaceMode": "PROGRESSIVE",
        "GopSize": 2.0,
        "GopSizeUnits": "SECONDS",
        "SceneChangeDetect": "ENABLED",
        "ParControl": "SPECIFIED",
        "ParNumerator": 1,
        "ParDenominator": 1,
        "FramerateControl": "INITIALIZE_FROM_SOURCE",
    }
    if divisor > 1:
        settings |= {
            "FramerateControl": "SPECIFIED",
            "FramerateNumerator": rate.numerator,
            "FramerateDenominator": rate.denominator,
            "FramerateConversionAlgorithm": "DUPLICATE_DROP",
        }
    return {"Codec": "H_264", "H264Settings": settings}


def _sold(made: Rendition, order: Order) -> dict[str, Any]:
    quality = h264.FOR_SALE[made.tier]
    kbps = h264.ceiling_kbps(quality, order.probe.video.fps)
    codec = _h264(order, made.width, made.height, quality.level, kbps, 1)
    return _picture(made.width, made.height, order, codec)


def _comp(order: Order, mark: str) -> dict[str, Any]:
    comp: Preview = order.plan.comp
    codec = _h264(order, comp.width, comp.height, h264.COMP_LEVEL, comp.max_kbps, comp.rate_divisor)
    found = _picture(comp.width, comp.height, order, codec)
    # The mark is as large as the comp, and as transparent as it is to be: nothing is left to do for the inserter.
    image = {
        "ImageInserterInput": mark,
        "Layer": 1,
        "Opacity": 100,
        "ImageX": 0,
        "ImageY": 0,
        "Width": comp.width,
        "Height": comp.height,
    }
    steps = found.setdefault("VideoPreprocessors", {})
    steps["ImageInserter"] = {"InsertableImages": [image]}
    return found


def _audio(made: Rendition, order: Order) -> dict[str, Any] | None:
    """AAC at 96 kb/s a channel, past the point where listeners hear a difference; AAC in the source is passed through
    where that can be."""
    if made.audio is None:
        return None
    channels = order.probe.audio[0].channels
    mode, count = ("CODING_MODE_1_0", 1) if channels == 1 else ("CODING_MODE_2_0", 2)
    if channels >= 6:
        mode, count = "CODING_MODE_5_1", 6
    bitrate = next(one for one in _AAC_BITRATES if one >= 96 * count)
    settings = {
        "Bitrate": bitrate * 1000,
        "CodingMode": mode,
        "SampleRate": 48000,
        "RateControlMode": "CBR",
        "CodecProfile": "LC",
        "PassthroughControl": "WHEN_POSSIBLE" if made.audio == "copy" else "NO_PASSTHROUGH",
    }
    return {
        "AudioSourceName": "Audio Selector 1",
        "CodecSettings": {"Codec": "AAC", "AacSettings": settings},
    }


def _captures(order: Order) -> list[dict[str, Any]]:
    """Frames at the posters' size, one for each cell of the storyboard; and the wished one.

    A capture is taken of the first frame, then one each interval: with the wish itself as the interval, the second
    capture is the frame that was wished for.
    """
    posters, board = order.plan.posters, order.plan.storyboard
    found = [_capture(FRAME, posters, order, Fraction(board.interval), board.cells)]
    if posters.requested:
        found.append(_capture(WISH, posters, order, Fraction(posters.requested), 2))
    return found


def _capture(kind: str, posters: Posters, order: Order, interval: Fraction, most: int) -> dict[str, Any]:
    # In microseconds: exact enough for the longest clip, and within their integers.
    spacing = max(1, round(interval * 1_000_000))
    settings = {
        "FramerateNumerator": 1_000_000,
        "FramerateDenominator": spacing,
        "MaxCaptures": most,
        "Quality": _JPEG_QUALITY,
    }
    codec = {"Codec": "FRAME_CAPTURE", "FrameCaptureSettings": settings}
    return {
        "NameModifier": f"-{kind}",
        "ContainerSettings": {"Container": "RAW"},
        "VideoDescription": _picture(posters.width, posters.height, order, codec),
    }
