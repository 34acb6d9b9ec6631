"""One decode of the source that makes nothing: whether it is whole, and where its cuts are.

For transcoders elsewhere, which smooth damage over without a word. It costs a fraction of what encoding does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paletta_server.ingest import command, damage, transcode
from paletta_server.ingest.errors import EngineFailed, Rejected
from paletta_server.ingest.probe import MediaLimits, Probe
from paletta_server.ingest.sandbox import Sandbox, TimedOut


@dataclass(frozen=True, slots=True)
class Decoded:
    """A film that decodes without a complaint: its frames, and its cuts in seconds."""

    frames: int
    cuts: tuple[float, ...]


async def run(source: Path, probe: Probe, sandbox: Sandbox, limits: MediaLimits, out_dir: Path) -> Decoded:
    """Decode it all; `out_dir` is empty before and after. Raises `Rejected` and `EngineFailed`."""
    threads = transcode.cores()
    try:
        done = await sandbox.run(
            command.checkup_arguments(probe, limits, threads=threads),
            source=source,
            out_dir=out_dir,
            limits=transcode.run_limits(probe, threads),
            on_line=lambda line: None,
        )
    except TimedOut as error:
        raise EngineFailed(f"decoding took more than {error.seconds:.0f} s") from error
    decoding = damage.read_log(done.stderr, probe.video.number, probe.video.codec)
    finding = transcode.judge_run(done, decoding, probe)
    if finding is not None:
        raise Rejected(finding.code, finding.reason, finding.hint)
    try:
        cuts = transcode.read_cuts(out_dir)
    except OSError as error:
        raise EngineFailed(f"the list of cuts cannot be read: {error}", done.stderr[-2000:]) from error
    for path in out_dir.iterdir():
        path.unlink()
    return Decoded(decoding.frames, cuts)
