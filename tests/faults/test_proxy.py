"""The fault proxy does what its faults say: seen from both ends with a store that takes presigned PUTs."""

from __future__ import annotations

import base64
import http.client
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from awscrt.checksums import crc64nvme

from paletta_server.core.sigv4 import Credentials, presign
from tests.faults.plans import RandomPlan
from tests.faults.proxy import Exchange, Fault, FaultProxy
from tests.support.stack import Addresses

SIZE = 600_000


@pytest.fixture
def proxy(stack: Addresses) -> Iterator[FaultProxy]:
    with FaultProxy(stack.endpoint) as made:
        yield made


class Ends:
    """A client that PUTs through the proxy, and a look into the store behind it."""

    def __init__(self, proxy: FaultProxy, stack: Addresses) -> None:
        self._proxy, self._credentials = proxy, Credentials(stack.access_key, stack.secret_key, "us-east-1")
        self.key = f"/paletta-shared/proxy/{uuid.uuid4().hex}"
        self.data = os.urandom(SIZE)

    def put(self, fault: Fault | None, *, patience: float = 60) -> int | Exception:
        """The status that the client sees, or the exception that it gets after `patience` seconds without a word."""
        self._proxy.plan = lambda exchange: fault if exchange.is_transfer else None
        checksum = base64.b64encode(crc64nvme(self.data).to_bytes(8, "big")).decode()
        headers = {"content-length": str(SIZE), "x-amz-checksum-crc64nvme": checksum}
        try:
            return self._ask("PUT", headers, self.data, patience)[0]
        except (OSError, http.client.HTTPException) as error:
            return error

    def stored(self) -> bytes | None:
        status, body = self._ask("GET", {}, None, 60)
        return body if status == 200 else None

    def _ask(
        self, method: str, headers: dict[str, str], body: bytes | None, patience: float
    ) -> tuple[int, bytes]:
        url = presign(
            method,
            self._proxy.url + self.key,
            self._credentials,
            expires_seconds=60,
            now=datetime.now(UTC),
            headers=headers,
        )
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=patience)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def ends(proxy: FaultProxy, stack: Addresses) -> Ends:
    return Ends(proxy, stack)


def test_without_a_plan_it_is_a_plain_proxy_and_signatures_hold(ends: Ends, proxy: FaultProxy) -> None:
    assert ends.put(None) == 200
    assert ends.stored() == ends.data
    (sent,) = proxy.transfers
    assert (sent.received, sent.status, sent.by_store, sent.answered) == (SIZE, 200, True, True)


@pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
def test_a_flipped_bit_is_refused_by_the_store(ends: Ends, proxy: FaultProxy, at: int) -> None:
    assert ends.put(Fault("flip", at=at)) == 400
    assert ends.stored() is None
    assert proxy.transfers[0].by_store


@pytest.mark.parametrize("kind", ["reset", "cut_request"])
@pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
def test_a_cut_body_reaches_neither_store_nor_client(ends: Ends, kind: str, at: int) -> None:
    seen = ends.put(Fault(kind, at=at))  # type: ignore[arg-type]
    assert isinstance(seen, (OSError, http.client.HTTPException))
    assert ends.stored() is None


def test_a_lost_reply_is_lost_to_the_client_only(ends: Ends, proxy: FaultProxy) -> None:
    assert isinstance(ends.put(Fault("lose_reply")), http.client.RemoteDisconnected)
    assert ends.stored() == ends.data
    assert (proxy.transfers[0].is_stored, proxy.transfers[0].answered) == (True, False)


def test_a_cut_reply_ends_within_its_head(ends: Ends) -> None:
    assert isinstance(ends.put(Fault("cut_reply", at=len("HTTP/1"))), http.client.HTTPException)
    assert ends.stored() == ends.data


def test_a_stall_is_ended_by_the_client(ends: Ends, proxy: FaultProxy) -> None:
    assert isinstance(ends.put(Fault("stall", at=1000), patience=2), TimeoutError)
    assert ends.stored() is None


def test_an_answer_in_the_stores_place(ends: Ends, proxy: FaultProxy) -> None:
    assert ends.put(Fault("answer", status=503, code="SlowDown", retry_after=2)) == 503
    assert ends.stored() is None
    assert not proxy.transfers[0].by_store


def test_a_plan_depends_on_its_seed_alone() -> None:
    def exchange(number: int, length: int) -> Exchange:
        return Exchange(number, "PUT", f"/b/{number}", {"X-Amz-Signature": "x"}, {}, length)

    lengths = [1000, 2000, 3000, 1000, 2000, 1000]
    forward, other = RandomPlan(7, share=0.9), RandomPlan(8, share=0.9)
    drawn = {n: forward(exchange(n, length)) for n, length in enumerate(lengths)}
    # Another order of the files, the same tries of each.
    shuffled = RandomPlan(7, share=0.9)
    again = {n: shuffled(exchange(n, lengths[n])) for n in (1, 0, 3, 2, 4, 5)}
    assert again == drawn
    assert {n: other(exchange(n, length)) for n, length in enumerate(lengths)} != drawn
