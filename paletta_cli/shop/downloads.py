"""`paletta orders download` and `sync`, from the command line's words to the exit code."""

import base64
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from paletta_cli import settings
from paletta_cli.errors import GaveUp, Interrupted, NotLiveYet, PalettaError, SomeFailed, UsageError
from paletta_cli.output import Column, Output
from paletta_cli.shop import lockfile, names, purchases, synced
from paletta_cli.shop.lockfile import Entry
from paletta_cli.shop.orders import WITHHELD
from paletta_cli.shop.purchases import Chosen
from paletta_cli.text import plural, size
from paletta_cli.transfer.landing import CannotLand, Folder
from paletta_cli.transfer.stamps import Stamps

if TYPE_CHECKING:
    from paletta_cli.api import Service
    from paletta_cli.transfer.downloader import Downloader

_API_TRIES = 12  # as patient with the service as with the store
_TICK = 0.2
_PER_CALL = 25  # certificates: printing them is work for the service
_GO_ON = "run the same command again to go on: nothing that arrived is fetched again"
_RESULTS = {"done": "downloaded", "kept": "already there", "failed": "failed"}
RESTORING = "restoring"  # the service's word for a file that is on its way back from the archive
_COMING = "not there yet"
_MOST_GOOD = 40  # rows of what went well, on a terminal


@dataclass(frozen=True)
class Options:
    """How to download. `limit_rate` in bytes per second; `jobs`: connections at once, None to find out."""

    to: Path
    tier: str | None = None
    layout: str = names.LAYOUT
    jobs: int | None = None
    limit_rate: int | None = None
    certificates: bool = True
    verify: bool = False
    prune: bool = False


def download(
    options: Options, out: Output, *, orders: Sequence[str], clips: Sequence[str], everything: bool
) -> int:
    """Fetch the files of orders or clips, or everything that was bought; the exit code."""
    from paletta_cli import api

    if everything == bool(orders or clips):
        raise UsageError(
            "name orders, or pass --all for everything", hint="`paletta orders list` shows your orders"
        )
    names.checked_layout(options.layout)
    config = settings.load()
    with (
        api.connect(config, tries=_API_TRIES) as service,
        Stamps(config.state_dir / "downloads.db") as stamps,
    ):
        service.on_trouble = out.warn
        found = list(purchases.bought(service, orders, clips))
        held = [one for one in found if one["status"] != "granted"]
        chosen = purchases.choose(
            [one for one in found if one["status"] == "granted"], options.layout, tier=options.tier
        )
        _say_held(out, held)
        for one in chosen:
            if options.tier and one.file["tier"] != options.tier:
                out.note(f"`{one.purchase['clip_id']}` has no tier {options.tier}: {one.file['tier']} it is")
        if not chosen:
            if held:
                raise SomeFailed("nothing of this can be downloaded")
            out.note("nothing to download: you have not bought anything yet")
            out.data({"files": [], "exit_code": 0})
            return 0
        with Folder.open(options.to) as folder:
            run = _Run(service, stamps, folder, chosen, options, out)
            try:
                run.go()
            finally:
                run.write_certificates()
        # What has ended stays so: a nightly `--all` must not fail for ever, unless it was asked for by name.
        return run.report([one for one in held if clips or one["status"] != "revoked"])


