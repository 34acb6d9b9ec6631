"""What every way of delivery must do: addresses presigned by the store, and CloudFront's, through a simulated edge."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from paletta_server.core.delivering import PUBLIC_PATHS, CloudFront, Delivery, KeysUnreadable, read_keys
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore
from paletta_server.delivery import names
from tests.support.edge import Edge

FILM = bytes(range(256)) * 1000
NAME = names.disposition('clip_abc-Grüße, "Lisboa"; 100%.mov')
SOLD, COMP = "originals/clip_2222/obj_3333", "media/clip_2222/run_4444/comp.mp4"


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Private keys in files, by name; made once."""
    folder = tmp_path_factory.mktemp("keys")

    def get(name: str) -> Path:
        path = folder / f"{name}.pem"
        if not path.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    return get


@pytest.fixture
def edge(settings: Settings, key_files: Callable[[str], Path]) -> Iterator[Edge]:
    made = Edge(settings, PUBLIC_PATHS)
    for key in read_keys(f"K1:{key_files('one')},K2:{key_files('two')}"):
        made.keys[key.id] = key.public_pem()
    yield made
    made.close()


def through(edge: Edge, settings: Settings, *keys: tuple[str, Path]) -> Settings:
    said = ",".join(f"{key_id}:{path}" for key_id, path in keys)
    return settings.model_copy(update={"cloudfront_domain": edge.domain, "cloudfront_keys": SecretStr(said)})


@dataclass
class Way:
    """A way of delivery: its addresses, those of a stranger without the right keys, and where files are."""

    delivery: Delivery
    strangers: Delivery
    base: str


@pytest.fixture(params=["presigned", "cloudfront"])
async def way(
    request: pytest.FixtureRequest,
    settings: Settings,
    runtime: Runtime,
    edge: Edge,
    key_files: Callable[[str], Path],
    tmp_path: Path,
) -> AsyncIterator[Way]:
    source = tmp_path / "film"
    source.write_bytes(FILM)
    for key in (SOLD, COMP):
        await runtime.store.upload(source, key, content_type="video/mp4", cache_seconds=60)
    if request.param == "presigned":
        mine, base = settings, f"{settings.s3_endpoint}/{settings.s3_bucket}"
        theirs = settings.model_copy(update={"s3_secret_key": SecretStr("not the key")})
    else:
        mine, base = through(edge, settings, ("K1", key_files("one"))), edge.domain
        theirs = through(edge, settings, ("K1", key_files("a stranger's")))
    async with ObjectStore(mine) as store, ObjectStore(theirs) as other:
        yield Way(store.delivery, other.delivery, base)


def sold(delivery: Delivery, seconds: int = 60) -> str:
    return delivery.file(SOLD, seconds=seconds, content_type="video/quicktime", disposition=NAME)


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        return await http.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_file_comes_whole_under_its_name(way: Way) -> None:
    got = await get(sold(way.delivery))
    assert got.status_code == 200
    assert got.content == FILM
    assert got.headers["content-type"] == "video/quicktime"
    assert got.headers["content-disposition"] == NAME


async def test_ranges_are_of_one_object(way: Way) -> None:
    url = sold(way.delivery)
    first = await get(url, range="bytes=0-99")
    rest = await get(url, range="bytes=100-", if_match=first.headers["etag"])
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-99/{len(FILM)}"
    assert first.content + rest.content == FILM
    assert (await get(url, range="bytes=100-", if_match='"another"')).status_code == 412


async def test_an_address_ends(way: Way, edge: Edge) -> None:
    url = sold(way.delivery, seconds=1)
    await asyncio.sleep(2.1)  # an address ends with time, and with nothing else
    assert (await get(url)).status_code == 403


async def test_an_address_is_good_for_this_file_and_name_only(way: Way) -> None:
    url = sold(way.delivery)
    signature = re.search(r"Signature=([^&]+)", url)
    assert signature is not None
    flipped = ("A" if signature[1][5] != "A" else "B").join((signature[1][:5], signature[1][6:]))
    changed = [
        url.replace(quote(SOLD), quote(COMP).replace("comp", "hd")),
        url.replace("quicktime", "x-msdownload"),
        url.replace(signature[1], flipped),
        re.sub(r"(Expires=)(\d+)", lambda found: f"{found[1]}{int(found[2]) + 3600}", url),
        f"{way.base}/{SOLD}",
        sold(way.strangers),
    ]
    for other in changed:
        assert other != url
        assert (await get(other)).status_code == 403, other


async def test_a_preview_can_be_looked_at(way: Way) -> None:
    url = way.delivery.preview(COMP, content_type="video/mp4")
    got = await get(url)
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, FILM, "video/mp4")
    assert got.headers["cache-control"].startswith("public, max-age=")


def test_how_long_it_lasts_is_told(way: Way) -> None:
    assert way.delivery.lasting(300) == 300


# ---- CloudFront's own


async def test_previews_have_plain_addresses_and_nothing_that_is_sold_has(
    edge: Edge, settings: Settings, key_files: Callable[[str], Path]
) -> None:
    front = CloudFront(edge.domain, read_keys(f"K1:{key_files('one')}")[0])
    for name in ("comp.mp4", "loop.mp4", "poster-3.jpg", "storyboard.jpg", "storyboard.vtt"):
        key = f"media/clip_2222/run_4444/{name}"
        assert front.preview(key, content_type="x/y") == f"{edge.domain}/{key}"
    for key in (SOLD, "media/clip_2222/run_4444/hd.mp4", "media/clip_2222/run_4444/uhd4k.mp4"):
        assert "Signature=" in front.preview(key, content_type="x/y"), key
        assert (await get(f"{edge.domain}/{key}")).status_code == 403, key


async def test_keys_are_rotated_without_a_gap(
    way: Way, edge: Edge, settings: Settings, key_files: Callable[[str], Path]
) -> None:
    if not isinstance(way.delivery, CloudFront):
        pytest.skip("the store's own keys are not ours to rotate")
    before = sold(way.delivery)
    turned = through(edge, settings, ("K2", key_files("two")), ("K1", key_files("one")))
    after = sold(ObjectStore(turned).delivery)
    used = [dict(parse_qsl(urlsplit(url).query))["Key-Pair-Id"] for url in (before, after)]
    assert used == ["K1", "K2"]
    assert [(await get(url)).status_code for url in (before, after)] == [200, 200]
    del edge.keys["K1"]
    assert [(await get(url)).status_code for url in (before, after)] == [403, 200]


def test_keys_that_cannot_sign_are_told_of(tmp_path: Path, key_files: Callable[[str], Path]) -> None:
    curve = tmp_path / "curve.pem"
    curve.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n")
    good = key_files("one")
    for said, words in (
        ("", "names no key"),
        ("K1", "KID:path"),
        (f"K1:{tmp_path}/none.pem", "cannot be read"),
        (f"K1:{curve}", "RSA"),
        (f"K1:{junk}", "no private key"),
        (f"K1:{good},K1:{good}", "twice"),
    ):
        with pytest.raises(KeysUnreadable, match=words) as caught:
            read_keys(said)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="need each other"):
        Settings(_env_file=None, cloudfront_domain="d1.cloudfront.net")


def test_the_setting_is_a_secret() -> None:
    settings = Settings(
        _env_file=None, cloudfront_domain="d1.cloudfront.net", cloudfront_keys="K1:/keys/one.pem"
    )
    assert "/keys" not in repr(settings)
