"""The journal is a hint: it must remember, and it must never be in the way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from paletta_cli.transfer.fingerprint import Fingerprint, Stamp
from paletta_cli.transfer.journal import Entry, Journal

PRINT = Fingerprint(Stamp(5, 123456789, 42), "ab" * 32, 16 * 1024 * 1024, (1, 2**64 - 1))
IDENTITY = ("http://127.0.0.1:1", "user_a", ["/shoot"], "shoot")


@pytest.fixture
def said() -> list[str]:
    return []


def opened(path: Path, said: list[str]) -> Journal:
    return Journal(path, said.append)


def test_fingerprints_survive(tmp_path: Path, said: list[str]) -> None:
    path = Path("/shoot/clip \udcff.mov")  # a name that is not UTF-8
    with opened(tmp_path / "j.db", said) as journal:
        journal.remember([(path, PRINT)])
    with opened(tmp_path / "j.db", said) as journal:
        assert journal.fingerprints([path, Path("/other")]) == {path: PRINT}
    assert said == []
    assert (tmp_path / "j.db").stat().st_mode & 0o077 == 0


def test_an_unfinished_run_goes_on_and_a_finished_one_does_not(tmp_path: Path, said: list[str]) -> None:
    with opened(tmp_path / "j.db", said) as journal:
        run = journal.begin(*IDENTITY)
        assert journal.begin(*IDENTITY).client_ref == run.client_ref
        assert journal.begin(IDENTITY[0], "user_b", *IDENTITY[2:]).client_ref != run.client_ref
        assert journal.begin(*IDENTITY[:2], ["/shoot", "/more"], "x").client_ref != run.client_ref
        journal.finish(run)
        assert journal.begin(*IDENTITY).client_ref != run.client_ref


def test_runs_are_found_by_batch(tmp_path: Path, said: list[str]) -> None:
    with opened(tmp_path / "j.db", said) as journal:
        assert journal.find("last", *IDENTITY[:2]) is None
        first, second = journal.begin_new(*IDENTITY), journal.begin_new(*IDENTITY)
        journal.name_batch(first, "batch_aaa111")
        journal.name_batch(second, "batch_bbb222")
        for word, wanted in (
            ("batch_aaa", first),
            ("aaa1", first),
            ("batch_bbb222", second),
            ("last", second),
        ):
            found = journal.find(word, *IDENTITY[:2])
            assert found is not None
            assert found.client_ref == wanted.client_ref, word
        assert journal.find("ccc", *IDENTITY[:2]) is None
        assert journal.find("last", IDENTITY[0], "user_b") is None
        assert journal.find("last", "http://127.0.0.1:2", IDENTITY[1]) is None


def test_items_are_kept_as_they_were_noted_last(tmp_path: Path, said: list[str]) -> None:
    with opened(tmp_path / "j.db", said) as journal:
        run = journal.begin(*IDENTITY)
        journal.note(
            run, [Entry("a", "/a", "uploading", "upl_1"), Entry("b", "/b", "live", "upl_2", "clip_2")]
        )
        journal.note(run, [Entry("a", "/a", "failed", "upl_1", reason="no")])
        assert [(entry.ref, entry.state, entry.reason) for entry in journal.entries(run)] == [
            ("a", "failed", "no"),
            ("b", "live", ""),
        ]


@pytest.mark.parametrize(
    "content", [b"this is not a database, but long enough to look at" * 50, b"SQLite format 3\0"]
)
def test_a_damaged_journal_is_put_aside(tmp_path: Path, said: list[str], content: bytes) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(content)
    with opened(path, said) as journal:
        journal.remember([(Path("/a"), PRINT)])
        assert journal.fingerprints([Path("/a")]) == {Path("/a"): PRINT}
    assert len(said) == 1
    assert "begun anew" in said[0]
    aside = next(tmp_path.glob("j.db.damaged-*"))
    assert aside.read_bytes() == content


def test_a_journal_damaged_while_in_use_is_put_aside(tmp_path: Path, said: list[str]) -> None:
    path = tmp_path / "j.db"
    with opened(path, said) as journal:
        journal.remember([(Path(f"/{n}"), PRINT) for n in range(2000)])
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with opened(path, said) as journal:
        journal.fingerprints([Path(f"/{n}") for n in range(2000)])
        journal.remember([(Path("/new"), PRINT)])
        assert journal.fingerprints([Path("/new")]) == {Path("/new"): PRINT}
    assert any("begun anew" in line for line in said)


def test_a_journal_that_another_process_holds_on_to_is_left_alone(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda where, **how: connect(where, **{**how, "timeout": 0}))
    with opened(path, said) as journal:
        run = journal.begin(*IDENTITY)
        journal.remember([(Path("/a"), PRINT)])
        other = connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for state in ("uploading", "live"):
            journal.note(run, [Entry("a", "/a", state, "upl_1")])
        assert [entry.state for entry in journal.entries(run)] == ["live"], "this run remembers"
        other.execute("ROLLBACK")
        other.close()
    assert len(said) == 1
    assert "goes on without it" in said[0]
    assert list(tmp_path.glob("*.damaged-*")) == []
    with opened(path, said) as journal:
        assert journal.begin(*IDENTITY).client_ref == run.client_ref
        assert journal.fingerprints([Path("/a")]) == {Path("/a"): PRINT}


def test_one_of_a_later_version_is_put_aside(tmp_path: Path, said: list[str]) -> None:
    with sqlite3.connect(tmp_path / "j.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with opened(tmp_path / "j.db", said) as journal:
        assert journal.begin(*IDENTITY).client_ref
    assert "another version" in said[0]


def test_without_a_place_to_write_it_works_in_memory(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "j.db", said) as journal:
        run = journal.begin(*IDENTITY)
        assert journal.begin(*IDENTITY).client_ref == run.client_ref
    assert "goes on without it" in said[0]
