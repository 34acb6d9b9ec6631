"""The `paletta-server` command. Each function collects options and calls one of `paletta_server.commands`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path
from typing import Annotated

import typer

from paletta_server.aws.cli import app as aws_app

app = typer.Typer(
    name="paletta-server",
    help="Run the Paletta service: all of it on one machine, or its parts on many.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_joined: dict[str, str] = {}
"""What a running stack's settings file added to the environment."""

_data: Path | None = None

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


class Role(StrEnum):
    """The roles an operator can give."""

    CUSTOMER = "customer"
    CONTRIBUTOR = "contributor"
    ADMIN = "admin"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"paletta-server {version('paletta')}")
        raise typer.Exit


@app.callback()
def main(
    data: Annotated[
        Path | None, typer.Option("--data", help="Work on the stack that `up` runs on this data directory.")
    ] = None,
    _show_version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings come from PALETTA_… variables, a `.env` file, or a running stack (`--data`)."""
    global _data
    _data = data


def _join_stack(*, by_default: bool) -> None:
    """Take the settings of the stack named by `--data`.

    With `by_default`, the stack on the default directory is taken when there is one and no database is set.
    """
    from paletta_server.embedded.stackdir import StackDir, StackError, default_data_dir

    found = StackDir(_data or default_data_dir())
    if _data is None:
        from paletta_server.core.settings import get_settings

        if not by_default or not found.env_file.exists():
            return
        if "database_url" in get_settings().model_fields_set:
            return
        get_settings.cache_clear()
    try:
        _joined.update(found.read_env())
    except StackError as error:
        from paletta_server.commands import terminal

        terminal.error(str(error))
        raise typer.Exit(1) from error
    os.environ.update(_joined)


@app.command()
def up(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Where everything is kept.", show_default="$XDG_DATA_HOME/paletta or ~/.local/share/paletta"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8750,
    workers: Annotated[int, typer.Option(min=0, max=64, help="How many workers to run.")] = 1,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing after the end.")] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write addresses and pids there, as JSON, once everything is ready.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print addresses and pids on standard output when ready.")
    ] = False,
) -> None:
    """Run the whole service on this machine: database, object store, mail, API and workers."""
    from paletta_server.commands.up import up as run_up

    chosen = data or _data
    if ephemeral and chosen is not None:
        raise typer.BadParameter("an ephemeral stack chooses its own folder", param_hint="--data")
    raise typer.Exit(
        run_up(
            data=chosen,
            port=port,
            workers=workers,
            ephemeral=ephemeral,
            as_json=as_json,
            ready_file=ready_file,
        )
    )


@app.command()
def migrate(
    bucket: Annotated[
        bool, typer.Option("--bucket", help="Also set the bucket up, as `storage bootstrap` does.")
    ] = False,
) -> None:
    """Bring the database to this version's schema."""
    from paletta_server.commands.serve import migrate as run_migrate

    _join_stack(by_default=False)
    raise typer.Exit(run_migrate(bucket=bucket))


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8750,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the code changes.")] = False,
) -> None:
    """Serve the HTTP API."""
    from paletta_server.commands.serve import api as run_api

    _join_stack(by_default=False)
    raise typer.Exit(run_api(host=host, port=port, reload=reload))


@app.command()
def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Jobs at once.", show_default="PALETTA_WORKER_CONCURRENCY"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name in logs and in the database.", show_default="host and pid")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the pid there once it takes jobs.", hidden=True)
    ] = None,
) -> None:
    """Work on jobs: ingest, mail, cleaning up. Any number may run, on any machine."""
    from paletta_server.commands.serve import worker as run_worker

    _join_stack(by_default=False)
    raise typer.Exit(run_worker(concurrency=concurrency, name=name, ready_file=ready_file))


@app.command("mail-events")
def mail_events() -> None:
    """Read SES's reports of bounces and complaints from their queue. Any number may run, on any machine."""
    from paletta_server.commands.mail_events import mail_events as run_mail_events

    _join_stack(by_default=False)
    raise typer.Exit(run_mail_events())


