"""What a store answers, and what we make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore, StoreError

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
