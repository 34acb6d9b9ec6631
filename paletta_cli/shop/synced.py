"""A folder that is kept equal to what is owned: what its lockfile says lies where, and what may go from it."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from paletta_cli.errors import PalettaError
from paletta_cli.output import Output
from paletta_cli.shop import lockfile, names, purchases
from paletta_cli.shop.lockfile import Entry
from paletta_cli.shop.purchases import Chosen
from paletta_cli.text import plural
from paletta_cli.transfer.landing import CannotLand, Folder


def load(folder: Folder) -> list[Entry]:
    """What the folder's lockfile says. Raises as `lockfile.load`."""
    data = raw(folder)
    return lockfile.load(data, folder.path / lockfile.NAME) if data is not None else []


def raw(folder: Folder) -> bytes | None:
    """The lockfile as it stands there."""
    import os

    if folder.regular(lockfile.NAME) is None:
        return None
    with os.fdopen(folder.open_file(lockfile.NAME, os.O_RDONLY), "rb") as stream:
        return stream.read()


def places(
    before: Sequence[Entry], owned: Sequence[dict[str, Any]], layout: str, tier: str | None
) -> dict[str, PurePosixPath]:
    """Where files stay: those of which the lockfile has the very file that is wanted of the purchase."""
    known = {(entry.item, entry.tier, entry.sha256): PurePosixPath(entry.path) for entry in before}
    found = {}
    for one in purchases.choose(owned, layout, tier=tier):
        place = known.get((one.wanted.item_id, one.wanted.tier, one.wanted.sha256))
        if place is not None:
            found[one.wanted.item_id] = place
    return found


def entry_of(one: Chosen) -> Entry:
    """What the lockfile says of a file that has arrived."""
    purchase = one.purchase
    return Entry(
        path=str(one.wanted.path),
        item=one.wanted.item_id,
        order=str(purchase["order_number"]),
        clip=str(purchase["clip_id"]),
        title=str(purchase["title"]),
        tier=one.wanted.tier,
        size=one.wanted.size,
        sha256=one.wanted.sha256,
        licence=str(purchase["licence"]),
        licensee=str(purchase["licensee"]),
        certificate=str(purchase["certificate"]),
    )


def refuse_foreign(before: Sequence[Entry], found: Sequence[dict[str, Any]], where: Path) -> None:
    """A folder that another account keeps equal to what it owns is not ours to change. Purchases never go from an
    account's list, whatever becomes of them."""
    known = {str(one["item_id"]) for one in found}
    foreign = [entry for entry in before if entry.item not in known]
    if foreign:
        raise PalettaError(
            f"`{where / lockfile.NAME}` is of another account: {plural(len(foreign), 'file')} of it "
            f"({foreign[0].licensee}, order {foreign[0].order}) you never bought",
            hint="use the profile that bought them (`--profile`), or another folder",
        )


def same(path: str | PurePosixPath) -> str:
    """Equal for places that some file system takes for one."""
    return names.same_name(PurePosixPath(path))


def paper(entry: Entry) -> str:
    """Where the certificate of a file lies, for comparing."""
    return same(purchases.certificate_beside(PurePosixPath(entry.path)))


def stale(before: Sequence[Entry], chosen: Sequence[Chosen]) -> set[str]:
    """Items where the certificate that lies beside their file may be another's: of a licence that has ended, or of a
    file of the same name. Once theirs was laid there, what has ended does not count any more."""
    lies: dict[str, set[tuple[str, str]]] = {}
    for entry in before:
        lies.setdefault(paper(entry), set()).add((entry.item, entry.certificate))
    wanted = {one.wanted.item_id for one in chosen}
    found = set()
    for one in chosen:
        here = lies.get(same(one.certificate), set())
        mine = (one.wanted.item_id, str(one.purchase["certificate"]))
        if any(item in wanted or mine not in here for item, _ in here - {mine}):
            found.add(one.wanted.item_id)
    return found


def prune(folder: Folder, gone: Sequence[Entry], papers: Collection[str], out: Output) -> list[Entry]:
    """Remove files that the lockfile knows and that are unchanged since; those that are gone now. `papers` are the
    places of certificates that stay."""
    pruned = []
    for entry in gone:
        path = PurePosixPath(entry.path)
        try:
            if not (folder.path / path).is_symlink() and not (folder.path / path).exists():
                pruned.append(entry)
                continue
            with folder.inside(path.parts[:-1]) as below:
                below.regular(path.name)
                if _sha256(below, path.name) != entry.sha256:
                    out.warn(f"`{entry.path}` was changed since it was downloaded, and stays")
                    continue
                below.remove(path.name)
                if paper(entry) not in papers:
                    below.remove(purchases.certificate_beside(path).name)
        except (OSError, CannotLand) as error:
            out.warn(f"`{entry.path}` cannot be removed: {error}")
            continue
        with suppress(OSError):
            (folder.path / path).parent.rmdir()
        out.note(f"removed `{entry.path}`")
        pruned.append(entry)
    return pruned


def _sha256(folder: Folder, name: str) -> str:
    import hashlib
    import os

    with os.fdopen(folder.open_file(name, os.O_RDONLY), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
