"""`manifest init`: a first manifest for a folder, or new entries in one that people have edited since.

Values come from the file's XMP, then its QuickTime keys; the title, failing these, from the file's name. Running
it again only inserts entries; every other byte of the manifest stays. What is written can always be read again.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paletta_cli.errors import ManifestInvalid, PalettaError, cannot
from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.emit import clip_entry, document
from paletta_cli.manifests.loader import MANIFEST, VIDEO_SUFFIXES, load_folder
from paletta_cli.manifests.model import Folder
from paletta_cli.manifests.nodes import MappingNode, Node, SequenceNode, content_end
from paletta_cli.manifests.probe import MediaError, probe
from paletta_cli.manifests.source import Document, read
from paletta_cli.text import name_trouble

# Editors check a manifest as it is typed. A copy beside it means the same on every machine the folder comes to.
_SCHEMA = "paletta.schema.json"

_ORDER = ("title", "description", "keywords", "categories", "location", "shot_date", "source", "copyright")
# Camera names such as DSC_0042, MVI_1234, C0012, GX010012, clip-3: they say nothing about the picture.
_CAMERA = re.compile(
    r"(?i)(?:[a-z]{0,5}[_-]?\d{2,}|(?:clip|video|movie|untitled|export|final|shot|take)[ _-]*\d*)(?:[_-]?\d+)*"
)
_TECHNICAL = re.compile(
    r"(?i)\b(?:4k|8k|uhd|hd|fhd|\d{3,4}p|\d{2,3}fps|prores(?:hq|422)?|h26[45]|hevc|log|slog\d?|rec709|graded|final"
    r"|v\d+|master|export|\d+)\b"
)


@dataclass
class Scaffold:
    """What `init` did: the manifest, the files it added, those it could not read and why, fields found in files.

    `unusable` are files that it left out, and what is wrong with their names: no manifest can hold them.
    """

    manifest: Path
    added: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    created: bool = False
    fields_found: int = 0


def scaffold(path: Path) -> Scaffold:
    """Write or extend `paletta.yaml` in a folder, at once and whole.

    Raises ManifestInvalid when there is a manifest that cannot be read: it must be mended first.
    """
    folder = load_folder(path)
    manifest = folder.path / MANIFEST
    result = Scaffold(manifest, created=MANIFEST not in folder.files)
    if broken := [p for p in folder.problems if p.file == folder.manifest and p.code != "no_clips"]:
        raise ManifestInvalid(str(broken[0]), hint="mend the manifest first; nothing was changed")
    known = {clip.file for clip in folder.clips}
    entries = []
    for name in sorted((n for n in folder.files if _is_video(n) and n not in known), key=_natural):
        if trouble := name_trouble(name) or _twin(folder, name):
            result.unusable[name] = trouble
            continue
        values, origin = _describe(folder, name, result)
        entries.append(clip_entry(values, origin))
        result.added.append(name)
    if entries or result.created:
        text = _new(entries) if result.created else _extended(read(manifest, str(manifest)), entries)
        write_whole(manifest, text, mark=not result.created and _mark(manifest))
    schema = folder.path / _SCHEMA
    if result.created and _SCHEMA not in folder.files and not schema.is_symlink():
        write_whole(schema, data_file(_SCHEMA).read_text(encoding="utf-8"))
    return result


def _twin(folder: Folder, name: str) -> str | None:
    """What keeps a name out that an entry could not tell from another's."""
    same = len(folder.namesakes(name)) > 1
    return "differs from another only in how accents are encoded" if same else None


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].casefold() in VIDEO_SUFFIXES  # noqa: PTH122


def _natural(name: str) -> list[tuple[int, str]]:
    """clip-2 before clip-10, as people count."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name.casefold())]


def _describe(folder: Folder, name: str, result: Scaffold) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a new entry and a comment for those that are not a person's."""
    from paletta_cli.manifests.embedded import embedded

    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    try:
        values, origin = embedded(probe(folder.path / name, xmp=True))
    except MediaError as error:
        result.unreadable[name] = error.message
    result.fields_found += len(origin)
    notes = {key: f"from {source}" for key, source in origin.items()}
    if "title" not in values and (title := suggested_title(name)):
        values["title"] = title
        notes["title"] = "from the file name"
    shared = folder.defaults.entries if folder.defaults is not None else {}
    entry: dict[str, Any] = {"file": name}
    for key in _ORDER:
        if key in values:
            entry[key] = values[key]
        elif key in ("title", "keywords", "categories") and key not in shared:
            entry[key] = [] if key != "title" else None
            notes[key] = _WANTED[key]
    return entry, notes


_WANTED = {
    "title": "one line that says what is seen",
    "keywords": "5 to 50, the most important first",
    "categories": "one or two, see `paletta categories list`",
}


