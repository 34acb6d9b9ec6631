"""The `paletta` command's frame: what loads, what is printed where, which exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paletta_cli import __version__, main, settings
from paletta_cli.errors import AccountRefused, ApiProblem, Interrupted, PalettaError, SomeFailed
from paletta_cli.main import COMMANDS
from paletta_server.cli import app as server


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("PALETTA_TOKEN", raising=False)
    monkeypatch.delenv("PALETTA_URL", raising=False)
    monkeypatch.delenv("PALETTA_PROFILE", raising=False)


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_both_programs_name_their_version_alike(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([option]) == 0
    with pytest.raises(SystemExit) as ended:
        server([option], prog_name="paletta-server")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"paletta {__version__}\npaletta-server {__version__}\n"


def test_version_loads_no_library() -> None:
    loaded = python(
        "import sys; from paletta_cli.main import main; before = set(sys.modules); main(['--version'])\n"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('encodings')))"
    )
    assert loaded == f"paletta {__version__}\n[]"


def test_help_loads_only_typer() -> None:
    heavy = python(
        "import sys, io, contextlib; from paletta_cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "print([m for m in ('httpx', 'rich', 'sqlite3', 'awscrt', 'yaml', 'av', 'keyring') if m in sys.modules])"
    )
    assert heavy == "[]"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([name, "--help"]) == 0
    assert f"paletta {name}" in capsys.readouterr().out


def test_a_noun_without_a_verb_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["uploads"]) == 2
    assert "cancel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["wurst"], "`paletta --help` lists the commands"),
        (["manifest", "chekc"], "`paletta manifest --help` says how it is used"),
        (["manifest", "check", "--foo", "."], "`paletta manifest check --help` says how it is used"),
        (["admin", "clips", "take-down"], "`paletta admin clips take-down --help` says how it is used"),
    ],
)
def test_a_mistake_leads_to_the_help_of_what_was_meant(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == 2
    assert capsys.readouterr().err.endswith(f"\nhint: {hint}\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["uplaod"], "error: no such command 'uplaod'"),
        (["upload", "--until", "sold"], "error: invalid value for '--until'"),
        (["upload", "--no-such"], "error: no such option"),
        (["search", "--limit", "0"], "error: invalid value for '--limit': must be at least 1\n"),
        (["search", "--limit", "few"], "error: invalid value for '--limit': must be a whole number\n"),
        (
            ["search", "--since", "yesterday"],
            "error: invalid value for '--since': 'yesterday' is no date such as 2026-05-01\n",
        ),
        (["search", "--tier", "q"], "error: invalid value for '--tier': 'q' is not one of 'hd', "),
        (
            ["upload", "--limit-rate", "fast", "x"],
            "error: --limit-rate: `fast` is not a size such as 20M or 512K",
        ),
        (["--url", "http://paletta.example", "whoami"], "error: refusing to send credentials in the clear"),
        (["whoami", "--url", "ftp://x"], "error: `ftp://x` is not an address of a service"),
    ],
)
def test_mistakes_in_the_line_are_exit_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(said)


def test_a_profile_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(settings, "flags", settings._Flags())
    for name in ("olga", "ana"):
        settings.save_profile(settings.load(), name, settings.Profile("http://127.0.0.1:9"))
    for command in (["whoami"], ["search", "tram"]):  # a stranger may search, but where?
        assert main.main(["--profile", "nobody", *command]) == 4
        assert capsys.readouterr().err == (
            "error: there is no profile `nobody`\n"
            "hint: there are `olga`, `ana`; `paletta --profile nobody login` makes another\n"
        )


def test_not_logged_in_is_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["whoami", "--url", "http://127.0.0.1:9"]) == 4
    assert capsys.readouterr().err == (
        "error: not logged in to http://127.0.0.1:9\nhint: run `paletta login`, or set PALETTA_TOKEN for scripts\n"
    )


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(main, "_dispatch", fail)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PalettaError("it broke", hint="mend it"), 1, "error: it broke\nhint: mend it\n"),
        (SomeFailed("two failed"), 6, "error: two failed\n"),
        (Interrupted("again"), 130, "interrupted\nhint: again\n"),
        (ApiProblem(401, {}), 4, "error: the service answered 401\nhint: run `paletta login`\n"),
        (
            ApiProblem(
                403, {"code": "account_suspended", "detail": "suspended\x1b[2J", "hint": "write to us"}
            ),
            AccountRefused.exit_code,
            "error: suspended[2J\nhint: write to us\n",
        ),
        (ApiProblem(403, {"detail": "not yours"}), 4, "error: not yours\n"),
        (ApiProblem(409, {"detail": "in use"}), 1, "error: in use\n"),
        (ApiProblem(503, {"detail": "busy", "request_id": "r1"}), 5, "error: busy (request r1)\n"),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error, monkeypatch)
    assert main.main(["whoami"]) == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "b"),
            "error: cannot use `b`: permission denied\nhint: check whose it is, or choose a place that is yours\n",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "gone"),
            "error: cannot use `gone`: no such file or directory\n",
        ),
    ],
)
def test_what_the_file_system_refuses_is_no_bug(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert main.main(["whoami"]) == 1
    assert capsys.readouterr().err == said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_output_that_finds_no_room_is_no_bug(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from paletta_cli import main\n"
        "main._dispatch = lambda argv, out: out.line('a result')\n"
        "sys.exit(main.main(['whoami']))"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot write `stdout`: no space left on device\n"
        "hint: make room there, or choose another disk\n"
    )


def test_a_bug_leaves_a_short_message_and_a_log_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "http://s3/b/k?X-Amz-Signature=abc with plt_api_SECRETSECRET"
    raising(RuntimeError(secret), monkeypatch)
    assert main.main(["whoami"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0].startswith("error: unexpected RuntimeError: ")
    log = next((tmp_path / "state" / "crashes").iterdir())
    assert f"`{log}`" in shown.err
    written = log.read_text()
    assert "Traceback" in written
    for text in (written, shown.err):
        assert "Signature=abc" not in text
        assert "SECRETSECRET" not in text
    assert log.stat().st_mode & 0o077 == 0


def test_global_options_are_read_anywhere() -> None:
    assert main._hoisted(["whoami", "--url", "http://x", "--json"]) == [
        "--url",
        "http://x",
        "whoami",
        "--json",
    ]
    assert main._hoisted(["whoami", "--profile=a"]) == ["--profile=a", "whoami"]
    assert main._hoisted(["upload", "--", "--url", "x"]) == ["upload", "--", "--url", "x"]
    assert main._hoisted(["whoami", "--url"]) == ["--url", "whoami"]


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from paletta_cli import main\n"
        "main._dispatch = lambda argv, out: os.kill(os.getpid(), signal.SIGINT) or signal.pause()\n"
        "sys.exit(main.main(['whoami']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from paletta_cli.main import main; sys.exit(main(['--help']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert process.returncode in (0, 1)


def test_the_handler_is_ours_only_where_the_shell_allows(tmp_path: Path) -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from paletta_cli import main; main._interrupt_once()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    assert python(code) == "True"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert settings.flags.url is None or settings.flags.url.startswith(("http", "ftp"))
