"""What is left beside a file that was killed on its way."""

import os
from pathlib import Path

import pytest

from paletta_cli.transfer.landing import Folder
from paletta_cli.transfer.parts import sweep


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "tram.mov"
    path.write_bytes(b"whole")
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("linked", [True, False])
def test_leftovers_of_a_finished_file_go(film: Path, linked: bool) -> None:
    if linked:
        os.link(film, film.with_name("tram.mov.part"))
    film.with_name("tram.mov.part.log").write_text("{}")
    with Folder.open(film.parent) as folder:
        sweep(folder, film.name, film.stat())
    assert names(film.parent) == {"tram.mov"}
    assert film.read_bytes() == b"whole"


def test_what_somebody_is_fetching_stays(film: Path) -> None:
    film.with_name("tram.mov.part").write_bytes(b"half")
    film.with_name("tram.mov.part.log").write_text("{}")
    with Folder.open(film.parent) as folder:
        sweep(folder, film.name, film.stat())
    assert names(film.parent) == {"tram.mov", "tram.mov.part", "tram.mov.part.log"}