def sync(options: Options, out: Output) -> int:
    """Make a folder equal to everything that is owned, by its lockfile; the exit code."""
    from paletta_cli import api

    names.checked_layout(options.layout)
    config = settings.load()
    with (
        api.connect(config, tries=_API_TRIES) as service,
        Stamps(config.state_dir / "downloads.db") as stamps,
        Folder.open(options.to) as folder,
    ):
        service.on_trouble = out.warn
        before = synced.load(folder)
        found = list(purchases.bought(service))
        synced.refuse_foreign(before, found, options.to)
        owned = [one for one in found if one["status"] == "granted"]
        resting = {str(one["item_id"]) for one in found if one["status"] in ("suspended", "withheld")}
        _say_held(out, [one for one in found if one["item_id"] in resting])
        chosen = purchases.choose(
            owned,
            options.layout,
            tier=options.tier,
            kept=synced.places(before, owned, options.layout, options.tier),
            taken=[PurePosixPath(entry.path) for entry in before if entry.item in resting],
        )
        ours = {synced.same(entry.path): entry.sha256 for entry in before if entry.item not in resting}
        for one in chosen:
            lies = ours.get(synced.same(one.wanted.path))
            # Also what a run laid there that was killed before it wrote the lockfile.
            mine = {str(file["sha256"]) for file in one.purchase["files"]}
            one.wanted.replaces = frozenset(mine | {lies} if lies else mine)
            one.wanted.ours = lies is not None
            one.wanted.heal = one.wanted.distrust = options.verify
        wanted = {(one.wanted.item_id, str(one.wanted.path)) for one in chosen}
        # Whatever lies where a chosen file belongs is that file's business now.
        places = {synced.same(one.wanted.path) for one in chosen}
        gone = [
            entry
            for entry in before
            if entry.item not in resting
            and (entry.item, entry.path) not in wanted
            and synced.same(entry.path) not in places
        ]
        finished = False
        run = _Run(service, stamps, folder, chosen, options, out, stale=synced.stale(before, chosen))
        try:
            run.go()
            finished = True
        finally:
            run.write_certificates()
            there = {
                one.wanted.item_id: synced.entry_of(one)
                for one in chosen
                if one.wanted.stage in ("done", "kept")
            }
            # What was to be replaced stays until its replacement is there.
            missing = {one.wanted.item_id for one in chosen} - set(there)
            over = {entry for entry in gone if entry.item not in missing}
            papers = {synced.same(one.certificate) for one in chosen} | {
                synced.paper(entry) for entry in before if entry not in over
            }
            may_go = [entry for entry in gone if entry in over]
            pruned = synced.prune(folder, may_go, papers, out) if options.prune and finished else []
            left = sorted(over - set(pruned), key=lambda entry: entry.path)
            taken = {synced.same(entry.path) for entry in there.values()}
            unsettled = [
                entry
                for entry in before
                if entry.item not in there and entry not in over and synced.same(entry.path) not in taken
            ]
            # What is not licensed any more stays in the file until it is gone from the folder.
            data = lockfile.dump([*there.values(), *unsettled, *left])
            if synced.raw(folder) != data:
                folder.write(lockfile.NAME, data, replace=True)
        for entry in left:
            out.warn(f"`{entry.path}` is not licensed to you any more, or was replaced by another tier")
        if left:
            out.hint("--prune removes what you may not use any more")
        return run.report([one for one in found if one["item_id"] in resting], pruned=pruned, left=left)


