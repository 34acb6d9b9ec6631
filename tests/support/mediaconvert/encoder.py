"""Makes the outputs of a job for real: from its input in S3, with ffmpeg, to where the job says, named as they name.

Only what our requests use is understood; anything else is an error, so that a new setting cannot be forgotten here.
What it cannot show is how the real encoder looks: bit rates, and quality for quality, are x264's.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from tests.support import media
from tests.support.mediaconvert.service import Job, Service

TONE_MAP = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=hable:desat=0"
    ",zscale=transfer=bt709:matrix=bt709:range=tv"
)


class Failed(Exception):
    """The job ends in an error of this code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Output:
    destination: str
    """`s3://bucket/base`, to which modifier, number and suffix are added."""
    settings: dict[str, Any]

    @property
    def base(self) -> str:
        return self.destination + self.settings["NameModifier"]


class Encoder:
    """Works off jobs, one at a time, in threads of its own. `s3` is a boto3 client."""

    def __init__(self, service: Service, s3: Any) -> None:
        self._service, self._s3 = service, s3
        self._one = threading.Lock()

    def start(self, job: Job) -> threading.Thread:
        thread = threading.Thread(target=self.run, args=(job,), daemon=True)
        thread.start()
        return thread

    def run(self, job: Job) -> None:
        """Encode; the job is COMPLETE or ERROR afterwards, unless it was cancelled meanwhile."""
        with self._one, TemporaryDirectory(prefix="paletta-simulator-") as folder:
            self._service.move(job, "PROGRESSING")
            try:
                job.outputs = self._encode(job, Path(folder))
            except Failed as error:
                self._service.fail(job, error.code, str(error))
            else:
                self._service.move(job, "STATUS_UPDATE", percent=95)
                self._service.move(job, "COMPLETE")

    def _encode(self, job: Job, folder: Path) -> list[dict[str, Any]]:
        settings = job.request["Settings"]
        (source,) = settings["Inputs"]
        path = self._fetch(source["FileInput"], folder / "source", 1404)
        outputs = [
            _Output(group["OutputGroupSettings"]["FileGroupSettings"]["Destination"], output)
            for group in settings["OutputGroups"]
            for output in group["Outputs"]
        ]
        command = ["-i", str(path)]
        marks: dict[str, int] = {}
        for output in outputs:
            for image in _images(output):
                if image not in marks:
                    marks[image] = len(marks) + 1
                    mark = self._fetch(image, folder / f"mark{len(marks)}.png", 1404)
                    command += ["-i", str(mark)]
        targets = []
        for number, output in enumerate(outputs):
            out = folder / f"out{number}"
            out.mkdir()
            targets.append(out)
            command += _arguments(output, source, marks, out)
        done = subprocess.run(
            [media.ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", "-y", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise Failed(1076, done.stderr[-500:])
        return [self._store(output, out) for output, out in zip(outputs, targets, strict=True)]

    def _fetch(self, address: str, path: Path, missing: int) -> Path:
        bucket, key = _parts(address)
        try:
            self._s3.download_file(bucket, key, str(path))
        except Exception as error:
            raise Failed(missing, f"{address}: {error}") from error
        return path

    def _store(self, output: _Output, out: Path) -> dict[str, Any]:
        paths = []
        for path in sorted(out.iterdir()):
            name = output.base + path.name.removeprefix("film")
            bucket, key = _parts(name)
            self._s3.upload_file(str(path), bucket, key)
            paths.append(name)
        return {"type": "FILE_GROUP", "outputDetails": [{"outputFilePaths": paths}]}


def _parts(address: str) -> tuple[str, str]:
    found = urlsplit(address)
    assert found.scheme == "s3", address
    return found.netloc, found.path.lstrip("/")


def _images(output: _Output) -> list[str]:
    steps = output.settings["VideoDescription"].get("VideoPreprocessors", {})
    return [one["ImageInserterInput"] for one in steps.get("ImageInserter", {}).get("InsertableImages", [])]


def _arguments(output: _Output, source: dict[str, Any], marks: dict[str, int], out: Path) -> list[str]:
    video = output.settings["VideoDescription"]
    codec = video["CodecSettings"]
    graph = _graph(output, source, marks)
    bare = ["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn"]
    command = ["-filter_complex", graph, "-map", "[out]", *bare]
    if codec["Codec"] == "FRAME_CAPTURE":
        most = codec["FrameCaptureSettings"]["MaxCaptures"]
        command += ["-c:v", "mjpeg", "-q:v", "3", "-fps_mode", "passthrough", "-frames:v", str(most)]
        return [*command, "-start_number", "0", "-f", "image2", str(out / "film.%07d.jpg")]
    assert codec["Codec"] == "H_264"
    h264 = codec["H264Settings"]
    assert h264["RateControlMode"] == "QVBR"
    rate = h264["MaxBitrate"] // 1000
    command += ["-c:v", "libx264", "-preset", "veryfast"]
    command += ["-crf", str(44 - 3 * h264["QvbrSettings"]["QvbrQualityLevel"])]
    command += ["-maxrate", f"{rate}k", "-bufsize", f"{2 * rate}k", "-profile:v", "high"]
    command += ["-force_key_frames", f"expr:gte(t,n_forced*{h264['GopSize']})"]
    if h264["CodecLevel"] != "AUTO":
        command += ["-level", h264["CodecLevel"].removeprefix("LEVEL_").replace("_", ".")]
    command += _sound(output)
    assert output.settings["ContainerSettings"]["Mp4Settings"]["MoovPlacement"] == "PROGRESSIVE_DOWNLOAD"
    return [*command, "-movflags", "+faststart+write_colr", "-f", "mp4", str(out / "film.mp4")]


def _sound(output: _Output) -> list[str]:
    tracks = output.settings.get("AudioDescriptions", [])
    if not tracks:
        return ["-an"]
    (track,) = tracks
    aac = track["CodecSettings"]["AacSettings"]
    channels = {"CODING_MODE_1_0": 1, "CODING_MODE_2_0": 2, "CODING_MODE_5_1": 6}[aac["CodingMode"]]
    options = ["-c:a", "aac", "-b:a", str(aac["Bitrate"]), "-ac", str(channels)]
    return ["-map", "0:a:0", *options, "-ar", str(aac["SampleRate"])]


def _graph(output: _Output, source: dict[str, Any], marks: dict[str, int]) -> str:
    video = output.settings["VideoDescription"]
    codec = video["CodecSettings"]
    steps = dict(video.get("VideoPreprocessors", {}))
    images = steps.pop("ImageInserter", {}).get("InsertableImages", [])
    assert source["VideoSelector"]["Rotate"] == "AUTO", "ffmpeg turns by itself"
    chain: list[str] = []
    if deinterlacer := steps.pop("Deinterlacer", None):
        assert deinterlacer["Mode"] == "DEINTERLACE"
        chain.append("bwdif=mode=send_frame:deint=interlaced")
    corrector = steps.pop("ColorCorrector", {})
    assert not steps, steps
    capture = codec["Codec"] == "FRAME_CAPTURE"
    if capture:
        settings = codec["FrameCaptureSettings"]
        chain.append(_captured(settings["FramerateDenominator"] / settings["FramerateNumerator"]))
    elif codec["H264Settings"]["FramerateControl"] == "SPECIFIED":
        h264 = codec["H264Settings"]
        chain.append(f"fps={h264['FramerateNumerator']}/{h264['FramerateDenominator']}")
    assert video["ScalingBehavior"] == "STRETCH_TO_OUTPUT"
    size = f"scale={video['Width']}:{video['Height']}:flags=bicubic"
    chain.append(f"{size}:out_range=tv")
    if corrector.get("ColorSpaceConversion") == "FORCE_709":
        chain.append(TONE_MAP)
    if capture:
        chain.append(f"{size}:out_range=pc:out_color_matrix=bt601,format=yuvj420p,setsar=1")
        return f"[0:v:0]{','.join(chain)}[out]"
    chain.append("format=yuv420p,setsar=1")
    if not images:
        return f"[0:v:0]{','.join(chain)}[out]"
    (image,) = images
    assert (image["Width"], image["Height"]) == (video["Width"], video["Height"])
    number = marks[image["ImageInserterInput"]]
    mark = f"[{number}:v]format=yuva420p,colorchannelmixer=aa={image['Opacity'] / 100}[mark]"
    overlay = f"overlay=x={image['ImageX']}:y={image['ImageY']}:eof_action=repeat:format=yuv420"
    return f"{mark};[0:v:0]{','.join(chain)}[plain];[plain][mark]{overlay}[out]"


def _captured(interval: float) -> str:
    """The first frame, then one each interval: the first at or after each multiple of it."""
    now, before = f"floor((t+0.0005)/{interval:.6f})", f"floor((prev_pts*TB+0.0005)/{interval:.6f})"
    return f"select='isnan(prev_pts)+gt({now},{before})'"
