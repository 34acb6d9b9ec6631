"""PUTs against a small real server, on the socket; where it matters how bodies are sent, with TLS and without."""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from paletta_cli.errors import UsageError
from paletta_cli.transfer.fingerprint import Fingerprint, Stamp
from paletta_cli.transfer.items import Item, Part, SignedPut
from paletta_cli.transfer.retry import Verdict
from paletta_cli.transfer.sending import Sender
from paletta_cli.transfer.wire import Stale, Wire
from paletta_server.embedded.certificates import kept_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Handler = Callable[[socket.socket], None]


class Server:
    """Hands each connection to the next handler of a script, in a thread."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        port, scheme = self.listener.getsockname()[1], "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{port}/bucket/key?X-Amz-Signature=s%2Fs"
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0

    def serve(self, *script: Handler) -> None:
        def run() -> None:
            for handler in script:
                try:
                    connection, _ = self.listener.accept()
                except OSError:  # the test is over
                    return
                self.connections += 1
                with suppress(OSError), connection:  # the other side hangs up when it likes
                    if self.tls is None:
                        handler(connection)
                    else:
                        with self.tls.wrap_socket(connection, server_side=True) as secured:
                            handler(secured)

        threading.Thread(target=run, daemon=True).start()

    def read(self, connection: socket.socket) -> tuple[bytes, bytes]:
        """One request: head and body."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append((head, body))
        return head, body

    def answering(self, *answers: bytes) -> Handler:
        def handler(connection: socket.socket) -> None:
            for answer in answers:
                self.read(connection)
                connection.sendall(answer)

        return handler


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listener.close()


@pytest.fixture(params=["http", "https"])
def either(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server that speaks plain HTTP, and one with TLS that the client has reason to trust."""
    certificate = None
    if request.param == "https":
        certificate = kept_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    made = Server(certificate)
    yield made
    made.listener.close()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[io.FileIO]:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 100 + b"0123456789" * 100_000 + b"y" * 100)
    with path.open("rb", buffering=0) as stream:
        yield stream


HEADERS = {"content-length": "1000000", "x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}


def test_sends_exactly_the_signed_headers_and_the_part(either: Server, source: io.FileIO) -> None:
    either.serve(either.answering(OK, OK))
    wire = Wire()
    counted: list[int] = []
    for _ in range(2):
        source.seek(100)
        answer = wire.put(either.url, HEADERS, source, 1_000_000, block=300_000, on_block=counted.append)
        assert answer.status == 200
    assert counted == [300_000, 300_000, 300_000, 100_000] * 2
    assert either.connections == 1, "the connection is kept"
    for head, body in either.requests:
        assert body == b"0123456789" * 100_000
        lines = head.decode().split("\r\n")
        assert lines[0] == "PUT /bucket/key?X-Amz-Signature=s%2Fs HTTP/1.1"
        names = {line.partition(":")[0].lower() for line in lines[1:]}
        assert names == {"host", *HEADERS}, "an unsigned header would be refused"


def test_a_part_larger_than_any_block_arrives_whole(either: Server, tmp_path: Path) -> None:
    whole = bytes(range(256)) * 20_000
    (tmp_path / "large").write_bytes(whole)
    either.serve(either.answering(OK))
    counted: list[int] = []
    with (tmp_path / "large").open("rb", buffering=0) as stream:
        stream.seek(77)
        size = len(whole) - 100
        headers = {"content-length": str(size)}
        assert Wire().put(either.url, headers, stream, size, on_block=counted.append).status == 200
    assert either.requests[0][1] == whole[77:-23]
    assert sum(counted) == size


def test_reads_the_stores_error_and_its_retry_after(server: Server, source: io.FileIO) -> None:
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
    head = f"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    server.serve(server.answering(head + body, OK))
    wire = Wire()
    answer = wire.put(server.url, {"content-length": "9"}, source, 9)
    assert (answer.status, answer.code, answer.message) == (503, "SlowDown", "Reduce your rate")
    assert answer.retry_after == 7
    assert wire.put(server.url, {"content-length": "9"}, source, 9).status == 200
    assert server.connections == 1


def test_an_answer_that_comes_before_the_body_is_read(server: Server, source: io.FileIO) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    server.serve(refuse)
    assert Wire().put(server.url, HEADERS, source, 1_000_000).status == 403


def test_a_kept_connection_that_has_gone_is_stale_and_a_new_one_is_an_error(
    server: Server, source: io.FileIO
) -> None:
    server.serve(server.answering(OK), lambda _: None)
    wire = Wire()
    assert wire.put(server.url, {"content-length": "5"}, source, 5).status == 200
    with pytest.raises(Stale):
        wire.put(server.url, {"content-length": "5"}, source, 5)
    with pytest.raises(ConnectionError) as caught:
        wire.put(server.url, {"content-length": "5"}, source, 5)
    assert not isinstance(caught.value, Stale)


def test_a_file_that_ends_early(either: Server, source: io.FileIO) -> None:
    def patient(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    either.serve(patient)
    with pytest.raises(EOFError):
        Wire().put(either.url, {"content-length": "2000000"}, source, 2_000_000)


def test_close_cuts_what_is_under_way(server: Server, source: io.FileIO) -> None:
    wire = Wire()
    reading = threading.Event()

    def silent(connection: socket.socket) -> None:
        server.read(connection)
        reading.set()
        connection.recv(1)  # returns when the other side hangs up

    server.serve(silent)
    failed: list[BaseException] = []

    def put() -> None:
        try:
            wire.put(server.url, {"content-length": "5"}, source, 5)
        except OSError as error:
            failed.append(error)

    sender = threading.Thread(target=put)
    sender.start()
    assert reading.wait(60)
    wire.close()
    sender.join(60)
    assert failed


def test_never_in_the_clear_to_another_machine(source: io.FileIO) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        Wire().put("http://store.example/bucket/key", HEADERS, source, 1)


def test_what_went_to_a_connection_that_had_gone_is_counted_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    path.write_bytes(b"0123456789" * 100)
    item = Item("clip.mov", path, 1000, {}, part_count=2)
    item.print = Fingerprint(Stamp.of(path.stat()), "", 500, (0, 0))
    server.serve(server.answering(OK), server.answering(OK))
    sent, rewound = [0, 0], [0, 0]

    def count(part: Part, size: int) -> None:
        sent[part.number - 1] += size

    def rewind(part: Part) -> None:
        sent[part.number - 1] -= part.counted
        rewound[part.number - 1] += part.counted
        part.counted = 0

    sender = Sender(threading.Event(), None)
    for number in (1, 2):  # the store hangs up behind the first
        part = Part(item, number, SignedPut(server.url, {"content-length": "500"}))
        assert sender.send(part, count, rewind)[0] is Verdict.STORED
    sender.close()
    assert server.connections == 2
    assert sent == [500, 500]
    assert rewound == [0, 500]
