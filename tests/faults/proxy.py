"""A fault proxy: HTTP/1.1 on 127.0.0.1, in a thread of its own, that records every exchange and spoils some.

    with FaultProxy("http://127.0.0.1:8333", plan=lambda exchange: Fault("reset", at=1000)) as proxy:
        …  # talk to proxy.url

The Host header goes through unchanged: a URL that was presigned for the proxy's address is verified by the store
against that address. A plan sees a request's head and chooses what happens to it; without a plan, or when it
returns None, the proxy is a plain one. `watch` hears of each step of each exchange, in the proxy's thread: a drill
kills a server there. Whatever happens to a request, `exchanges` says how far it came.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

from tests.faults.httpwire import BLOCK, BodyReader, Head, read_head

Kind = Literal[
    *("delay", "meet", "stall", "reset", "cut_request", "cut_reply", "lose_reply", "flip", "answer"),
    *("stall_body", "reset_body", "cut_body", "flip_body"),
]
Step = Literal["head", "body", "sent", "replied", "done"]
"""The request's head was read · some of its body was · all of it was passed on · the store has answered, the
client does not know · the client has the whole answer, or the exchange broke."""


@dataclass(frozen=True)
class Fault:
    """What happens to one exchange.

    delay: `seconds` pass before the request is passed on. meet: it waits until all that `gate` expects are there,
    so that rivals are passed on at the same moment. stall: from byte `at` of the body on nothing is passed
    on or answered until the client gives up. reset: the connection to the client is reset (RST) at byte `at` of the
    body. cut_request: the store sees the connection closed after byte `at`, the client gets no answer.
    cut_reply: the client gets the answer's first `at` bytes. lose_reply: the store gets all, the client nothing.
    flip: one bit of body byte `at` is changed on its way. answer: the proxy answers `status` itself, without the
    store (with `code` and `retry_after` seconds), once it has read the body.
    stall_body, reset_body, cut_body, flip_body: the same to the answer's body, at its byte `at`.
    """

    kind: Kind
    at: int = 0
    seconds: float = 0.0
    status: int = 500
    code: str = "InternalError"
    retry_after: int | None = None
    gate: Gate | None = None


class Gate:
    """Where `expected` requests wait for each other; those that come later pass. Lives in a proxy's loop."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.arrived = 0
        self._all = asyncio.Event()

    async def meet(self) -> None:
        """Wait for the others, though not for one that never comes."""
        self.arrived += 1
        if self.arrived >= self.expected:
            self._all.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all.wait(), 20)


@dataclass(eq=False)
class Exchange:
    """One request and what became of it. `number` counts from one in order of arrival."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int
    """Of the request's body, in bytes; 0 when it is chunked."""
    fault: Fault | None = None
    received: int = 0
    """Bytes of the body that came from the client."""
    status: int | None = None
    """The store's own answer, or the proxy's in its place."""
    by_store: bool = False
    answered: bool = False
    """The whole answer was handed to the client, which was still there to take it."""
    passed: int = 0
    """Bytes of the answer's body that were handed to the client."""

    @property
    def part(self) -> int:
        """Number of the part that is sent; 1 for an upload in one request."""
        return int(self.query.get("partNumber", 1))

    @property
    def is_transfer(self) -> bool:
        """A client sending bytes, by a presigned PUT; all else is the service's own business."""
        return self.method == "PUT" and "X-Amz-Signature" in self.query

    @property
    def is_download(self) -> bool:
        """A client fetching bytes, by a presigned GET."""
        return self.method == "GET" and "X-Amz-Signature" in self.query

    @property
    def first(self) -> int:
        """The first byte that is asked for."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])

    @property
    def is_stored(self) -> bool:
        """The store took the bytes."""
        return self.by_store and self.status == 200 and self.is_transfer

    def __str__(self) -> str:
        what = f" {self.fault.kind}@{self.fault.at}" if self.fault else ""
        part = f"?partNumber={self.part}" if "partNumber" in self.query else ""
        end = "" if self.answered else " (client did not hear)"
        sent = f"{self.received}/{self.length}"
        return f"{self.number}: {self.method} {self.path}{part} {sent}{what} → {self.status}{end}"


Plan = Callable[[Exchange], Fault | None]
Watch = Callable[[Exchange, Step], None]


class _Broken(Exception):
    """The exchange ends here, and the client's connection with it."""

    def __init__(self, *, reset: bool = False) -> None:
        self.reset = reset


