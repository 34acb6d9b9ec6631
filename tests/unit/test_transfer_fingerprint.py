"""A file's identity: every checksum against one computed in the plainest way."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given
from hypothesis import strategies as st

from paletta_cli.transfer import fingerprint
from paletta_cli.transfer.fingerprint import Changed, PartRule, Stopped

MIB = 1024 * 1024


def plain_crc(data: bytes) -> str:
    return base64.b64encode(crc64nvme(data).to_bytes(8, "big")).decode()


@pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 17])
def test_whole_and_parts(tmp_path: Path, length: int) -> None:
    data = os.urandom(length)
    path = tmp_path / "clip.mov"
    path.write_bytes(data)
    taken = fingerprint.take(path, 2 * MIB)
    assert taken.sha256 == hashlib.sha256(data).hexdigest()
    assert taken.size == length
    assert taken.crc64nvme == plain_crc(data)
    parts = [data[start : start + 2 * MIB] for start in range(0, length, 2 * MIB)] or [b""]
    assert [taken.part_crc64nvme(n + 1) for n in range(len(taken.crcs))] == [plain_crc(p) for p in parts]
    assert [taken.length(n + 1) for n in range(len(taken.crcs))] == [len(p) for p in parts]


def test_known_checksum(tmp_path: Path) -> None:
    """The check value of CRC-64/NVME for `123456789` in the CRC RevEng catalogue."""
    path = tmp_path / "check"
    path.write_bytes(b"123456789")
    assert fingerprint.take(path, MIB).crcs == (0xAE8B14860A799888,)


@given(st.integers(1, 6 * 1024**4))
def test_part_rule(size: int) -> None:
    rule = PartRule()
    part = rule.part_size(size)
    count = -(-size // part)
    assert part % MIB == 0
    assert part >= 16 * MIB
    assert count <= 10_000
    assert part <= 128 * MIB or count > 9_000
    assert count <= 1_000 or part >= 128 * MIB


@pytest.mark.parametrize(
    ("size", "part"),
    [(1, 16), (16_000 * MIB, 16), (16_000 * MIB + 1, 17), (200 * 1024**3, 128), (5 * 1024**4, 525)],
)
def test_part_rule_by_hand(size: int, part: int) -> None:
    assert PartRule().part_size(size) == part * MIB


def test_a_file_that_grows_while_it_is_read_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.mov"
    path.write_bytes(bytes(3 * MIB))

    class Grows(threading.Event):
        """The stop flag is looked at after each block: that is when the file grows."""

        def is_set(self) -> bool:
            with path.open("ab") as stream:
                stream.write(b"more")
            return False

    with pytest.raises(Changed):
        fingerprint.take(path, MIB, stop=Grows())


def test_a_file_replaced_by_one_of_the_same_size_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    path.write_bytes(bytes(MIB))

    class Replaces(threading.Event):
        def is_set(self) -> bool:
            other = tmp_path / "other"
            other.write_bytes(bytes(MIB))
            other.replace(path)
            return False

    with pytest.raises(Changed):
        fingerprint.take(path, MIB, stop=Replaces())


def test_reading_stops_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    path.write_bytes(bytes(3 * MIB))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        fingerprint.take(path, MIB, stop=stop)


def test_recut_keeps_the_whole_and_refuses_another_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    path.write_bytes(os.urandom(5 * MIB))
    first = fingerprint.take(path, MIB)
    again = fingerprint.recut(path, first, 2 * MIB)
    assert (again.sha256, again.crc64nvme) == (first.sha256, first.crc64nvme)
    assert len(again.crcs) == 3
    path.write_bytes(os.urandom(5 * MIB))
    with pytest.raises(Changed):
        fingerprint.recut(path, first, 2 * MIB)
