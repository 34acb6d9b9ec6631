"""`paletta clips list | show | edit | delete | poster | apply`: the clips of this account."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paletta_cli.commands import DryRun, Json, Yes

if TYPE_CHECKING:
    from paletta_cli.clips.applying import Plan
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True)

Clip = Annotated[str, typer.Argument(metavar="CLIP", help="its id; the beginning is enough")]
NoPictures = Annotated[
    bool, typer.Option("--no-pictures", help="words only, also where pictures can be shown")
]
Force = Annotated[bool, typer.Option("--force", help="overwrite files")]


class Stage(StrEnum):
    LIVE = "live"
    IN_REVIEW = "in_review"
    CHANGES_REQUESTED = "changes_requested"
    REJECTED = "rejected"
    FAILED = "failed"
    PROCESSING = "processing"
    TAKEN_DOWN = "taken_down"


@app.command("list")
def list_(
    stage: Annotated[Stage | None, typer.Option(help="only those that stand there")] = None,
    query: Annotated[
        str | None, typer.Option("--query", "-q", metavar="TEXT", help="only with this in title or file name")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="NAME", help="only with this `batch` field")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="how many, newest first")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    json: Json = False,
) -> None:
    """your clips, newest first, and where each stands"""
    from paletta_cli.api import connect
    from paletta_cli.clips.showing import show_list
    from paletta_cli.output import Output

    out = Output(json=json)
    filters = {"stage": stage.value if stage else None, "q": query, "batch": batch}
    most = None if everything else limit + 1  # one more tells whether there are more
    with connect() as service:
        found = list(service.pages("/v1/me/clips", most=most, limit=min(most or 200, 200), **filters))
    more = not everything and len(found) > limit
    narrowed = any(value is not None for value in filters.values())
    empty = "no such clips" if narrowed else "no clips yet: `paletta upload FOLDER` sends some"
    show_list(out, found[:limit] if more else found, empty=empty)
    if more:
        out.note(f"the newest {limit}")
        out.hint("--all shows all of them, --limit N more")


@app.command()
def show(
    clip: Clip,
    addresses: Annotated[
        bool, typer.Option("--addresses", help="print the previews' addresses (valid for an hour)")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="play the watermarked preview")] = False,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="save the watermarked preview (MP4)")
    ] = None,
    force: Force = False,
    no_pictures: NoPictures = False,
    json: Json = False,
) -> None:
    """everything about one clip: fields, film, tiers, previews"""
    from paletta_cli.clips.one import show_one
    from paletta_cli.output import Output

    show_one(
        Output(json=json),
        clip,
        login=True,
        addresses=addresses,
        open_=open_,
        preview=preview,
        force=force,
        pictures=not no_pictures,
    )


@app.command()
def edit(
    clip: Clip,
    title: Annotated[str | None, typer.Option(help="a new title")] = None,
    description: Annotated[str | None, typer.Option(help="a new description; empty clears it")] = None,
    keywords: Annotated[str | None, typer.Option(metavar="A,B,…", help="all keywords anew")] = None,
    add_keyword: Annotated[list[str] | None, typer.Option(metavar="WORD", help="repeatable")] = None,
    remove_keyword: Annotated[list[str] | None, typer.Option(metavar="WORD", help="repeatable")] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="SLUG", help="all categories anew; repeatable")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="any field of a manifest, as in location.city=Porto, shot.size=wide, people.count=2;"
            " lists as [a, b]; an empty value clears it; repeatable",
        ),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """change some fields of a clip, and show what changed

    Fields that are not mentioned stay. If somebody else changed the clip meanwhile, nothing is changed. Where clips are
    reviewed by hand, a live one whose words, categories or releases change waits for review, and is not for sale
    meanwhile: --dry-run says whether.
    """
    from paletta_cli.api import connect
    from paletta_cli.clips import changes, editing, fields
    from paletta_cli.errors import UsageError
    from paletta_cli.output import Output

    out = Output(json=json)
    wish = fields.Wish(
        title, description, keywords, tuple(add_keyword or ()), tuple(remove_keyword or ()),
        tuple(category or ()), tuple(set_ or ()),
    )  # fmt: skip
    if wish.empty:
        raise UsageError("nothing to change", hint="pass --title, --add-keyword, --set FIELD=VALUE, …")
    with connect() as service:
        edited = editing.edit(service, clip, wish, out, dry_run=dry_run)
    out.data(edited.as_json())
    if not edited.changes:
        out.note("nothing to change: that is what the clip says already")
        return
    for line in changes.headed("~", edited.id, edited.file, edited.changes, _width(out)):
        out.line(line)
    for line in changes.moved(edited.stage, done=edited.applied):
        out.line(line)


@app.command()
def delete(
    clips: Annotated[list[str], typer.Argument(metavar="CLIP…", help="ids; their beginnings are enough")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """take clips out of the shop, for good; running work on them is stopped"""
    from paletta_cli.api import clip_segment, connect
    from paletta_cli.clips.several import Several
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    with connect() as service:
        found = Several(out, clips)
        found.each(lambda clip: service.get(f"/v1/me/clips/{clip_segment(clip)}"))
        by_id = {clip["id"]: clip for clip in found.done}
        if by_id:
            for clip in by_id.values():
                out.note(f"{clip['id']}  {clip['title']}  ({str(clip['stage']).replace('_', ' ')})")
            if not out.confirm(f"delete {plural(len(by_id), 'clip')}?", yes=yes):
                out.note("nothing was deleted")
                raise typer.Exit(1)
        gone = Several(out, list(by_id), found)

        def remove(uid: str) -> str:
            service.delete(f"/v1/clips/{uid}")
            out.line(f"{uid} deleted")
            return uid

        gone.each(remove)
    out.data({"deleted": gone.done, "failed": gone.failed})
    gone.end("deleted")


@app.command()
def poster(
    clip: Clip,
    pick: Annotated[int | None, typer.Option(min=1, metavar="N", help="make candidate N the poster")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="save the candidates as JPEG files in this folder")
    ] = None,
    force: Force = False,
    no_pictures: NoPictures = False,
    json: Json = False,
) -> None:
    """the frames that can be the poster; --pick chooses one"""
    from paletta_cli.api import clip_segment, connect
    from paletta_cli.clips import posters
    from paletta_cli.errors import PalettaError
    from paletta_cli.output import Output

    out = Output(json=json)
    with connect() as service:
        uid = service.get(f"/v1/me/clips/{clip_segment(clip)}")["id"]
        if pick is not None:
            candidates = service.put(f"/v1/clips/{uid}/poster", {"number": pick})["items"]
        else:
            candidates = service.get(f"/v1/clips/{uid}/posters")["items"]
    if not candidates:
        raise PalettaError(f"`{uid}` has no posters yet", hint="they come when the clip is processed")
    if save is not None:
        posters.save(out, uid, candidates, save, force=force)
    if pick is not None:
        out.data({"id": uid, "posters": candidates})
        out.line(f"{uid} poster {pick}")
        posters.draw(out, [one["url"] for one in candidates if one["chosen"]], off=no_pictures)
        return
    if out.mode == "json":
        out.data({"id": uid, "posters": candidates})
        return
    posters.show(out, candidates, off=no_pictures)
    out.hint(f"`paletta clips poster {uid} --pick N` chooses another")


@app.command()
def apply(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="folder with a changed manifest, or one clip")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """bring clips to what their manifest says now

    Clips are found by their bytes where this machine uploaded them and the file is unchanged, else by file name.
    Everything is checked first and the plan is shown. A field that the manifest leaves out is emptied. Where clips are
    reviewed by hand, the plan says which live ones wait for review then, and are not for sale meanwhile.
    """
    from paletta_cli import settings
    from paletta_cli.api import connect
    from paletta_cli.clips import applying
    from paletta_cli.errors import PalettaError
    from paletta_cli.manifests.live import fetch_rules
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    config = settings.load()
    with connect(config) as service:
        plan = applying.load(folder, fetch_rules(service))
        if not plan.refused:
            applying.ask(service, plan, config.state_dir / "uploads.db", out)
        if plan.refused or dry_run or not plan.changes:
            out.data(plan.as_json(applied=False))
        _show_plan(out, plan)
        applying.refuse(plan)
        if plan.clips and len(plan.unmatched) == len(plan.clips):
            raise PalettaError("none of these clips is there", hint=f"`paletta upload {folder}` sends them")
        if dry_run or not plan.changes:
            return
        if not out.confirm(f"change {plural(len(plan.changes), 'clip')}?", yes=yes):
            out.note("nothing was changed")
            raise typer.Exit(1)
        told = len(plan.warnings)
        try:
            applying.apply(service, plan)
        finally:
            for problem in (*plan.problems, *plan.warnings[told:]):
                out.note(problem)
        applying.refuse(plan)
    out.data(plan.as_json(applied=True))
    waiting = f", {plan.leaving:,} of them not for sale until reviewed" if plan.leaving else ""
    out.note(f"{plural(len(plan.changes), 'clip')} changed{waiting}")


def _show_plan(out: "Output", plan: "Plan") -> None:
    """Changes on stdout, what stands in their way on stderr."""
    from paletta_cli.clips import changes
    from paletta_cli.text import plural

    for problem in (*plan.problems, *plan.warnings):
        out.note(problem)
    for change in plan.changes:
        for line in changes.headed("~", change["clip_id"], change["ref"], change["changes"], _width(out)):
            out.line(line)
        for line in changes.moved(change.get("stage"), done=False):
            out.line(line)
    if plan.problems:
        return
    same = len(plan.clips) - len(plan.changes) - len(plan.unmatched)
    counts = [plural(len(plan.changes), "clip") + " to change"]
    counts += [f"{plan.leaving:,} of them not for sale until reviewed"] if plan.leaving else []
    counts += [f"{same:,} as they are"] if same else []
    counts += [f"{len(plan.unmatched):,} not found"] if plan.unmatched else []
    out.note(", ".join(counts))


def _width(out: "Output") -> int:
    import shutil

    return shutil.get_terminal_size().columns if out.mode == "table" else 80
