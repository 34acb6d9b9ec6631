"""The first half: an operator opens the shop, a contributor's folder of clips goes live."""

from __future__ import annotations

import json
import shutil
from typing import Any

from tests.demo.films import contact_sheet, make_folder
from tests.demo.shell import OUT, ROOT, Person, require, say


def sell(person: Person, password: str) -> list[dict[str, Any]]:
    """The clips that are live in the end, as `clips list --json` tells them."""
    home = person.home
    say("An operator makes three accounts, seeds the categories and says what clips cost.")
    accounts = {"olga": "admin", "ana": "contributor", "ben": "customer"}
    for email, role in ((f"{name}@example.org", role) for name, role in accounts.items()):
        person.run(f"paletta-server create-user {email} --role {role} --password-stdin", text=password)
    person.run("paletta login --email ana@example.org --password-stdin", text=password)
    person.run("paletta --profile olga login --email olga@example.org --password-stdin", text=password)
    shutil.copy(ROOT / "manifests" / "taxonomy.yaml", home / "taxonomy.yaml")
    person.run("paletta --profile olga admin taxonomy apply taxonomy.yaml --yes", head=12)
    shutil.copy(ROOT / "manifests" / "price-book.yaml", home / "price-book.yaml")
    person.run("paletta --profile olga admin prices apply price-book.yaml", head=12)

    say(
        "A contributor has a folder of clips: H.264, HEVC, ProRes, one in 4K, one with sound; one is damaged,"
    )
    print("one is a copy, and the manifest has a mistake.")
    make_folder(home / "lisbon")
    person.run("ls -sh lisbon")
    person.run("paletta manifest check lisbon", expect=3)
    person.run("sed -i 's/fodo/food/' lisbon/paletta.yaml")
    person.run("paletta manifest check lisbon")

    say("The upload is killed half way …")
    person.run_and_kill("paletta upload lisbon --limit-rate 1M", _some_arrived)
    say("… and the same command goes on: finished parts are not sent again.")
    # 6: the damaged clip is rejected, and the command says so.
    person.run("paletta upload lisbon", expect=6)

    say("What is live now, and what is not.")
    person.run("paletta clips list")
    person.run("paletta uploads list")
    listed = json.loads(person.output("paletta clips list --json"))
    live = [clip for clip in listed if clip["stage"] == "live"]
    require(len(live) == 5, f"5 clips should be live, not {len(live)}")
    require(
        [clip["file"] for clip in listed if clip["stage"] == "rejected"] == ["ferry.mp4"],
        "the damaged clip should be the one that was rejected",
    )
    contact_sheet(live, OUT / "contact-sheet.png")
    return live


def _some_arrived(person: Person) -> bool:
    """Whether the first clips have arrived and others have not."""
    batches = json.loads(person.output("paletta uploads list --json"))
    if not batches:
        return False
    counts = dict(batches[0]["counts"])
    under_way = counts.pop("waiting", 0) + counts.pop("uploading", 0)
    return bool(under_way and sum(counts.values()))
