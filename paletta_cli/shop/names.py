"""Where a bought file goes below the chosen folder. Titles and everything else from the service are hostile here."""

import string
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from paletta_cli.errors import UsageError

LAYOUT = "{order}/{clip}-{title}.{ext}"
FIELDS = ("order", "clip", "title", "ext", "tier", "licence", "contributor", "item")
LONGEST = 180
"""Bytes of UTF-8 of one name: file systems take 255, and `.licence.pdf` or `.part.log` come behind it."""
_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICES = frozenset(
    [
        "CON",
        "PRN",
        "AUX",
        "NUL",
        "CONIN$",
        "CONOUT$",
        *(f"{kind}{n}" for kind in ("COM", "LPT") for n in "123456789¹²³"),
    ]
)
"""What Windows takes for devices, with any extension (Microsoft, "Naming Files, Paths, and Namespaces")."""


def checked_layout(layout: str) -> str:
    """The layout. Raises UsageError for unknown fields, absolute paths and steps upwards."""
    try:
        parts = list(string.Formatter().parse(layout))
    except ValueError as error:
        raise UsageError(f"--layout: {error}", hint=f"such as '{LAYOUT}'") from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS or spec or conversion):
            raise UsageError(
                f"--layout: no field `{{{name}}}`",
                hint="there is " + ", ".join(f"{{{one}}}" for one in FIELDS),
            )
    steps = layout.split("/")
    if layout.startswith("/") or any(step.strip() in ("", ".", "..") for step in steps) or "\\" in layout:
        raise UsageError(f"--layout: `{layout}` does not stay below the folder", hint=f"such as '{LAYOUT}'")
    return layout


def plain(text: object) -> str:
    """`text` as part of a name on any system: no separators, no controls, nothing invisible."""
    kept = "".join(
        " " if char in _FORBIDDEN or unicodedata.category(char)[0] in "CZ" else char
        for char in unicodedata.normalize("NFC", str(text))
    )
    return " ".join(kept.split())


def safe(name: str) -> str:
    """`name` as one step of a path that every system takes: never empty, hidden, a device, or too long.

    What is safe already stays as it is.
    """
    for _ in range(8):  # cutting off one thing may bring forth another
        again = _trimmed(name)
        if again == name:
            return name
        name = again
    return "untitled"


def _trimmed(name: str) -> str:
    stem, dot, ext = plain(name).rpartition(".")
    if not dot or len(ext) > 10 or not ext.isalnum():
        stem, ext = plain(name), ""
    stem = stem.strip(" .").lstrip("-~ .")
    room = LONGEST - len(f".{ext}".encode())
    while len(stem.encode()) > room:
        stem = stem[:-1]
    stem = stem.strip(" .") or "untitled"
    if stem.split(".")[0].strip().upper() in _DEVICES:
        stem = f"_{stem}"
    return f"{stem}.{ext}" if ext else stem


def is_safe(path: PurePosixPath) -> bool:
    """Whether a path is one that this module could have made: relative, and every step safe."""
    return bool(path.parts) and not path.is_absolute() and all(safe(step) == step for step in path.parts)


def place(layout: str, values: Mapping[str, str]) -> PurePosixPath:
    """The path of a file. `values` has a value for each of FIELDS."""
    clean = {name: plain(values[name]) for name in FIELDS}
    return PurePosixPath(*(safe(step.format(**clean)) for step in layout.split("/")))


def apart(path: PurePosixPath, item: str, tier: str) -> PurePosixPath:
    """The path with the item's own letters in its name, for files that would have the same."""
    tail = plain(item).rpartition("_")[2][:12]
    return path.with_name(safe(f"{path.stem[: LONGEST - 40]}-{tail}-{plain(tier)}{path.suffix}"))


def same_name(path: PurePosixPath) -> str:
    """Equal for paths that some file system takes for one: letter case and composition do not count."""
    return "/".join(unicodedata.normalize("NFC", step).casefold() for step in path.parts)


def collisions(paths: Sequence[PurePosixPath]) -> set[int]:
    """Which of these paths meet another of them, or a folder of another, by index."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_name[same_name(path)].append(index)
    folders = {same_name(folder) for path in paths for folder in path.parents if folder.parts}
    return {index for name, found in by_name.items() for index in found if len(found) > 1 or name in folders}
