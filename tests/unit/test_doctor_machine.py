"""What the doctor says of the machine: room, leftovers, and who hears of faults."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from paletta_server.commands import doctor_machine as machine
from paletta_server.commands.doctor import Trouble
from paletta_server.core.settings import Settings

SETTINGS = Settings(_env_file=None)


async def test_old_copies_are_named_with_the_command_that_removes_them(tmp_path: Path) -> None:
    assert await machine.old_copies(SETTINGS, tmp_path / "none") == "none"
    for name in ("postgres-18.4.1", "postgres-18.5 (old)", "search"):
        (tmp_path / name).mkdir()
    (tmp_path / "postgres-link").symlink_to(tmp_path / "search")
    with pytest.raises(Trouble, match="2 old copies") as raised:
        await machine.old_copies(SETTINGS, tmp_path)
    command = shlex.split(raised.value.fix.removeprefix("run `").removesuffix("`"))
    assert command == ["rm", "-rf", str(tmp_path / "postgres-18.4.1"), str(tmp_path / "postgres-18.5 (old)")]
    assert raised.value.outcome == "warning"


@pytest.mark.parametrize(
    ("free", "outcome"), [(10**12, None), (10 * 1024**3, "warning"), (1024**3, "failed")]
)
async def test_room_under_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outcome: str | None
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free, total=10**13))
    if outcome is None:
        assert "GB free" in await machine.disk(tmp_path, SETTINGS)
        return
    with pytest.raises(Trouble, match="GB free") as raised:
        await machine.disk(tmp_path, SETTINGS)
    assert raised.value.outcome == outcome


async def test_without_operators_it_says_so() -> None:
    with pytest.raises(Trouble, match="nobody is mailed") as raised:
        await machine.operators(SETTINGS)
    assert raised.value.outcome == "warning"
    told = Settings(_env_file=None, operator_emails="Olga@example.org, max@example.org")  # type: ignore[arg-type]
    assert await machine.operators(told) == "olga@example.org, max@example.org"
    with pytest.raises(ValueError, match="no e-mail address"):
        Settings(_env_file=None, operator_emails="olga")  # type: ignore[arg-type]
