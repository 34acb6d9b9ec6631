"""Whether a film may become a clip. Pure: a probe and the operator's limits in, findings out.

Errors and warnings are what the big agencies' contributor guides agree on; all errors are named at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from paletta_server.ingest.errors import Finding
from paletta_server.ingest.probe import MediaLimits, Probe

USUAL_RATES = (24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 100, 120000 / 1001, 120)
"""Frame rates that editing programs offer as time lines."""

UNEVEN_SHARE = 0.02
"""More than one frame step in fifty that differs makes a variable frame rate; a dropped frame does not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`errors` refuse the film; `warnings` are shown to contributor and reviewer."""

    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """No errors."""
        return not self.errors


def judge(probe: Probe, limits: MediaLimits) -> Verdict:
    """Every error and every warning, in the order in which a person would fix them."""
    return Verdict(tuple(_errors(probe, limits)), tuple(_warnings(probe)))


def _errors(probe: Probe, limits: MediaLimits) -> list[Finding]:
    video = probe.video
    long_edge = max(video.width, video.height)
    found: list[Finding] = []

    def refuse_if(bad: bool, code: str, reason: str, hint: str) -> None:
        if bad:
            found.append(Finding(code, reason, hint))

    refuse_if(
        probe.container not in limits.containers,
        *(
            "container_unsupported",
            f"the container is {probe.container}",
            f"send one of {', '.join(limits.containers)}",
        ),
    )
    refuse_if(
        video.codec not in limits.codecs,
        *(
            "codec_unsupported",
            f"the picture is coded as {video.codec}",
            f"export it as one of {', '.join(limits.codecs)}",
        ),
    )
    refuse_if(
        probe.size > limits.max_bytes,
        *("too_large", f"{probe.size:,} bytes, more than {limits.max_bytes:,}", "send a shorter clip"),
    )
    refuse_if(
        long_edge < limits.min_long_edge,
        "too_small",
        f"{video.width}x{video.height}: the long edge is under {limits.min_long_edge} pixels",
        "send the camera's original; enlarging it does not help",
    )
    refuse_if(
        video.coded_width * video.coded_height > limits.max_pixels
        or video.width * video.height > limits.max_pixels,
        *(
            "too_many_pixels",
            f"{video.width}x{video.height} is more than {limits.max_pixels:,} pixels",
            "scale it down",
        ),
    )
    refuse_if(
        probe.duration < limits.min_seconds,
        *("too_short", f"{probe.duration:.2f} s, under {limits.min_seconds:g} s", "send a longer take"),
    )
    refuse_if(
        probe.duration > limits.max_seconds,
        *("too_long", f"{probe.duration:.2f} s, over {limits.max_seconds:g} s", "cut it into shorter clips"),
    )
    refuse_if(
        # 0.1 % above is the rounding of 120 frames in a millisecond time base.
        video.fps > limits.max_fps * 1.001,
        *(
            "fps_too_high",
            f"{video.fps:g} frames per second, over {limits.max_fps:g}",
            "conform it to a usual frame rate",
        ),
    )
    return found


def _warnings(probe: Probe) -> list[Finding]:
    video = probe.video
    long_edge = max(video.width, video.height)
    found: list[Finding] = []

    def warn_if(worth: bool, code: str, reason: str) -> None:
        if worth:
            found.append(Finding(code, reason))

    warn_if(probe.duration < 5, "short", f"{probe.duration:.2f} s: several agencies want 5 s at least")
    warn_if(probe.duration > 60, "long", f"{probe.duration:.2f} s: several agencies take 60 s at most")
    variable = video.uneven is not None and video.uneven > UNEVEN_SHARE
    usual = any(abs(video.fps - rate) <= 0.011 for rate in USUAL_RATES)
    warn_if(variable, "vfr", "the frame rate varies; editors prefer a constant one")
    warn_if(not usual and not variable, "odd_fps", f"{video.fps:g} frames per second is an unusual rate")
    warn_if(
        video.scan == "interlaced", "interlaced", "the picture is interlaced; previews and renditions are not"
    )
    warn_if(long_edge < 1920, "below_1920", f"{video.width}x{video.height}: HD buyers expect 1920 pixels")
    warn_if(video.height > video.width, "portrait", "portrait: most buyers look for landscape")
    warn_if(
        bool(probe.audio),
        "audio",
        "has sound: make sure it holds no music and no speech you have no rights to",
    )
    warn_if(len(probe.audio) > 1, "several_audio", "only the first sound track is kept in the renditions")
    dropped = bool(probe.audio) and not probe.audio[0].known
    warn_if(dropped, "audio_dropped", "the sound is of a kind that the renditions leave out")
    warn_if(video.alpha, "alpha", "has transparency; only the original keeps it")
    warn_if(video.hdr, "hdr", "HDR: previews and renditions are mapped to SDR, only the original keeps it")
    return found
