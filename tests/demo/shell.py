"""A newcomer's terminal: commands are echoed as they are typed, and must end as they should."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
OUT = ROOT / "demo-out"


class DemoFailed(Exception):
    """A step did not end as it should."""


def say(words: str) -> None:
    print(f"\n# {words}", flush=True)


def require(truth: bool, words: str) -> None:
    if not truth:
        raise DemoFailed(words)


class Person:
    """Types commands into a shell of their own: own home, own configuration, in the demo's folder.

    `maildir` is where the service's mails arrive.
    """

    def __init__(self, home: Path, stack: dict[str, Any]) -> None:
        self.home = home
        self.maildir = Path(stack["maildir"])
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PALETTA_")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PALETTA_URL": stack["url"],
            "PALETTA_CONFIG_DIR": str(home / "config"),
            "PALETTA_STATE_DIR": str(home / "state"),
            "PALETTA_KEYRING": "off",
            **stack_environment(Path(stack["data"])),
        }

    def run(self, command: str, *, expect: int = 0, text: str | None = None, head: int | None = None) -> None:
        """Echo and run one command; `head` shows only the first lines of what it prints."""
        print(f"\n$ {command}", flush=True)
        done = subprocess.run(
            shlex.split(command),
            cwd=self.home,
            env=self.environment,
            input=None if text is None else text + "\n",
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE if head else None,
            stderr=subprocess.STDOUT if head else None,
            text=True,
            check=False,
        )
        if head:
            lines = done.stdout.splitlines()
            print("\n".join(lines[:head]))
            if len(lines) > head:
                print(f"… and {len(lines) - head} lines more")
        if expect:
            print(f"(exit code {done.returncode})", flush=True)
        require(done.returncode == expect, f"`{command}` ended with {done.returncode}, not {expect}")

    def output(self, command: str) -> str:
        """What a command prints, without showing it."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def run_and_kill(self, command: str, when: Callable[[Person], bool]) -> None:
        """Start a command, and `kill -9` it as soon as `when` says so."""
        print(f"\n$ {command} &", flush=True)
        process = subprocess.Popen(
            shlex.split(command), cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL
        )
        try:
            while not when(self):
                require(process.poll() is None, f"`{command}` ended before it could be interrupted")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        print(f"$ kill -9 {process.pid}", flush=True)


def stack_environment(data: Path) -> dict[str, str]:
    """What lets `paletta-server` commands join the running stack."""
    lines = (data / "stack.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}


@contextlib.contextmanager
def service(home: Path, data: str, port: int, **settings: str) -> Iterator[dict[str, Any]]:
    """`paletta-server up` in the background, on a folder below `home`: its ready line, and a clean end."""
    chosen = {f"PALETTA_{name}": value for name, value in settings.items()}
    shown = "".join(f"{name}={value} " for name, value in chosen.items())
    command = ["paletta-server", "up", "--data", data, "--port", str(port)]
    print(f"\n$ {shown}{shlex.join(command)} &", flush=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PALETTA_")}
    with (home / f"{data}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:], "--json"],
            cwd=home,
            env=inherited | chosen,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        require(bool(line), "the service did not start:\n" + (home / f"{data}.log").read_text())
        stack = json.loads(line)
        print(f"ready at {stack['url']}", flush=True)
        yield stack
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