class _Run:
    """One download with its picture, its certificates and its report."""

    def __init__(
        self,
        service: "Service",
        stamps: Stamps,
        folder: Folder,
        chosen: Sequence[Chosen],
        options: Options,
        out: Output,
        *,
        stale: Collection[str] = (),
    ) -> None:
        """`stale`: items beside whose files the certificate of another may lie."""
        self._stale = frozenset(stale)
        self._service, self._stamps, self._folder = service, stamps, folder
        self._chosen, self._options, self._out = chosen, options, out
        self._papers: dict[str, bytes] = {}
        self._paper_trouble: PalettaError | None = None
        self._printing: threading.Thread | None = None
        self._downloader: Downloader | None = None
        self._error: GaveUp | None = None

    def go(self) -> None:
        """Download; what failed is in the files. Raises Interrupted, and what concerns all of them."""
        from paletta_cli.transfer.downloader import Downloader
        from paletta_cli.transfer.incoming import Picture

        files = [one.wanted for one in self._chosen]
        volume = size(sum(file.size for file in files))
        self._out.note(f"{plural(len(files), 'file')}, {volume}, to `{self._options.to}`")
        self._print_certificates()
        self._downloader = downloader = Downloader(
            self._service,
            self._folder,
            files,
            self._stamps,
            jobs=self._options.jobs,
            limit_rate=self._options.limit_rate,
        )
        picture = Picture(self._out, files, downloader.meter)
        try:
            downloader.start()
            while not downloader.wait(_TICK):
                picture.tick()
        except (Interrupted, KeyboardInterrupt):
            picture.close()
            self._out.note("stopping; what has arrived stays there")
            downloader.halt()
            raise Interrupted(_GO_ON) from None
        except GaveUp as error:
            self._error = error
        finally:
            picture.close()

    # Certificates

    def _print_certificates(self) -> None:
        """Ask for the certificates that are not there yet, while the files are on their way."""
        missing = [
            one
            for one in self._chosen
            if self._options.certificates
            and (one.wanted.item_id in self._stale or not self._has_certificate(one))
        ]
        if not missing:
            return

        def ask() -> None:
            try:
                for start in range(0, len(missing), _PER_CALL):
                    uids = [one.wanted.item_id for one in missing[start : start + _PER_CALL]]
                    answer = self._service.post("/v1/me/certificates", {"item_ids": uids}, idempotent=True)
                    for paper in answer["certificates"]:
                        self._papers[str(paper["item_id"])] = base64.b64decode(paper["pdf"])
            except PalettaError as error:
                self._paper_trouble = error

        self._printing = threading.Thread(target=ask, name="certificates", daemon=True)
        self._printing.start()

    def _has_certificate(self, one: Chosen) -> bool:
        """Looks without making folders."""
        with suppress(OSError):
            return (self._folder.path / one.certificate).is_file()
        return False

    def write_certificates(self) -> None:
        """Lay each certificate beside its file, where that has arrived."""
        if self._printing is not None and not self._service.stop.is_set():
            self._printing.join(120)
        for one in self._chosen:
            data, stale = self._papers.get(one.wanted.item_id), one.wanted.item_id in self._stale
            if (data is None and not stale) or one.wanted.stage not in ("done", "kept"):
                continue
            try:
                with self._folder.inside(one.certificate.parts[:-1]) as folder:
                    name = one.certificate.name
                    there = folder.regular(name) is not None
                    if data is not None and (stale or not there):
                        folder.write(name, data, replace=stale)
                    elif data is None and there:  # none is better than the wrong one, and is asked for again
                        folder.remove(name)
            except CannotLand as error:
                self._paper_trouble = error
        if self._paper_trouble is not None:
            self._out.warn(f"some certificates are missing: {self._paper_trouble.message}")
            self._out.hint("`paletta orders certificate ITEM --to FILE` fetches one")

    # The end

    def report(self, held: Sequence[dict[str, Any]], **more: Sequence[Entry]) -> int:
        """The result on stdout, the sum on stderr; the exit code."""
        failed = [one for one in self._chosen if one.wanted.stage == "failed"]
        coming = [one for one in failed if one.wanted.code == RESTORING]
        code = NotLiveYet.exit_code if coming else 0
        if len(failed) > len(coming) or (held and not more):
            code = SomeFailed.exit_code
        network = ("unreachable", "interrupted")
        if failed and self._error is not None and all(one.wanted.code in network for one in failed):
            code = GaveUp.exit_code
        rows = [_row(one) for one in self._chosen]
        if self._out.mode == "json":
            assert self._downloader is not None
            document: dict[str, Any] = {
                "folder": str(self._options.to),
                "files": rows,
                "received": self._downloader.meter.sent,
                "skipped": self._downloader.meter.skipped,
                "calls": self._downloader.calls,
                "held": [one["item_id"] for one in held],
                "exit_code": code,
            }
            document |= {name: [entry.path for entry in entries] for name, entries in more.items()}
            self._out.data(document)
        else:
            self._table(rows)
        counts = {name: sum(row["result"] == name for row in rows) for name in (*_RESULTS.values(), _COMING)}
        said = [f"{count} {name}" for name, count in counts.items() if count]
        withheld = sum(one["status"] == "withheld" for one in held)
        said += [f"{withheld} withheld for legal reasons"] if withheld else []
        self._out.note(", ".join(said) or "nothing to do")
        if coming:
            self._out.hint("a mail tells you when they are there; run the same command again then")
        if self._error is not None:
            self._out.error(self._error.message, self._error.hint)
        return code

    def _table(self, rows: list[dict[str, Any]]) -> None:
        bad = [row for row in rows if row["result"] in ("failed", _COMING)]
        good = [row for row in rows if row["result"] not in ("failed", _COMING)]
        hidden = max(0, len(good) - _MOST_GOOD) if self._out.mode == "table" else 0
        columns = [
            Column("path", "file"),
            Column("size", "size", show=size, right=True),
            Column(
                "result", "result", style=lambda word: {"failed": "red", _COMING: "yellow"}.get(word, "green")
            ),
        ]
        columns += [Column("why", "why", wrap=True)] if bad else []
        self._out.table(bad + good[: len(good) - hidden], columns)
        if hidden:
            self._out.note(f"… and {hidden:,} more that went well")


def _row(one: Chosen) -> dict[str, Any]:
    wanted = one.wanted
    why = wanted.reason + (f"; hint: {wanted.hint}" if wanted.hint else "")
    return {
        "path": str(wanted.path),
        "item_id": wanted.item_id,
        "order": one.purchase["order_number"],
        "clip_id": one.purchase["clip_id"],
        "tier": wanted.tier,
        "size": wanted.size,
        "sha256": wanted.sha256,
        "result": _COMING if wanted.code == RESTORING else _RESULTS.get(wanted.stage, wanted.stage),
        "code": wanted.code or None,
        "why": why or None,
    }


def _say_held(out: Output, held: Sequence[dict[str, Any]]) -> None:
    words = {
        "suspended": "is held back while its payment is disputed",
        "withheld": WITHHELD,
        "revoked": "was refunded or charged back",
    }
    for one in held:
        out.warn(
            f"`{one['clip_id']}` of order {one['order_number']} {words.get(one['status'], one['status'])}"
        )
