"""Names of delivered files, on both sides: whatever a title is, it stays a name in its folder."""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_cli.errors import PalettaError, UsageError
from paletta_cli.shop import lockfile, names
from paletta_cli.shop.lockfile import Entry
from paletta_server.delivery import names as server_names

HOSTILE = [
    *(
        "..",
        ".",
        "",
        "/",
        "\\",
        "CON",
        "con.mov",
        "a/../../b",
        "-rf",
        "~root",
        "\u202e",
        "COM¹",
        "x\0y",
        "a:b",
    ),
    *(" . ", "..\u200b", "é" * 300),
]
TEXT = st.one_of(
    st.text(max_size=400),
    st.sampled_from(HOSTILE),
    st.text(alphabet="./\\ :CONAUX\u202e\u0301-~\0\n", max_size=40),
)
VALUES = st.fixed_dictionaries(dict.fromkeys(names.FIELDS, TEXT))


def forbidden(name: str) -> list[str]:
    """What must not be in a name of ours."""
    return [
        char
        for char in name
        if char in '<>:"/\\|?*' or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


def check_step(step: str) -> None:
    assert step not in ("", ".", "..")
    assert forbidden(step) == []
    assert len(step.encode()) <= names.LONGEST
    assert step[0] not in ".-~ "
    assert step[-1] not in ". "
    assert step.split(".")[0].upper() not in {"CON", "NUL", "AUX", "PRN", "COM1", "LPT9"}


@given(TEXT)
def test_a_name_is_safe_whatever_it_comes_from(text: str) -> None:
    name = names.safe(text)
    check_step(name)
    assert names.safe(name) == name, "a safe name stays as it is"


@given(
    VALUES,
    st.sampled_from(
        [names.LAYOUT, "{title}", "{title}.{ext}", "{contributor}/{order}/{title}", "x{clip}{ext}"]
    ),
)
def test_a_place_is_below_the_folder(values: dict[str, str], layout: str) -> None:
    path = names.place(layout, values)
    for step in path.parts:
        check_step(step)
    assert len(path.parts) == layout.count("/") + 1
    assert names.is_safe(path)
    assert (PurePosixPath("/home/me/films") / path).is_relative_to("/home/me/films")
    again = names.apart(path, values["item"], values["tier"])
    assert names.is_safe(again)


@given(TEXT)
def test_braces_in_a_title_are_only_braces(title: str) -> None:
    values = dict.fromkeys(names.FIELDS, "{title}{0}{") | {"title": title}
    assert "{title}" in str(names.place("{clip}", values))


@given(TEXT, st.sampled_from([".mov", ".mp4", ".bin"]))
def test_a_header_carries_any_title(title: str, extension: str) -> None:
    name = server_names.file_name("clip_7h3k9m2qxw4t", title, extension)
    assert forbidden(name) == []
    assert len(name.encode()) < 200
    header = server_names.disposition(name)
    header.encode("ascii")
    assert not any(char in header for char in "\r\n")
    plain, _, encoded = header.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert '"' not in plain
    assert "\\" not in plain
    assert unquote(encoded) == name


def test_names_that_some_system_takes_for_one_collide() -> None:
    paths = [
        PurePosixPath(text)
        for text in ("a/Tram.mov", "A/tram.mov", "a/Bus.mov", "e\u0301.mov", "é.mov", "Bus", "bus/x.mov")
    ]
    assert names.collisions(paths) == {0, 1, 3, 4, 5}


@pytest.mark.parametrize(
    "layout", ["", "/x", "../x", "a/../b", "a//b", "{title}/", "{nothing}", "{title:>9}", "{0}", "a\\b"]
)
def test_a_layout_that_leads_elsewhere_is_refused(layout: str) -> None:
    with pytest.raises(UsageError):
        names.checked_layout(layout)


def entry(path: str, item: str = "item_2222") -> Entry:
    return Entry(path, item, "P-1", "clip_2", "Tram", "hd", 7, "ab", "individual", "Ana", "AB-CD")


def test_a_lockfile_is_the_same_for_the_same_folder() -> None:
    one, other = entry("a/x.mov"), entry("b/y.mov", "item_3333")
    assert lockfile.dump([other, one]) == lockfile.dump([one, other])
    assert lockfile.load(lockfile.dump([one, other]), "lock") == [one, other]


@given(st.binary(max_size=200))
def test_a_lockfile_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    with suppress(PalettaError):
        lockfile.load(data, "lock")


# ---- part files


def test_a_part_file_goes_on_where_it_was_cut_and_believes_no_other_log(tmp_path: Path) -> None:
    from paletta_cli.transfer.landing import CannotLand, Folder
    from paletta_cli.transfer.parts import RANGE, PartFile

    size = 2 * RANGE + 5
    with Folder.open(tmp_path) as folder:
        part = PartFile(folder, "a.mov", size=size, sha256="s")
        part.begin('"etag"')
        part.write(0, memoryview(b"x" * 1000))
        part.write(2, memoryview(b"tail!"))
        part.note(0)
        with pytest.raises(CannotLand, match="another `paletta`"):
            PartFile(folder, "a.mov", size=size, sha256="s")
        part.close()
        with (tmp_path / "a.mov.part.log").open("a") as log:
            log.write("1 99")  # a torn line
        again = PartFile(folder, "a.mov", size=size, sha256="s")
        assert (again.etag, again.got, again.missing) == ('"etag"', [1000, 0, 5], [0, 1])
        assert again.read(5, 2 * RANGE) == b"tail!"
        again.close()
        other = PartFile(folder, "a.mov", size=size, sha256="another film")
        assert (other.etag, other.got) == ("", [0, 0, 0])
        other.discard()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
