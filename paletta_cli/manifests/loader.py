"""Reads a folder's manifests: `paletta.yaml` with `defaults` and `clips`, and sidecars (`clip.mov.yaml`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paletta_cli.manifests.model import Clip, Folder, Position, Problem
from paletta_cli.manifests.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_empty
from paletta_cli.manifests.rules import Rules
from paletta_cli.manifests.schema import ABSENT, Report, as_plain
from paletta_cli.manifests.source import read, without_collector
from paletta_cli.text import closest, composed

MANIFEST = "paletta.yaml"
# What people call video files, whether or not the service takes them: such a file in the folder is a clip.
VIDEO_SUFFIXES = frozenset(
    {
        ".mov",
        ".mp4",
        ".m4v",
        ".mxf",
        ".avi",
        ".mpg",
        ".mpeg",
        ".mkv",
        ".webm",
        ".mts",
        ".m2ts",
        ".wmv",
        ".3gp",
    }
)
_YAML_SUFFIXES = (".yaml", ".yml")
_ROOT_FIELDS = ("paletta", "defaults", "clips")


def load_folder(path: str | Path) -> Folder:
    """Read the manifests of a folder, or of one clip (`path` is the clip or its sidecar).

    Never raises for what a manifest says: that is in `Folder.problems`, and `lint` adds the rest.

    Raises NotADirectoryError or FileNotFoundError for a path that does not exist.
    """
    path = Path(path)
    only = None
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"`{path}` does not exist")
        if path.name != MANIFEST:
            only = path.name.removesuffix(".yml").removesuffix(".yaml")
        path = path.parent
    folder = Folder(path=path, shown="" if str(path) == "." else str(path), only=only)
    folder.files = _scan(path)
    with without_collector():
        _read_manifest(folder)
        _read_sidecars(folder)
    if only is not None:
        # A sidecar may spell its clip otherwise than the folder does.
        folder.only = only = folder.spelling(only)
        folder.clips = [clip for clip in folder.clips if clip.file == only]
    return folder


def fill_metadata(folder: Folder, rules: Rules) -> None:
    """Type every clip's fields by `rules` and put the defaults under them; says nothing of what is wrong."""
    fields = {name: checker for name, checker in rules.clip_fields.items() if name != "file"}

    def typed(node: MappingNode | None) -> dict[str, Any]:
        entries = node.entries if node is not None else {}
        return {key: fields[key](child, _silent) for key, (_, child) in entries.items() if key in fields}

    shared = typed(folder.defaults)
    for clip in folder.clips:
        clip.metadata = merged(shared, typed(clip.node))


def _silent(node: Node, code: str, message: str, hint: str | None) -> None:
    """For reading values whose mistakes are reported elsewhere."""


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A clip's values over the defaults: mappings are merged field by field, everything else is replaced.

    A value left empty in the clip (`copyright:`) takes the default away. Empty values are then left out.
    """
    result: dict[str, Any] = {}
    for key, value in (*shared.items(), *own.items()):
        under = result.get(key)
        if key == "agencies" and isinstance(value, dict):
            value = _over(under, value)
        elif isinstance(value, dict):
            written_empty = not value  # `editorial: {}` says something
            value = merged(under if isinstance(under, dict) else {}, value)
            if not value and not written_empty:
                continue
        if value is ABSENT or value == "" or value == []:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def _over(under: Any, value: Any) -> Any:
    """Mappings merged to their full depth with empty values kept: an agency's empty cell means something."""
    if not isinstance(under, dict) or not isinstance(value, dict):
        return value
    return {**under, **{key: _over(under.get(key), child) for key, child in value.items()}}


def plain_metadata(folder: Folder, clip: Clip) -> dict[str, Any]:
    """A clip's fields with the defaults, as strings and unchecked: what an export writes, whatever it is."""
    shared = _plain_fields(folder.defaults) if folder.defaults is not None else {}
    return merged(shared, _plain_fields(clip.node))


def _plain_fields(node: MappingNode) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, (_, child) in node.entries.items():
        if key == "agencies":
            plain[key] = as_plain(child)
        elif is_empty(child):
            plain[key] = ABSENT
        else:
            plain[key] = _plain_fields(child) if isinstance(child, MappingNode) else as_plain(child)
    return plain


def _scan(path: Path) -> dict[str, int]:
    """Name → size of the regular files in a folder (links followed), without hidden ones."""
    files = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_file():
                    files[entry.name] = entry.stat().st_size
            except OSError:  # it went away, or a link leads nowhere
                continue
    return dict(sorted(files.items()))


def _shown(folder: Folder, name: str) -> str:
    return os.path.join(folder.shown, name)  # noqa: PTH118  (keeps the path as the user wrote it)


