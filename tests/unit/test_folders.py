"""Folders that are the service's own: where they are, how they are made, and which are refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from paletta_server.core.folders import SHARED_STATE, FolderRefused, default_state_dir, own_folder
from paletta_server.core.settings import Settings
from paletta_server.search.replica import Replica


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_scratch_and_index_are_in_the_users_own_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for state, expected in (
        ("/elsewhere", Path("/elsewhere/paletta")),
        ("relative/is/invalid", tmp_path / ".local" / "state" / "paletta"),
        ("", tmp_path / ".local" / "state" / "paletta"),
    ):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        assert (settings.scratch_dir, settings.search_dir) == (expected / "scratch", expected / "search")


@pytest.mark.parametrize("home", ["/", "/nonexistent", "", "relative"])
def test_a_service_without_a_home_keeps_its_state_where_the_system_says(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    for given, expected in (
        ("/var/lib/films:/var/lib/more", Path("/var/lib/films")),
        ("relative", SHARED_STATE),
        ("", SHARED_STATE),
    ):
        monkeypatch.setenv("STATE_DIRECTORY", given)
        assert default_state_dir() == expected


def test_a_folder_is_made_private_with_all_that_is_missing_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "paletta" / "scratch"
    before = os.umask(0)
    try:
        own_folder(folder, "PALETTA_SCRATCH_DIR")
    finally:
        os.umask(before)
    assert {mode(folder), mode(folder.parent), mode(folder.parent.parent)} == {0o700}
    folder.chmod(0o755)  # others may look: that is the operator's to say
    assert own_folder(folder, "PALETTA_SCRATCH_DIR") == folder


def linked(folder: Path) -> None:
    (folder.parent / "theirs").mkdir()
    folder.symlink_to(folder.parent / "theirs")


def dangling(folder: Path) -> None:
    folder.symlink_to(folder.parent / "theirs")


def filed(folder: Path) -> None:
    folder.write_text("")


def opened(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def sticky(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o1777)


def foreign(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder that is somebody else's")
    folder.mkdir()
    os.chown(folder, 65534, 65534)


@pytest.mark.skipif(os.name != "posix", reason="folders have no owners and modes there")
@pytest.mark.parametrize(
    ("made", "trouble", "fix"),
    [
        (linked, "is a symbolic link", "set PALETTA_SEARCH_DIR to a folder of this user's own"),
        (dangling, "is a symbolic link", "set PALETTA_SEARCH_DIR to a folder of this user's own"),
        (filed, "is no folder", "set PALETTA_SEARCH_DIR to a folder of this user's own"),
        (foreign, "belongs to user ", "set PALETTA_SEARCH_DIR to a folder of this user's own"),
        (opened, "can be written to by other users", "run `chmod go-w {folder}`, or set PALETTA_SEARCH_DIR"),
        (sticky, "can be written to by other users", "run `chmod go-w {folder}`, or set PALETTA_SEARCH_DIR"),
    ],
)
def test_a_folder_that_others_have_a_hand_in_is_refused(
    tmp_path: Path, made: Callable[[Path], None], trouble: str, fix: str
) -> None:
    folder = tmp_path / "search"
    made(folder)
    for use in (Replica.claim, Replica.all_of):
        with pytest.raises(FolderRefused) as caught:
            use(folder)
        assert str(caught.value).startswith(f"PALETTA_SEARCH_DIR: `{folder}` {trouble}")
        assert caught.value.hint.startswith(fix.format(folder=folder))
    assert not list(tmp_path.glob("theirs/*")), "nothing was put there"


def test_a_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderRefused, match=r"^PALETTA_SCRATCH_DIR: cannot make `.*/file/a/b`: Not a dir"):
        own_folder(tmp_path / "file" / "a" / "b", "PALETTA_SCRATCH_DIR")
