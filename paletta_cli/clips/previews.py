"""Previews from the store: small ones into memory, larger ones into a file. No token goes with these requests."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from paletta_cli.api import jitter, retry_after
from paletta_cli.errors import GaveUp, PalettaError, UsageError
from paletta_cli.settings import checked_url, is_loopback

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_TRIES = 4  # for a person who waits
_BLOCK = 256 * 1024


def fetch(address: str, *, most: int) -> bytes:
    """The object at a presigned address. Raises PalettaError, also for more than `most` bytes."""

    def take(response: "httpx.Response") -> bytes:
        data = bytearray()
        for block in response.iter_bytes(_BLOCK):
            data += block
            if len(data) > most:
                raise PalettaError("the preview is larger than a preview can be")
        return bytes(data)

    return _get(address, take)


def save(address: str, path: Path, *, force: bool) -> int:
    """Write the object at a presigned address to `path`, whole or not at all; bytes written.

    Raises UsageError where a file is in the way (unless `force`) or a symbolic link is, PalettaError when the disk or
    the store refuses.
    """
    refuse_if_taken(path, force=force)

    def write(response: "httpx.Response") -> int:
        with _draft(path) as (draft, stream):
            count = sum(stream.write(block) for block in response.iter_bytes(_BLOCK))
            _finish(stream, draft, path, force=force)
        return count

    return _get(address, write)


def refuse_if_taken(path: Path, *, force: bool) -> None:
    """Raises UsageError if a file cannot be written at `path` as it is now."""
    if path.is_symlink():
        raise UsageError(f"`{path}` is a symbolic link", hint="name the file itself, or another one")
    if path.is_dir():
        raise UsageError(f"`{path}` is a folder", hint="name a file in it")
    if path.exists() and not force:
        raise UsageError(f"`{path}` exists", hint="name another file, or overwrite it with --force")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder `{path.parent}`")


@contextmanager
def _draft(path: Path) -> "Iterator[tuple[Path, BinaryIO]]":
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flags = (
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
        with suppress(FileNotFoundError):
            draft.unlink()  # of an earlier run with this process id that was killed
        with os.fdopen(os.open(draft, flags, 0o666), "wb") as stream:
            yield draft, stream
    except OSError as error:
        raise PalettaError(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _finish(stream: BinaryIO, draft: Path, path: Path, *, force: bool) -> None:
    """Give the whole file its name; `os.link` fails where something appeared meanwhile, a rename would not."""
    stream.flush()
    os.fsync(stream.fileno())
    if force:
        draft.replace(path)
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        raise UsageError(f"`{path}` exists", hint="name another file, or overwrite it with --force") from None
    except OSError:  # a file system without hard links
        refuse_if_taken(path, force=False)
        draft.replace(path)


def checked(address: str) -> "httpx.URL":
    """The address, taken apart: https, or http on this machine. Raises UsageError for any other."""
    import httpx

    parts = httpx.URL(address)
    checked_url(f"{parts.scheme}://{parts.netloc.decode('ascii')}")
    return parts


def _get(address: str, read: "Callable[[httpx.Response], T]") -> T:
    """GET with bounded, jittered retries; what arrives is read anew each time."""
    import httpx

    parts = checked(address)
    with httpx.Client(trust_env=not is_loopback(parts.host), timeout=httpx.Timeout(30, connect=10)) as client:
        for attempt in range(_TRIES):
            asked = None
            try:
                with client.stream("GET", address) as response:
                    if response.status_code == 200:
                        return read(response)
                    reason = f"the store answered {response.status_code}"
                    asked = retry_after(response.headers.get("retry-after"))
                    if response.status_code < 500 and response.status_code != 429:
                        raise PalettaError(f"cannot fetch the preview: {reason}")
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if attempt < _TRIES - 1:
                time.sleep(jitter(attempt) if asked is None else asked)
    raise GaveUp(f"cannot fetch the preview: {reason[:200]}", hint="check the network, and try again")
