"""`paletta register … tokens`, run as programs against a served application: exit code, stdout and stderr."""

import asyncio
import json
import os
import pty
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser, Person
from tests.support.accounts import OTHER, PASSWORD, RunJobs, contributors_by_hand, link_in
from tests.support.days import within_a_day
from tests.support.serving import serving
from tests.support.stack import MailSink

PROGRAM = [sys.executable, "-c", "from paletta_cli.main import run; run()"]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    async with serving(app) as address:
        yield address


@pytest.fixture
def by_hand(app: FastAPI) -> Iterator[None]:
    with contributors_by_hand(app):
        yield


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PALETTA_")}
    return ours | {
        "PALETTA_URL": url,
        "PALETTA_CONFIG_DIR": str(tmp_path / "config"),
        "PALETTA_STATE_DIR": str(tmp_path / "state"),
        "PALETTA_KEYRING": "off",
        "COLUMNS": "100",
    }


@pytest.fixture
def paletta(environment: dict[str, str]) -> Run:
    """`await paletta("login", stdin="…", PALETTA_TOKEN="…")`: a command without a terminal."""

    async def run(*argv: str, stdin: str = "", **more: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment | more,
            umask=0,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run


class Terminal:
    """A command on a terminal: `await see("password:")`, then `type("…")`."""

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        self.argv, self.environment, self.seen = argv, environment, ""

    async def __aenter__(self) -> "Terminal":
        ours, theirs = pty.openpty()
        self._fd = ours
        self._process = await asyncio.create_subprocess_exec(
            *PROGRAM, *self.argv, stdin=theirs, stdout=theirs, stderr=theirs, env=self.environment,
            start_new_session=True,  # passwords are asked for here, not on the terminal of whoever runs the tests
        )  # fmt: skip
        os.close(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._fd)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def see(self, words: str) -> None:
        while words not in self.seen:
            self.seen += await self._read()

    def type(self, line: str) -> None:
        """Answer what is being asked, and forget what was seen up to here."""
        os.write(self._fd, f"{line}\n".encode())

    async def end(self) -> int:
        while more := await self._read():
            self.seen += more
        return await self._process.wait()

    async def _read(self) -> str:
        try:
            return (await asyncio.wait_for(asyncio.to_thread(os.read, self._fd, 4096), 30)).decode()
        except OSError:  # Linux: the other end is closed
            return ""


async def mailed_code(mailbox: MailSink, run_jobs: RunJobs, address: str) -> str:
    await run_jobs()
    return link_in(mailbox.to(address)[-1])[1]


async def test_a_newcomer_without_a_terminal(
    paletta: Run, url: str, mailbox: MailSink, run_jobs: RunJobs, tmp_path: Path
) -> None:
    made = await paletta("register", "--email", "ana@example.org", "--password-stdin", stdin=PASSWORD + "\n")
    assert made == Ran(
        0,
        "",
        "a mail is on its way to ana@example.org\n"
        "hint: open the link in the mail, or run `paletta verify CODE`; then `paletta login`\n",
    )
    early = await paletta("login", "--password-stdin", stdin=PASSWORD)
    assert early.code == 4
    assert "not confirmed yet" in early.err
    code = await mailed_code(mailbox, run_jobs, "ana@example.org")
    confirmed = await paletta("verify", f"{url}/account/verify?token={code}")
    assert confirmed.err.startswith("the e-mail address is confirmed\n")
    logged_in = await paletta("login", "--password-stdin", stdin=PASSWORD)
    assert (logged_in.code, logged_in.out) == (0, "")
    kept = tmp_path / "config" / "credentials.json"
    assert logged_in.err == (f"logged in to {url} as ana@example.org (customer)\nthe token is in `{kept}`\n")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    asked = await paletta("profile", "become-contributor")
    assert (asked.code, asked.out) == (0, "you are a contributor\n")
    me = json.loads((await paletta("whoami", "--json")).out)
    assert (me["email"], me["role"], me["service"], me["profile"]) == (
        "ana@example.org",
        "contributor",
        url,
        "default",
    )
    out = await paletta("logout")
    assert (out.code, out.err) == (0, f"logged out of {url}\n")
    assert (await paletta("whoami")).code == 4
    kept.write_text("{}")
    kept.chmod(0o644)
    exposed = await paletta("whoami")
    assert exposed.code == 1
    assert "can be read by others" in exposed.err


async def test_a_newcomer_on_a_terminal(
    environment: dict[str, str], mailbox: MailSink, run_jobs: RunJobs
) -> None:
    async with Terminal(("register",), environment) as terminal:
        await terminal.see("e-mail: ")
        terminal.type("ana@example.org")
        for first, second in ((PASSWORD, OTHER), (PASSWORD, PASSWORD)):
            terminal.seen = ""
            await terminal.see("new password: ")
            terminal.type(first)
            await terminal.see("the same again: ")
            terminal.type(second)
        await terminal.see("code in the mail: ")
        terminal.type(await mailed_code(mailbox, run_jobs, "ana@example.org"))
        assert await terminal.end() == 0
        assert "logged in to" in terminal.seen
        assert PASSWORD not in terminal.seen, "a password is not shown"


async def test_login_again_replaces_the_token_and_a_wrong_password_changes_nothing(
    paletta: Run, make_user: MakeUser
) -> None:
    person = await make_user()
    for _ in range(2):
        done = await paletta("login", "--email", person.email, "--password-stdin", stdin=person.password)
        assert done.code == 0, done.err
    wrong = await paletta("login", "--email", person.email, "--password-stdin", stdin=OTHER)
    assert (wrong.code, wrong.out) == (4, "")
    assert wrong.err.startswith("error: wrong e-mail address or password")
    listed = json.loads((await paletta("tokens", "list", "--json")).out)
    assert [token["current"] for token in listed] == [True, False], "this one, and the fixture's"


async def test_without_a_terminal_nothing_is_asked(paletta: Run) -> None:
    for argv, hint in (
        (("login",), "--email"),
        (("register",), "--email"),
        (("login", "--email", "ana@example.org"), "--password-stdin"),
        (("reset-password",), "--email"),
    ):
        done = await paletta(*argv)
        assert done.code == 2
        assert hint in done.err
    empty = await paletta("login", "--email", "ana@example.org", "--password-stdin")
    assert (empty.code, empty.err) == (2, "error: there is no password on stdin\n")
    assert (await paletta("verify", "not-a-code")).code == 2


async def test_tokens_for_scripts(paletta: Run, make_user: MakeUser, tmp_path: Path) -> None:
    person = await make_user()
    full = {"PALETTA_TOKEN": person.token}
    made = await paletta("tokens", "create", "nightly", "--scope", "uploads", **full)
    assert made.code == 0
    token = made.out.strip()
    assert token.startswith("plt_p_")
    assert "not shown again" in made.err
    narrow = {"PALETTA_TOKEN": token}
    assert json.loads((await paletta("whoami", "--json", **narrow)).out)["token"] == "PALETTA_TOKEN"
    refused = await paletta("profile", "edit", "--name", "Eve", **narrow)
    assert refused.code == 4
    assert "scopes do not include `profile`" in refused.err
    adopted = await paletta("--profile", "nightly", "login", "--token-stdin", stdin=token)
    assert adopted.code == 0
    profiles = json.loads((await paletta("profile", "list", "--json")).out)
    assert [(profile["name"], profile["logged_in"]) for profile in profiles] == [("nightly", True)]
    listed = json.loads((await paletta("tokens", "list", "--json", **full)).out)
    [nightly] = [item for item in listed if item["name"] == "nightly"]
    typo = await paletta("tokens", "create", "x", "--scope", "clips", "--scope", "upload", **full)
    assert (typo.code, typo.out) == (2, "")
    assert typo.err.startswith("error: --scope: there is no scope `upload`\nhint: there are profile, ")
    assert {"uploads", "clips", "orders"} <= {*typo.err.replace(",", "").split()}
    revoked = await paletta("tokens", "revoke", nightly["id"], **full)
    assert (revoked.code, revoked.err) == (0, "revoked 1 token\n")
    assert (await paletta("whoami", **narrow)).code == 4
    assert (await paletta("tokens", "revoke", "../../admin", **full)).code == 1
    plain = await paletta("tokens", "list", **full)
    assert plain.out.count("\n") == 1
    assert "everything" in plain.out


async def test_tokens_read_well_in_80_columns(
    paletta: Run, on_a_terminal: Run, people: dict[str, Person], runtime: Runtime
) -> None:
    await within_a_day(runtime)
    mine = {"PALETTA_TOKEN": people["contributor"].token}
    scopes = ("--scope", "uploads", "--scope", "clips", "--scope", "profile")
    await paletta("tokens", "create", "nightly upload of the studio's second machine", *scopes, **mine)
    rows = json.loads((await paletta("tokens", "list", "--json", **mine)).out)
    listed = await on_a_terminal("tokens", "list", TZ="UTC")
    lines = [line.rstrip() for line in listed.out.splitlines()]
    assert listed.code == 0
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["id", "name", "scopes", "last", "used", "expires", "this"]
    for row in rows:
        [line] = [line for line in lines if line.startswith(row["id"])]
        days = [row[key][:10] for key in ("last_used_at", "expires_at")]
        assert line.removesuffix("yes").split()[-2:] == days
        assert line.endswith("yes") == row["current"]
    assert "…" not in listed.out
    words = {*listed.out.replace(",", " ").split()}
    assert {"nightly", "second", "machine", "uploads", "clips", "profile", "everything"} <= words


async def test_profiles_keep_accounts_apart(paletta: Run, make_user: MakeUser, url: str) -> None:
    ana, ben = await make_user("customer"), await make_user("customer")
    for name, person in (("home", ana), ("work", ben)):
        argv = ("--profile", name, "login", "--email", person.email, "--password-stdin")
        assert (await paletta(*argv, stdin=person.password)).code == 0
    assert ana.email in (await paletta("whoami")).out, "the first is the default"
    assert ben.email in (await paletta("whoami", PALETTA_PROFILE="work")).out
    assert (await paletta("profile", "use", "work")).code == 0
    assert ben.email in (await paletta("whoami")).out
    typo = await paletta("profile", "use", "wrok")
    assert (typo.code, typo.err) == (2, "error: there is no profile `wrok`\nhint: did you mean `work`?\n")
    elsewhere = await paletta("whoami", PALETTA_URL=url.replace("127.0.0.1", "localhost"))
    assert elsewhere.code == 4, "a token belongs to one address"


async def test_profile_and_password(
    paletta: Run, make_user: MakeUser, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    person = await make_user("customer")
    token = {"PALETTA_TOKEN": person.token}
    edited = await paletta("profile", "edit", "--name", "Ana", "--username", "ana_films", **token)
    assert edited.code == 0
    assert "username: ana_films" in edited.out
    assert (await paletta("profile", "edit", **token)).code == 2
    shown = json.loads((await paletta("profile", "show", "--json", **token)).out)
    assert shown["display_name"] == "Ana"
    changed = await paletta(
        "profile", "password", "--password-stdin", stdin=f"{person.password}\n{PASSWORD}\n", **token
    )
    assert changed.code == 0, changed.err
    assert (await paletta("reset-password", "--email", person.email)).code == 0
    code = await mailed_code(mailbox, run_jobs, person.email)
    weak = await paletta("reset-password", "--token", code, "--password-stdin", stdin="passwordpassword")
    assert (weak.code, weak.err.splitlines()[0]) == (1, "error: the password is easy to guess")
    reset = await paletta("reset-password", "--token", code, "--password-stdin", stdin=OTHER)
    assert reset.code == 0, reset.err
    assert (await paletta("whoami", **token)).code == 4, "every device is logged out"
    login = await paletta("login", "--email", person.email, "--password-stdin", stdin=OTHER)
    assert login.code == 0


async def test_an_admin_answers_applications(
    paletta: Run, make_user: MakeUser, by_hand: None, mailbox: MailSink, run_jobs: RunJobs
) -> None:
    admin, ana, ben = await make_user("admin"), await make_user("customer"), await make_user("customer")
    as_admin = {"PALETTA_TOKEN": admin.token}
    for person in (ana, ben):
        argv = ("profile", "become-contributor", "--statement", "birds\x1b[2J")
        asked = await paletta(*argv, PALETTA_TOKEN=person.token)
        assert asked.out == "your application waits for an answer, which comes by mail\n"
    waiting = json.loads((await paletta("admin", "applications", "list", "--json", **as_admin)).out)
    ids = {row["email"]: row["id"] for row in waiting}
    plain = await paletta("admin", "applications", "list", **as_admin)
    assert "\x1b" not in plain.out
    approved = await paletta("admin", "applications", "approve", ids[ana.email], **as_admin)
    assert (approved.code, approved.err) == (0, f"{ana.email} is a contributor now\n")
    argv = ("admin", "applications", "reject", ids[ben.email], "--reason", "no releases")
    assert (await paletta(*argv, **as_admin)).code == 0
    empty = await paletta("admin", "applications", "list", **as_admin)
    assert (empty.out, empty.err) == ("", "no pending applications\n")
    refused = await paletta("admin", "applications", "list", PALETTA_TOKEN=ben.token)
    assert refused.code == 4


async def test_help_says_what_there_is(paletta: Run) -> None:
    shown = (await paletta("--help")).out
    for command in ("register", "login", "logout", "whoami", "profile", "tokens", "verify", "reset-password"):
        assert f"\n  {command}" in shown


async def test_logout_ends_the_stored_token_and_leaves_the_environments(
    paletta: Run, url: str, make_user: MakeUser, tmp_path: Path
) -> None:
    stored, outside = (await make_user("contributor")).token, (await make_user("contributor")).token
    assert (await paletta("login", "--token-stdin", stdin=stored)).code == 0
    done = await paletta("logout", PALETTA_TOKEN=outside)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"logged out of {url}\nwarning: PALETTA_TOKEN is set and stays in force\n"
    assert (await paletta("whoami", PALETTA_TOKEN=outside)).code == 0
    assert (await paletta("whoami", PALETTA_TOKEN=stored)).code == 4
    again = await paletta("logout", PALETTA_TOKEN=outside)
    assert again.code == 0
    assert again.err.startswith(f"not logged in to {url}\nhint: PALETTA_TOKEN is set")
    assert (await paletta("whoami", PALETTA_TOKEN=outside)).code == 0


async def test_the_password_is_given_once_more(paletta: Run, make_user: MakeUser) -> None:
    admin = await make_user("admin")
    as_admin = {"PALETTA_TOKEN": admin.token}
    wrong = await paletta("confirm", "--password-stdin", stdin="a wrong password, though long", **as_admin)
    assert (wrong.code, wrong.err) == (4, "error: the password is wrong\n")
    right = await paletta("confirm", "--password-stdin", stdin=admin.password, **as_admin)
    assert right == Ran(0, "", "confirmed\n")
    nobody = await paletta("confirm", **as_admin)
    assert nobody.code == 2
    assert "--password-stdin" in nobody.err
