"""Runs inside the sandbox: reads one media file with PyAV and prints what it is, as one JSON object.

``python -I -S -B probe_inside.py SITE-PACKAGES '<json orders>'``. Standard library and PyAV only, no code of
ours: the jail holds nothing else. The worker believes nothing of what is printed beyond its type (see
`probe.py`).

Orders: ``path``, ``demuxer`` (chosen by the worker from the first bytes, never guessed from the content),
``formats`` and ``codecs`` (whitelists), ``max_streams``, ``max_pixels``, ``max_index`` (index entries looked
at). Prints {"error": words} when the file cannot be read.
"""

from __future__ import annotations

import json
import sys
from itertools import islice, pairwise
from typing import Any

_PROBE_BYTES = 10_000_000  # as the transcoder reads: both must come to the same view of the file
_ANALYSE_MICROSECONDS = 10_000_000
_ATTACHED_PIC = 0x400


def _text(fraction: Any) -> str | None:
    return None if fraction is None else str(fraction)


def _seconds(count: int | None, time_base: Any) -> float | None:
    return None if count is None or time_base is None else float(count * time_base)


def _video(container: Any, stream: Any, orders: dict[str, Any]) -> dict[str, Any]:
    context = stream.codec_context
    found: dict[str, Any] = {
        "codec": context.name,
        "profile": stream.profile,
        "width": context.width,
        "height": context.height,
        "pix_fmt": context.pix_fmt,
        "sar": _text(stream.sample_aspect_ratio),
        "average_rate": _text(stream.average_rate),
        "guessed_rate": _text(stream.guessed_rate),
        "frames": stream.frames,
        "duration": _seconds(stream.duration, stream.time_base),
        "bit_rate": context.bit_rate,
        "range": int(context.color_range),
        "space": int(context.colorspace),
        "primaries": int(context.color_primaries),
        "transfer": int(context.color_trc),
        "number": stream.index,
    }
    found.update(_index(stream, orders["max_index"]))
    if context.name in orders["codecs"].split(","):
        found.update(_first_frame(container, stream, orders["max_pixels"]))
    return found


def _index(stream: Any, most: int) -> dict[str, Any]:
    """How many packets the container promises (after its edit list), and how uneven their time stamps are."""
    entries = getattr(stream, "index_entries", None)
    if entries is None or len(entries) == 0:
        return {"index": None, "uneven": None}
    stamps = [entry.timestamp for entry in islice(iter(entries), most)]
    steps = sorted(later - earlier for earlier, later in pairwise(stamps))
    uneven = None
    if steps:
        middle = steps[len(steps) // 2]
        # One tick of rounding is not a variable frame rate: 23.976 in a 1/1000 time base alternates 41 and
        # 42.
        uneven = sum(abs(step - middle) > 1 for step in steps) / len(steps)
    return {"index": len(entries), "uneven": uneven}


def _first_frame(container: Any, stream: Any, max_pixels: int) -> dict[str, Any]:
    """What only a decoder knows: that there is a picture, how it is turned, whether it is two fields."""
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    stream.codec_context.thread_count = 1
    try:
        frame = next(iter(container.decode(stream)), None)
    except Exception as error:  # whatever a decoder says about hostile bytes is data to report
        return {"decoded": False, "decode_error": str(error)[:300]}
    if frame is None:
        return {"decoded": False, "decode_error": "no frame"}
    return {
        "decoded": True,
        "frame_size": [frame.width, frame.height],
        "rotation": getattr(frame, "rotation", 0),
        "interlaced": bool(frame.interlaced_frame),
        "frame_format": frame.format.name,
    }


def _audio(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    if context is None:
        return {"codec": None}
    return {
        "codec": context.name,
        "profile": stream.profile,
        "channels": context.channels,
        "sample_rate": context.sample_rate,
        "layout": context.layout.name if context.layout else None,
        "bit_rate": context.bit_rate,
    }


def look(orders: dict[str, Any]) -> dict[str, Any]:
    """Opens the file and describes it; raises whatever PyAV raises when it cannot be opened."""
    import av

    options = {
        "protocol_whitelist": "file",
        "format_whitelist": orders["formats"],
        "codec_whitelist": orders["codecs"],
        "probesize": str(_PROBE_BYTES),
        "analyzeduration": str(_ANALYSE_MICROSECONDS),
        "max_streams": str(orders["max_streams"]),
    }
    if orders["demuxer"] == "mov":
        options.update(enable_drefs="0", use_absolute_path="0")
    with av.open("file:" + orders["path"], format=orders["demuxer"], options=options) as container:
        kinds = [stream.type for stream in container.streams]
        # A cover picture is a video stream too.
        pictures = [
            stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PIC
        ]
        return {
            "streams": kinds,
            "duration": None if container.duration is None else container.duration / 1_000_000,
            "bit_rate": container.bit_rate,
            "video": _video(container, pictures[0], orders) if pictures else None,
            "audio": [_audio(stream) for stream in container.streams.audio[:8]],
        }


def main() -> None:
    """Prints the description; the exit status is 0 also for a file that cannot be read."""
    sys.path.append(sys.argv[1])
    if sys.argv[2] == "--hello":
        import av

        print(json.dumps({"av": av.__version__}))  # noqa: T201
        return
    try:
        found = look(json.loads(sys.argv[2]))
    except (
        Exception
    ) as error:  # PyAV has a class per errno and Python's own for bad values: all mean "unreadable"
        found = {"error": str(error)[:300] or type(error).__name__}
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