@app.command()
def completions(
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the pid there once it takes messages.", hidden=True)
    ] = None,
) -> None:
    """Handle MediaConvert's events from the queue. Any number may run, on any machine."""
    from paletta_server.commands.completions import completions as run_completions

    _join_stack(by_default=False)
    raise typer.Exit(run_completions(ready_file=ready_file))


@app.command("create-user")
def create_user(
    email: Annotated[str, typer.Argument(help="Address of the account.")],
    role: Annotated[Role, typer.Option(help="What the account may do.")] = Role.CUSTOMER,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    invite: Annotated[
        bool, typer.Option("--invite", help="Ask for no password: mail a link by which its owner sets one.")
    ] = False,
) -> None:
    """Make an account, its address taken as verified.

    With --invite nobody knows a password and the mail proves the address: a worker sends it, and its link works once,
    for an hour (PALETTA_MAIL_LINK_MINUTES); later, `paletta reset-password` sends another.
    """
    from paletta_server.commands import users

    if invite and password_stdin:
        raise typer.BadParameter(
            "whoever is invited sets the password: there is none to read", param_hint="--invite"
        )
    _join_stack(by_default=True)
    if invite:
        raise typer.Exit(users.invite_user(email=email, role=role.value))
    raise typer.Exit(users.create_user(email=email, role=role.value, password_stdin=password_stdin))


search_app = typer.Typer(no_args_is_help=True)
app.add_typer(search_app, name="search", help="The search index of this machine.")


@search_app.callback()
def search() -> None:
    """The search index of this machine."""


@search_app.command()
def reindex(as_json: Json = False) -> None:
    """Build the search index anew, beside the live one, and put it in its place.

    A running API answers from the old one until the new one is ready. Other machines keep indexes of their own.
    """
    from paletta_server.commands.search import reindex as run_reindex

    _join_stack(by_default=True)
    raise typer.Exit(run_reindex(as_json=as_json))


class Objects(StrEnum):
    """What a backup does with the store's objects."""

    COPY = "copy"
    REFERENCE = "reference"


@app.command()
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; an older one in it is brought up to date.")
    ],
    objects: Annotated[
        Objects, typer.Option(help="Copy the objects, or only refer to them with their checksums.")
    ] = Objects.COPY,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all copies that are kept, and copy again what is damaged.")
    ] = False,
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink", help="Go on where the service has given up more than half of what is backed up."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Back the database up with every object that it refers to, while the service runs.

    Run again into the same folder, it copies only what is new; interrupted, it goes on. The backup before stays for
    one more turn (`restore --previous`). Keep the folder to yourself: the dump holds addresses and password hashes.
    """
    from paletta_server.commands.backup import back_up as run_backup

    _join_stack(by_default=True)
    raise typer.Exit(
        run_backup(folder=folder, mode=objects.value, verify=verify, shrink=shrink, as_json=as_json)
    )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `backup` wrote.", exists=True)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Into a service that is not empty: what is there is lost.")
    ] = False,
    objects_only: Annotated[
        bool,
        typer.Option(
            "--objects-only", help="Bring back what the store has lost; the database stays as it is."
        ),
    ] = False,
    previous: Annotated[
        bool, typer.Option("--previous", help="From the backup before the last one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup into an empty service: verified first, in one step, its search index built anew.

    With --replace, stop API and workers before: it is refused while workers run, and what an API does meanwhile is
    lost (`paletta admin flags set read-only` keeps it from doing anything). --objects-only runs beside everything.
    """
    from paletta_server.commands import backup as commands

    if objects_only and replace:
        raise typer.BadParameter("--objects-only leaves the database alone: there is nothing to --replace")
    _join_stack(by_default=True)
    if objects_only:
        raise typer.Exit(commands.restore_objects(folder=folder, previous=previous, as_json=as_json))
    raise typer.Exit(commands.restore(folder=folder, replace_all=replace, previous=previous, as_json=as_json))


storage_app = typer.Typer(no_args_is_help=True)
app.add_typer(storage_app, name="storage", help="The object store.")


