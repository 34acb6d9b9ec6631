"""Orders of a site's own account, written straight into its tables, with their files in the store."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paletta_server.core.ids import new_uid
from paletta_server.delivery.service import new_certificate
from tests.faults.site import EMAIL, Site


@dataclass(frozen=True)
class Bought:
    """An order of one file per item. `files` has the bytes by path below the folder, `keys` the places in the store."""

    number: str
    files: dict[str, bytes]
    keys: dict[str, str]

    def check(self, folder: Path) -> None:
        """All of them are there, bit-exact, with their certificates, and nothing else is."""
        found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        films = {name for name in found if not name.endswith(".licence.pdf")}
        assert films == set(self.files), sorted(films ^ set(self.files))
        for name, data in self.files.items():
            assert found[name].read_bytes() == data, f"{name} is not what was sold"

    def check_names(self, folder: Path) -> list[str]:
        """No file under a final name but what was sold; those that are there."""
        there = [name for name in self.files if (folder / name).exists()]
        for name in there:
            assert (folder / name).read_bytes() == self.files[name], f"{name} is half written"
        return there


Sql = Callable[..., list[tuple[Any, ...]]]


def buy(site: Site, sizes: list[int], *, seed: int | str) -> Bought:
    """An order of a film of each size, paid and granted."""
    draw = random.Random(f"bought {seed}")
    films = []
    for size in sizes:
        data, key = draw.randbytes(size), f"sale/{new_uid('clip')}"
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=data)
        films.append((key, data))
    number, names = write_order(
        site.sql, EMAIL, [(key, len(data), hashlib.sha256(data).hexdigest()) for key, data in films]
    )
    return Bought(
        number,
        {name: data for name, (_, data) in zip(names, films, strict=True)},
        {name: key for name, (key, _) in zip(names, films, strict=True)},
    )


def write_order(sql: Sql, email: str, films: list[tuple[str, int, str]]) -> tuple[str, list[str]]:
    """A paid order of the account at `email`, of stored objects (key, size, SHA-256): its number, and where each
    file lands by default."""
    [(user,)] = sql("SELECT id FROM users WHERE email = %s", email)
    [(book,)] = sql(
        "INSERT INTO price_book (document, digest) VALUES (%s, %s) RETURNING id",
        '{"currency": "USD", "tax_name": null, "tax_rate": "0", "prices": {}, "editorial": [],'
        ' "contributor_bounds": null, "licences": {"individual":'
        ' {"name": "Individual", "seats": 1, "terms": "One person may use the clip."}}}',
        secrets.token_hex(8),
    )
    [(order, number)] = sql(
        "INSERT INTO orders (uid, number, user_id, status, gateway, licensee, currency, subtotal, tax, total,"
        " expires_at, paid_at, price_book_id) VALUES (%s, 'P-2026-' || lpad(nextval('order_numbers')::text, 6, '0'),"
        " %s, 'paid', 'sandbox', 'Ana', 'USD', 0, 0, 0, now(), now(), %s) RETURNING id, number",
        new_uid("order"), user, book,
    )  # fmt: skip
    names = []
    for count, (key, size, sha256) in enumerate(films, start=1):
        clip_uid, title = new_uid("clip"), f"Tram {count}"
        [(clip,)] = sql(
            "INSERT INTO clips (uid, owner_id, title, file_name, size, sha256, crc64nvme, original_key)"
            " VALUES (%s, %s, %s, 'a.mov', 1, %s, '', %s) RETURNING id",
            clip_uid, user, title, secrets.token_hex(32), key,
        )  # fmt: skip
        [(item,)] = sql(
            "INSERT INTO order_items (uid, order_id, clip_id, clip_uid, title, contributor_id, contributor, tier,"
            " licence, price, amount) VALUES (%s, %s, %s, %s, %s, %s, 'Ana', 'original', 'individual', 0, 0)"
            " RETURNING id",
            new_uid("item"), order, clip, clip_uid, title, user,
        )  # fmt: skip
        sql(
            "INSERT INTO order_item_files (order_item_id, tier, key, size, sha256, content_type, extension)"
            " VALUES (%s, 'original', %s, %s, %s, 'video/quicktime', '.mov')",
            item, key, size, sha256,
        )  # fmt: skip
        sql(
            "INSERT INTO entitlements (uid, order_item_id, order_id, user_id, clip_id, tier, licence, certificate)"
            " VALUES (%s, %s, %s, %s, %s, 'original', 'individual', %s)",
            new_uid("ent"), item, order, user, clip, new_certificate(),
        )  # fmt: skip
        names.append(f"{number}/{clip_uid}-{title}.mov")
    return str(number), names
