"""CPU of our transcoding against one hand-tuned ffmpeg command that makes the same outputs.

``python -m tests.benchmarks.ingest [--rounds N] [FILE…]``. Ours is all of it: probing, drawing the
watermark, the jail, ffmpeg, scoring the posters, checking the outputs. The peer runs bare, with the same
encoder settings, and chooses nothing. Prints medians and ratios from the same run; absolute seconds mean
nothing. Bar: CPU <= 1.05.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from paletta_server.ingest.gate import judge
from paletta_server.ingest.plan import OutputPlan, plan_outputs
from paletta_server.ingest.probe import MediaLimits, Probe, probe
from paletta_server.ingest.sandbox import Sandbox
from paletta_server.ingest.transcode import FfmpegTranscoder
from paletta_server.ingest.watermark import watermark
from tests.support import media

BAR = 1.05
LIMITS = MediaLimits(min_long_edge=16, min_seconds=0.1)
_PR_SET_CHILD_SUBREAPER = 36


def ours(source: Path, out: Path, sandbox: Sandbox) -> None:
    """What a worker does with a verified file."""

    async def work() -> None:
        found = await probe(source, sandbox, LIMITS)
        assert judge(found, LIMITS).passed
        await FfmpegTranscoder(sandbox, LIMITS).run(source, found, plan_outputs(found), out, lambda _: None)

    asyncio.run(work())


def by_hand(source: Path, out: Path, plan: OutputPlan, fps: float) -> None:
    """The command an engineer would write for this very file, knowing all about it beforehand."""
    comp, loop, board, posters = plan.comp, plan.loop, plan.storyboard, plan.posters
    mark = out / "mark.rgba"
    graph, outputs, last = [], [], "[0:v]"
    for made in sorted(plan.renditions, key=lambda rendition: -rendition.width):
        graph.append(
            f"{last}scale={made.width}:{made.height},format=yuv420p,split[r{made.tier}][n{made.tier}]"
        )
        last = f"[n{made.tier}]"
        outputs += ["-map", f"[r{made.tier}]", *(["-map", "0:a:0"] if made.audio else []), "-c:v", "libx264"]
        outputs += ["-preset", made.preset, "-crf", str(made.crf), "-g", str(round(2 * fps))]
        outputs += ["-c:a", made.audio or "copy", "-movflags", "+faststart", str(out / made.name)]
    step = plan.posters.times[1] - plan.posters.times[0]
    first = plan.posters.times[0]
    graph.append(f"{last}split=2[p][b]")
    wanted = f"gte(t,{first})*(isnan(prev_selected_t)+gte(t-prev_selected_t,{step - 0.02:.3f}))"
    size = f"{posters.width}:{posters.height}"
    graph.append(f"[p]select='{wanted}',scale={size}:out_range=pc,format=yuvj420p[posters]")
    graph.append(f"[b]scale={comp.width}:{comp.height},format=yuv420p,split=2[c][s]")
    graph.append("[1:v]format=yuva420p[m];[c][m]overlay=format=yuv420,split=2[comp][l]")
    window = f"trim=start={loop.start}:duration={loop.seconds},setpts=PTS-STARTPTS"
    graph.append(f"[l]{window},scale={loop.width}:{loop.height}[loop]")
    small = f"scale={board.width}:{board.height},scdet=t=10,fps=1/{board.interval},format=yuvj420p"
    graph.append(f"[s]{small},tile={board.columns}x{board.rows}[board]")
    common = [
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-movflags",
        "+faststart",
        "-g",
        str(round(2 * fps)),
    ]
    outputs += [
        "-map",
        "[comp]",
        *common,
        "-crf",
        "26",
        "-maxrate",
        "1800k",
        "-bufsize",
        "3600k",
        str(out / "comp.mp4"),
    ]
    outputs += [
        "-map",
        "[loop]",
        *common,
        "-crf",
        "28",
        "-maxrate",
        "900k",
        "-bufsize",
        "1800k",
        str(out / "loop.mp4"),
    ]
    outputs += ["-map", "[posters]", "-q:v", "3", "-fps_mode", "passthrough", str(out / "poster-%d.jpg")]
    outputs += ["-map", "[board]", "-q:v", "5", "-frames:v", "1", "-update", "1", str(out / "board.jpg")]
    mark.write_bytes(watermark(comp.width, comp.height))
    threads = str(len(os.sched_getaffinity(0)))
    media.ffmpeg(
        *("-threads", threads, "-i", source, "-f", "rawvideo", "-pixel_format", "rgba"),
        *(
            "-video_size",
            f"{comp.width}x{comp.height}",
            "-i",
            mark,
            "-filter_complex",
            ";".join(graph),
            *outputs,
        ),
    )


def measure(work: Callable[[Path], None]) -> tuple[float, float]:
    """(wall, CPU) seconds of `work`, with everything it started."""
    before, start = _cpu(), time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="paletta-bench-"))
    try:
        work(folder)
    finally:
        shutil.rmtree(folder)
    wall = time.perf_counter() - start
    # The jail's first process is an orphan when its launcher ends; as its new parent we wait for it, or it
    # would not be in the account.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return wall, _cpu() - before


def _cpu() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def films(folder: Path) -> list[Path]:
    """A few seconds each of what contributors send."""
    return [
        media.clip(folder / "h264-1080p.mp4", size=media.FULL_HD, seconds=8, look="fractal", fps="25"),
        media.clip(
            folder / "prores-1080p.mov", codec="prores", size=media.FULL_HD, seconds=6, audio=True, fps="25"
        ),
        media.clip(folder / "hevc-4k.mp4", codec="hevc", size=media.UHD_4K, seconds=3, fps="25"),
    ]


def main() -> None:
    """Runs both in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sandbox = Sandbox.create("prefer")
    # Once, as in a worker: what its first clip pays is not what a clip costs.
    for heavy in ("numpy", "PIL.Image"):
        importlib.import_module(heavy)
    print(f"{sandbox.describe()}; {options.rounds} rounds in turn; medians")
    print(f"{'film':<24}{'wall':>8}{'peer':>8}{'ratio':>8}{'cpu':>9}{'peer':>8}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="paletta-bench-") as folder:
        for source in options.files or films(Path(folder)):
            found: Probe = asyncio.run(probe(source, sandbox, LIMITS))
            plan = plan_outputs(found)
            mine: list[tuple[float, float]] = []
            peer: list[tuple[float, float]] = []
            for _ in range(options.rounds):
                mine.append(measure(lambda out, source=source: ours(source, out, sandbox)))
                peer.append(measure(lambda out, s=source, p=plan, f=found.video.fps: by_hand(s, out, p, f)))
            wall, cpu = (statistics.median(run[part] for run in mine) for part in (0, 1))
            peer_wall, peer_cpu = (statistics.median(run[part] for run in peer) for part in (0, 1))
            verdict = "" if cpu / peer_cpu <= BAR else f"  over {BAR}"
            print(
                f"{source.name:<24}{wall:>8.2f}{peer_wall:>8.2f}{wall / peer_wall:>8.2f}"
                f"{cpu:>9.2f}{peer_cpu:>8.2f}{cpu / peer_cpu:>8.2f}{verdict}"
            )


if __name__ == "__main__":
    main()