@storage_app.callback()
def storage() -> None:
    """The object store."""


class Versions(StrEnum):
    """Whether the bucket keeps what is replaced or deleted, for 30 days."""

    ON = "on"
    OFF = "off"


@storage_app.command("bootstrap")
def storage_bootstrap(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would change.")] = False,
    versioning: Annotated[
        Versions | None,
        typer.Option(help="Keep what is replaced or deleted for 30 days.", show_default="as it is"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set the bucket up: no public access, encryption, CORS, lifecycle. Exit code 6 where something was refused.

    Made where it is missing; run again, it changes nothing. Lifecycle rules of other names stay.
    """
    from paletta_server.commands.bucket import bootstrap as run_bootstrap

    _join_stack(by_default=True)
    raise typer.Exit(
        run_bootstrap(plan=plan, versioning=versioning.value if versioning else None, as_json=as_json)
    )


@storage_app.command("audit")
def storage_audit(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
    no_brake: Annotated[
        bool,
        typer.Option(
            "--no-brake",
            help="Mend also where so much is missing that bucket or database may be the wrong one.",
        ),
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every object, to compare its SHA-256.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            min=0.25,
            metavar="HOURS",
            help="What nothing refers to is orphaned from this age on.",
            show_default="the longest upload, and a day",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare database and store: what is missing, orphaned or damaged. Exit code 6 where faults remain.

    Runs beside uploads and ingest. --fix deletes orphans, drops stale multipart uploads, makes clips again whose
    previews are gone, withdraws those whose original is, telling their owners, and brings those back whose original
    is there again. It stops where more than ten originals and 1 per cent of them are missing, where nothing is found
    that should be there, or most of what is stored would be deleted.
    """
    from paletta_server.commands.storage import audit as run_audit

    _join_stack(by_default=True)
    raise typer.Exit(
        run_audit(fix=fix, brake=not no_brake, deep=deep, older_than=older_than, as_json=as_json)
    )


jobs_app = typer.Typer(no_args_is_help=True)
app.add_typer(jobs_app, name="jobs", help="The queue: what waits, runs and failed, and what runs when.")

JobIds = Annotated[list[int], typer.Argument(metavar="ID…", help="From `jobs list`.")]


class JobStatus(StrEnum):
    """How a job stands; those that succeeded are gone."""

    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    CANCELLED = "cancelled"


@jobs_app.command("list")
def jobs_list(
    status: Annotated[JobStatus | None, typer.Option(help="Only those that stand so.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this name, such as ingest.run.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only of this queue: ingest, default or mail.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List jobs, with why the failed ones failed."""
    from paletta_server.commands.jobs import list_ as run_list

    _join_stack(by_default=True)
    raise typer.Exit(
        run_list(status=status.value if status else None, task=task, on=queue, most=limit, as_json=as_json)
    )


@jobs_app.command("retry")
def jobs_retry(ids: JobIds) -> None:
    """Let jobs that failed run again, with all of their tries."""
    from paletta_server.commands.jobs import retry as run_retry

    _join_stack(by_default=True)
    raise typer.Exit(run_retry(ids))


@jobs_app.command("cancel")
def jobs_cancel(ids: JobIds) -> None:
    """Drop jobs that wait or failed, and ask running ones to stop."""
    from paletta_server.commands.jobs import cancel as run_cancel

    _join_stack(by_default=True)
    raise typer.Exit(run_cancel(ids))


@jobs_app.command("stats")
def jobs_stats(as_json: Json = False) -> None:
    """Count what waits, runs and failed of each job, and how fast it goes."""
    from paletta_server.commands.jobs import stats as run_stats

    _join_stack(by_default=True)
    raise typer.Exit(run_stats(as_json=as_json))


@jobs_app.command("schedule")
def jobs_schedule(as_json: Json = False) -> None:
    """List what runs on a schedule: when it did last, how that went, and when it is due."""
    from paletta_server.commands.jobs import schedule as run_schedule

    _join_stack(by_default=True)
    raise typer.Exit(run_schedule(as_json=as_json))


app.add_typer(aws_app, name="aws", help="An installation on AWS: plan, template, check, what it costs.")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything the service needs, and name the fix for what is wrong."""
    from paletta_server.commands.doctor import doctor as run_doctor

    _join_stack(by_default=True)
    from paletta_server.embedded.stackdir import default_data_dir

    stack = (_data or default_data_dir()) if _joined else None
    raise typer.Exit(run_doctor(as_json=as_json, stack=stack))


@app.command()
def config(as_json: Json = False) -> None:
    """Print the effective settings and where each comes from; secrets are masked."""
    from paletta_server.commands.config import config as run_config

    _join_stack(by_default=True)
    raise typer.Exit(run_config(as_json=as_json, stack_names=frozenset(_joined)))


def run() -> None:
    """Entry point: the command, with faults of its line, of the settings and of what it needs told as the
    operator's, not as ours."""
    try:
        raise SystemExit(_dispatch())
    except ImportError as error:
        _explain_import(error)
    except ValueError as error:
        _explain_settings(error)
    except Exception as error:
        _explain_service(error)


def _dispatch() -> int:
    from paletta_server.commands import terminal

    try:
        code = app(standalone_mode=False)
    except typer.Exit as exit_:
        return exit_.exit_code
    except typer.Abort:
        terminal.say("interrupted")
        return 130
    except typer.TyperException as error:  # what the parser says about the command line
        message = error.format_message().strip()
        if not message or "Usage:" in message:  # no command: Typer has made its help
            if message:
                terminal.say(message)
            return 2
        message = message[0].lower() + message[1:].removesuffix(".")
        terminal.error(f"{message}\nhint: `paletta-server --help` lists the commands")
        return 2
    return code if isinstance(code, int) else 0


def _explain_import(error: ImportError) -> None:
    from paletta_server.commands import terminal

    missing = (error.name or "").partition(".")[0]
    if missing.startswith("paletta") or not missing:
        raise error
    terminal.error(f"`{missing}` is not installed\nhint: pip install 'paletta[embedded]'")
    raise SystemExit(1) from error


def _explain_settings(error: ValueError) -> None:
    from pydantic import ValidationError

    from paletta_server.commands import terminal
    from paletta_server.core.delivering import KeysUnreadable

    if isinstance(error, KeysUnreadable):
        terminal.error(f"PALETTA_CLOUDFRONT_KEYS: {error}")
        raise SystemExit(2) from error
    if not isinstance(error, ValidationError) or error.title != "Settings":
        raise error
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = "_".join(["PALETTA", *(str(part).upper() for part in problem["loc"])])
        terminal.error(
            f"{name if problem['loc'] else 'settings'}: {problem['msg'].removeprefix('Value error, ')}"
        )
    raise SystemExit(2) from error


def _explain_service(error: Exception) -> None:
    """What the service needs and does not get is said in words; anything else is ours to explain."""
    from sqlalchemy.exc import OperationalError

    from paletta_server.commands import terminal
    from paletta_server.core.errors import Unavailable
    from paletta_server.core.folders import FolderRefused
    from paletta_server.core.logging import mask
    from paletta_server.core.settings import get_settings

    if isinstance(error, OSError) and error.filename is None and error.errno in (ENOSPC, EDQUOT, EIO):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error at exit
        terminal.error(f"cannot write: {error.strerror}\nhint: what was written so far is not all of it")
    elif isinstance(error, Unavailable):
        terminal.error(
            f"{error.detail}\nhint: `paletta-server doctor` checks everything that the service needs"
        )
    elif isinstance(error, FolderRefused):
        terminal.error(f"{error}\nhint: {error.hint}")
    elif isinstance(error, OperationalError):
        reason = mask(str(error.orig).strip().splitlines()[0])
        terminal.error(
            f"the database at {mask(get_settings().libpq_url)}: {reason}\n"
            "hint: set PALETTA_DATABASE_URL, or start a stack with `paletta-server up`"
        )
    else:
        raise error
    raise SystemExit(1) from error


if __name__ == "__main__":
    run()
