"""Agencies' CSV files to a manifest and back, exact to the cell.

What a cell means becomes a field of ours. What the same field would be written as, and is not, stays in
`agencies.<name>` so that an export gives the same cells again:

- `header`: the file's headings in their order (under `defaults`);
- `separators`: how a column joins its entries, if not by `", "` (under `defaults`);
- `words`: another word throughout a column, such as `{Editorial: {"no": "No"}}` (under `defaults`);
- `spelling`: one cell's other spelling of the same meaning. It counts only while the field still means that;
- a column's own name: a cell that our fields cannot hold, or that differs from what another file said. It always
  counts, and is also how a person gives an agency something of its own (`adobe: {category: 20}`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from paletta_cli.errors import ManifestInvalid, UsageError
from paletta_cli.manifests.agencies import Column, Plan, fold, plan, plans
from paletta_cli.manifests.cells import SEPARATOR, cell, items_of, meaning, put, value_of
from paletta_cli.manifests.emit import clip_entry, document
from paletta_cli.manifests.loader import plain_metadata
from paletta_cli.manifests.model import Folder
from paletta_cli.manifests.tables import Table
from paletta_cli.text import clean

_SEPARATORS = (SEPARATOR, ",", "; ", ";")
_KEPT = ("header", "separators", "words", "spelling")
# Shared by a whole shoot, so an import writes them once when every row says the same.
_ORDER = ("title", "description", "keywords", "categories", "editorial", "location", "shot_date", "source", "releases",
          "copyright", "batch", "price", "mature", "illustration")  # fmt: skip
_HOISTED = ("source", "copyright", "batch")


@dataclass
class Imported:
    """A manifest in the making: `clips` are fields by file name, in the order of the rows."""

    defaults: dict[str, Any] = field(default_factory=dict)
    clips: dict[str, dict[str, Any]] = field(default_factory=dict)


def recognise(table: Table, agency: str | None = None) -> Plan:
    """Whose CSV this is, by its headings; `agency` when the user said it.

    Raises UsageError when no agency fits, or several do equally well.
    """
    if agency is not None:
        chosen = plan(agency)
        if not any(_is_file(chosen, heading) for heading in table.header):
            wanted = next(column.name for column in chosen.columns if column.field == "file")
            raise UsageError(f"`{table.name}` has no column `{wanted}`, which {chosen.name} needs")
        return chosen
    scores = {}
    for candidate in plans().values():
        found = [column for heading in table.header if (column := candidate.column(heading))]
        if all(column in found for column in candidate.columns if column.required):
            scores[candidate.agency] = 2 * len(found) - len(table.header)
    best = [name for name, score in scores.items() if score == max(scores.values())]
    if len(best) == 1:
        return plans()[best[0]]
    names = best or list(plans())
    what = "could be from several agencies" if best else "has the headings of no agency we know"
    # A heading in quotes may have line ends, which an error would print as lines of its own.
    shown = clean(", ".join(table.header[:8]))
    raise UsageError(f"`{table.name}` {what}: {shown}", hint=f"say --agency {'|'.join(names)}")


def _is_file(chosen: Plan, heading: str) -> bool:
    column = chosen.column(heading)
    return column is not None and column.field == "file"


def import_tables(tables: Iterable[tuple[Table, Plan]]) -> Imported:
    """Join CSV files on the clip's file into one manifest; the first file that says something wins.

    Raises ManifestInvalid, naming file and line, for rows without a file, a file twice in one table, and two
    tables of one agency with different headings.
    """
    result = Imported()
    cells: dict[str, dict[str, dict[str, str]]] = {}  # agency → file → heading → cell
    headers: dict[str, list[str]] = {}
    for table, chosen in tables:
        if headers.setdefault(chosen.agency, table.header) != table.header:
            raise ManifestInvalid(
                f"`{table.name}` has other headings than another {chosen.name} file", hint="import them apart"
            )
        rows = _by_file(table, chosen, cells.setdefault(chosen.agency, {}))
        cells[chosen.agency] |= rows
        for file, row in rows.items():
            _fill(result.clips.setdefault(file, {}), _meant(chosen, row))
    for agency, rows in cells.items():
        _keep_spellings(result, plans()[agency], headers[agency], rows)
    _hoist(result)
    return result


def _by_file(table: Table, chosen: Plan, known: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The rows by file name, each as heading → cell."""
    _check_header(table, chosen)
    at = next(n for n, heading in enumerate(table.header) if _is_file(chosen, heading))
    rows: dict[str, dict[str, str]] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        file = " ".join(row[at].split())
        if not file:
            raise ManifestInvalid(f"{table.name}:{line}: the row names no file")
        if file in rows or file in known:
            raise ManifestInvalid(
                f"{table.name}:{line}: `{file}` is there twice", hint="keep one of the rows"
            )
        if any(text.strip() for heading, text in zip(table.header, row, strict=True) if not heading.strip()):
            raise ManifestInvalid(f"{table.name}:{line}: a cell stands under no heading")
        rows[file] = dict(zip(table.header, row, strict=True))
    return rows


