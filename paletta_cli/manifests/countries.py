"""ISO 3166-1 codes and the names people write instead, from `manifests/countries.yaml`."""

from functools import cache
from typing import Any, NamedTuple

from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.schema import as_plain
from paletta_cli.manifests.source import parse


class _Countries(NamedTuple):
    names: dict[str, str]  # code → English short name
    codes: dict[str, str]  # folded name or other spelling → code


@cache
def _load() -> _Countries:
    path = data_file("countries.yaml")
    document = parse(path.read_bytes(), path.name)
    plain: Any = as_plain(document.root) if document.root is not None else {}
    names: dict[str, str] = {}
    codes: dict[str, str] = {}
    for row in plain["countries"]:
        names[row["code"]] = row["name"]
        for spelling in (row["name"], *row.get("also", ())):
            codes[spelling.casefold()] = row["code"]
    return _Countries(names, codes)


def is_code(text: str) -> bool:
    """Whether `text` is a two-letter code, in capitals."""
    return text in _load().names


def code_of(text: str) -> str | None:
    """The code of a country given by code (any case) or by name, or None."""
    countries = _load()
    text = text.strip()
    return text.upper() if text.upper() in countries.names else countries.codes.get(text.casefold())


def name_of(code: str) -> str | None:
    """The English short name of a code, or None."""
    return _load().names.get(code)