def _read_manifest(folder: Folder) -> None:
    name = MANIFEST
    if name not in folder.files:
        if "paletta.yml" in folder.files:
            folder.unread = True
            at = _shown(folder, "paletta.yml")
            folder.problems.append(
                Problem(
                    at,
                    0,
                    0,
                    "error",
                    "manifest_name",
                    "the manifest must be called `paletta.yaml`",
                    "rename it",
                )
            )
        return
    shown = folder.manifest = _shown(folder, name)
    document = read(folder.path / name, shown)
    folder.problems += document.problems
    root = document.root
    folder.unread = not isinstance(root, MappingNode)
    if not isinstance(root, MappingNode):
        if not document.problems:
            what = "is empty" if root is None else "must be a mapping with `paletta: 1` and `clips:`"
            folder.problems.append(
                Problem(
                    shown,
                    1,
                    1,
                    "error",
                    "manifest",
                    f"the manifest {what}",
                    "`paletta manifest init` writes one",
                )
            )
        return
    problem = _problems(folder, shown)
    check_version(root, problem)
    for key, (key_node, _) in root.entries.items():
        if key not in _ROOT_FIELDS:
            meant = closest(key, _ROOT_FIELDS)
            hint = (
                f"did you mean `{meant}`?" if meant else "fields of clips stand under `clips` or `defaults`"
            )
            problem(key_node, "unknown_field", f"unknown field `{key}`", hint)
    defaults = root.get("defaults")
    if isinstance(defaults, MappingNode):
        folder.defaults = defaults
    elif not is_empty(defaults):
        assert defaults is not None
        problem(defaults, "type", "`defaults` must be a mapping", None)
    _read_clips(folder, root, problem)


def _read_clips(folder: Folder, root: MappingNode, problem: Report) -> None:
    clips = root.get("clips")
    if clips is None:
        if not any(_is_sidecar(folder, name) for name in folder.files):
            problem(root, "no_clips", "`clips` is missing", "list the clips under `clips:`")
        return
    if is_empty(clips):
        return
    if not isinstance(clips, SequenceNode):
        folder.unread = True
        problem(clips, "type", "`clips` must be a list", "start each clip with `- file: …`")
        return
    for node in clips.items:
        if not isinstance(node, MappingNode):
            hint = "write `- file: …` and the clip's fields below it"
            problem(node, "type", "a clip must be a mapping", hint)
            continue
        name = node.get("file")
        if not isinstance(name, ScalarNode) or not name.value:
            problem(name or node, "required", "`file` is missing", "name the clip's file: `file: …`")
            continue
        at = Position(folder.manifest or "", node.line, node.column)
        file = folder.spelling(name.value)
        clip = Clip(folder, file, folder.path / file, at.file, node, at, written=name.value)
        folder.clips.append(clip)


def check_version(root: MappingNode, problem: Report) -> None:
    """`paletta: 1` says which format this is, so that a later one can differ."""
    version = root.get("paletta")
    if version is None:
        problem(root, "version", "`paletta: 1` is missing", "put `paletta: 1` in the first line")
    elif not isinstance(version, ScalarNode) or version.value != "1":
        problem(
            version, "version", "only version 1 of the manifest format is known here", "write `paletta: 1`"
        )


def _is_sidecar(folder: Folder, name: str) -> bool:
    """`clip.mov.yaml`: a name that is a video's with .yaml behind it."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  (names, not paths)
    return suffix in _YAML_SUFFIXES and os.path.splitext(stem)[1].casefold() in VIDEO_SUFFIXES  # noqa: PTH122


def _read_sidecars(folder: Folder) -> None:
    listed = {clip.file: clip for clip in folder.clips}
    for name in folder.files:
        if not _is_sidecar(folder, name):
            continue
        folder.sidecars += 1
        file = folder.spelling(os.path.splitext(name)[0])  # noqa: PTH122
        shown = _shown(folder, name)
        problem = _problems(folder, shown, file)
        document = read(folder.path / name, shown)
        folder.problems += document.problems
        root = document.root
        if not isinstance(root, MappingNode):
            folder.unread_sidecars.add(file)
            if not document.problems:
                folder.problems.append(
                    Problem(
                        shown,
                        1,
                        1,
                        "error",
                        "manifest",
                        "a sidecar must be a mapping of the clip's fields",
                        None,
                        file,
                    )
                )
            continue
        check_version(root, problem)
        own = MappingNode(root.line, root.column, root.flow, root.start, root.end)
        own.entries = {key: entry for key, entry in root.entries.items() if key != "paletta"}
        if file in listed:
            other = listed[file].at
            hint = f"it is already described at {other}; keep one of the two"
            problem(root, "conflict", f"`{file}` is described twice", hint)
            continue
        if name.endswith(".yml"):
            problem(root, "manifest_name", f"a sidecar must be called `{file}.yaml`", "rename it")
        _check_sidecar_file(own, file, problem)
        at = Position(shown, root.line, root.column)
        clip = listed[file] = Clip(folder, file, folder.path / file, shown, own, at, sidecar=True)
        folder.clips.append(clip)


def _check_sidecar_file(own: MappingNode, file: str, problem: Report) -> None:
    given = own.get("file")
    if isinstance(given, ScalarNode) and composed(given.value) != composed(file):
        problem(
            given, "conflict", f"this sidecar describes `{file}`, not `{given.value}`", "delete this line"
        )
    for key in ("clips", "defaults"):
        if key in own.entries:
            problem(
                own.entries[key][0],
                "unknown_field",
                f"`{key}` has no place in a sidecar",
                "put it into `paletta.yaml`",
            )
            del own.entries[key]


def _problems(folder: Folder, shown: str, clip: str | None = None) -> Report:
    def report(node: Node, code: str, message: str, hint: str | None) -> None:
        folder.problems.append(Problem(shown, node.line, node.column, "error", code, message, hint, clip))

    return report
