"""`paletta-server create-user`."""

from __future__ import annotations

import asyncio
import getpass
import sys
from typing import TYPE_CHECKING

from paletta_server.commands import terminal

if TYPE_CHECKING:
    from paletta_server.core.settings import Settings


def create_user(*, email: str, role: str, password_stdin: bool) -> int:
    """Make an account whose address counts as verified; the exit code."""
    from paletta_server.core.errors import PalettaError
    from paletta_server.core.settings import get_settings

    password = _password(from_stdin=password_stdin)
    if password is None:
        return 2
    try:
        uid = asyncio.run(_create(get_settings(), email, role, password))
    except PalettaError as error:
        terminal.error(error.detail + (f"\nhint: {error.hint}" if error.hint else ""))
        return 1
    terminal.say(f"created {role} `{email}`")
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


def _password(*, from_stdin: bool) -> str | None:
    """The password from the first line of standard input, or asked for twice on a terminal."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        terminal.error("no terminal to ask for a password on\nhint: give it with --password-stdin")
        return None
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        terminal.error("the passwords differ")
        return None
    return password
