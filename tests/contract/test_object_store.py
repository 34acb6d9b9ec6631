"""What a store answers, and what we make of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from awscrt import checksums
from pydantic import SecretStr

from paletta_server.core import storeclient
from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore, StoreError
from tests.support.opaque import Opaque

KEPT = (
    b"<?xml version='1.0' encoding='UTF-8'?><DeleteResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    b"<Error><Key>originals/a</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    b"</DeleteResult>"
)


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[str]:
    """A store that answers 200 and `body` to everything; its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().splitlines()
                if line.startswith(b"content-length")
            ),
            0,
        )
        await reader.readexactly(length)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_no_to_a_file_is_a_no_of_the_store(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "comp.mp4"
    source.write_bytes(b"film")
    stranger = settings.model_copy(update={"s3_secret_key": SecretStr("not the key")})
    async with ObjectStore(stranger) as store:
        with pytest.raises(StoreError) as caught:
            await store.upload(source, "media/x/comp.mp4", content_type="video/mp4", cache_seconds=60)
    assert caught.value.code == "SignatureDoesNotMatch"


async def test_an_object_that_is_kept_is_told(settings: Settings) -> None:
    async with (
        answering(KEPT) as address,
        ObjectStore(settings.model_copy(update={"s3_endpoint": address})) as store,
    ):
        with pytest.raises(StoreError, match="AccessDenied: object `originals/a` is kept"):
            await store.delete(["originals/a", "originals/b"])


@pytest.fixture
def opaque(settings: Settings) -> Iterator[Opaque]:
    made = Opaque(settings)
    yield made
    made.close()


async def test_nothing_depends_on_what_an_etag_is(settings: Settings, opaque: Opaque, tmp_path: Path) -> None:
    """Under SSE-KMS an ETag is no MD5: a file in one request and one in parts, stored, compared and read by ranges."""
    behind = settings.model_copy(update={"s3_endpoint": opaque.address})
    parts = [b"a" * 5 * 1024 * 1024, b"the end"]
    whole = b"".join(parts)
    async with ObjectStore(behind) as store, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        small, crc = "originals/kms/small", _crc64nvme(whole)
        url, headers = store.presign_put(small, size=len(whole), crc64nvme=crc, seconds=60)
        assert (await http.put(url, content=whole, headers=headers)).status_code == 200
        info = await store.head(small)
        assert info is not None
        assert info.etag.strip('"') in opaque.names
        assert hashlib.md5(whole).hexdigest() not in info.etag
        assert (info.size, info.crc64nvme) == (len(whole), crc)

        large = "originals/kms/large"
        upload = await store.create_multipart(large)
        for number, part in enumerate(parts, 1):
            url, headers = store.presign_part(
                large, upload, number=number, size=len(part), crc64nvme=_crc64nvme(part), seconds=60
            )
            assert (await http.put(url, content=part, headers=headers)).status_code == 200
        listed = await store.list_parts(large, upload)
        together = [(one, _crc64nvme(part)) for one, part in zip(listed, parts, strict=True)]
        await store.complete_multipart(large, upload, together, crc64nvme=crc, size=len(whole))
        info = await store.head(large)
        assert info is not None
        assert (info.size, info.crc64nvme) == (len(whole), crc)

        assert await store.download(large, tmp_path / "x") == hashlib.sha256(whole).hexdigest()
        url = store.presign_get(large, seconds=60)
        ranged = await http.get(url, headers={"range": "bytes=5-9", "if-match": info.etag})
        assert (ranged.status_code, ranged.content) == (206, b"aaaaa")
        other = await http.get(url, headers={"range": "bytes=5-9", "if-match": '"' + "0" * 32 + '"'})
        assert other.status_code == 412
        await store.delete([small, large])


def _crc64nvme(body: bytes) -> str:
    return base64.b64encode(int(checksums.crc64nvme(body)).to_bytes(8, "big")).decode()


@pytest.mark.parametrize(("brief", "tries"), [(True, storeclient.TRIES_BRIEF), (False, storeclient.TRIES)])
def test_a_call_is_sent_as_often_as_is_said(settings: Settings, brief: bool, tries: int) -> None:
    """botocore has two words for it, and one of them counts what comes after the first."""
    assert ObjectStore(settings, brief=brief)._client().meta.config.retries["total_max_attempts"] == tries
