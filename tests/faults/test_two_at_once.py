"""Two processes upload the same folder at the same time: every clip exists once, both end well."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.proxy import Exchange, Fault, Gate
from tests.faults.site import PART, PATIENT, Site, make_folder

# Where both wait for each other, to be passed on at the same moment; the last two are requests to the store.
MEETINGS = ("/upload-batches", "/items", "/sign", "/complete", "/seal", "small PUT", "part")


def _is_at(meeting: str, exchange: Exchange) -> bool:
    if meeting.startswith("/"):
        return exchange.path.endswith(meeting)
    return exchange.is_transfer and ("partNumber" in exchange.query) == (meeting == "part")


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("machines", ["one machine", "two machines"])
def test_two_uploads_of_one_folder_make_each_clip_once(
    site: Site, tmp_path: Path, meeting: str, machines: str
) -> None:
    draw = random.Random(f"{meeting} {machines}")
    sizes = [draw.randrange(50_000, 400_000) for _ in range(6)]
    files = make_folder(tmp_path / "clips", [*sizes, PART + draw.randrange(1, 500_000)], seed=meeting)
    gate = Gate(2)
    site.to_api.plan = site.to_store.plan = lambda exchange: (
        Fault("meet", gate=gate) if gate.arrived < 2 and _is_at(meeting, exchange) else None
    )
    states = [tmp_path / "state", tmp_path / ("state" if machines == "one machine" else "other")]
    # Who comes first waits at the gate, also for a rival that starts slowly, and does not come back as its own rival.
    first, second = (site.upload(tmp_path / "clips", state=state, haste=PATIENT) for state in states)
    ends = [f"first: {first.wait()}", f"second: {second.wait()}"]
    told = "\n".join([*ends, *map(str, site.to_api.exchanges), *map(str, site.to_store.exchanges)])
    assert gate.arrived == 2, told
    assert (first.code, second.code) == (0, 0), told
    site.check(files)
    clips = {frozenset(item["clip_id"] for item in one.result["items"]) for one in (first, second)}
    assert len(clips) == 1, f"both tell of the same clips\n{told}"
    jobs = site.sql("SELECT args->>'upload_id' FROM procrastinate_jobs WHERE task_name = 'ingest.run'")
    assert len(jobs) == len({*jobs}) == len(files), "each clip is processed once"
    assert not [one for one in site.to_api.exchanges if (one.status or 500) >= 500], told
    multiparts = {one.query.get("uploadId") for one in site.to_store.transfers} - {None}
    assert len(multiparts) == 1, f"both send parts of one upload\n{told}"


def test_a_third_upload_afterwards_sends_nothing(site: Site, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "clips", [90_000, 80_000], seed="third")
    commands = [site.upload(tmp_path / "clips", state=tmp_path / name) for name in ("one", "two")]
    assert [one.wait().code for one in commands] == [0, 0], [str(one) for one in commands]
    site.to_store.heal()
    third = site.upload(tmp_path / "clips", state=tmp_path / "three").wait()
    assert third.code == 0, third
    assert {item["outcome"] for item in third.result["items"]} == {"already_yours"}
    assert site.to_store.transfers == []
    site.check(files)
