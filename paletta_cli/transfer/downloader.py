"""Downloads: open → fetch ranges → hash meanwhile → verify → publish, many files at once under one budget.

One thread opens files in their order and puts their ranges into a queue; as many threads as the budget has
connections fetch them. SHA-256 follows the bytes: whoever receives the next ones feeds them to the digest on the
way, and reads back from the system's cache what others received out of order. A file gets its name after its
checksum was compared, and not before. Nothing has to be cleaned up at the end: the part files and their logs are
what the next run starts from.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from paletta_cli.api import jitter
from paletta_cli.errors import GaveUp, PalettaError
from paletta_cli.transfer.drill import hurried, reach
from paletta_cli.transfer.items import Meter
from paletta_cli.transfer.landing import CannotLand, Folder, cannot
from paletta_cli.transfer.links import Links, Refused
from paletta_cli.transfer.pacing import Budget, RateLimit
from paletta_cli.transfer.parts import RANGE, PartFile, sweep
from paletta_cli.transfer.queues import Inbox
from paletta_cli.transfer.receiving import Odd, Receiver
from paletta_cli.transfer.retry import DIGEST_TRIES, TRIES, Verdict, judge, judge_error
from paletta_cli.transfer.stamps import Stamps
from paletta_cli.transfer.wanted import Link, Loading, Range, Wanted
from paletta_cli.transfer.wire import BLOCK, Stale

if TYPE_CHECKING:
    from paletta_cli.api import Service

_WAITING = (
    24  # ranges that should wait, so that the line never runs dry while files are opened; each may be a
)
# file of its own with three descriptors, of which some systems allow 256
_START = 8  # connections; a downlink is wider than an uplink, and rclone, aws cli and s5cmd begin with 8 to 10 and more
_POLL = 0.02
_FRESH_REFUSALS = 3  # of one range, before a refusal is believed to be meant
_ODD_ANSWERS = 3
_RESTARTS = 4  # beginnings from nothing for one file, for whatever reasons
_AGAIN = "run the same command again: it goes on where it stopped"


class _Ended(Exception):
    """This request is not wanted any more."""


class Downloader:
    """Fetches files into a folder: make it, `start()`, `wait()`; `halt()` ends it at any time.

    `files` are updated in place; the view reads them and `meter` meanwhile.
    """

    def __init__(
        self,
        service: "Service",
        folder: Folder,
        files: Sequence[Wanted],
        stamps: Stamps,
        *,
        jobs: int | None = None,
        limit_rate: int | None = None,
    ) -> None:
        self.files = files
        self.meter = Meter(total=sum(file.size for file in files))
        self.budget = Budget(fixed=jobs, start=_START)
        self._service = service
        self._folder = folder
        self._stamps = stamps
        self._links = Links(service, files)
        self._stop = threading.Event()
        self._finished = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._ready: Inbox[Range] = Inbox()
        self._receiver = Receiver()
        self._rate = RateLimit(limit_rate, wait=self._stop.wait) if limit_rate else None
        self._block = self._rate.block if self._rate else BLOCK
        self._open = len(files)
        self._loading: set[Loading] = set()
        self._last_success = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._fetchers = 0

    @property
    def calls(self) -> int:
        """Requests to the service for addresses."""
        return self._links.calls

    def start(self) -> None:
        """Begin; returns at once."""
        if not self.files:
            self._end_all()
            return
        self._spawn("opener", self._open_files)
        self._staff()

    def wait(self, seconds: float) -> bool:
        """Whether everything has ended, waiting up to `seconds` for it. Raises what ended the run early."""
        done = self._finished.wait(seconds)
        if self._error is not None:
            self.halt()
            raise self._error
        return done

    def halt(self, seconds: float = 2.0) -> None:
        """Stop now: cut connections, and give the threads up to `seconds` to note how far they came."""
        self._stop.set()
        self._service.stop.set()
        self._receiver.close()
        self.budget.stop()
        self._ready.clear()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for file in self.files:
            if not file.over:
                self._fail(file, "interrupted", code="interrupted", hint=_AGAIN)

    # ---- opening

    def _open_files(self) -> None:
        for wanted in self.files:
            while len(self._ready) > _WAITING and not self._stop.is_set():
                self._stop.wait(_POLL)
            if self._stop.is_set():
                return
            try:
                self._open_one(wanted)
            except CannotLand as error:
                self._fail(wanted, error.message, hint=error.hint or "", code="cannot_write")

    def _open_one(self, wanted: Wanted) -> None:
        wanted.stage = "checking"
        folder = self._folder.inside(wanted.path.parts[:-1])
        name = wanted.path.name
        try:
            if self._there_already(wanted, folder, name):
                folder.close()
                return
            part = PartFile(folder, name, size=wanted.size, sha256=wanted.sha256)
        except BaseException:
            folder.close()
            raise
        file = Loading(wanted, folder, part)
        with self._lock:
            self._loading.add(file)
            wanted.received = sum(part.got)
            file.skipped = wanted.received
            self.meter.skipped += wanted.received
        wanted.stage = "loading"
        if not part.etag:
            try:
                part.begin(self._links.get(wanted).etag)
            except Refused as error:
                self._give_up(file, error.message, hint=error.hint or "", code=error.code, discard=True)
                return
            except OSError as error:
                words = cannot(folder.path / part.name, error).message
                self._give_up(file, words, code="cannot_write")
                return
        missing = part.missing
        if missing:
            self._ready.put(*(Range(file, number, 0) for number in missing))
        else:
            self._spawn("finisher", lambda: self._advance(file))

    def _there_already(self, wanted: Wanted, folder: Folder, name: str) -> bool:
        """Whether the file is there, whole and verified. Raises CannotLand where another one is in its place."""
        found = folder.regular(name)
        if found is None:
            return False
        path = folder.path / name
        known = None
        heal = wanted.ours and wanted.heal
        if found.st_size == wanted.size or (wanted.replaces and not heal):
            known = None if wanted.distrust else self._stamps.known(path, found)
            if known is None:
                known = self._hash_of(folder, name, wanted)
                if known is None:
                    return True  # stopped
                self._stamps.remember(path, found, known)
        if known == wanted.sha256:
            sweep(folder, name, found)
            wanted.received = wanted.size
            with self._lock:
                self.meter.skipped += wanted.size
            self._end(wanted, "kept")
            return True
        if known in wanted.replaces or heal:
            wanted.replacing = True
            return False
        if wanted.ours:
            raise CannotLand(
                f"`{path}` was changed since it was downloaded",
                hint="move it away to keep what it is now; --verify replaces it with what you bought",
            )
        raise CannotLand(
            f"another file is at `{path}`",
            hint="move it away, or choose another folder with --to or other names with --layout",
        )

    def _hash_of(self, folder: Folder, name: str, wanted: Wanted) -> str | None:
        digest = hashlib.sha256()
        try:
            descriptor = folder.open_file(name, os.O_RDONLY)
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                block = memoryview(bytearray(BLOCK))
                while count := stream.readinto(block):
                    digest.update(block[:count])
                    if self._stop.is_set():
                        return None
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            raise CannotLand(f"cannot read `{folder.path / name}`: {words}") from error
        return digest.hexdigest()

    # ---- fetching

    def _staff(self) -> None:
        """As many threads as the budget may want at the moment."""
        with self._lock:
            more = max(0, self.budget.limit - self._fetchers)
            self._fetchers += more
        for _ in range(more):
            self._spawn("fetcher", self._fetch_loop)

    def _fetch_loop(self) -> None:
        while (taken := self._ready.take()) and not self._stop.is_set():
            [piece] = taken
            if not self._enter(piece):
                continue
            if not self.budget.acquire():
                self._leave(piece)
                return
            began, before = time.monotonic(), piece.file.part.got[piece.number]
            try:
                self._fetch(piece)
            finally:
                got = piece.file.part.got[piece.number] - before
                self.budget.release(max(0, got), time.monotonic() - began)
                self._leave(piece)
            self._staff()
            self._advance(piece.file)

    def _enter(self, piece: Range) -> bool:
        """Whether the range is still wanted; if so, its file counts one more writer."""
        file = piece.file
        with file.lock:
            if file.wanted.over or file.restart is not None or piece.generation != file.generation:
                return False
            file.active += 1
        return True

    def _leave(self, piece: Range) -> None:
        file = piece.file
        with file.lock:
            file.active -= 1
            if file.active == 0 and file.restart is not None and not file.wanted.over:
                self._begin_anew(file, file.restart)
            failed = file.wanted.over and file.active == 0
        if failed:
            self._let_go(file)

    def _fetch(self, piece: Range) -> None:
        """One request, and what to do after it."""
        file, number = piece.file, piece.number
        try:
            link = self._links.get(file.wanted)
        except Refused as error:
            self._give_up(file, error.message, hint=error.hint or "", code=error.code)
            return
        if link.etag != file.part.etag:
            self._start_over(file, link.etag)
            return
        before = file.part.got[number]
        reach("range")
        try:
            verdict, detail, asked = self._once(piece, link)
        except _Ended:
            return
        finally:
            with suppress(OSError):
                file.part.note(number)
        if file.part.got[number] > before:
            piece.tries = piece.refused = 0
            self._last_success = time.monotonic()
        self._judged(piece, link, verdict, detail, asked)

    def _once(self, piece: Range, link: Link) -> tuple[Verdict, str, float | None]:
        file, part, number = piece.file, piece.file.part, piece.number
        first = number * RANGE + part.got[number]
        last = number * RANGE + part.length(number) - 1
        # Whoever is to receive the bytes that come next feeds the digest on the way.
        feeding = file.hashing.acquire(blocking=False)
        if feeding and file.hashed != first:
            file.hashing.release()
            feeding = False

        def take(data: memoryview) -> None:
            if self._rate is not None:
                self._rate.take(len(data))
            if self._stop.is_set() or file.restart is not None or file.wanted.over:
                raise _Ended
            try:
                part.write(number, data)
            except OSError as error:
                raise cannot(file.folder.path / part.name, error) from error
            reach("block")
            if feeding:
                file.digest.update(data)
                file.hashed += len(data)
                part.settle(file.hashed)
            with self._lock:
                self.meter.sent += len(data)
                file.wanted.received += len(data)

        try:
            answer = self._receiver.get(
                link.url,
                first=first,
                last=last,
                total=part.size,
                etag=link.etag,
                take=take,
                block=self._block,
            )
        except CannotLand as error:
            self._give_up(file, error.message, hint=error.hint or "", code="cannot_write")
            raise _Ended from None
        except Stale:
            return Verdict.AGAIN, "", 0.0
        except Odd as error:
            piece.odd += 1
            return (Verdict.FILE if piece.odd >= _ODD_ANSWERS else Verdict.AGAIN), str(error), None
        except Exception as error:
            if isinstance(error, _Ended):
                raise
            return judge_error(error), str(error) or type(error).__name__, None
        finally:
            if feeding:
                file.hashing.release()
        if answer.status in (412, 416):
            return Verdict.CHANGED, str(answer), None
        return judge(answer, one_put=False), str(answer), answer.retry_after

    def _judged(self, piece: Range, link: Link, verdict: Verdict, detail: str, asked: float | None) -> None:
        file = piece.file
        if verdict is Verdict.STORED:
            return
        if verdict is Verdict.AGAIN and asked == 0.0 and not detail:  # a kept connection had gone
            self._ready.put(piece, first=True)
        elif verdict in (Verdict.AGAIN, Verdict.SLOWER):
            if verdict is Verdict.SLOWER:
                self.budget.slow_down(asked)
            else:
                self.budget.back_off()
            self._again(piece, detail, asked or 0.0)
        elif verdict in (Verdict.SIGN, Verdict.GONE, Verdict.CHANGED):
            # The service knows more: whether the address only expired, the object is another, or it is gone.
            if verdict is not Verdict.SIGN or time.monotonic() - link.asked < 0.5 * (link.until - link.asked):
                piece.refused += 1
            self._links.expired(file.wanted, link)
            if piece.refused >= _FRESH_REFUSALS:
                self._give_up(file, f"refused with a fresh address: {detail}", code="refused")
            else:
                self._ready.put(piece, delay=hurried(jitter(piece.refused)) if piece.refused else 0.0)
        elif verdict is Verdict.ALL:
            self._stop_all(PalettaError(f"cannot download from this store: {detail}"))
        else:
            self._give_up(file, detail, code="store")

    def _again(self, piece: Range, detail: str, asked: float) -> None:
        now = time.monotonic()
        piece.first_trouble = piece.first_trouble if piece.tries else now
        piece.tries += 1
        if piece.tries < TRIES:
            self._ready.put(piece, delay=max(hurried(jitter(piece.tries)), asked))
        elif self._last_success < piece.first_trouble:  # nobody has had any luck since: it is not this file
            self._stop_all(GaveUp(f"the store is out of reach: {detail}", hint=_AGAIN))
        else:
            self._give_up(piece.file, f"out of reach: {detail}", hint=_AGAIN, code="unreachable")

    # ---- beginning anew

    def _start_over(self, file: Loading, etag: str) -> None:
        """Everything again, once nobody writes to the file any more: the object is another than at first, or what
        arrived is not what was sold. The caller counts as a writer."""
        with file.lock:
            if file.restart is None:
                file.restart = etag

    def _begin_anew(self, file: Loading, etag: str) -> None:
        """Under the file's lock, without writers."""
        file.restart = None
        file.restarts += 1
        if file.restarts > _RESTARTS:
            self._give_up_locked(file, "the file in the store keeps changing", code="changing")
            return
        with self._lock:
            self.meter.skipped -= file.skipped
            self.meter.sent -= file.wanted.received - file.skipped
            file.wanted.received = file.skipped = 0
        with file.hashing:  # a thread may be reading back at the moment
            file.generation += 1
            file.digest, file.hashed, file.closing = hashlib.sha256(), 0, False
            try:
                file.part.begin(etag)
            except OSError as error:
                words = cannot(file.folder.path / file.part.name, error).message
                self._give_up_locked(file, words, code="cannot_write")
                return
        self._ready.put(*(Range(file, number, file.generation) for number in file.part.missing))

    # ---- hashing and publishing

    def _advance(self, file: Loading) -> None:
        """Feed the digest what has arrived in order; if that was the last of it, compare and publish."""
        # After letting go it looks again: what came meanwhile was left to it by a thread that found it busy.
        while _fed_less(file) and not self._stop.is_set() and file.hashing.acquire(blocking=False):
            trouble: OSError | None = None
            try:
                self._feed(file)
            except OSError as error:
                trouble = error
            finally:
                file.hashing.release()
            if trouble is not None:
                words = cannot(file.folder.path / file.part.name, trouble).message
                self._give_up(file, words, code="cannot_write")
                return
        with file.lock:
            whole = file.hashed == file.wanted.size and file.active == 0 and not file.closing
            if not whole or file.wanted.over or file.restart is not None:
                return
            file.closing = True
        self._close(file)

    def _feed(self, file: Loading) -> None:
        """Read back what follows the digest."""
        while (count := _fed_less(file)) and not self._stop.is_set() and file.restart is None:
            data = file.part.read(min(BLOCK, count), file.hashed)
            if not data:
                raise OSError(0, "the part file became shorter")
            file.digest.update(data)
            file.hashed += len(data)
            file.part.settle(file.hashed)

    def _close(self, file: Loading) -> None:
        """Every byte is there: compare, then give the file its name."""
        wanted = file.wanted
        reach("verify")
        if file.digest.hexdigest() != wanted.sha256:
            file.damaged += 1
            if file.damaged < DIGEST_TRIES:
                with file.lock:
                    self._begin_anew(file, file.part.etag)
                if wanted.over:
                    self._let_go(file)
                return
            self._give_up(
                file,
                "arrives damaged: its SHA-256 is not the one that was sold",
                hint="tell the shop, with the order's number",
                code="damaged",
                discard=True,
            )
            return
        try:
            reach("publish")
            stamp = file.part.publish(replace=wanted.replacing)
            reach("publish")
        except CannotLand as error:
            self._give_up(file, error.message, hint=error.hint or "", code="cannot_write")
            return
        self._stamps.remember(file.folder.path / wanted.path.name, stamp, wanted.sha256)
        self._let_go(file)
        self._end(wanted, "done")

    # ---- how files end

    def _give_up(
        self, file: Loading, reason: str, *, hint: str = "", code: str = "", discard: bool = False
    ) -> None:
        """This file does not arrive; the others may."""
        with file.lock:
            self._give_up_locked(file, reason, hint=hint, code=code)
            idle = file.active == 0
        if discard and idle:
            file.part.discard()
        if idle:
            self._let_go(file)

    def _give_up_locked(self, file: Loading, reason: str, *, hint: str = "", code: str = "") -> None:
        if not file.wanted.over:
            self._fail(file.wanted, reason, hint=hint, code=code)

    def _let_go(self, file: Loading) -> None:
        with self._lock:
            if file not in self._loading:
                return
            self._loading.discard(file)
        file.part.close()
        file.folder.close()

    def _fail(self, wanted: Wanted, reason: str, *, hint: str = "", code: str = "") -> None:
        wanted.reason, wanted.hint, wanted.code = reason, hint, code
        self._end(wanted, "failed")

    def _end(self, wanted: Wanted, stage: str) -> None:
        with self._lock:
            if wanted.over:
                return
            wanted.stage = stage
            self._open -= 1
            last = self._open == 0
        if last:
            self._end_all()

    def _end_all(self) -> None:
        self._ready.close()
        self._finished.set()

    def _stop_all(self, error: BaseException) -> None:
        self._error = self._error or error
        self._finished.set()

    # ---- threads

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                if not self._stop.is_set():
                    self._stop_all(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _fed_less(file: Loading) -> int:
    """Bytes that have arrived right after those that the digest has."""
    number = file.hashed // RANGE
    return number * RANGE + file.part.got[number] - file.hashed if file.hashed < file.part.size else 0
