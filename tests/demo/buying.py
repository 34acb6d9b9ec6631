"""The second half: a customer finds clips, pays for them, and keeps them."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

from tests.demo.mails import mails, read, words
from tests.demo.shell import Person, require, say

BEN = "paletta --profile ben"
PATIENCE = 30  # seconds that a mail may take: longer than any queue here


def buy(person: Person, password: str, live: list[dict[str, Any]]) -> None:
    """From the search to files on the customer's disk that are the contributor's, byte for byte."""
    say("A customer looks around. No account is needed for that.")
    person.run(f"{BEN} search tram lisbon")
    person.run(f"{BEN} search lisbon --category transport --duration 3..10")
    tram = _id(live, "tram_28.mp4")
    person.run(f"{BEN} clip {tram[:9]}", head=16)

    say("With an account there is a cart, the same one on every machine.")
    person.run(f"{BEN} login --email ben@example.org --password-stdin", text=password)
    person.run(f"{BEN} cart add {tram} --tier hd --licence business")
    fish, music = _id(live, "fish_market.mov"), _id(live, "square_music.mov")
    person.run(f"{BEN} cart add {fish} {music}")
    person.run(f"{BEN} cart")

    say("Paying happens at the payment gateway; this one is a sandbox, and `--pay-with` presses its button.")
    person.run(f"{BEN} checkout --yes --pay-with sandbox:success")
    person.run(f"{BEN} orders list")
    order = json.loads(person.output(f"{BEN} orders list --json"))[0]
    require(order["status"] == "paid", "the order should be paid")

    say("The confirmation with receipt and download link is in the mail:")
    print(words(read(_confirmation(person.maildir, order["number"]))))

    say("The download is killed half way …")
    fetch = f"{BEN} orders download {order['number']} --to bought"
    person.run_and_kill(f"{fetch} --limit-rate 1M", _half_fetched)
    say("… and goes on where it was.")
    person.run(fetch)
    _compare(person, "square_music.mov", music)

    say("A production's folder stays equal to what was bought, with a lockfile to commit.")
    person.run(f"{BEN} orders sync footage")
    person.run(f"{BEN} orders sync footage --verify")


def _id(live: list[dict[str, Any]], file: str) -> str:
    """The id of the live clip that was made of a file."""
    return next(str(clip["id"]) for clip in live if clip["file"] == file)


def _confirmation(maildir: Path, number: str) -> Path:
    """The mail about an order, which a worker sends a moment after the payment."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for path in mails(maildir):
            if number in str(read(path)["Subject"]):
                return path
        time.sleep(0.2)
    raise AssertionError(f"no mail about {number} came")


def _half_fetched(person: Person) -> bool:
    """Whether something has arrived in the folder, finished or not."""
    return any(path.stat().st_size for path in (person.home / "bought").rglob("*") if path.is_file())


def _compare(person: Person, file: str, clip: str) -> None:
    """What was sold is what was uploaded: plain `sha256sum` says so."""
    fetched = next(
        path for path in (person.home / "bought").rglob("*.mov") if clip.removeprefix("clip_") in path.name
    )
    name = shlex.quote(str(fetched.relative_to(person.home)))
    person.run(f"sha256sum lisbon/{file} {name}")
    sums = person.output(f"sha256sum lisbon/{file} {name}").splitlines()
    require(len({line.split()[0] for line in sums}) == 1, "what was bought should equal what was uploaded")
