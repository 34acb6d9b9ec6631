"""`paletta admin taxonomy`, `paletta categories`, `paletta tags`, as typed: exit code, stdout and stderr."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from fastapi import FastAPI

from paletta_cli import main as cli
from paletta_cli.taxonomy_plan import render, summary
from paletta_server.core.runtime import Runtime
from tests.conftest import MakeUser
from tests.support.serving import serving
from tests.support.taxonomy import make_clip

HEAD = "paletta_taxonomy: 1\n"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    async with serving(app) as address:
        yield address


@pytest.fixture
async def paletta(
    url: str,
    make_user: MakeUser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`await paletta("tags", "list", as_="admin")`: run a command line as somebody with that role."""
    monkeypatch.setenv("PALETTA_URL", url)
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")
    people = {role: await make_user(role) for role in ("contributor", "admin")}

    async def run(*argv: str, as_: str | None = "contributor") -> Ran:
        if as_ is None:
            monkeypatch.delenv("PALETTA_TOKEN", raising=False)
        else:
            monkeypatch.setenv("PALETTA_TOKEN", people[as_].token)
        capsys.readouterr()
        code = await asyncio.to_thread(cli.main, list(argv))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "taxonomy.yaml"
        path.write_text(HEAD + text, encoding="utf-8")
        return str(path)

    return write


async def test_plan_apply_and_again(paletta: Run, write: Callable[[str], str], runtime: Runtime) -> None:
    file = write(
        "categories: [{slug: sea, name: Sea, description: Salt water}, {slug: reef, name: Reef, parent: sea}]\n"
        "tags: [beach, {name: time lapse, synonyms: [timelapse]}]\n"
    )
    planned = await paletta("admin", "taxonomy", "plan", file, as_="admin")
    assert planned.code == 0
    assert (
        planned.out == "categories\n  + sea   Sea\n  + reef  Reef (below sea)\ntags\n  + beach, time lapse\n"
    )
    assert planned.err == "2 categories and 2 tags to create\n"
    assert (await paletta("categories", "list")).out == ""

    applied = await paletta("admin", "taxonomy", "apply", file, as_="admin")
    assert applied.code == 0, applied.err
    assert applied.out == ""
    assert applied.err.endswith(f"2 categories and 2 tags to create\napplied `{file}`\n")
    again = await paletta("admin", "taxonomy", "apply", file, as_="admin")
    assert (again.code, again.out, again.err) == (0, "nothing to change\n", "")


async def test_every_kind_of_change_reads_well(
    paletta: Run, write: Callable[[str], str], runtime: Runtime, make_user: MakeUser
) -> None:
    ana = await make_user()
    first = write(
        "categories: [{slug: a, name: A, agencies: {adobe: '1', x: old}}, {slug: b, name: B}, {slug: c, name: C}]\n"
        "tags: [{name: beach, synonyms: [shore]}, old, unused]"
    )
    assert (await paletta("admin", "taxonomy", "apply", first, as_="admin")).code == 0
    async with runtime.db.transaction() as session:
        for _ in range(2):
            await make_clip(session, ana.uid, categories=("c", "b"), tags=("old", "beach"), listed=True)
    second = write(
        "categories: [{slug: bee, name: Bee, renamed_from: b}, {slug: a, name: A, agencies: {adobe: '2', y: new},\n"
        f"  description: {'long ' * 30}}}]\n"
        "tags: [{name: beach, synonyms: [seaside]}]"
    )
    planned = await paletta(
        "admin", "taxonomy", "plan", second, "--prune", "--move", "old=beach", as_="admin"
    )
    assert planned.code == 0, planned.err
    assert planned.out == dedent(
        """\
        categories
          ~ b        slug: b → bee; name: B → Bee (2 clips)
          ~ a        description: none → long long long long long long long long long
                     long long long…; agencies: adobe 1 → 2, x old → none, y none → new
          ~ (order)  bee, a
          - c        BLOCKED: 2 clips use it
        tags
          ~ beach   synonyms: +seaside, -shore (2 clips)
          - old     merged into beach: its 2 clips move there
          - unused
        """
    )
    assert max(map(len, planned.out.splitlines())) <= 80
    assert planned.err == (
        "1 category to rename, 1 category and 1 tag to change, 1 tag to merge, 1 category and 1 tag to delete,"
        " the categories' order to change\n"
    )
    refused = await paletta(
        "admin", "taxonomy", "apply", second, "--prune", "--move", "old=beach", "--yes", as_="admin"
    )
    assert refused.code == 1
    assert refused.err.endswith(
        "error: 1 deletion blocked, so nothing was changed\n"
        "hint: say where the clips go with --move OLD=NEW, or under `moves:` in the file\n"
    )
    options = ("--prune", "--move", "tag:old=beach", "--move", "category:c=bee")
    unattended = await paletta("admin", "taxonomy", "apply", second, *options, as_="admin")
    assert unattended.code == 2
    assert "hint: pass --yes to go ahead" in unattended.err
    done = await paletta("admin", "taxonomy", "apply", second, *options, "--yes", "--json", as_="admin")
    assert done.code == 0, done.err
    assert json.loads(done.out)["applied"] is True
    listed = json.loads((await paletta("categories", "list", "--json")).out)
    assert [(one["slug"], one["clip_count"]) for one in listed] == [("bee", 2), ("a", 0)]


