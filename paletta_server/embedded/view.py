"""What `paletta-server up` shows: a live view on a terminal, one line per event elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paletta_server.commands.terminal import clean, result, say
from paletta_server.embedded.secretfiles import write_private
from paletta_server.embedded.service import Service, State
from paletta_server.embedded.stackdir import default_data_dir

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from paletta_server.embedded.supervisor import Supervisor

_COLOURS: dict[State, str] = {
    "ready": "green",
    "failed": "bold red",
    "restarting": "yellow",
    "starting": "cyan",
    "stopping": "cyan",
    "waiting": "dim",
    "stopped": "dim",
}


def tilde(path: str | Path) -> str:
    """Shorten a path below the home directory as shells do."""
    text, home = str(path), str(Path.home())
    return f"~{text[len(home) :]}" if home != "/" and text.startswith(home + os.sep) else text


def elapsed(seconds: float) -> str:
    """`75 s` as `00:01:15`."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


class Announcer:
    """Tells programs that the stack is ready: one JSON line on standard output, or a file."""

    def __init__(self, *, as_json: bool, ready_file: Path | None) -> None:
        self._json = as_json
        self._file = ready_file

    def ready(self, status: dict[str, Any]) -> None:
        if self._file is not None:
            write_private(self._file, json.dumps(status) + "\n")
        if self._json:
            result(json.dumps(status, ensure_ascii=True))

    def gone(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


class PlainReporter:
    """One line per event on standard error."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self._last: dict[str, State] = {}

    def attach(self, supervisor: Supervisor) -> None:
        """Lines need nothing but the events."""

    def changed(self, service: Service) -> None:
        if self._last.get(service.name) == service.state:
            return
        self._last[service.name] = service.state
        where = f" {service.address}" if service.state == "ready" and service.address else ""
        say(f"{service.name}: {service.state}{where}")

    def say(self, text: str) -> None:
        say(text)

    def ready(self, status: dict[str, Any]) -> None:
        say(f"ready in {status['seconds']:.1f} s: {status['url']}")
        for label, value in facts(status, mails=0):
            say(f"  {label:8} {value}")
        self._announcer.ready(status)

    def close(self) -> None:
        self._announcer.gone()


def facts(status: dict[str, Any], *, mails: int) -> list[tuple[str, str]]:
    """Return what a person wants to know about a running stack, as label and value."""
    count = f" ({mails} received)" if mails else ""
    return [
        ("api", str(status["url"])),
        ("data", tilde(status["data"])),
        ("mail", tilde(status["maildir"]) + count),
        ("logs", tilde(status["logs"])),
        ("sandbox", str(status["sandbox"])),
        ("next", f"paletta-server{_option(status)} create-user EMAIL --role contributor"),
    ]


def _option(status: dict[str, Any]) -> str:
    """How other commands name this stack: not at all when it is on the default directory."""
    return "" if status["data"] == str(default_data_dir().resolve()) else f" --data {tilde(status['data'])}"


class LiveReporter:
    """One view that stays in place while the stack runs; notable events scroll by above it."""

    def __init__(self, console: Console, announcer: Announcer) -> None:
        self._console = console
        self._announcer = announcer
        self._supervisor: Supervisor | None = None
        self._status: dict[str, Any] | None = None
        self._live: Live | None = None

    def attach(self, supervisor: Supervisor) -> None:
        """Begin to show this supervisor's stack."""
        from rich.live import Live

        self._supervisor = supervisor
        # Four frames a second: a clock that ticks evenly, for half a percent of one core.
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
        self._live.start()

    def changed(self, service: Service) -> None:
        if self._live is not None:
            self._live.refresh()

    def say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"{time.strftime('%H:%M:%S')}  {clean(text)}", style="yellow"))

    def ready(self, status: dict[str, Any]) -> None:
        self._status = status
        self._announcer.ready(status)

    def close(self) -> None:
        self._announcer.gone()
        if self._live is not None:
            self._live.stop()

    def _render(self) -> Group:
        from rich.console import Group
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        supervisor = self._supervisor
        assert supervisor is not None
        members = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
        members.add_column("service", no_wrap=True)
        members.add_column("state", no_wrap=True, min_width=10)
        members.add_column("pid", justify="right", no_wrap=True)
        members.add_column("restarts", justify="right", no_wrap=True)
        members.add_column("address", overflow="ellipsis", no_wrap=True)
        for service in supervisor.members.all:
            members.add_row(
                service.name,
                Text(service.state, style=_COLOURS[service.state]),
                str(service.pid or ""),
                str(service.restarts or ""),
                Text(service.address),
            )
        parts: list[Any] = [self._headline(), ""]
        if self._status is not None and supervisor.running:
            where = Table.grid(padding=(0, 3, 0, 0))
            where.add_column(style="dim", no_wrap=True)
            where.add_column(overflow="fold")
            for label, value in facts(self._status, mails=supervisor.members.mails_received):
                where.add_row(label, Text(value))
            parts += [where, ""]
        parts.append(members)
        if supervisor.running:
            parts += ["", Text("ctrl-c stops everything", style="dim")]
        return Group(Padding(Group(*parts), (1, 0, 0, 2)))

    def _headline(self) -> Any:
        from rich.text import Text

        supervisor = self._supervisor
        assert supervisor is not None
        states = {service.state for service in supervisor.members.all}
        title = Text("paletta", style="bold")
        if supervisor.failure is not None:
            return title.append(" · stopping after a failure", style="red")
        if "stopping" in states:
            return title.append(" · stopping", style="cyan")
        if states <= {"stopped", "waiting"} and "stopped" in states:
            return title.append(f" · stopped after {elapsed(time.monotonic() - supervisor.began)}")
        if supervisor.ready_after is None:
            return title.append(" · starting", style="cyan")
        if down := [service.name for service in supervisor.members.all if service.state != "ready"]:
            title.append(f" · restarting {', '.join(down)}", style="yellow")
        else:
            title.append(f" · ready in {supervisor.ready_after:.1f} s", style="green")
        return title.append(f" · up {elapsed(time.monotonic() - supervisor.began)}", style="dim")
