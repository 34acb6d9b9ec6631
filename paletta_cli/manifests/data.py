"""Where the shipped data files are: schema, taxonomy, countries, agency plans."""

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def data_dir() -> Path:
    """The folder of the shipped manifests: inside the package in a wheel, beside it in a source tree."""
    for folder in (_PACKAGE / "data" / "manifests", _PACKAGE.parent / "manifests"):
        if (folder / "paletta.schema.json").is_file():
            return folder
    raise FileNotFoundError("the data files of paletta are missing; install the package again")


def data_file(*parts: str) -> Path:
    """One shipped file, such as `data_file("agencies", "adobe.yaml")`."""
    return data_dir().joinpath(*parts)
