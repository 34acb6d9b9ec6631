"""`paletta-server create-user`."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings


def create_user(*, email: str, role: str, password_stdin: bool) -> int:
    """Make an account whose address counts as verified; the exit code."""
    from paletta_server.core.settings import get_settings

    password = _password(from_stdin=password_stdin)
    if password is None:
        return 2
    return _made(_create(get_settings(), email, role, password), f"created {role} `{email}`")


def invite_user(*, email: str, role: str) -> int:
    """Make an account without a password, and have its owner mailed a link to set one; the exit code.

    For where nobody can type: a one-off task of a container has no standard input, and what is on its command line is
    kept for everybody who may look at tasks.
    """
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    if not _mails(settings):
        terminal.error(
            "no mail server is set, so nobody would get the link\n"
            "hint: set PALETTA_SMTP_HOST, or PALETTA_MAILER=ses, as the workers have it; or give a password with"
            " --password-stdin"
        )
        return 2
    done = f"invited {role} `{email}`: a worker mails the link, good for {settings.mail_link_minutes} minutes"
    return _made(_invite(settings, email, role), done)


def _mails(settings: Settings) -> bool:
    """Whether somebody said where mail goes: port 25 of this machine is only a guess."""
    return settings.mailer == "ses" or not settings.model_fields_set.isdisjoint({"smtp_host", "smtp_port"})


def _made(making: Coroutine[object, object, str], done: str) -> int:
    """Print the id of what is made, or why it is not; the exit code."""
    from paletta_server.core.errors import PalettaError

    try:
        uid = asyncio.run(making)
    except PalettaError as error:
        terminal.error(error.detail + (f"\nhint: {error.hint}" if error.hint else ""))
        return 1
    terminal.say(done)
    terminal.result(uid)
    return 0


async def _create(settings: Settings, email: str, role: str, password: str) -> str:
    from paletta_server.accounts import service
    from paletta_server.core.runtime import Runtime

    async with Runtime.open(settings) as runtime, runtime.db.transaction() as session:
        user = await service.create_user(
            session,
            email=email,
            password=password,
            role=role,
            verified=True,
            shortest=settings.password_min_length,
        )
        return str(user.uid)


async def _invite(settings: Settings, email: str, role: str) -> str:
    from paletta_server.accounts import addresses, administration
    from paletta_server.core.runtime import Runtime

    address = addresses.checked(email)
    async with Runtime.open(settings) as runtime, runtime.db.transaction() as session:
        user = await administration.invite(session, settings, None, email=address, role=role)
        return str(user.uid)


def _password(*, from_stdin: bool) -> str | None:
    """The password from the first line of standard input, or asked for twice on a terminal."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        terminal.error(
            "no terminal to ask for a password on\n"
            "hint: give it with --password-stdin, or have the person set one by mail: --invite"
        )
        return None
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        terminal.error("the passwords differ")
        return None
    return password