async def test_mistakes_are_all_listed(paletta: Run, write: Callable[[str], str], tmp_path: Path) -> None:
    file = write("categories:\n- {slug: Sea, name: Sea}\n- {slug: a, nmae: A}\n")
    for verb in ("plan", "apply"):
        refused = await paletta("admin", "taxonomy", verb, file, as_="admin")
        assert refused.code == 3
        assert refused.out == (
            f"{file}:3:10: error: `Sea` is not a slug (small letters, digits and single hyphens, at most 50)\n"
            "  hint: write `sea`\n"
            f"{file}:4:3: error: a category needs a `name`\n"
            f"{file}:4:13: error: unknown key `nmae` in a category\n"
            "  hint: did you mean `name`?\n"
        )
        assert refused.err == f"error: `{file}` has 3 problems, so nothing was changed\n"
    refused = await paletta("admin", "taxonomy", "plan", file, "--json", as_="admin")
    assert [one["line"] for one in json.loads(refused.out)["problems"]] == [3, 4, 4]

    (tmp_path / "latin.yaml").write_bytes(HEAD.encode() + b"tags: [caf\xe9]")
    refused = await paletta("admin", "taxonomy", "plan", str(tmp_path / "latin.yaml"), as_="admin")
    assert refused.code == 3
    assert "latin.yaml:2:11` is not UTF-8 text" in refused.err
    refused = await paletta("admin", "taxonomy", "plan", str(tmp_path / "nowhere.yaml"), as_="admin")
    assert (refused.code, "no such file" in refused.err) == (2, True)
    refused = await paletta("admin", "taxonomy", "plan", write(""), "--move", "old", as_="admin")
    assert (refused.code, "hint: write --move OLD=NEW" in refused.err) == (2, True)
    assert (await paletta("admin", "taxonomy", "plan", write(""))).code == 4


