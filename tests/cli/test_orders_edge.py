"""`paletta orders download` through CloudFront's edge, from one address to the next."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI
from pydantic import SecretStr

from paletta_server.core.delivering import PUBLIC_PATHS, read_keys
from paletta_server.core.runtime import Runtime
from paletta_server.core.settings import Settings
from paletta_server.core.storage import ObjectStore
from tests.cli.conftest import Run
from tests.conftest import Person
from tests.support.edge import Edge
from tests.support.orders import Till, Wanted


async def test_a_download_goes_on_when_its_address_has_ended(
    app: FastAPI,
    runtime: Runtime,
    settings: Settings,
    people: dict[str, Person],
    paletta: Run,
    tmp_path: Path,
) -> None:
    pem = tmp_path / "key.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    edge = Edge(
        settings, PUBLIC_PATHS, {"K1": read_keys(f"K1:{pem}")[0].public_pem()}, cuts=[1_000_000, 700_000]
    )
    data = os.urandom(3_000_000)
    till = await Till.of(runtime, people["admin"].email, people["contributor"].email)
    sold = await till.sell(Wanted("Tram", files={"original": data}))
    short = settings.model_copy(
        update={
            "cloudfront_domain": edge.domain,
            "cloudfront_keys": SecretStr(f"K1:{pem}"),
            # An address ends with a whole second, so one of a single second may be over as soon as it is made.
            "download_url_seconds": 2,
        }
    )
    try:
        async with ObjectStore(short) as store:
            app.state.runtime = replace(runtime, settings=short, store=store)
            ran = await paletta(
                "orders", "download", sold.order.number, "--to", "films", "--json", as_="admin"
            )
    finally:
        app.state.runtime = runtime
        edge.close()
    assert ran.code == 0, ran
    document = json.loads(ran.out)
    (landed,) = (tmp_path / "films").rglob("*.mov")
    assert landed.read_bytes() == data
    assert document["received"] == len(data), "no byte twice"
    assert {path.partition("?")[0] for path, _ in edge.asked} == {f"/sale/{sold.items[0].uid}/original"}
    assert len({path for path, _ in edge.asked}) >= 3, "an address that has ended is replaced"
