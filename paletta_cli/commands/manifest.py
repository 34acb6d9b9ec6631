"""`paletta manifest`: write, check, import and export what a folder says about its clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paletta_cli.commands import CheckMedia, Json

if TYPE_CHECKING:
    from paletta_cli.manifests import Folder, Problem, Rules
    from paletta_cli.output import Output

app = typer.Typer(no_args_is_help=True)

Folder_ = Annotated[Path, typer.Argument(metavar="FOLDER", help="folder of clips")]
AgencyName = Annotated[
    str | None, typer.Option("--agency", metavar="NAME", help="adobe, shutterstock, pond5 or blackbox")
]


@app.command()
def init(folder: Folder_, json: Json = False) -> None:
    """write a manifest for a folder of clips, or add new clips to the one there is

    Reads what the clips' files say about themselves (XMP, QuickTime) and suggests titles from file names. What
    stands in an existing manifest is never changed.
    """
    from paletta_cli.errors import UsageError
    from paletta_cli.manifests.scaffold import scaffold
    from paletta_cli.output import Output
    from paletta_cli.text import clean, plural

    if not folder.is_dir():
        raise UsageError(f"`{clean(folder)}` is not a folder")
    out = Output(json=json)
    done = scaffold(folder)
    out.data(
        {
            "manifest": str(done.manifest),
            "created": done.created,
            "added": done.added,
            "unreadable": done.unreadable,
            "unusable": done.unusable,
            "fields_found": done.fields_found,
        }
    )
    for name, reason in done.unreadable.items():
        out.warn(clean(f"`{name}` {reason}"))
    for name, trouble in done.unusable.items():
        # A warning may have several lines, a file's name may not: what follows its line end would read as ours.
        out.warn(clean(f"the file name `{name}` {trouble}: left out"))
    if not done.added and not done.created:
        out.note(clean(f"nothing new for `{done.manifest}`"))
        return
    read = f", {plural(done.fields_found, 'field')} read from their files" if done.fields_found else ""
    verb = "wrote" if done.created else "extended"
    out.note(clean(f"{verb} `{done.manifest}`: {plural(len(done.added), 'clip')} added{read}"))
    out.hint(clean(f"fill it in, then run `paletta manifest check {folder}`"))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder with a manifest, or one clip")],
    agency: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="also check this agency's limits, as warnings")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="do not ask the service for its rules")] = False,
    check_media: CheckMedia = True,
    # What the option was called before it had the upload's name; scripts have it.
    no_media: Annotated[bool, typer.Option("--no-media", hidden=True)] = False,
    json: Json = False,
) -> None:
    """find every mistake in a manifest and its clips at once

    Prints one problem per line as `file:line:column: error: …`, with what to do about it. Ends with 3 if there
    are errors; warnings alone are fine.
    """
    from paletta_cli.errors import ManifestInvalid
    from paletta_cli.manifests.keywords import taken_as_tags, words_for
    from paletta_cli.manifests.lint import ordered
    from paletta_cli.manifests.live import current_rules, near_tags
    from paletta_cli.output import Output
    from paletta_cli.text import plural

    out = Output(json=json)
    folder = _load(path)
    rules, origin = current_rules(offline=offline)
    problems = _linted(
        out, folder, rules, media=check_media and not no_media, agencies=_known_agencies(agency or [])
    )
    unasked = ""
    if rules.live:
        near, unasked = near_tags(folder)
        problems = ordered([*problems, *near])
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    taken = taken_as_tags((clip.metadata for clip in folder), rules.synonyms)
    if json:
        out.data(
            {
                "folder": str(folder.path),
                "clips": len(folder.clips),
                "errors": errors,
                "warnings": warnings,
                "rules": "service" if rules.live else "shipped",
                "problems": [problem.as_json() for problem in problems],
                "keywords_as_tags": taken,
            }
        )
    for problem in problems:
        show(out, problem)
    _mention_agencies(out, folder, agency or [])
    if taken:
        out.note(words_for(taken))
    if unasked:
        out.note(unasked)
    out.note(origin)
    counted = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"
    if errors:
        raise ManifestInvalid(f"{plural(len(folder.clips), 'clip')}, {counted}")
    out.note(f"{plural(len(folder.clips), 'clip')}, {counted}")


def show(out: "Output", problem: "Problem") -> None:
    """One problem as people read it, on stdout."""
    for line in str(problem).splitlines():
        out.line(line)


def _load(path: Path) -> "Folder":
    import gc

    from paletta_cli.errors import UsageError
    from paletta_cli.manifests import load_folder

    try:
        folder = load_folder(path)
    except OSError as error:
        reason = str(error) if isinstance(error, FileNotFoundError) else f"`{path}`: {error.strerror}"
        raise UsageError(reason, hint="name a folder of clips") from error
    # Half a million nodes live as long as this command: walking them at exit took as long as reading them.
    gc.freeze()
    return folder


def _mention_agencies(out: "Output", folder: "Folder", named: list[str]) -> None:
    """A word on agencies that the manifest speaks of and nobody asked for: their limits would flood the rest."""
    from paletta_cli.manifests.agencies import limit_problems, plans

    mentioned = {name for clip in folder for name in clip.metadata.get("agencies", {})}
    for name in sorted(mentioned & set(plans()) - {word.casefold() for word in named}):
        if count := len(limit_problems(folder, [name])):
            out.note(f"{plans()[name].name} would complain {count:,} times: see --agency {name}")


def _known_agencies(names: list[str]) -> list[str]:
    from paletta_cli.manifests.agencies import plan

    return [plan(name).agency for name in names]


def _linted(
    out: "Output", folder: "Folder", rules: "Rules", *, media: bool, agencies: list[str]
) -> list["Problem"]:
    """All problems; while many clips are opened on a terminal, a bar says how far it is."""
    from paletta_cli.manifests import lint

    if not (media and out.stderr.isatty() and len(folder.clips) > 20):
        return lint(folder, rules, media=media, agencies=agencies)
    from rich.progress import Progress

    with Progress(console=out.console(), transient=True) as progress:
        task = progress.add_task("opening clips", total=len(folder.clips))
        return lint(
            folder,
            rules,
            media=lambda done, total: progress.update(task, completed=done, total=total),
            agencies=agencies,
        )


@app.command(name="import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.csv…", help="CSV files of agencies")],
    agency: AgencyName = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write the manifest into this folder of clips")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="write it here")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a manifest")] = False,
) -> None:
    """make a manifest from agencies' CSV files

    The agency is told by the headings. Several files are joined on the clip's file name; the first that says
    something wins, and each agency's own cells are kept, so that an export gives its file back.
    """
    from paletta_cli.errors import UsageError
    from paletta_cli.manifests.exchange import import_tables, manifest_text, recognise
    from paletta_cli.manifests.loader import MANIFEST
    from paletta_cli.manifests.scaffold import write_whole
    from paletta_cli.manifests.tables import read_table
    from paletta_cli.output import Output
    from paletta_cli.text import clean, plural

    out = Output()
    if folder is not None and output is not None:
        raise UsageError("--folder and --output exclude each other")
    target = folder / MANIFEST if folder is not None else output
    if target is not None and target.exists() and not force:
        raise UsageError(
            f"`{target}` exists", hint="write elsewhere with --output, or overwrite it with --force"
        )
    tables = [(table, recognise(table, agency)) for table in map(read_table, files)]
    result = import_tables(tables)
    text = manifest_text(result)
    for table, chosen in tables:
        out.note(clean(f"`{table.name}`: {chosen.name}, {plural(len(table.rows), 'row')}, {table.encoding}"))
    if target is None:
        out.raw(text)
        return
    write_whole(target, text)
    out.note(f"wrote `{target}`: {plural(len(result.clips), 'clip')}")
    if folder is not None:
        out.hint(
            f"run `paletta manifest check {folder}`; `paletta manifest init {folder}` adds clips that no row named"
        )


@app.command()
def export(
    folder: Folder_,
    agency: Annotated[
        str, typer.Option("--agency", metavar="NAME", help="adobe, shutterstock, pond5 or blackbox")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="write it here instead of stdout")
    ] = None,
) -> None:
    """write an agency's CSV file from a manifest

    Says on stderr which fields that agency has no place for, and which of its limits are exceeded. Nothing is
    cut to fit.
    """
    from paletta_cli.errors import ManifestInvalid
    from paletta_cli.manifests.agencies import limit_problems, plan
    from paletta_cli.manifests.exchange import export_table
    from paletta_cli.manifests.scaffold import write_whole
    from paletta_cli.manifests.tables import write_table
    from paletta_cli.output import Output
    from paletta_cli.text import clean, plural

    out = Output()
    chosen = plan(agency)
    source = _load(folder)
    for problem in source.problems:
        out.note(problem)
    if source.problems or not source.clips:
        raise ManifestInvalid(
            f"`{folder}` has no manifest that can be exported", hint=f"run `paletta manifest check {folder}`"
        )
    table = export_table(source, chosen)
    text = write_table(table.header, table.rows)
    for name, count in table.lost.items():
        out.warn(clean(f"{chosen.name} has no place for `{name}` ({plural(count, 'clip')})"))
    for problem in limit_problems(source, [chosen.agency]):
        out.note(problem)
    for complaint in chosen.size_complaints(len(table.rows), len(text.encode(chosen.encoding))):
        out.warn(complaint)
    if output is None:
        out.raw(text)
        return
    write_whole(output, text, encoding=chosen.encoding)
    out.note(f"wrote `{output}`: {plural(len(table.rows), 'row')}")