async def test_export_and_back(
    paletta: Run, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = str(repository / "manifests" / "taxonomy.yaml")
    assert (await paletta("admin", "taxonomy", "apply", shipped, as_="admin")).code == 0
    target = tmp_path / "out.yaml"
    assert (
        await paletta("admin", "taxonomy", "export", str(target), as_="admin")
    ).err == f"wrote `{target}`\n"
    assert (await paletta("admin", "taxonomy", "export", as_="admin")).out == target.read_text(
        encoding="utf-8"
    )
    shown = await paletta("admin", "taxonomy", "export", "--json", as_="admin")
    assert json.loads(shown.out) == {"document": target.read_text(encoding="utf-8")}
    back = await paletta("admin", "taxonomy", "plan", str(target), "--prune", as_="admin")
    assert (back.code, back.out) == (0, "nothing to change\n")
    assert (await paletta("admin", "taxonomy", "export", str(target), as_="admin")).code == 2
    assert (await paletta("admin", "taxonomy", "export", str(target), "--yes", as_="admin")).code == 0


async def test_on_a_terminal_apply_and_delete_ask(
    paletta: Run, write: Callable[[str], str], url: str, tmp_path: Path
) -> None:
    file = write("tags: [beach]")
    await paletta("tags", "list", as_="admin")  # sets the admin's token in the environment

    environment = dict(os.environ)

    def typed(answer: str, *words: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", "from paletta_cli.main import run; run()", *words]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, err = process.communicate(timeout=60)
        os.close(ours)
        return process.returncode, err.decode()

    code, err = await asyncio.to_thread(typed, "n", "admin", "taxonomy", "apply", file)
    assert code == 1
    assert "1 tag to create: apply? [y/N]" in err
    assert err.endswith("nothing was changed\n")
    assert (await paletta("tags", "list")).out == ""
    code, err = await asyncio.to_thread(typed, "y", "admin", "taxonomy", "apply", file)
    assert code == 0, err
    assert f"applied `{file}`" in err
    assert (await paletta("tags", "list")).out == "beach\t0\t\t\n"

    for noun in ("tags", "categories"):
        assert (await paletta(noun, "create", "mine", as_="admin")).code == 0
        code, err = await asyncio.to_thread(typed, "n", noun, "delete", "mine")
        assert (code, err) == (1, "delete `mine`? [y/N] nothing was deleted\n")
        code, err = await asyncio.to_thread(typed, "y", noun, "delete", "mine")
        assert (code, err) == (0, "delete `mine`? [y/N] deleted `mine`\n")


async def test_tags(paletta: Run) -> None:
    assert (await paletta("tags", "create", " Time  Lapse ")) == Ran(0, "time lapse\n", "")
    near = await paletta("tags", "create", "timelapse")
    assert near == Ran(
        1,
        "",
        "error: `timelapse` nearly repeats `time lapse`\n"
        "hint: did you mean `time lapse`? --force makes it all the same\n",
    )
    assert (await paletta("tags", "create", "timelapse", "--force")).code == 0
    assert (await paletta("tags", "create", "24/7?", "--json")).code == 0
    assert (await paletta("tags", "create", "official", as_="admin")).code == 0
    assert (await paletta("tags", "list", as_=None)).out.splitlines() == [
        "24/7?\t0\t\t",
        "official\t0\t\t",
        "time lapse\t0\t\t",
        "timelapse\t0\t\t",
    ]
    mine = json.loads((await paletta("tags", "list", "TIME", "--mine", "--json")).out)
    assert [one["name"] for one in mine] == ["time lapse", "timelapse"]
    assert (await paletta("tags", "list", "--limit", "1")).out == "24/7?\t0\tyes\t\n"
    assert (await paletta("tags", "list", "--mine", as_=None)).code == 4
    assert (await paletta("tags", "create", "a,b")).err == "error: a tag must not contain a comma\n"

    unasked = await paletta("tags", "delete", "24/7?", "Timelapse")
    assert unasked == Ran(
        2, "", "error: cannot ask without a terminal: delete 2 tags?\nhint: pass --yes to go ahead\n"
    )
    refused = await paletta("tags", "delete", "official", "--yes")
    assert refused == Ran(
        4, "", "error: `official` belongs to the operator\nhint: only what you made yourself can be deleted\n"
    )
    some = await paletta("tags", "delete", "24/7?", "official", "Timelapse", "--yes")
    assert some.code == 6
    assert some.err.splitlines()[-1] == "error: 1 of 3 were not deleted"
    assert (await paletta("tags", "list")).out == "official\t0\t\t\ntime lapse\t0\tyes\t\n"


async def test_categories(paletta: Run, runtime: Runtime, make_user: MakeUser) -> None:
    assert (await paletta("categories", "create", "Sea Life", "--description", "Fish")) == Ran(
        0, "sea-life\n", ""
    )
    assert (await paletta("categories", "create", "Reef", "--parent", "sea-life")).out == "reef\n"
    again = await paletta("categories", "create", "sea life")
    assert again.err == "error: there is a category `sea-life` already\nhint: use that one\n"
    assert (await paletta("categories", "create", "日本", "--slug", "japan", "--json")).code == 0
    listed = await paletta("categories", "list", "--mine")
    assert listed.out == (
        "reef\tReef\t0\tsea-life\tyes\t\nsea-life\tSea Life\t0\t\tyes\tFish\njapan\t日本\t0\t\tyes\t\n"
    )
    assert (await paletta("categories", "list", "--mine", as_="admin")).err == "no categories\n"
    ana = await make_user()
    async with runtime.db.transaction() as session:
        await make_clip(session, ana.uid, categories=("japan",))
    used = await paletta("categories", "delete", "japan", "--yes")
    assert used == Ran(1, "", "error: 1 clip uses `japan`\nhint: take it off them first\n")
    assert (await paletta("categories", "delete", "reef", "sea-life", "--yes")).code == 0


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_hostile_service_cannot_drive_the_terminal(width: int) -> None:
    evil = "\x1b]0;owned\x07\u202e[bold]x[/bold]"
    change: dict[str, Any] = {"clips": 3, "blocked": None}
    plan = {
        "changes": [
            {"op": "create", "kind": "tag", "key": evil, "before": None, "after": {}, **change},
            {"op": "change", "kind": "tag", "key": evil, "before": {"name": evil}, "after": {"name": evil}, **change},
            {"op": "delete", "kind": "category", "key": evil, "before": {"name": evil}, "after": None, **change},
            {"op": "surprise", "kind": "category", "key": evil, "before": {}, "after": {}, **change},
        ],
        "warnings": [],
    }  # fmt: skip
    text = "\n".join(render(plan, width)) + summary(plan)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text


def test_thousands_of_new_tags_are_counted_not_listed() -> None:
    plan = {
        "changes": [
            {
                "op": "create",
                "kind": "tag",
                "key": f"tag{n}",
                "before": None,
                "after": {},
                "clips": 0,
                "blocked": None,
            }
            for n in range(10_000)
        ]
    }
    lines = render(plan)
    assert len(lines) < 80
    assert lines[-1].endswith("9,500 more (--json lists them)")
    assert max(map(len, lines)) <= 80
