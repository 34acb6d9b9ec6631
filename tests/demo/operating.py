"""The third part: the operator's day, from a review to a backup that another service goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.demo.buying import BEN
from tests.demo.shell import Person, require, say

OLGA = "paletta --profile olga"
PATIENCE = 60  # seconds that jobs may take: longer than any pause between their turns here
MANIFEST = """\
paletta: 1
defaults:
  keywords: [porto, portugal, river, boat, travel]
  categories: [transport]
clips:
- file: barge.mp4
  title: Barge on the river
- file: blurred.mp4
  title: Out of focus
- file: quay.mp4
  title: Quay in the evening
"""


def operate(person: Person, password: str, live: list[dict[str, Any]]) -> None:
    """Review, a partial refund, a dispute that is won, the month's figures, proofs, and a backup."""
    person.run(f"{OLGA} login --email olga@example.org --password-stdin", text=password)
    _review(person)
    _refund(person)
    _win(person, next(str(clip["id"]) for clip in live if clip["file"] == "harbour.mp4"))

    say("What the month brought, and what the contributor earned of it.")
    person.run(f"{OLGA} admin stats sales --by month")
    person.run("paletta earnings")

    say("Nothing was changed or cut in the audit log, and our books are the payment gateway's.")
    person.run(f"{OLGA} admin logs --action refund: --limit 3")
    person.run(f"{OLGA} admin logs verify")
    person.run(f"{OLGA} admin reconcile")

    say("A backup of database and films, while the service runs.")
    person.run("paletta-server backup backup")


def _review(person: Person) -> None:
    say("Three clips wait for review: one is refused, the rest comes in at one stroke.")
    _shoot(person.home / "porto")
    person.run("paletta upload porto", expect=8)
    person.run(f"{OLGA} admin clips pending")
    waiting = json.loads(person.output(f"{OLGA} admin clips pending --json"))
    blurred = next(str(clip["id"]) for clip in waiting if clip["title"] == "Out of focus")
    person.run(f"{OLGA} admin clips reject {blurred} --reason-code focus")
    person.run(f"{OLGA} admin clips approve --contributor ana@example.org --yes")
    person.run("paletta clips list")


def _refund(person: Person) -> None:
    say("A customer gets a part of the price of one clip back.")
    order = json.loads(person.output(f"{BEN} orders list --json"))[0]["number"]
    item = json.loads(person.output(f"{BEN} orders show {order} --json"))["items"][0]["clip_id"]
    person.run(f"{OLGA} admin refunds create {order} --item {item}=10.00 --reason 'one frame is black' --yes")
    person.run(f"{BEN} orders show {order}", head=12)


def _win(person: Person, clip: str) -> None:
    say("A customer's bank disputes a payment; the evidence is drafted from what the service knows.")
    person.run(f"{BEN} cart add {clip}")
    person.run(f"{BEN} checkout --yes --pay-with sandbox:dispute")
    [dispute] = _until(person, f"{OLGA} admin disputes list --json", bool)
    person.run(f"{OLGA} admin disputes list")
    person.run(f"{OLGA} admin disputes evidence {dispute['id']}", head=24)
    person.run(f"{OLGA} admin disputes submit {dispute['id']} --yes")
    say("The bank decides: in the sandbox that is a button of its page.")
    _press(person, str(dispute["order"]), "dispute-won")
    show = f"{OLGA} admin disputes show {dispute['id']}"
    _until(person, f"{show} --json", lambda told: told["outcome"] == "won")
    person.run(show, head=12)


def _press(person: Person, order: str, button: str) -> None:
    """What the bank does is not a command of ours."""
    import httpx

    stored = json.loads((person.home / "config" / "credentials.json").read_text())
    token = next(str(entry["token"]) for key, entry in stored.items() if "ben" in key)
    url = f"{person.environment['PALETTA_URL']}/v1/orders/{order}/sandbox"
    answer = httpx.post(
        url, json={"action": button}, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )
    require(answer.is_success, f"the sandbox said {answer.text}")


def take_over(person: Person, password: str) -> None:
    """The purchase comes from a service that was empty before, byte for byte."""
    person.run("paletta-server restore backup")
    say("… and serves the same purchase.")
    person.run(f"{BEN} login --email ben@example.org --password-stdin", text=password)
    person.run(f"{BEN} orders list")
    person.run(f"{BEN} orders download --all --to again")
    films = {place: _films(person.home / place) for place in ("bought", "again")}
    missing = films["bought"].keys() - films["again"].keys()
    require(bool(films["bought"]) and not missing, f"these should be there again: {sorted(missing)}")
    for name, data in films["bought"].items():
        require(films["again"][name] == data, f"`{name}` should be what it was")
    print(f"{len(films['bought'])} films are the same, byte for byte", flush=True)


def _films(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.m*") if path.suffix in (".mov", ".mp4")}


def _shoot(folder: Path) -> None:
    from tests.support import media

    folder.mkdir()
    for seed, name in enumerate(("barge", "blurred", "quay"), start=31):
        media.clip(folder / f"{name}.mp4", seconds=3.2, look="gradients", seed=seed)
    (folder / "paletta.yaml").write_text(MANIFEST, encoding="utf-8")


def _until(person: Person, command: str, happened: Callable[[Any], bool]) -> Any:
    """What a command tells as soon as it is so: jobs of the service bring it about."""
    deadline = time.monotonic() + PATIENCE
    while not happened(told := json.loads(person.output(command))):
        require(time.monotonic() < deadline, f"`{command}` should tell something else by now: {told}")
        time.sleep(0.3)
    return told
