"""The one sink: what goes where, in which mode, and what never reaches a terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paletta_cli import text
from paletta_cli.errors import UsageError
from paletta_cli.output import Column, Output

COLUMNS = [Column("file", "file"), Column("size", "size", show=text.size, right=True), Column("live")]
ROWS = [
    {"file": "a.mov", "size": 2048, "live": True},
    {"file": "b\x1b]8;;http://evil\x07.mov", "size": 5, "live": False},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sink(*, json: bool = False, terminal: bool = False) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    return Output(json=json, stdout=out, stderr=err), out, err


def test_what_is_too_long_for_a_terminal_breaks_between_words_and_not_in_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    words = "nobody knows about it yet: `paletta orders show P-2026` says what became of it"
    person, _, err = sink(terminal=True)
    person.error("it\x60s short", words)
    person.hint("`paletta admin refunds list --order P-2026-000001` ends")
    assert err.getvalue() == (
        "error: it`s short\n"
        "hint: nobody knows about it yet:\n`paletta orders show P-2026` says what\nbecame of it\n"
        "hint:\n`paletta admin refunds list --order P-2026-000001`\nends\n"
    )
    plain, _, err = sink()
    plain.hint(words)
    assert err.getvalue() == f"hint: {words}\n", "logs are not read in 40 columns"


def test_all_modes_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    plain, out, err = sink()
    plain.table(ROWS, COLUMNS)
    assert (out.getvalue(), err.getvalue()) == ("a.mov\t2.00 KiB\tyes\nb]8;;http://evil.mov\t5 B\tno\n", "")
    machine, out, err = sink(json=True)
    machine.table(ROWS, COLUMNS)
    assert json.loads(out.getvalue()) == ROWS
    assert "\x1b" not in out.getvalue()
    person, out, err = sink(terminal=True)
    person.table(ROWS, COLUMNS)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert [line.split() for line in lines] == [
        ["file", "size"],
        ["a.mov", "2.00", "KiB", "yes"],
        ["b]8;;http://evil.mov", "5", "B", "no"],
    ]
    assert "\x1b]8" not in out.getvalue()


def test_json_is_utf_8_whatever_a_file_is_called() -> None:
    out, stdout, _ = sink(json=True)
    out.data({"file": "caf\udce9.mov", "title": "café"})
    assert json.loads(stdout.getvalue().encode()) == {"file": "caf�.mov", "title": "café"}


def test_the_longest_text_gives_way_and_amounts_never_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = [
        Column("id", "clip"), Column("title", "title"), Column("tier", "tier"), Column("licence", "licence"),
        Column("price", "price", right=True),
    ]  # fmt: skip
    row = {"id": "clip_7h3k9m2qxw4t", "title": "Tram " * 40, "tier": "original", "licence": "individual",
           "price": "1000.00 USD"}  # fmt: skip
    monkeypatch.setenv("NO_COLOR", "1")
    person, out, _ = sink(terminal=True)
    person.table([row, {**row, "title": "電車" * 60}], columns)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert len(lines) == 3
    for line in lines[1:]:
        assert "clip_7h3k9m2qxw4t" in line
        assert line.endswith("original  individual  1000.00 USD")
        assert "…" in line


def test_an_empty_table_says_so_beside_the_result() -> None:
    plain, out, err = sink()
    plain.table([], COLUMNS, empty="no clips yet")
    assert (out.getvalue(), err.getvalue()) == ("", "no clips yet\n")
    machine, out, err = sink(json=True)
    machine.table([], COLUMNS, empty="no clips yet")
    assert (out.getvalue(), err.getvalue()) == ("[]\n", "")


def test_a_record_leaves_out_what_is_empty() -> None:
    plain, out, _ = sink()
    plain.record({"file": "a", "size": 1, "live": None}, COLUMNS)
    assert out.getvalue() == "file: a\nsize: 1 B\n"


def test_markup_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    person, out, err = sink(terminal=True)
    person.table([{"file": "[red]x[/red] :smile:"}], COLUMNS[:1])
    person.summary([{"file": "[link=http://evil]x[/link]"}], COLUMNS[:1])
    person.note("[bold]y[/bold]")
    assert "[red]x[/red] :smile:" in out.getvalue()
    assert "[link=http://evil]x[/link]" in err.getvalue()
    assert "[bold]y[/bold]\n" in err.getvalue()


def test_labels_are_coloured_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    plain, _, err = sink()
    plain.error("it broke", "mend it")
    assert err.getvalue() == "error: it broke\nhint: mend it\n"
    person, _, err = sink(terminal=True)
    person.error("it broke")
    assert err.getvalue() == "\x1b[1;31merror:\x1b[0m it broke\n"
    monkeypatch.setenv("NO_COLOR", "1")
    person, _, err = sink(terminal=True)
    person.error("it broke")
    assert err.getvalue() == "error: it broke\n"


@given(st.text(st.characters(codec=None), max_size=60))
def test_nothing_that_drives_a_terminal_is_left(foreign: str) -> None:
    import unicodedata

    assert not [c for c in text.clean(foreign) if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    text.clean(foreign).encode()


def test_cleaning_keeps_words_apart_and_letters_whole() -> None:
    assert text.clean("one\ntwo\tthree") == "one two three"
    assert text.clean("Zürich 日本 é") == "Zürich 日本 é"
    assert text.clean("a\u202eb\u200bc\x9bd\udcff") == "abcd\ufffd"
    assert text.clean_block("a\x1b\nb") == "a\nb"


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ("a: 1\nb: \x1b[2J\n", "a: 1\nb: [2J\n"),
        ("file,title\r\na.mov,A\r\n", "file,title\na.mov,A\n"),
        ("a: 1\n\n", "a: 1\n\n"),
        ("a: 1", "a: 1"),
        ("", ""),
    ],
)
def test_a_document_ends_on_a_terminal_as_it_does_in_a_file(document: str, shown: str) -> None:
    person, out, _ = sink(terminal=True)
    person.raw(document)
    assert out.getvalue() == shown
    plain, out, _ = sink()
    plain.raw(document)
    assert out.getvalue() == document


def test_a_narrow_terminal_encoding_does_not_end_the_command() -> None:
    raw = io.BytesIO()
    out = Output(stdout=io.TextIOWrapper(raw, encoding="ascii"), stderr=io.StringIO())
    out.line("Zürich")
    assert raw.getvalue() == b"Z?rich\n"


def test_never_asks_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    out, _, _ = sink()
    with pytest.raises(UsageError) as caught:
        out.confirm("delete everything?")
    assert caught.value.hint == "pass --yes to go ahead"
    assert out.confirm("delete everything?", yes=True)
    with pytest.raises(UsageError) as caught:
        out.prompt("password", option="--password-stdin", secret=True)
    assert caught.value.hint == "pass --password-stdin"


def test_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("\nana@example.org\nyes\nn\n"))
    out, stdout, err = sink(terminal=True)
    assert out.prompt("e-mail", option="--email") == "ana@example.org"
    assert out.confirm("sure?")
    assert not out.confirm("sure?")
    assert stdout.getvalue() == ""
    assert err.getvalue() == "e-mail: e-mail: sure? [y/N] sure? [y/N] "


def test_reasons_stay_readable_beside_long_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, stdout, _ = sink(terminal=True)
    row = {"path": "shoot/" + "a" * 90 + ".mov", "id": "item_2bcd3fgh4jkm", "why": "the file is short " * 9}
    out.table([row], [Column("path", "file"), Column("id", "id"), Column("why", "why", wrap=True)])
    lines = stdout.getvalue().splitlines()
    assert "item_2bcd3fgh4jkm" in lines[1]
    assert max(len(line[line.index("the file") :].rstrip()) for line in lines if "the file" in line) >= 20


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (16 * text.MIB, "16.0 MiB"),
        (1.5 * text.GIB, "1.50 GiB"),
    ],
)
def test_sizes(given: float, shown: str) -> None:
    assert text.size(given) == shown


@pytest.mark.parametrize(
    ("given", "meant"),
    [("20M", 20 * text.MIB), ("512k", 512 * 1024), ("1.5GiB", int(1.5 * text.GIB)), ("800", 800)],
)
def test_reading_sizes(given: str, meant: int) -> None:
    assert text.parse_size(given) == meant


@pytest.mark.parametrize("given", ["", "fast", "-3M", "0", "20X"])
def test_reading_what_is_no_size(given: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        text.parse_size(given)


def test_durations_and_plurals() -> None:
    assert [text.duration(s) for s in (0.4, 59, 187, 3725)] == ["0 s", "59 s", "3:07", "1:02:05"]
    assert [text.plural(n, "clip") for n in (1, 2, 1204)] == ["1 clip", "2 clips", "1,204 clips"]
    assert text.plural(3, "entry", "entries") == "3 entries"
    assert text.closest("tehcnology", ["technology", "nature"]) == "technology"
    assert text.closest("xyz", ["technology"]) is None


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (None, ""),
        (True, "yes"),
        (-12, "-12"),
        ("=1+1", "'=1+1"),
        (" \t@SUM(A1)", "'  @SUM(A1)"),
        ("-12.00", "'-12.00"),
        ("A = B\x1b[31m", "A = B[31m"),
    ],
)
def test_no_cell_of_words_is_a_formula(given: object, written: str) -> None:
    assert text.cell(given) == written
