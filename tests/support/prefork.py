"""`paletta` in processes of their own that begin where its libraries are imported already.

A drill runs hundreds of commands, and each would spend half a second on imports. These are forked from a server that
has done that once (`multiprocessing`'s); they import our own code themselves, with an environment, a folder and
streams of their own, and die like any other process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

LIBRARIES = (
    "anyio", "awscrt.checksums", "certifi", "httpx", "pydantic", "rich.console", "rich.progress", "rich.table", "typer",
    "typer.main", "yaml",
)  # fmt: skip
"""None of ours: several of our modules read the environment when they are imported."""

_context: ForkServerContext | None = None


def _forks() -> ForkServerContext:
    global _context
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(list(LIBRARIES))
    return _context


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: Path,
    out: Path,
    err: Path,
    most_file: int | None = None,
) -> ForkServerProcess:
    """Run `paletta` with these words; its output goes to the files `out` and `err`.

    `most_file` is the size in bytes of the largest file that the system lets it write.
    """
    process = _forks().Process(
        target=_run, args=(list(argv), dict(env), str(cwd), str(out), str(err), most_file), daemon=True
    )
    process.start()
    return process


def _run(argv: list[str], env: dict[str, str], cwd: str, out: str, err: str, most_file: int | None) -> None:
    """In the process."""
    os.setsid()
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if most_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file, most_file))
    sys.argv = ["paletta", *argv]

    from paletta_cli.main import run

    run()