@dataclass
class FaultProxy:
    """Between clients and the server at `upstream` (`http://host:port`), as a context manager."""

    upstream: str
    plan: Plan | None = None
    watch: Watch | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def transfers(self) -> list[Exchange]:
        """The requests with which clients sent bytes, in order of arrival."""
        return [exchange for exchange in list(self.exchanges) if exchange.is_transfer]

    def heal(self) -> None:
        """No faults and no watcher from now on; forget what was recorded."""
        self.plan = self.watch = None
        self.exchanges = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(60), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def _serve(self) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopped = asyncio.Event()
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=4 * BLOCK)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stopped.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run(run())

    # ---- one connection

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        reset = False
        try:
            while (head := await read_head(reader)) is not None:
                if upstream is None:
                    parts = urlsplit(self.upstream)
                    upstream = await asyncio.open_connection(parts.hostname, parts.port, limit=4 * BLOCK)
                exchange = self._noted(head)
                try:
                    keep = await _Relay(self, exchange, head, (reader, writer), upstream).run()
                finally:
                    self.tell(exchange, "done")
                if not keep:
                    break
        except _Broken as broken:
            reset = broken.reset
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side went away, or the proxy ends: so does the other side
        finally:
            if reset:
                _arm_reset(writer)
            for one in (writer, upstream[1] if upstream else None):
                if one is not None:
                    with suppress(OSError):
                        one.transport.abort() if reset and one is writer else one.close()

    def _noted(self, head: Head) -> Exchange:
        method, target, _ = head.start.split(" ", 2)
        parts = urlsplit(target)
        exchange = Exchange(
            number=len(self.exchanges) + 1,
            method=method,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=head.headers,
            length=int(head.headers.get("content-length", 0)),
        )
        self.exchanges.append(exchange)
        exchange.fault = self.plan(exchange) if self.plan else None
        self.tell(exchange, "head")
        return exchange

    def tell(self, exchange: Exchange, step: Step) -> None:
        if self.watch is not None:
            self.watch(exchange, step)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Relay:
    """One request to the store and its answer back, spoilt or not."""

    def __init__(
        self, proxy: FaultProxy, exchange: Exchange, head: Head, client: Streams, store: Streams
    ) -> None:
        self._proxy, self._exchange, self._head = proxy, exchange, head
        self._from_client, self._to_client = client
        self._from_store, self._to_store = store
        self._fault = exchange.fault or Fault("delay")

    async def run(self) -> bool:
        """Whether the connections may be used again."""
        fault = self._fault
        if fault.seconds and fault.kind in ("delay", "answer"):
            await asyncio.sleep(fault.seconds)
        if fault.gate is not None:
            await fault.gate.meet()
        if self._head.headers.get("expect", "").lower() == "100-continue":
            self._to_client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault.kind == "answer":
            return await self._answer_instead()
        self._to_store.write(self._head.raw(without="expect"))
        listening = asyncio.ensure_future(read_head(self._from_store))
        try:
            await self._pass_body_on(listening)
            self._proxy.tell(self._exchange, "sent")
            reply = await listening
            while reply is not None and reply.status == 100:
                reply = await read_head(self._from_store)
            return reply is not None and await self._pass_reply_back(reply)
        finally:
            listening.cancel()

    async def _pass_body_on(self, listening: asyncio.Future[Head | None]) -> None:
        """To the store, as long as it listens: one that has answered early is not written to any more."""
        body = BodyReader(self._from_client, self._head)
        fault, deaf = self._fault, False
        if fault.kind in ("stall", "reset", "cut_request") and fault.at == 0:
            await self._break_off()
        while block := await body.read():
            before = self._exchange.received
            self._exchange.received += len(block)
            self._proxy.tell(self._exchange, "body")
            if before <= fault.at < self._exchange.received or (fault.at == self._exchange.received):
                if fault.kind == "flip" and fault.at < self._exchange.received:
                    block = _flipped(block, fault.at - before)
                elif fault.kind in ("stall", "reset", "cut_request"):
                    self._to_store.write(block[: fault.at - before])
                    await self._break_off()
            deaf = deaf or listening.done()
            if not deaf:
                self._to_store.write(body.framed(block))
                try:
                    await self._to_store.drain()
                except OSError:
                    deaf = True
        if not deaf and (end := body.end()):
            self._to_store.write(end)

    async def _break_off(self) -> None:
        if self._fault.kind == "stall":
            while await self._from_client.read(BLOCK):
                pass
        elif self._fault.kind == "cut_request":
            with suppress(OSError):
                await self._to_store.drain()
                self._to_store.close()
        raise _Broken(reset=self._fault.kind == "reset")

    async def _answer_instead(self) -> bool:
        body = BodyReader(self._from_client, self._head)
        while block := await body.read():
            self._exchange.received += len(block)
        fault = self._fault
        said = f"<Error><Code>{fault.code}</Code><Message>by the fault proxy</Message></Error>".encode()
        if self._exchange.method == "HEAD":
            said = b""
        lines = [f"HTTP/1.1 {fault.status} Fault", f"content-length: {len(said)}"]
        if fault.retry_after is not None:
            lines.append(f"retry-after: {fault.retry_after}")
        self._exchange.status = fault.status
        self._to_client.write("\r\n".join([*lines, "", ""]).encode() + said)
        await self._to_client.drain()
        self._exchange.answered = True
        return True

    async def _pass_reply_back(self, reply: Head) -> bool:
        self._exchange.status, self._exchange.by_store = reply.status, True
        self._proxy.tell(self._exchange, "replied")
        left = {"lose_reply": 0, "cut_reply": self._fault.at}.get(self._fault.kind)
        body = BodyReader(self._from_store, reply, asked=self._exchange.method)
        block, heard = reply.raw(), False
        while block:
            heard = self._client_listens()
            if left is not None:
                self._to_client.write(block[:left])
                left -= min(left, len(block))
                if left == 0:
                    await self._to_client.drain()
                    raise _Broken
            else:
                self._to_client.write(block)
                await self._to_client.drain()
            block = body.framed(await self._spoilt(await body.read()))
        if end := body.end():
            self._to_client.write(end)
            await self._to_client.drain()
        self._exchange.answered = heard
        return reply.keeps_alive and not body.until_close and self._store_listens()

    async def _spoilt(self, block: bytes) -> bytes:
        """The next block of an answer's body, with what happens to it."""
        fault, before = self._fault, self._exchange.passed
        self._exchange.passed += len(block)
        if not fault.kind.endswith("_body") or not before <= fault.at < self._exchange.passed:
            return block
        if fault.kind == "flip_body":
            return _flipped(block, fault.at - before)
        self._exchange.passed = fault.at
        with suppress(OSError):
            self._to_client.write(block[: fault.at - before])
            await self._to_client.drain()
        if fault.kind == "stall_body":
            while await self._from_client.read(BLOCK):
                pass
        raise _Broken(reset=fault.kind == "reset_body")

    def _client_listens(self) -> bool:
        """One that has given up is written to without an error: it hears nothing all the same."""
        return not self._from_client.at_eof() and self._from_client.exception() is None

    def _store_listens(self) -> bool:
        return not self._to_store.is_closing() and not self._from_store.at_eof()


def _flipped(block: bytes, at: int) -> bytes:
    return block[:at] + bytes([block[at] ^ 0x10]) + block[at + 1 :]


def _arm_reset(writer: asyncio.StreamWriter) -> None:
    """Closing will send RST instead of FIN, and drop what was not yet sent."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
