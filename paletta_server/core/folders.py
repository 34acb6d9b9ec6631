"""Folders on this machine's disk that are the service's own: where they are by default, and that they are ours.

What lies in them is trusted: films on their way through the sandbox, an index that is opened as it is. So nobody else
may have made them, nor write in them.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

SHARED_STATE = Path("/var/lib/paletta")
"""For a service's user without a home. An operator gives it to that user; nobody else can make it."""


class FolderRefused(OSError):
    """A folder that cannot be ours. The message says what is wrong with it, `hint` how to mend that."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/paletta`, or `~/.local/state/paletta`.

    Without a home, as users of services are: the first of systemd's `$STATE_DIRECTORY`, or `SHARED_STATE`.
    """
    chosen = Path(os.environ.get("XDG_STATE_HOME", ""))
    if chosen.is_absolute():
        return chosen / "paletta"
    with suppress(OSError, RuntimeError):  # the second for a user that neither $HOME nor the system knows
        home = Path.home()
        # `/` is what systemd gives a user that it made up, /nonexistent what Debian gives `nobody`.
        if home.is_absolute() and home != Path(home.anchor) and home.is_dir():
            return home / ".local" / "state" / "paletta"
    given = Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0])
    return given if given.is_absolute() else SHARED_STATE


def own_folder(folder: Path, setting: str) -> Path:
    """Make `folder` (0700, as everything above it that is missing), and make sure that it is ours alone.

    `setting` is the environment's name of what chose it. Raises FolderRefused.
    """
    another = f"set {setting} to a folder of this user's own"
    try:
        _make(folder)
        trouble = why_not_ours(folder)
    except OSError as error:
        raise FolderRefused(f"{setting}: cannot make `{folder}`: {error.strerror}", another) from error
    if trouble is not None:
        hint = f"run `chmod go-w {folder}`, or {another}" if trouble == OPEN else another
        raise FolderRefused(f"{setting}: `{folder}` {trouble}", hint)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise FolderRefused(f"{setting}: cannot write to `{folder}`", another)
    return folder


def _make(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)  # one that came in between is looked at like any other


OPEN = "can be written to by other users"


def why_not_ours(folder: Path) -> str | None:
    """What makes it no folder that we own and nobody else can write in (`is a symbolic link`), or None.

    Raises OSError when there is none.
    """
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if os.name != "posix":  # owners and modes mean nothing there, and what is in a profile is a person's own
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to user {_name_of(found.st_uid)}"
    return OPEN if found.st_mode & 0o022 else None


def why_not_safe(folder: Path) -> str | None:
    """What lets somebody besides us and root change what `folder` holds, in it or in a folder above it, or None.

    For what is run rather than kept: root's own folder is as good as ours. Raises OSError when there is none.
    """
    if os.name != "posix":
        return None
    if folder.is_symlink():
        return f"`{folder}` is a symbolic link"
    # Where a folder above is a symbolic link, what leads to it counts as well as what it leads to.
    for place in dict.fromkeys((folder, *folder.resolve().parents, *folder.absolute().parents)):
        found = place.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"`{place}` belongs to user {_name_of(found.st_uid)}"
        # Above it sticky folders will do (/tmp): nobody can exchange there what belongs to another.
        if found.st_mode & 0o022 and (place == folder or not found.st_mode & stat.S_ISVTX):
            return f"`{place}` {OPEN}"
    return None


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