def suggested_title(name: str) -> str | None:
    """A title from a file name such as `yellow-tram_lisbon_4k_02.mov`, or None if it is a camera's number."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    if _CAMERA.fullmatch(stem):
        return None
    words = _TECHNICAL.sub(" ", re.sub(r"[\W_]+", " ", stem))
    words = _TECHNICAL.sub(" ", re.sub(r"([a-z])([A-Z])", r"\1 \2", words))  # twice: clipFinal, ProRes
    words = " ".join(words.split())
    title = words[:1].upper() + words[1:]
    return title[:200] if len(title) >= 5 else None


def _new(entries: list[list[str]]) -> str:
    heading = [
        f"# yaml-language-server: $schema={_SCHEMA}",
        "# What all clips share goes under `defaults`; `paletta manifest check` finds every mistake.",
    ]
    return document(heading, {}, entries).replace("\nclips:", _DEFAULTS + "\nclips:", 1)


_DEFAULTS = """
# defaults:
#   source: Sony FX3
#   copyright: A. Rossi
#   location: {city: Lisbon, country: PT}
"""


def _extended(source: Document, entries: list[list[str]]) -> str:
    """The manifest's text with entries added behind the last clip; nothing else changes."""
    text, root = source.text, source.root
    assert isinstance(root, MappingNode)  # load_folder has refused anything else
    newline = "\r\n" if "\r\n" in text else "\n"
    clips = root.get("clips")
    if isinstance(clips, SequenceNode) and clips.items and not clips.flow:
        at = _entry_end(text, clips.items[-1], _column(text, clips))
        gap = _gap(text, clips)
        indent = " " * (_column(text, clips) - 1)
    elif isinstance(clips, SequenceNode) and clips.flow and clips.items:
        raise ManifestInvalid(
            f"{source.file}:{clips.line}:{clips.column}: `clips` is written in brackets",
            hint="write each clip as `- file: …` on lines of its own, then run this again",
        )
    else:
        return _with_first_clips(text, root, entries, newline)
    block = ""
    for entry in entries:
        block += newline + gap + newline.join(indent + line for line in entry)
    return text[:at] + block + (text[at:] or newline)


def _entry_end(text: str, entry: Node, column: int) -> int:
    """Offset of the line end behind an entry, with the comments that are indented as its fields are."""
    at = _line_end(text, content_end(text, entry))
    while at < len(text):
        following = text.find("\n", at) + 1
        end = _line_end(text, following)
        line = text[following:end]
        if not following or not line.strip().startswith("#") or len(line) - len(line.lstrip()) < column:
            break
        at = end
    return at


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" and end > offset else end


def _column(text: str, clips: SequenceNode) -> int:
    """The column, from 1, of the dashes of a block list."""
    return clips.start - text.rfind("\n", 0, clips.start)


def _gap(text: str, clips: SequenceNode) -> str:
    """A blank line between entries, if that is how the last two are written."""
    if len(clips.items) < 2:
        return "\n" if "\r\n" not in text else "\r\n"
    end = _entry_end(text, clips.items[-2], _column(text, clips))
    between = text[end:].splitlines(keepends=True)[1:2]
    return between[0] if between and not between[0].strip() else ""


def _with_first_clips(text: str, root: MappingNode, entries: list[list[str]], newline: str) -> str:
    """A manifest whose `clips` is empty (`clips:`, `clips: []`) or missing."""
    block = (newline + newline).join(newline.join(entry) for entry in entries)
    if "clips" not in root.entries:
        return text.rstrip() + newline + newline + "clips:" + newline + block + newline
    key = root.entries["clips"][0]
    start = _offset(text, key.line, key.column) + len("clips:")
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    rest = text[start:end].rstrip("\r")
    tail = re.sub(r"^\s*(\[\s*\]|~|null)?", "", rest)
    return text[:start] + (" " + tail if tail else "") + newline + block + (text[end:] or newline)


def _offset(text: str, line: int, column: int) -> int:
    at = 0
    for _ in range(line - 1):
        at = text.index("\n", at) + 1
    return at + column - 1


def _mark(manifest: Path) -> bool:
    """Whether the file starts with a byte order mark, to be kept."""
    start = manifest.read_bytes()[:3]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestInvalid(f"`{manifest}` is in UTF-16", hint="save it as UTF-8")
    return start == b"\xef\xbb\xbf"


def write_whole(path: Path, text: str, *, encoding: str = "utf-8", mark: bool = False) -> None:
    """Write a file at once: a reader sees the old one or the new one, never half. `mark`: begin with a BOM.

    A symbolic link is left alone: neither what it leads to is written, which may be anybody's, nor is it replaced.
    Raises PalettaError for one, and where the file system refuses.
    """
    if path.is_symlink():
        raise PalettaError(
            f"`{path}` is a symbolic link: nothing is written through it",
            hint="put a file in its place, or move it",
        )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(
            missing_ok=True
        )  # of a run that was killed and had our number; or a link, not to be followed
        with draft.open("x", encoding="utf-8-sig" if mark else encoding, newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    except OSError as error:
        raise cannot("write", path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink()
