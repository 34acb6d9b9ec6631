"""`paletta-server up`: the whole service as an operator meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from paletta_server.embedded.ports import free_ports, is_free
from tests.support.up import Up, clean_env

PASSWORD = "seven lanterns drift over Tromsø"
SERVER = (sys.executable, "-m", "paletta_server.cli")


def server(
    *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVER, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=env or clean_env(),
        check=False,
    )


def get(url: str) -> tuple[int, Any]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.status, json.load(answer)


def wait_until_gone(pids: Sequence[int]) -> None:
    there = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            there.append(psutil.Process(pid))
    _gone, alive = psutil.wait_procs(there, timeout=60)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"outlived the stack: {left}"


def all_running(note: Path, members: Iterable[str]) -> dict[str, int]:
    """The process ids once every member runs: one may die of another's death, and comes back after that one."""
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, int] = json.loads(note.read_text())["pids"]
        if found.keys() == {*members}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)  # the stack notes it in a file


def test_from_start_to_stop(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_ports(1)[0]
    ready_file = tmp_path / "ready.json"
    (tmp_path / ".env").write_text(
        "PALETTA_MAIL_FROM='Films <films@example.org>'\nPALETTA_SMTP_HOST=elsewhere\n"
    )
    started_with = clean_env() | {"PALETTA_REVIEW": "manual", "PALETTA_INGEST_MAX_BYTES": "1_000_000_000"}
    where = ("--data", str(data), "--port", str(port), "--ready-file", str(ready_file))
    with Up(*where, env=started_with, cwd=tmp_path) as up:
        status = up.ready()
        assert json.loads(ready_file.read_text()) == status
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        assert stat.S_IMODE((data / "stack.env").stat().st_mode) == 0o600
        assert status["url"] == f"http://127.0.0.1:{port}"
        assert set(status["pids"]) == {"postgres", "seaweedfs", "api", "worker-1"}
        assert get(f"{status['url']}/readyz") == (200, {"status": "ready", "checks": _all_ok()})

        # others join it by its directory
        examined = server("--data", str(data), "doctor", "--json")
        assert examined.returncode == 0, examined.stdout + examined.stderr
        assert {entry["outcome"] for entry in json.loads(examined.stdout)["findings"]} <= {"ok", "warning"}
        made = server(
            *("--data", str(data), "create-user", "ada@example.org", "--role", "admin", "--password-stdin"),
            stdin=PASSWORD + "\n",
        )
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("user_")
        shown = server("--data", str(data), "config")
        in_force = {
            name: rest for name, *rest in (line.split(maxsplit=2) for line in shown.stdout.splitlines())
        }
        assert in_force["PALETTA_REVIEW"] == ["stack", "manual"]
        assert in_force["PALETTA_CONTRIBUTORS"] == ["stack", "auto"]
        assert in_force["PALETTA_INGEST_MAX_BYTES"] == ["stack", "1000000000"]
        assert in_force["PALETTA_MAIL_FROM"] == ["stack", "Films <films@example.org>"]
        assert in_force["PALETTA_SMTP_HOST"] == ["stack", "127.0.0.1"], "what the stack brings is its own"
        for secret in ("postgres/secrets/paletta", "store/secrets/secret-key"):
            assert (data / secret).read_text().strip() not in shown.stdout

        # one stack per directory, and a taken port has a name
        second = server("up", "--data", str(data), "--port", str(free_ports(1)[0]))
        assert second.returncode == 1
        assert f"a stack already runs on `{data}` (pid {up.process.pid}, {status['url']})" in second.stderr
        taken = server("up", "--data", str(tmp_path / "other"), "--port", str(port))
        assert taken.returncode == 1
        assert f"port {port} is taken by " in taken.stderr
        assert "hint: " in taken.stderr
        assert "--port " in taken.stderr

        # a child that dies comes back
        for name in ("worker-1", "postgres", "seaweedfs", "api"):
            os.kill(status["pids"][name], signal.SIGKILL)
            up.wait_for(f"`{name}` ended by signal 9; starting it again")
            up.wait_for(f"{name}: ready")
        assert get(f"{status['url']}/readyz")[0] == 200
        now = all_running(data / "run" / "stack.json", status["pids"])

        assert up.end(signal.SIGTERM) == 0, up.said
    wait_until_gone([*status["pids"].values(), *now.values()])
    assert is_free(port)
    assert not ready_file.exists()
    assert not (data / "stack.env").exists()
    assert {log.name for log in (data / "logs").iterdir()} >= {
        *("postgres.log", "seaweedfs.log", "api.log", "worker-1.log")
    }
    for line in (data / "logs" / "worker-1.log").read_text().splitlines():
        json.loads(line)


def _all_ok() -> dict[str, str]:
    return {"database": "ok", "object_store": "ok", "search": "ok"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_kill_9_leaves_nothing_running_and_nothing_lost_and_two_stacks_live_side_by_side(
    tmp_path: Path,
) -> None:
    data, port = tmp_path / "data", free_ports(1)[0]
    arguments = ("--data", str(data), "--port", str(port))
    create = ("--data", str(data), "create-user", "kim@example.org", "--password-stdin")
    with Up(*arguments, "--workers", "0") as up:
        pids = up.ready()["pids"]
        made = server(*create, stdin=PASSWORD + "\n")
        assert made.returncode == 0, made.stderr
        up.end(signal.SIGKILL)
    wait_until_gone(pids.values())
    with (
        Up(*arguments, "--workers", "0") as again,
        Up("--ephemeral", "--port", str(free_ports(1)[0]), "--workers", "0") as beside,
    ):
        first, second = again.ready(), beside.ready()
        for status in (first, second):
            assert get(f"{status['url']}/readyz")[0] == 200
        # the account is in the first one's database still, and never was in the second's
        assert "has an account" in server(*create, stdin=PASSWORD + "\n").stderr
        elsewhere = server("--data", second["data"], *create[2:], stdin=PASSWORD + "\n")
        assert elsewhere.returncode == 0, elsewhere.stderr
        assert Path(second["data"]).exists()
        assert beside.end(signal.SIGINT) == 0
        assert not Path(second["data"]).exists(), "an ephemeral stack keeps nothing"
        assert again.end(signal.SIGINT) == 0
    wait_until_gone([*first["pids"].values(), *second["pids"].values()])


def test_a_database_that_took_several_starts_is_noted_as_the_one_that_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log, note = data / "logs" / "postgres.log", data / "run" / "children.json"
    with Up("--data", str(data), "--port", str(free_ports(1)[0]), "--workers", "0") as up:
        status = up.ready()
        with psycopg.connect(status["database_url"]) as connection:
            backend = connection.info.backend_pid
            os.kill(backend, signal.SIGSTOP)  # so it keeps the memory, beside which no other server starts
            try:
                os.kill(status["pids"]["postgres"], signal.SIGKILL)
                while "still in use" not in log.read_text():
                    assert up.process.poll() is None, up.said
                    time.sleep(0.02)
            finally:
                os.kill(backend, signal.SIGKILL)
        up.wait_for("`postgres` ended by signal 9; starting it again")
        up.wait_for("postgres: ready")
        noted = {child["name"]: child["pid"] for child in json.loads(note.read_text())}
        running = int((data / "postgres" / "pgdata" / "postmaster.pid").read_text().split("\n", 1)[0])
        assert noted["postgres"] == running
        assert up.end() == 0, up.said


def test_nothing_is_imported_from_the_folder_that_it_is_started_in(tmp_path: Path) -> None:
    for name in ("uvicorn", "structlog", "alembic", "procrastinate"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)\n")
    program = (sys.executable, "-P", "-m", "paletta_server.cli")
    with Up("--ephemeral", "--port", str(free_ports(1)[0]), command=program, cwd=tmp_path) as up:
        assert set(up.ready()["pids"]) == {"postgres", "seaweedfs", "api", "worker-1"}
        assert up.end() == 0, up.said


def test_a_member_that_keeps_dying_ends_the_stack_with_its_last_words(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up("--data", str(data), "--port", str(free_ports(1)[0])) as up:
        pids = up.ready()["pids"]
        # What an operator's slip does: from now on the worker cannot read its settings.
        with (data / "stack.env").open("a") as settings:
            settings.write('PALETTA_INGEST_MAX_FPS="many"\n')
        os.kill(pids["worker-1"], signal.SIGKILL)
        assert up.wait() == 1
    said = "\n".join(up.said)
    assert "`worker-1` ended on start; starting it again\n  error: PALETTA_INGEST_MAX_FPS: " in said
    # Its own death and five starts: either is enough, and how long the starts take is for the machine to say.
    assert re.search(
        r"^error: `worker-1` (ended 6 times within 60 s|could not be started 5 times on end), last on start$",
        said,
        re.M,
    ), said
    assert "PALETTA_INGEST_MAX_FPS" in said
    assert f"hint: its log is `{data / 'logs' / 'worker-1.log'}`" in said
    wait_until_gone(pids.values())


def test_wrong_settings_are_named_before_anything_starts(tmp_path: Path) -> None:
    env = clean_env(PALETTA_ENV="production", PALETTA_PUBLIC_URL="http://example.org")
    refused = server("up", "--data", str(tmp_path / "data"), "--port", str(free_ports(1)[0]), env=env)
    assert refused.returncode != 0
    assert "PALETTA_PUBLIC_URL must be https in production" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_as_a_normal_user(repository: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("everything here runs as a normal user already")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, so root cannot become a normal user")
    closed = [folder for folder in repository.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if closed:
        pytest.skip(f"the checkout lies below `{closed[0]}`, where no normal user may go")
    home = Path("/tmp") / f"paletta-normal-user-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    env = clean_env(
        HOME=str(home),
        TMPDIR=str(home),
        PYTHONPATH=f"{repository}:{sysconfig.get_path('purelib')}",
        USER="nobody",
    )
    try:
        command = _as_nobody(env, home)
        with Up("--port", str(free_ports(1)[0]), command=command, env=env, cwd=home) as up:
            status = up.ready()
            assert status["data"] == str(home / ".local" / "share" / "paletta")
            assert {psutil.Process(pid).uids().effective for pid in status["pids"].values()} == {65534}
            examined = subprocess.run(
                [*command, "doctor"], env=env, cwd=home, capture_output=True, text=True, check=False
            )
            assert examined.returncode == 0, examined.stdout + examined.stderr
            assert up.end() == 0, up.said
    finally:
        shutil.rmtree(home)


def _as_nobody(env: dict[str, str], home: Path) -> list[str]:
    """The server's command as user `nobody`: with the first Python of our version which that user may run."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # Where no interpreter can be reached (it lies in root's home), the right to walk there is all that is added.
    walk = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    # It must be able to start itself again, as the stack does: setpriv's own start proves nothing.
    trial = "import subprocess as s, sys, psycopg, pydantic_core; s.check_call([sys.executable, '-c', 'import av'])"
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in ([*drop, sys.executable], [*drop, system], [*drop, *walk, sys.executable]):
        done = subprocess.run(
            [*prefix, "-c", trial],
            env=env,
            cwd=home,
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return [*prefix, "-m", "paletta_server.cli"]
    pytest.skip("no Python of this version can be run by user `nobody`")
