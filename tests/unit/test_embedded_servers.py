"""PostgreSQL and the object store from their wheels: what survives, and whom they serve."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from paletta_server.core.folders import SHARED_STATE
from paletta_server.core.sigv4 import Credentials, presign
from paletta_server.embedded.objectstore import Address, EmbeddedStore, program
from paletta_server.embedded.postgres import SHARED_PROGRAMS, EmbeddedPostgres, StillHeld, copied_for_all


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    home = tmp_path_factory.mktemp("pg")
    # As root the server has a user of its own, who must be able to reach the folder on any machine.
    made = EmbeddedPostgres(home / "postgres", durable=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    made = EmbeddedStore(tmp_path_factory.mktemp("s3") / "store")
    made.start()
    yield made
    made.stop()


# ---- PostgreSQL


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return list(cursor.fetchall()) if cursor.description else []


def test_the_owner_is_no_superuser_and_may_install_what_we_need(database: EmbeddedPostgres) -> None:
    url = database.url()
    assert rows(url, "SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user") == [
        ("paletta", False)
    ]
    for extension in ("pg_trgm", "citext", "unaccent", "btree_gin"):
        rows(url, f"CREATE EXTENSION IF NOT EXISTS {extension}")


def test_no_entry_without_the_password_nor_by_tcp(database: EmbeddedPostgres) -> None:
    wrong = database.url().replace("paletta:", "paletta:not", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert rows(database.url("postgres", superuser=True), "SHOW listen_addresses") == [("",)]


def test_files_are_private(database: EmbeddedPostgres) -> None:
    for folder in (database.pgdata, database.data_dir / "secrets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_comes_back_with_its_data_after_kill_9(database: EmbeddedPostgres) -> None:
    rows(database.url(), "CREATE TABLE kept (x int); INSERT INTO kept VALUES (42)")
    assert database.process is not None
    assert database.process.pid is not None
    os.kill(database.process.pid, signal.SIGKILL)
    database.process.wait()
    assert (database.pgdata / "postmaster.pid").exists()
    url = database.start()
    assert rows(url, "SELECT x FROM kept") == [(42,)]


def test_memory_that_a_killed_server_left_is_waited_for_and_who_starts_servers_starts_the_next(
    database: EmbeddedPostgres,
) -> None:
    with psycopg.connect(database.url("postgres", superuser=True)) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # it does not notice its server's end
        try:
            assert database.process is not None
            database.process.signal(signal.SIGKILL)
            database.process.wait()
            database.prepare()
            launched = database.launch()
            pid = launched.pid
            with pytest.raises(StillHeld):
                database.wait_ready()
            assert (launched.pid, launched.running) == (pid, False)
        finally:
            os.kill(backend, signal.SIGKILL)
    assert rows(database.start(), "SELECT 1") == [(1,)]


def test_a_stale_pid_file_that_names_somebody_else_is_no_obstacle(database: EmbeddedPostgres) -> None:
    database.stop()
    note = database.pgdata / "postmaster.pid"
    # Of the same user: PostgreSQL itself takes such a process for its predecessor and refuses to start.
    bystander = subprocess.Popen(["sleep", "600"], user=database.pgdata.stat().st_uid)
    try:
        note.write_text(f"{bystander.pid}\n{database.pgdata}\n")
        database.start()
        assert bystander.poll() is None, "a process that is not ours must be left alone"
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_left_running_is_replaced(database: EmbeddedPostgres) -> None:
    assert database.process is not None
    left = database.process
    successor = EmbeddedPostgres(database.data_dir, durable=False)
    url = successor.start()
    assert left.wait(60) is not None
    assert rows(url, "SELECT 1") == [(1,)]
    successor.stop()
    database.start()


def installed(folder: Path) -> tuple[Path, Path]:
    """A package of programs, as an installation under umask 077 leaves it."""
    for name, mode in (
        ("package/bin/postgres", 0o700),
        ("package/share/timezone", 0o600),
        ("libs/so", 0o600),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("ours")
        file.chmod(mode)
    return folder / "package", folder / "libs"


def modes(tree: Path) -> dict[str, int]:
    return {
        str(path.relative_to(tree.parent)): stat.S_IMODE(path.stat().st_mode)
        for path in (tree, *tree.rglob("*"))
    }


@pytest.mark.skipif(os.name != "posix", reason="folders have no owners and modes there")
def test_the_copy_of_the_programs_can_be_run_by_the_servers_user_whatever_the_umask(tmp_path: Path) -> None:
    kept = tmp_path / "opt" / "shelf" / "postgres-1"
    before = os.umask(0o077)
    try:
        package, libs = installed(tmp_path / "venv")
        assert copied_for_all((package, libs, tmp_path / "none"), kept) == kept
    finally:
        os.umask(before)
    assert modes(tmp_path / "opt") == {
        "opt": 0o755,
        "opt/shelf": 0o755,
        "opt/shelf/postgres-1": 0o755,
        "opt/shelf/postgres-1/package": 0o755,
        "opt/shelf/postgres-1/package/bin": 0o755,
        "opt/shelf/postgres-1/package/bin/postgres": 0o755,
        "opt/shelf/postgres-1/package/share": 0o755,
        "opt/shelf/postgres-1/package/share/timezone": 0o644,
        "opt/shelf/postgres-1/libs": 0o755,
        "opt/shelf/postgres-1/libs/so": 0o644,
    }
    (package / "bin" / "postgres").write_text("changed")
    copied_for_all((package, libs), kept)
    assert (kept / "package" / "bin" / "postgres").read_text() == "ours", (
        "one that is there is not made again"
    )


@pytest.mark.skipif(os.name != "posix", reason="folders have no owners and modes there")
@pytest.mark.parametrize("where", ["shelf/postgres-1", "shelf", "."])
@pytest.mark.parametrize("whose", ["theirs", "open to all", "a link"])
def test_programs_that_another_user_may_have_planted_are_not_run(
    tmp_path: Path, where: str, whose: str
) -> None:
    kept = tmp_path / "opt" / "shelf" / "postgres-1"
    planted = kept / "package" / "bin" / "postgres"
    planted.parent.mkdir(parents=True)
    planted.write_text("theirs")
    folder = (tmp_path / "opt" / where).resolve()
    if whose == "theirs":
        if os.geteuid() != 0:
            pytest.skip("only root can make a folder that is somebody else's")
        os.chown(folder, 65534, 65534)
    elif whose == "open to all":
        folder.chmod(0o777)
    else:
        target = folder.rename(tmp_path / "elsewhere")
        target.chmod(0o777)
        folder.symlink_to(target)
    with pytest.raises(PermissionError, match=r"belongs to user|can be written to by|is a symbolic link"):
        copied_for_all(installed(tmp_path / "venv"), kept)


def test_the_copy_of_the_programs_is_in_no_folder_that_is_given_to_a_service() -> None:
    assert not SHARED_PROGRAMS.is_relative_to(SHARED_STATE)


# ---- object store


def ask(address: Address, method: str, key: str, body: bytes | None = None) -> tuple[int, bytes]:
    url = presign(
        method,
        f"{address.endpoint}/{address.bucket}/{key}",
        Credentials(address.access_key, address.secret_key, "us-east-1"),
        expires_seconds=60,
        now=datetime.now(UTC),
    )
    host = address.endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, url.removeprefix(address.endpoint), body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def knock(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_strangers_are_turned_away_at_every_port(store: EmbeddedStore) -> None:
    address = store.address()
    assert ask(address, "PUT", "secret/clip", b"frames")[0] == 200
    filer, volume, master, s3 = (store.ports[f"{part}.port"] for part in ("filer", "volume", "master", "s3"))
    for path in ("/", f"/buckets/{address.bucket}/secret/clip"):
        assert knock(filer, "GET", path) in (401, 404)  # by its keys, or because it speaks no HTTP at all
        assert knock(filer, "POST", path) in (401, 404)
    assert knock(volume, "GET", "/1,01637037d6") == 401
    assert knock(volume, "POST", "/1,01637037d6") == 401
    # One such request deletes all of a bucket's data where the master speaks HTTP.
    assert knock(master, "POST", f"/col/delete?collection={address.bucket}") == 404
    assert knock(master, "GET", "/dir/assign") == 404
    assert knock(s3, "GET", f"/{address.bucket}/secret/clip") == 403
    assert ask(address, "GET", "secret/clip") == (200, b"frames")


def test_strangers_are_turned_away_by_grpc(store: EmbeddedStore, tmp_path: Path) -> None:
    """The store's own tool, without our certificate: it could list and delete everything otherwise."""
    address, ports = store.address(), store.ports
    assert ask(address, "PUT", "secret/second", b"frames")[0] == 200
    where = {
        part: f"127.0.0.1:{ports[f'{part}.port']}.{ports[f'{part}.port.grpc']}"
        for part in ("master", "filer")
    }
    shell = subprocess.Popen(
        [str(program()), "shell", f"-master={where['master']}", f"-filer={where['filer']}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.defpath},
    )
    assert shell.stdin is not None
    try:
        # It tries to connect for ever; three seconds are plenty for one that is let in (it needs a tenth).
        with pytest.raises(subprocess.TimeoutExpired):
            shell.communicate(f"fs.rm /buckets/{address.bucket}/secret/second\nexit\n".encode(), timeout=3)
    finally:
        shell.kill()
        shell.communicate()
    assert ask(address, "GET", "secret/second") == (200, b"frames")


def test_it_listens_on_loopback_alone(store: EmbeddedStore) -> None:
    import psutil

    assert store.process is not None
    listening = [
        connection.laddr
        for connection in psutil.Process(store.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address[0] for address in listening} == {"127.0.0.1"}
    assert {address[1] for address in listening} <= set(store.ports.values())


def test_credentials_are_private(store: EmbeddedStore) -> None:
    secrets = store.data_dir / "secrets"
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(store.data_dir.stat().st_mode) == 0o700
    assert store.process is not None
    command = "\0".join(store.process.spec.argv)
    assert store.address().secret_key not in command, "everyone may read a command line"


def test_after_kill_9_the_same_address_serves_the_same_objects(store: EmbeddedStore) -> None:
    before = store.address()
    body = os.urandom(300_000)
    assert ask(before, "PUT", "kept", body)[0] == 200
    assert store.process is not None
    assert store.process.pid is not None
    os.kill(store.process.pid, signal.SIGKILL)
    store.process.wait()
    assert store.start() == before
    assert ask(before, "GET", "kept") == (200, body)


def test_a_port_that_was_taken_meanwhile_is_exchanged(store: EmbeddedStore) -> None:
    before = dict(store.ports)
    assert ask(store.address(), "PUT", "moved", b"bytes")[0] == 200
    store.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before["s3.port"]))
        other.listen()
        after = store.start()
    assert store.ports["s3.port"] != before["s3.port"]
    assert store.ports["filer.port"] == before["filer.port"]
    assert ask(after, "GET", "moved") == (200, b"bytes")