def _check_header(table: Table, chosen: Plan) -> None:
    counted = Counter(fold(heading) or heading for heading in table.header if heading.strip())
    twice = [key for key, count in counted.items() if count > 1]
    columns = Counter(column.name for heading in table.header if (column := chosen.column(heading)))
    twice += [name for name, count in columns.items() if count > 1]
    reserved = [heading for heading in table.header if heading in _KEPT]
    if twice or reserved:
        what = f"two columns `{twice[0]}`" if twice else f"a column `{reserved[0]}`, a word that is taken"
        raise ManifestInvalid(f"`{table.name}` has {what}", hint="rename or delete one")


def _meant(chosen: Plan, row: Mapping[str, str]) -> dict[str, Any]:
    """What a row means, as fields of ours (`file` aside)."""
    cells = {
        column.name: (column, text) for heading, text in row.items() if (column := chosen.column(heading))
    }
    told = {name: meaning(chosen, column, text) for name, (column, text) in cells.items()}
    told |= {column.field: told[name] for name, (column, _) in cells.items() if told[name] is not None}
    metadata: dict[str, Any] = {}
    for name, (column, _) in cells.items():
        value = told[name]
        if value is None or column.field == "file" or not _counts(column, told):
            continue
        for target, part in _targets(column, value, told):
            put(metadata, target, part)
    for column, _ in cells.values():
        _spread(column, metadata, told)
    return metadata


def _counts(column: Column, told: Mapping[str, Any]) -> bool:
    """Whether a cell may become a field: some only beside another column, some only without it."""
    needed = column.options.get("when")
    if needed is not None and not told.get(needed):
        return False
    if "compose" in column.options:
        # `location` repeats city, region and country; it says something of its own only without them.
        return not any(told.get(path) for path in column.options["compose"])
    return column.kind != "given" or column.options.get("creates") == "true"


