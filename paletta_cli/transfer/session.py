"""One `paletta upload` from the command line's words to its exit code."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paletta_cli import settings
from paletta_cli.errors import Interrupted, PalettaError, UsageError
from paletta_cli.manifests.keywords import words_for
from paletta_cli.output import Output
from paletta_cli.text import plural, size
from paletta_cli.transfer import again as failures
from paletta_cli.transfer import plan as planning
from paletta_cli.transfer import rehearsal, report
from paletta_cli.transfer.flow import GRACE_SECONDS
from paletta_cli.transfer.items import Item, mark_twins
from paletta_cli.transfer.journal import Journal, Run
from paletta_cli.transfer.plan import Plan
from paletta_cli.transfer.protocol import Limits, Protocol, batch_name
from paletta_cli.transfer.uploader import Uploader
from paletta_cli.transfer.view import LiveView, PlainView, View, outcomes
from paletta_cli.transfer.watch import Watcher

if TYPE_CHECKING:
    from paletta_cli.api import Service

_API_TRIES = 12  # as patient with the service as with the store
_TICK = 0.2
_GO_ON = "run the same command again to go on: finished parts are not sent again"


@dataclass(frozen=True)
class Options:
    """What was asked for. `until`: uploaded, ready or live. `limit_rate` in bytes per second."""

    paths: tuple[Path, ...] = ()
    dry_run: bool = False
    until: str = "live"
    concurrency: int | None = None
    limit_rate: int | None = None
    check_media: bool = True
    failed: str | None = None


def upload(options: Options, out: Output) -> int:
    """Do it; the exit code. Raises the errors of `paletta_cli.errors`."""
    from paletta_cli import api

    config = settings.load()
    with (
        api.connect(config, tries=_API_TRIES) as service,
        Journal(config.state_dir / "uploads.db", out.warn) as journal,
    ):
        service.on_trouble = out.warn
        account = str(service.get("/v1/me")["id"])
        # Whoever may not upload hears so before an hour of reading; asked of the service, whose rule it is.
        service.get("/v1/upload-batches", limit=1)
        service.on_trouble = service.on_wait = None  # from here on the live picture tells
        again = None
        if options.failed:
            again = failures.find(service, journal, (config.url, account), options.failed, options.paths)
            if not again.refs:
                return again.nothing(out)
        paths = again.paths if again else options.paths
        if not paths:
            raise UsageError("nothing to upload", hint="name a folder with a `paletta.yaml`, or a clip")
        plan, limits = _checked_plan(service, paths, options, out)
        if again is not None:
            plan.items = again.keep(plan.items, out)
        if not plan.items:
            out.note("no clips to upload")
            return 0
        out.note(f"{plural(len(plan.items), 'clip')}, {size(sum(item.size for item in plan.items))}")
        if taken := plan.taken_as_tags():
            out.note(words_for(taken))
        protocol = Protocol(service, limits)
        if options.dry_run:
            return rehearsal.rehearse(protocol, journal, plan, out)
        told = rehearsal.foretell(protocol, plan.items, rehearsal.recall(journal, plan.items), out)
        absolute = [str(path.absolute()) for path in paths]
        identity = (config.url, account, absolute, batch_name(Path(absolute[0]).name))
        run = journal.begin_new(*identity) if again else journal.begin(*identity)
        batch = protocol.open_batch(run)
        if batch["status"] == "cancelled":  # somebody gave that run up: this is a new one
            run = journal.begin_new(*identity)
            batch = protocol.open_batch(run)
        journal.name_batch(run, str(batch["id"]))
        return _Session(protocol, journal, plan, options, out, told).go(run, str(batch["id"]))


def _checked_plan(
    service: "Service", paths: Sequence[Path], options: Options, out: Output
) -> tuple[Plan, Limits]:
    from paletta_cli.manifests import Rules

    document = service.get("/v1/manifest-schema")
    try:
        rules = Rules.from_schema_response(document)
    except ValueError as error:
        raise PalettaError(str(error), hint="is this `paletta` recent enough for the service?") from error
    plan = planning.make(paths, rules, check_media=options.check_media)
    planning.report(plan, out)
    return plan, Limits.read(document)


class _Session:
    """The transfer and the watch, with a view over both."""

    def __init__(
        self, protocol: Protocol, journal: Journal, plan: Plan, options: Options, out: Output, told: str
    ) -> None:
        self._protocol, self._journal, self._plan, self._options, self._out = (
            protocol,
            journal,
            plan,
            options,
            out,
        )
        self._foretold = told
        self._began = time.monotonic()
        self._planned = self._told = False
        self._unsaid = ""
        self._watcher: Watcher | None = None
        self._view: View | None = None

    def go(self, run: Run, batch_id: str) -> int:
        """Transfer, watch, report; the exit code."""
        items = self._plan.items
        uploader = Uploader(
            self._protocol,
            self._journal,
            run,
            batch_id,
            items,
            concurrency=self._options.concurrency,
            limit_rate=self._options.limit_rate,
        )
        self._view = self._make_view(uploader)
        self._protocol.service.on_busy = self._hold_back
        try:
            self._transfer(uploader, batch_id)
            self._settle(run, batch_id)
            if self._options.until != "uploaded":
                self._watch()
        except (Interrupted, KeyboardInterrupt):
            self._view.close()
            self._stop(uploader)
            raise Interrupted(_GO_ON) from None
        finally:
            self._view.close()
            self._say_doubts()
            if self._watcher is not None:
                self._watcher.stop()
        return self._finish(run, batch_id, uploader)

    def _transfer(self, uploader: Uploader, batch_id: str) -> None:
        uploader.start()
        while not uploader.wait(_TICK):
            self._tick(uploader, batch_id)
        self._tick(uploader, batch_id)

    def _stop(self, uploader: Uploader) -> None:
        """What is nearly there may arrive, unless Ctrl-C is pressed once more."""
        try:
            if waited_for := uploader.wind_down():
                parts, verb = plural(waited_for, "part"), "is" if waited_for == 1 else "are"
                self._out.note(
                    f"stopping: {parts} {verb} nearly there, {GRACE_SECONDS:.1f} s at most;"
                    " Ctrl-C again ends it at once"
                )
                uploader.see_off()
            else:
                self._out.note("stopping; finished parts stay there")
        except (Interrupted, KeyboardInterrupt):
            pass
        uploader.halt()

    def _hold_back(self, words: str) -> None:
        """From the thread that registers; said at the next tick, since the picture is the main thread's."""
        self._unsaid = words

    def _tick(self, uploader: Uploader, batch_id: str) -> None:
        assert self._view is not None
        if self._unsaid:
            self._view.say(self._unsaid)
            self._unsaid = ""
        items = self._plan.items
        if not self._planned and uploader.registered:
            self._planned = True
            mark_twins(items)
            if (counts := outcomes(items)) != self._foretold:
                self._view.say(counts)
            self._say_doubts()
        if self._watcher is None and self._options.until != "uploaded" and any(map(_to_watch, items)):
            self._watcher = Watcher(self._protocol, batch_id, items)
            self._watcher.start()
        self._view.tick()

    def _say_doubts(self) -> None:
        """Tell, once, what the service found doubtful: a second registration does not hear it again."""
        assert self._view is not None
        found = [doubt for item in self._plan.items for doubt in self._plan.place_doubts(item)]
        if found and not self._told:
            self._told = True
            # What stands in the defaults is one warning, not one of each clip.
            self._view.say(
                planning.shortened(list(dict.fromkeys(map(str, found))), "`--json` lists them all")
            )

    def _settle(self, run: Run, batch_id: str) -> None:
        """No more files will come; files that stand for the same bytes share their fate."""
        mark_twins(self._plan.items)
        by_ref = {item.ref: item for item in self._plan.items}
        for item in self._plan.items:
            twin = by_ref.get(item.twin)
            if twin is None or item.ended:
                continue
            if twin.ended:
                item.stage, item.reason = twin.stage, f"the same bytes as `{twin.ref}`"
            elif item.stage in ("waiting", "uploading"):  # as it was when the service was told of both
                item.stage = twin.stage
        self._tell_left_behind()
        self._protocol.seal(batch_id)
        self._journal.finish(run)

    def _tell_left_behind(self) -> None:
        """What relied on a file that was set aside and whose upload is not ours to cancel, for a new one to begin."""
        aside = {
            item.upload_id: item.ref
            for item in self._plan.items
            if item.stage == "changed" and item.upload_id
        }
        for item in self._plan.items:
            if item.outcome == "already_yours" and item.upload_id in aside and not item.ended:
                item.stage = "failed"
                item.reason = (
                    f"not sent: `{aside[item.upload_id]}`, which has the same bytes, changed meanwhile"
                )
                item.hint = "run the same command again"

    def _watch(self) -> None:
        if self._watcher is None:
            return
        assert self._view is not None
        self._watcher.all_transferred()
        while not self._watcher.wait(_TICK):
            self._view.tick()

    def _finish(self, run: Run, batch_id: str, uploader: Uploader) -> int:
        items = self._plan.items
        uploader.note_ends()
        for item in items:
            for problem in self._plan.place(item):
                self._out.note(problem)
        uncompared = rehearsal.compare(self._protocol, items)
        code = report.exit_code(items, self._options.until)
        facts = {
            "batch_id": batch_id,
            "until": self._options.until,
            "seconds": round(time.monotonic() - self._began, 3),
            "bytes_total": uploader.meter.total,
            "bytes_skipped": uploader.meter.skipped,
            "bytes_stored": uploader.meter.stored,
            "bytes_repeated": uploader.meter.repeated,
            "keywords_as_tags": self._plan.taken_as_tags(),
        }
        report.show(self._out, items, facts, code)
        self._out.note(report.summary(items))
        report.hint_differing(self._out, self._plan, uncompared)
        if report.to_try_again(items):
            self._out.hint(f"`paletta upload --failed {batch_id}` tries those again alone")
        elif code and self._options.until == "live":
            self._out.hint(f"`paletta uploads show {batch_id}` says how they are getting on")
        return code

    def _make_view(self, uploader: Uploader) -> View:
        if sys.stderr.isatty():
            return LiveView(self._out, self._plan.items, uploader.meter)
        return PlainView(self._out, self._plan.items, uploader.meter)


def _to_watch(item: Item) -> bool:
    """Whether the service has a file in work."""
    return item.transferred and bool(item.upload_id) and not item.ended
