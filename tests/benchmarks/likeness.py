"""How long it takes to find a film's like among a million clips with eight frames each.

``python -m tests.benchmarks.likeness [--clips N] [--rounds N]``. Hashes are random but for eight bits that are set in
three of four pictures, as skies are bright above; that makes some rows of an index far commoner than others. Asked is
for films of 10 and of 60 frames, of which every fourth has a copy among the clips that differs in 0 to 10 bits, and for
one frame alone. Printed are percentiles, how many of the copies were found, and what the tables weigh. Absolute times
mean nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from paletta_server.core.database import Database
from paletta_server.core.settings import Settings
from paletta_server.likeness import service
from paletta_server.likeness.frames import BITS, KEPT, Frame
from tests.support.stack import TestStack, make_database

AT_ONCE = 250_000
CHANGED = 10
ONE_IN = 4
FILMS = {"1 frame": 1, "10 frames": 10, "60 frames": 60}


def hashes(dice: np.random.Generator, count: int) -> np.ndarray:
    """Random hashes of which the eight highest bits are mostly set."""
    found = dice.integers(0, 2**64, size=count, dtype=np.uint64)
    for bit in range(56, 64):
        found |= (dice.random(count) < 0.5).astype(np.uint64) << np.uint64(bit)
    return found


def fill(url: str, clips: int) -> np.ndarray:
    """Frames of clips without the clips, which takes foreign keys out of force; the hashes."""
    everything = hashes(np.random.default_rng(1), clips * KEPT)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for start in range(0, len(everything), AT_ONCE):
            some = everything[start : start + AT_ONCE]
            bands = [
                ((some >> np.uint64(16 * band)) & np.uint64(0xFFFF)).astype(int) - 32768 for band in range(4)
            ]
            copy = "COPY frame_hashes (clip_id, number, hash, band_0, band_1, band_2, band_3) FROM STDIN"
            with connection.cursor().copy(copy) as into:
                for at, value in enumerate(some.astype(np.int64).tolist()):
                    clip, number = divmod(start + at, KEPT)
                    into.write_row((clip + 1, number, value, *(int(band[at]) for band in bands)))
        connection.execute("VACUUM ANALYZE frame_hashes")
        row = connection.execute(
            "SELECT pg_size_pretty(pg_table_size('frame_hashes')), pg_size_pretty(pg_indexes_size('frame_hashes'))"
        ).fetchone()
        print(f"{clips:,} clips, {len(everything):,} frames: rows {row[0]}, indexes {row[1]}")  # type: ignore[index]
    return everything


def film(dice: random.Random, known: np.ndarray, frames: int) -> list[Frame]:
    """Frames like those of one clip, every fourth of them, and new ones."""
    clip = dice.randrange(len(known) // KEPT)
    found = []
    for at in range(frames):
        value = dice.getrandbits(BITS)
        if at % ONE_IN == 0:
            value = int(known[clip * KEPT + (at // ONE_IN) % KEPT])
            for bit in dice.sample(range(BITS), dice.randint(0, CHANGED)):
                value ^= 1 << bit
        found.append(Frame(float(at), value))
    return found


async def ask(database: Database, known: np.ndarray, rounds: int) -> None:
    dice = random.Random(2)
    print(f"{'':12}{'p50':>9}{'p95':>9}{'most':>9}   clips found")
    for name, frames in FILMS.items():
        taken, found = [], 0
        for _ in range(rounds):
            asked = film(dice, known, frames)
            async with database.transaction() as session:
                started = time.perf_counter()
                found += bool(await service.candidates(session, 0, [frame.hash for frame in asked]))
                taken.append((time.perf_counter() - started) * 1000)
        print(f"{name:12}{told(taken)}   {found} of {rounds}")


def told(taken: Sequence[float]) -> str:
    ordered = sorted(taken)
    at = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)], ordered[-1])
    return "".join(f"{value:6.1f} ms" for value in at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    wanted = parser.parse_args()
    stack = TestStack()
    try:
        addresses = stack.start()
        url = make_database(addresses, "paletta_bench_likeness")
        admin = make_conninfo(addresses.admin_url, dbname="paletta_bench_likeness")
        known = fill(admin, wanted.clips)
        database = Database(Settings(_env_file=None, database_url=url))
        asyncio.run(ask(database, known, wanted.rounds))
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
