"""`paletta-server doctor`, `config` and `create-user` where things are not as they should be."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from paletta_server.core.settings import Settings
from paletta_server.embedded.ports import free_ports
from tests.support.closed import closed_ports
from tests.support.up import clean_env


def server(*arguments: str, cwd: Path, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    # A home, and directories without a running stack and its state, whoever runs the tests.
    env = clean_env(
        HOME=str(cwd), XDG_DATA_HOME=str(cwd / "none"), XDG_STATE_HOME=str(cwd / "state"), **settings
    )
    return subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        check=False,
    )


def environment(settings: Settings) -> dict[str, str]:
    """The settings of the tests' service, as an operator would set them."""
    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    return {
        "PALETTA_DATABASE_URL": settings.libpq_url,
        "PALETTA_S3_ENDPOINT": str(settings.s3_endpoint),
        "PALETTA_S3_BUCKET": settings.s3_bucket,
        "PALETTA_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "PALETTA_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "PALETTA_SMTP_PORT": str(settings.smtp_port),
    }


@pytest.fixture
def nothing() -> Iterator[list[int]]:
    """Ports at which nobody answers."""
    with closed_ports(3) as ports:
        yield ports


def test_doctor_names_the_fix_of_everything_that_is_missing(tmp_path: Path, nothing: list[int]) -> None:
    done = server(
        *("doctor", "--json"),
        cwd=tmp_path,
        PALETTA_DATABASE_URL=f"postgresql://paletta:hunter22@127.0.0.1:{nothing[0]}/paletta",
        PALETTA_S3_ENDPOINT=f"http://127.0.0.1:{nothing[1]}",
        PALETTA_S3_ACCESS_KEY="key",
        PALETTA_S3_SECRET_KEY="hunter33",
        PALETTA_SMTP_PORT=str(nothing[2]),
        PALETTA_SCRATCH_DIR="/proc/nowhere",
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    outcomes = {finding["check"]: finding["outcome"] for finding in report["findings"]}
    for check in ("database", "schema", "bucket", "bucket rules", "transfer", "mail", "scratch space"):
        assert outcomes[check] == "failed", check
    assert all(finding["fix"] for finding in report["findings"] if finding["outcome"] != "ok")
    assert "hunter" not in done.stdout


def test_doctor_names_the_fix_where_there_are_no_credentials(tmp_path: Path, nothing: list[int]) -> None:
    # Without a home nor a metadata service there is nowhere to find any.
    done = server(
        *("doctor", "--json"),
        cwd=tmp_path,
        AWS_EC2_METADATA_DISABLED="true",
        PALETTA_S3_ENDPOINT=f"http://127.0.0.1:{nothing[0]}",
    )
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    for check in ("bucket", "transfer"):
        assert found[check]["fix"] == "set PALETTA_S3_ACCESS_KEY and PALETTA_S3_SECRET_KEY", found[check]
        assert "credentials" in found[check]["detail"]


@pytest.mark.parametrize("arguments", [("migrate",), ("create-user", "a@example.org", "--password-stdin")])
def test_a_database_that_is_away_is_said_in_words(
    tmp_path: Path, nothing: list[int], arguments: tuple[str, ...]
) -> None:
    url = f"postgresql://paletta:hunter22@127.0.0.1:{nothing[0]}/paletta"
    done = server(*arguments, cwd=tmp_path, stdin="nine brass otters hum\n", PALETTA_DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the database at postgresql://paletta:***@127.0.0.1:"), done.stderr
    assert done.stderr.endswith(
        "\nhint: set PALETTA_DATABASE_URL, or start a stack with `paletta-server up`\n"
    )
    assert "Traceback" not in done.stderr
    assert "hunter22" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("brew",), "no such command 'brew'"),
        (("up", "--brew"), "no such option: --brew"),
        (
            ("up", "--ephemeral", "--data", "here"),
            "invalid value for --data: an ephemeral stack chooses its own",
        ),
    ],
)
def test_a_wrong_command_line_is_told_as_the_other_command_tells_it(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = server(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.endswith("\nhint: `paletta-server --help` lists the commands\n")


def test_doctor_tells_a_missing_bucket_and_an_old_schema(settings: Settings, tmp_path: Path) -> None:
    import psycopg

    set_up = environment(settings) | {"PALETTA_S3_BUCKET": "no-such-bucket"}
    with psycopg.connect(settings.libpq_url, autocommit=True) as connection:
        (revision,) = connection.execute("DELETE FROM alembic_version RETURNING version_num").fetchone() or (
            "",
        )
        try:
            done = server("doctor", cwd=tmp_path, **set_up)
        finally:
            connection.execute("INSERT INTO alembic_version VALUES (%s)", [revision])
    assert done.returncode == 1
    assert f"at nothing, this version wants {revision}" in done.stdout
    assert "hint: run `paletta-server migrate`\n" in done.stdout
    assert "`no-such-bucket` at" in done.stdout
    assert "does not exist" in done.stdout, done.stdout
    assert "hint: run `paletta-server migrate --bucket`" in done.stdout


def test_migrate_sets_everything_up_and_may_run_again(settings: Settings, tmp_path: Path) -> None:
    for _ in range(2):
        done = server("migrate", "--bucket", cwd=tmp_path, **environment(settings))
        assert done.returncode == 0, done.stderr
    examined = server("doctor", cwd=tmp_path, **environment(settings))
    assert examined.returncode == 0, examined.stdout
    for name in ("scratch", "search"):
        made = tmp_path / "state" / "paletta" / name
        assert f"`{made}`" in examined.stdout
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_create_user_never_asks_without_a_terminal(settings: Settings, tmp_path: Path) -> None:
    done = server("create-user", "ada@example.org", cwd=tmp_path, **environment(settings))
    assert done.returncode == 2
    assert "hint: give it with --password-stdin" in done.stderr


def test_create_user_says_why_not(settings: Settings, tmp_path: Path) -> None:
    arguments = ("create-user", "ada@example.org", "--role", "contributor", "--password-stdin")
    short = server(*arguments, cwd=tmp_path, stdin="short\n", **environment(settings))
    assert short.returncode == 1
    assert short.stderr.startswith("error: ")
    assert (
        server(*arguments, cwd=tmp_path, stdin="nine brass otters hum\n", **environment(settings)).returncode
        == 0
    )
    again = server(*arguments, cwd=tmp_path, stdin="nine brass otters hum\n", **environment(settings))
    assert again.returncode == 1
    assert again.stderr == "error: `ada@example.org` has an account already\n"


def test_config_says_where_each_setting_comes_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PALETTA_REVIEW=auto\nPALETTA_SMTP_PASSWORD=hunter22\n")
    done = server(
        "config",
        "--json",
        cwd=tmp_path,
        PALETTA_DATABASE_URL="postgresql://paletta:hunter33@db.example.org/paletta",
    )
    assert done.returncode == 0, done.stderr
    found = {entry["name"]: (entry["value"], entry["origin"]) for entry in json.loads(done.stdout)}
    assert found["PALETTA_REVIEW"] == ("auto", ".env")
    assert found["PALETTA_SMTP_PASSWORD"] == ("********", ".env")
    assert found["PALETTA_DATABASE_URL"] == ("postgresql://paletta:***@db.example.org/paletta", "environment")
    assert found["PALETTA_INGEST_CONTAINERS"] == ("mov,mp4,m4v,mxf", "default")


@pytest.mark.parametrize("arguments", [("create-user", "a@example.org"), ("doctor",), ("api",)])
def test_a_directory_without_a_stack_is_said_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = server("--data", str(tmp_path), *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no stack runs on `{tmp_path}`\nhint: ")


def test_a_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    done = server("config", cwd=tmp_path, PALETTA_INGEST_MAX_FPS="hunter22")
    assert done.returncode == 2
    assert done.stderr.startswith("error: PALETTA_INGEST_MAX_FPS: ")
    assert "hunter22" not in done.stderr


def test_a_worker_without_a_database_names_the_setting(
    settings: Settings, tmp_path: Path, nothing: list[int]
) -> None:
    nowhere = f"postgresql://ada:hunter22@127.0.0.1:{nothing[0]}/paletta"
    done = server("worker", cwd=tmp_path, **{**environment(settings), "PALETTA_DATABASE_URL": nowhere})
    assert done.returncode == 1
    assert "hint: set PALETTA_DATABASE_URL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "hunter22" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="folders have no owners and modes there")
@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (("worker",), "PALETTA_SCRATCH_DIR"),
        (("api", "--port", "1"), "PALETTA_SEARCH_DIR"),
        (("search", "reindex"), "PALETTA_SEARCH_DIR"),
    ],
)
def test_a_folder_that_others_may_write_in_is_refused_where_it_would_be_used(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], setting: str
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    chosen = {**environment(settings), setting: str(folder)}
    done = server(*arguments, cwd=tmp_path, **chosen)
    assert done.returncode == 1
    trouble = f"{setting}: `{folder}` can be written to by other users"
    fix = f"run `chmod go-w {folder}`, or set {setting} to a folder of this user's own"
    assert done.stderr.endswith(f"error: {trouble}\nhint: {fix}\n")
    assert not list(folder.iterdir())
    report = json.loads(server("doctor", "--json", cwd=tmp_path, **chosen).stdout)
    check = "scratch space" if setting == "PALETTA_SCRATCH_DIR" else "search index"
    assert {"check": check, "outcome": "failed", "detail": trouble, "fix": fix} in report["findings"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no second loopback address")
@pytest.mark.parametrize(("trusted", "client"), [("127.0.0.2", "203.0.113.9"), ("", "127.0.0.2")])
def test_only_a_trusted_proxy_says_who_its_clients_are(
    settings: Settings, tmp_path: Path, trusted: str, client: str
) -> None:
    (port,) = free_ports(1)
    env = clean_env(XDG_STATE_HOME=str(tmp_path), **environment(settings), PALETTA_TRUSTED_PROXIES=trusted)
    process = subprocess.Popen(
        [sys.executable, "-m", "paletta_server.cli", "api", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=env,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=60) as proxy:
            proxy.get(f"http://127.0.0.1:{port}/v1/nowhere", headers={"X-Forwarded-For": "203.0.113.9"})
        request = next(line for line in process.stderr if "/v1/nowhere" in line)
    finally:
        process.terminate()
        process.communicate()
    assert f"{client}:" in json.loads(request)["message"]


def test_doctor_asks_for_the_proxies_of_a_public_service(settings: Settings, tmp_path: Path) -> None:
    public = {**environment(settings), "PALETTA_PUBLIC_URL": "https://paletta.example.org"}
    outcomes = []
    for more in ({}, {"PALETTA_TRUSTED_PROXIES": "10.0.0.0/8"}):
        report = json.loads(server("doctor", "--json", cwd=tmp_path, **public, **more).stdout)
        outcomes += [found["outcome"] for found in report["findings"] if found["check"] == "proxies"]
    assert outcomes == ["warning", "ok"]
