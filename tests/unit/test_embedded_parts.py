"""The small parts of the one-machine stack: ports, secrets, socket folders, identities, limits."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paletta_server.embedded import process
from paletta_server.embedded.ports import free_ports, is_free
from paletta_server.embedded.process import Process, Spec, clean_environment, is_same, start_time
from paletta_server.embedded.secretfiles import kept_secret, write_private
from paletta_server.embedded.service import DEATHS_MAX, DEATHS_WINDOW, STARTS_MAX, Service
from paletta_server.embedded.sockets import make_socket_dir, remove_socket_dir
from paletta_server.embedded.stackdir import (
    EPHEMERAL,
    StackDir,
    StackError,
    default_data_dir,
    sweep_ephemeral,
)
from paletta_server.embedded.view import Announcer, LiveReporter

WAIT_FOR_EVER = "import signal; print('up', flush=True); signal.pause()"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- ports


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_preferred_port_is_kept_unless_taken() -> None:
    wish = free_ports(1)[0]
    assert free_ports(2, prefer=[wish])[0] == wish
    with socket.socket() as other:
        other.bind(("127.0.0.1", wish))
        other.listen()
        assert not is_free(wish)
        assert wish not in free_ports(2, prefer=[wish])


# ---- secrets


def test_secrets_are_private_even_under_an_open_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secret = kept_secret(tmp_path / "secrets", "one")
        write_private(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secrets") == 0o700
    assert mode(tmp_path / "secrets" / "one") == 0o600
    assert mode(tmp_path / "file") == 0o600
    assert kept_secret(tmp_path / "secrets", "one") == secret
    assert kept_secret(tmp_path / "secrets", "two") != secret


# ---- socket folders


def test_a_socket_lies_beside_its_data_where_the_path_is_short(tmp_path: Path) -> None:
    assert make_socket_dir(tmp_path, "s") == tmp_path / "socket"


def test_a_deep_directory_gets_a_socket_folder_elsewhere_and_leaves_none_behind(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    first = make_socket_dir(deep, ".s.PGSQL.5432.lock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(first / ".s.PGSQL.5432.lock"))
    assert mode(first) == 0o700
    second = make_socket_dir(deep, ".s.PGSQL.5432.lock")  # as after a kill -9: nobody removed the first
    assert not first.exists()
    remove_socket_dir(deep)
    assert not second.exists()


# ---- processes


def child(tmp_path: Path, name: str = "child", code: str = WAIT_FOR_EVER) -> Process:
    spec = Spec(
        name, (sys.executable, "-c", code, str(tmp_path)), tmp_path / f"{name}.log", clean_environment()
    )
    process = Process(spec)
    process.start()
    return process


def test_a_process_is_recognised_by_pid_start_and_command(tmp_path: Path) -> None:
    process = child(tmp_path)
    try:
        identity = process.identity(str(tmp_path))
        assert identity is not None
        assert is_same(identity)
        assert not is_same(identity._replace(started=identity.started - 1)), "a recycled pid"
        assert not is_same(identity._replace(marker="/somewhere/else")), "another program"
    finally:
        process.stop()
    assert not is_same(identity)


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    process = child(tmp_path, code=deaf)
    wait_for_text(tmp_path / "child.log", "up", process)
    assert process.stop(timeout=0.2) is False
    assert process.returncode == -signal.SIGKILL


def wait_for_text(log: Path, text: str, process: Process) -> None:
    while text not in log.read_text():
        assert process.running, log.read_text()
        assert process.wait(0.01) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from tests.unit.test_embedded_parts import child, wait_for_text\n"
        "home = Path(sys.argv[1]); process = child(home); wait_for_text(home / 'child.log', 'up', process)\n"
        "print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # gone already
    import select

    gone, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    assert gone, f"process {pid} outlived its parent"


# ---- the data directory


def test_only_one_stack_per_directory(tmp_path: Path) -> None:
    first, second = StackDir(tmp_path / "data"), StackDir(tmp_path / "data")
    first.make()
    first.lock()
    first.write_status({"pid": 4711, "url": "http://127.0.0.1:8750"})
    with pytest.raises(
        StackError, match=r"already runs on .*data` \(pid 4711, http://127.0.0.1:8750\)\nhint: "
    ):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot use the data directory `.*file/data`: .*\nhint: .*--data"):
        StackDir(tmp_path / "file" / "data").make()


def test_orphans_are_ended_and_strangers_left_alone(tmp_path: Path) -> None:
    directory = StackDir(tmp_path)
    directory.make()
    orphan, stranger = child(tmp_path, "orphan"), child(tmp_path, "stranger")
    try:
        known, other = orphan.identity(str(tmp_path)), stranger.identity(str(tmp_path))
        assert known is not None
        assert other is not None
        directory.note_children([known, other._replace(started=other.started - 60)])
        wait_for_text(tmp_path / "orphan.log", "up", orphan)
        assert directory.end_orphans() == ["orphan"]
        assert orphan.wait(60) is not None
        assert stranger.running
        assert directory.end_orphans() == []
    finally:
        orphan.stop()
        stranger.stop()


def test_a_broken_note_of_children_is_no_reason_to_fail(tmp_path: Path) -> None:
    directory = StackDir(tmp_path)
    directory.make()
    for note in ('[{"pid": "x"}]', '[{"name": "a", "pid": -1, "started": 0, "marker": ""}]'):
        (directory.run / "children.json").write_text(note)
        assert directory.end_orphans() == []


def test_settings_survive_the_stacks_file_and_dotenv_reads_it_too(tmp_path: Path) -> None:
    from paletta_server.core.settings import Settings

    directory = StackDir(tmp_path)
    awkward = "pa ss'w\"o\\rd=ü#"
    directory.write_env({"PALETTA_SMTP_PASSWORD": awkward, "PALETTA_S3_BUCKET": "b"})
    assert mode(directory.env_file) == 0o600
    assert directory.read_env() == {"PALETTA_SMTP_PASSWORD": awkward, "PALETTA_S3_BUCKET": "b"}
    settings = Settings(_env_file=directory.env_file)  # type: ignore[call-arg]
    assert settings.smtp_password is not None
    assert settings.smtp_password.get_secret_value() == awkward


def test_joining_a_stack_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(
        StackError, match=r"no stack runs on .*\nhint: start one with `paletta-server up --data"
    ):
        StackDir(tmp_path).read_env()


def test_the_default_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "paletta"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/invalid")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_data_dir() == tmp_path / "home" / ".local" / "share" / "paletta"


# ---- how often a member may die


def service() -> Service:
    async def nothing(*_: object) -> None: ...

    return Service("worker-1", nothing, nothing)


def test_pauses_grow_and_end_at_the_limit() -> None:
    member = service()
    pauses = [member.note_death(now=float(second)) for second in range(DEATHS_MAX + 1)]
    assert pauses[-1] is None
    grown = [pause for pause in pauses if pause is not None]
    assert len(grown) == DEATHS_MAX
    assert grown == sorted(grown)


def test_deaths_long_ago_do_not_count() -> None:
    member = service()
    for number in range(20):
        assert member.note_death(now=number * DEATHS_WINDOW) is not None


def test_starts_in_vain_end_however_slow_they_are() -> None:
    member = service()
    assert member.note_death(now=0) is not None
    pauses = [member.note_death(now=number * DEATHS_WINDOW, on_start=True) for number in range(1, STARTS_MAX)]
    assert None not in pauses
    assert member.note_death(now=STARTS_MAX * DEATHS_WINDOW, on_start=True) is None
    assert member.death_toll() == "could not be started 5 times on end"


def test_a_start_that_succeeds_forgives_those_before() -> None:
    member = service()
    for number in range(20):
        assert member.note_death(now=number * DEATHS_WINDOW, on_start=number % 2 == 1) is not None


def test_a_stack_with_a_member_down_is_not_called_ready() -> None:
    from rich.console import Console

    member = service()
    stack: Any = SimpleNamespace(
        failure=None, began=time.monotonic(), ready_after=22.9, members=SimpleNamespace(all=[member])
    )
    view = LiveReporter(Console(file=io.StringIO()), Announcer(as_json=False, ready_file=None))
    view._supervisor = stack
    member.state = "ready"
    assert "ready in 22.9 s" in str(view._headline())
    member.state = "restarting"
    assert f"restarting {member.name}" in str(view._headline())
    assert "ready" not in str(view._headline())


def test_start_time_of_nobody() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert start_time(ended.pid) is None


def test_identities_can_be_written_down(tmp_path: Path) -> None:
    process = child(tmp_path)
    try:
        identity = process.identity("marker")
        assert identity is not None
        assert type(identity)(**json.loads(json.dumps(identity._asdict()))) == identity
    finally:
        process.stop()


def test_a_log_that_has_grown_is_put_aside_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_MAX", 10)
    log = tmp_path / "api.log"
    for said in ("long enough", "short"):
        child = Process(Spec("talker", (sys.executable, "-c", f"print({said!r})"), log, clean_environment()))
        child.start()
        child.wait(30)
    assert (log.read_text(), (tmp_path / "api.log.1").read_text()) == ("short\n", "long enough\n")


# ---- ephemeral stacks


def test_ephemeral_stacks_that_were_killed_are_swept_and_no_others(tmp_path: Path) -> None:
    folders = {}
    for name in (
        f"{EPHEMERAL}dead",
        f"{EPHEMERAL}alive",
        f"{EPHEMERAL}young",
        f"{EPHEMERAL}open",
        "paletta-kept",
    ):
        stack = StackDir(tmp_path / name)
        stack.make()
        stack.lock()
        kept_secret(stack.secrets, "s3")
        if name != f"{EPHEMERAL}alive":
            stack.unlock()
        if name != f"{EPHEMERAL}young":
            os.utime(stack.run / "lock", (0, 0))
        folders[name] = stack
    (tmp_path / f"{EPHEMERAL}foreign").mkdir()
    folders[f"{EPHEMERAL}open"].root.chmod(0o777)  # whoever has put in there which processes to end
    (tmp_path / f"{EPHEMERAL}link").symlink_to(tmp_path / "paletta-kept")
    assert sweep_ephemeral(tmp_path) == [tmp_path / f"{EPHEMERAL}dead"]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [
        "paletta-kept",
        f"{EPHEMERAL}alive",
        f"{EPHEMERAL}foreign",
        f"{EPHEMERAL}link",
        f"{EPHEMERAL}open",
        f"{EPHEMERAL}young",
    ]
    folders[f"{EPHEMERAL}alive"].unlock()
