"""`paletta admin flags` and `paletta admin uploads` as typed, and what others then see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from paletta_server.core.runtime import Runtime
from paletta_server.flags.service import Switch
from tests.api.test_flags import followed
from tests.cli.conftest import Ran, Run
from tests.conftest import Person
from tests.support.clips import Shelf
from tests.support.uploading import item


@pytest.fixture
def admin(paletta: Run) -> Run:
    async def run(*argv: str) -> Ran:
        return await paletta("admin", *argv, as_="admin")

    return run


async def test_a_switch_is_set_seen_and_cleared(admin: Run, paletta: Run, app: FastAPI) -> None:
    done = await admin("flags", "set", "read-only", "--message", "back at noon")
    assert done.code == 0, done.err
    assert done.out.startswith("read-only\tset\t")
    await followed(app, Switch.READ_ONLY, "back at noon")
    refused = await paletta("tags", "create", "comet")
    assert (refused.code, refused.out) == (5, "")
    assert refused.err == "error: back at noon\n", (
        "at once, without trying for half a minute, and in these words"
    )
    listed = await admin("flags", "list", "--json")
    assert [one["name"] for one in json.loads(listed.out) if one["on"]] == ["read-only"]
    done = await admin("flags", "clear", "read-only")
    assert done.out.startswith("read-only\toff")
    await followed(app, Switch.READ_ONLY, None)
    assert (await paletta("tags", "create", "comet")).code == 0
    wrong = await admin("flags", "set", "no-fun")
    assert wrong.code == 2
    assert (await paletta("admin", "flags", "list")).code == 4


async def test_everybodys_uploads_are_listed_shown_retried_and_cancelled(
    admin: Run, on_a_terminal: Run, people: dict[str, Person], shelf: Shelf, runtime: Runtime
) -> None:
    sent = await shelf.up.send(b"all of it")
    [waiting] = await shelf.up.register(await shelf.up.batch(), item(b"not sent", "b.mp4"))
    async with runtime.db.transaction() as session:
        await session.execute(text("UPDATE uploads SET stage = 'failed' WHERE state = 'stored'"))
        await session.execute(
            text("UPDATE clips SET processing = 'failed' WHERE uid = :uid"), {"uid": sent["clip_id"]}
        )
    failed = await admin("uploads", "list", "--failed")
    assert failed.out.split("\t")[0] == sent["upload_id"]
    assert len(failed.out.splitlines()) == 1
    theirs = await admin(
        "uploads", "list", "--contributor", people["contributor"].email, "--since", "2020-01-01"
    )
    assert len(theirs.out.splitlines()) == 2
    table = await on_a_terminal("admin", "uploads", "list", PALETTA_TOKEN=people["admin"].token)
    assert table.code == 0
    assert max(len(line) for line in table.out.splitlines()) <= 80
    assert sent["upload_id"] in table.out
    retried = await admin("uploads", "retry", sent["upload_id"])
    assert retried.code == 0, retried.err
    assert "gets another run" in retried.err
    again = await admin("uploads", "retry", sent["upload_id"])
    assert (again.code, again.err) == (1, "error: this upload is stored, not failed\n")
    shown = await admin("uploads", "show", sent["upload_id"])
    assert "stage: stored" in shown.out
    unasked = await admin("uploads", "cancel", waiting["upload_id"])
    assert unasked.code == 2
    done = await admin("uploads", "cancel", waiting["upload_id"], "--yes", "--json")
    assert json.loads(done.out)["stage"] == "cancelled"
    odd = await admin("uploads", "list", "--since", "yesterday")
    assert (odd.code, "is no moment" in odd.err) == (2, True)


async def test_what_the_gate_found_is_shown(admin: Run, shelf: Shelf, runtime: Runtime) -> None:
    sent = await shelf.up.send(b"a film that is too short")
    async with runtime.db.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO ingest_runs (uid, upload_id, clip_id, attempt, status, prefix, figures, error)"
                " SELECT 'run_abcdefghjkmn', u.id, u.clip_id, 1, 'failed', 'x/',"
                ' \'{"findings": ["too_short", "too_small"]}\', \'it lasts one second\''
                " FROM uploads u WHERE u.uid = :uid"
            ),
            {"uid": sent["upload_id"]},
        )
    shown = await admin("uploads", "show", sent["upload_id"])
    assert shown.code == 0, shown.err
    assert "run 1  failed  too_short, too_small  it lasts one second" in shown.out
    since = await admin("uploads", "list", "--since", "24h", "--state", "changes_requested")
    assert (since.code, since.out) == (0, "")


async def test_the_taxonomy_is_merged_renamed_and_moved(admin: Run, shelf: Shelf, paletta: Run) -> None:
    unasked = await admin("taxonomy", "merge", "transport", "travel")
    assert unasked.code == 2
    done = await admin("taxonomy", "rename", "transport", "vehicles", "--name", "Vehicles", "--json")
    assert json.loads(done.out) == {
        "kind": "category",
        "source": "transport",
        "target": "vehicles",
        "clips": 0,
    }
    done = await admin("taxonomy", "move", "vehicles", "travel")
    assert (done.code, done.err) == (0, "`vehicles` is below `travel` now\n")
    assert (await admin("taxonomy", "move", "vehicles", "--top")).err == "`vehicles` is at the top now\n"
    assert (await admin("taxonomy", "move", "vehicles")).code == 2
    done = await admin("taxonomy", "move-clips", "vehicles", "travel")
    assert done.err == "0 clips moved from `vehicles` to `travel`\n"
    done = await admin("taxonomy", "merge", "vehicles", "travel", "--yes")
    assert (done.code, done.err) == (0, "category `vehicles` is `travel` now: 0 clips\n")
    gone = await admin("taxonomy", "rename", "vehicles", "cars")
    assert (gone.code, gone.err) == (1, "error: no category `vehicles`\nhint: it is `travel` now\n")


async def test_a_manifest_with_a_former_category_is_valid(
    admin: Run, shelf: Shelf, paletta: Run, tmp_path: Path
) -> None:
    assert (await admin("taxonomy", "rename", "transport", "vehicles")).code == 0
    folder = tmp_path / "shoot"
    folder.mkdir()
    (folder / "a.mov").write_bytes(b"a film")
    (folder / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: Yellow tram climbs a steep street\n"
        "  keywords: [tram, lisbon, street, yellow, hill]\n  categories: [transport]\n"
    )
    checked = await paletta("manifest", "check", str(folder), "--no-check-media")
    assert checked.code == 0, checked.out + checked.err