def _targets(column: Column, value: Any, told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(field, value) pairs that a cell's meaning sets."""
    options = column.options
    if column.kind == "given":
        return [(column.field, {})]
    if column.kind == "releases":
        by_flag: Mapping[str, str] = options.get("told_by", {})
        kinds = [kind for flag, kind in by_flag.items() if told.get(flag)] or ["model"]
        return [(f"{column.field}.{kind}", value) for kind in kinds]
    if "or_field" in options and not told.get(options["paired"]):
        return [(options["or_field"], value)]
    return [(column.field, value)]


def _spread(column: Column, metadata: dict[str, Any], told: Mapping[str, Any]) -> None:
    """Where an agency has one text for what we keep in two fields, the one fills the other."""
    text = value_of(metadata, column.field)
    if not isinstance(text, str):
        return
    for target in column.options.get("fill", ()):
        parent, _, _ = target.rpartition(".")
        if parent and value_of(metadata, parent) is None:
            continue
        most = 200 if target == "title" else 500
        if len(text) <= most and "\n" not in text:
            put(metadata, target, " ".join(text.split()))


def _fill(under: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put values where there are none yet, mapping by mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            _fill(under[key], value)
        else:
            under.setdefault(key, dict(value) if isinstance(value, Mapping) else value)


def _keep_spellings(
    result: Imported, chosen: Plan, header: list[str], rows: Mapping[str, Mapping[str, str]]
) -> None:
    """Note under `agencies` what an export would otherwise write differently."""
    shared: dict[str, Any] = {"header": header} if header != chosen.header else {}
    plain = {file: _as_written({**result.clips[file], "file": file}) for file in rows}
    kept: dict[str, dict[str, Any]] = {file: {} for file in rows}
    for heading in header:
        column = chosen.column(heading)
        if column is None:
            for file, row in rows.items():
                if row[heading]:
                    kept[file][heading] = row[heading]
            continue
        style = _style(chosen, column, plain, {file: row[heading] for file, row in rows.items()})
        for key in ("separators", "words"):
            if style[key]:
                shared.setdefault(key, {})[heading] = style[key]
        for file, (raw, written) in style["different"].items():
            if meaning(chosen, column, raw) == meaning(chosen, column, written):
                kept[file].setdefault("spelling", {})[heading] = raw
            else:
                kept[file][heading] = raw
    if shared:
        result.defaults.setdefault("agencies", {})[chosen.agency] = shared
    for file, values in kept.items():
        if values:
            result.clips[file].setdefault("agencies", {})[chosen.agency] = values


def _style(
    chosen: Plan, column: Column, plain: Mapping[str, dict[str, Any]], raw: Mapping[str, str]
) -> dict[str, Any]:
    """How one column is written throughout (separator, words), and the cells that differ even so."""
    best, written = SEPARATOR, dict[str, str]()
    for separator in _SEPARATORS if column.kind in ("list", "categories", "releases") else (SEPARATOR,):
        trial = {file: cell(chosen, column, plain[file], separator) for file in raw}
        if not written or _hits(trial, raw) > _hits(written, raw):
            best, written = separator, trial
    words: dict[str, str] = {}
    if column.kind in ("flag", "given", "country", "categories") and len(raw) > 1:
        words = _words(chosen, column, written, raw)
        written = {file: words.get(text, text) for file, text in written.items()}
    different = {file: (raw[file], text) for file, text in written.items() if text != raw[file]}
    return {"separators": best if best != SEPARATOR else None, "words": words, "different": different}


def _hits(written: Mapping[str, str], raw: Mapping[str, str]) -> int:
    return sum(raw[file] == text for file, text in written.items())


def _words(
    chosen: Plan, column: Column, written: Mapping[str, str], raw: Mapping[str, str]
) -> dict[str, str]:
    """Our word → theirs, where every row of the file agrees and both mean the same."""
    theirs: dict[str, set[str]] = {}
    for file, text in written.items():
        theirs.setdefault(text, set()).add(raw[file])
    return {
        ours: next(iter(found))
        for ours, found in theirs.items()
        if ours
        and len(found) == 1
        and ours not in found
        and meaning(chosen, column, next(iter(found))) == meaning(chosen, column, ours)
    }


def _as_written(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they will be read back from the manifest: everything a string."""
    plain: dict[str, Any] = {}
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            plain[key] = _as_written(value)
        else:
            plain[key] = "true" if value is True else value
    return plain


def _hoist(result: Imported) -> None:
    """Move what every clip says alike to `defaults`."""
    for name in _HOISTED:
        values = [clip.get(name) for clip in result.clips.values()]
        if len(values) > 1 and values[0] and all(value == values[0] for value in values):
            result.defaults = {name: values[0], **result.defaults}
            for clip in result.clips.values():
                del clip[name]


def manifest_text(result: Imported) -> str:
    """The manifest of an import, as YAML."""
    heading = [
        "# Made by `paletta manifest import`; what an agency writes its own way stands under `agencies`."
    ]
    clips = [clip_entry({"file": file, **_in_order(clip)}) for file, clip in result.clips.items()]
    return document(heading, result.defaults, clips)


def _in_order(clip: Mapping[str, Any]) -> dict[str, Any]:
    """Fields in the order people expect them, the agencies' own last."""
    return {
        key: clip[key] for key in sorted(clip, key=lambda key: _ORDER.index(key) if key in _ORDER else 99)
    }


# Export


@dataclass
class Exported:
    """A table for an agency, and how many clips have a field that it cannot hold."""

    header: list[str]
    rows: list[list[str]]
    lost: dict[str, int]


def export_table(folder: Folder, chosen: Plan) -> Exported:
    """The agency's table of a folder's clips, in the order of the manifest. Nothing is cut to fit a limit."""
    header: list[str] = chosen.header
    rows: list[list[str]] = []
    lost: Counter[str] = Counter()
    for number, clip in enumerate(folder.clips):
        metadata = {**plain_metadata(folder, clip), "file": clip.written or clip.file}
        own = _own(metadata, chosen.agency)
        if number == 0 and isinstance(own.get("header"), list):
            header = [str(heading) for heading in own["header"]]
        rows.append([_exported(chosen, heading, metadata, own) for heading in header])
        lost.update(_lost(chosen, header, metadata))
    return Exported(header, rows, dict(lost))


def _own(metadata: Mapping[str, Any], agency: str) -> Mapping[str, Any]:
    found = value_of(metadata, f"agencies.{agency}")
    return found if isinstance(found, Mapping) else {}


def _exported(chosen: Plan, heading: str, metadata: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """One cell: the agency's own, or the field's as this agency's file spells it."""
    column = chosen.column(heading)
    given = _by_heading(own, heading)
    if given is not None:
        return ", ".join(items_of(given)) if isinstance(given, list) else str(given)
    if column is None:
        return ""
    separator = _by_heading(own.get("separators"), heading)
    written = cell(chosen, column, metadata, separator if isinstance(separator, str) else SEPARATOR)
    words = _by_heading(own.get("words"), heading)
    if isinstance(words, Mapping):
        written = str(words.get(written, written))
    spelling = _by_heading(own.get("spelling"), heading)
    if isinstance(spelling, str) and meaning(chosen, column, spelling) == meaning(chosen, column, written):
        return spelling
    return written


def _by_heading(values: Any, heading: str) -> Any:
    """The entry for a heading, in its own writing or in any case and spacing."""
    if not isinstance(values, Mapping):
        return None
    if heading in values and heading not in _KEPT:
        return values[heading]
    folded = fold(heading)
    return next(
        (value for key, value in values.items() if key not in _KEPT and folded and fold(key) == folded), None
    )


def _lost(chosen: Plan, header: list[str], metadata: Mapping[str, Any]) -> Iterable[str]:
    """Names of the fields of one clip that no column of this table holds."""
    columns = [column for heading in header if (column := chosen.column(heading))]
    held = {column.field for column in columns} | {column.options.get("or_field") for column in columns}
    held |= {path for column in columns for path in column.options.get("compose", ())}
    if any(column.options.get("caption") for column in columns) and value_of(metadata, "editorial.date"):
        held |= {f"editorial.{part}" for part in ("text", "city", "state", "country", "date")}
    for path, value in _leaves(metadata):
        if path.startswith("agencies") or value in ("", [], "false"):
            continue
        owners = [path, *(path.rpartition(".")[:1])]
        if not any(owner in held for owner in owners if owner):
            yield path
    for column in columns:
        if column.kind == "categories":
            slugs = items_of(metadata.get("categories"))
            most = column.number("max_items") or len(slugs)
            if len(slugs) > most or any(chosen.category(slug) is None for slug in slugs):
                yield "categories (some)"


def _leaves(metadata: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
