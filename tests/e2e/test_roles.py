"""The mission's role table, row by row: who may do what, and who may not, with the real commands and a real service."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from paletta_server.embedded.ports import free_ports
from tests.faults.site import program
from tests.support import media
from tests.support.up import Up, clean_env

PASSWORD = "nine barges wait under a slow bridge"
NOT_AUTHORISED, ACCOUNT_REFUSED = 4, 7
ROLES = ("customer", "contributor", "admin")
SECONDS = 240


@dataclass(frozen=True)
class Person:
    """Somebody at a terminal of their own, logged in."""

    name: str
    home: Path
    env: dict[str, str]

    def run(self, *argv: str, code: int = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command that ends with `code`."""
        done = subprocess.run(
            [program("paletta"), *argv],
            cwd=self.home,
            env=self.env,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{self.name}: paletta {' '.join(argv)}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *argv: str, code: int = 0) -> Any:
        return json.loads(self.run(*argv, "--json", code=code).stdout)

    def may_not(self, *argv: str) -> None:
        """The command is refused for what this person is, and says so."""
        done = subprocess.run(
            [program("paletta"), *argv], cwd=self.home, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode in (NOT_AUTHORISED, ACCOUNT_REFUSED), f"{self.name} may {argv}\n{done}"
        assert done.stderr.startswith("error: "), done.stderr


@dataclass
class House:
    """The service, its people, and clips in the shop: four of the contributor's and one of the admin's."""

    url: str
    data: Path
    folder: Path
    maildir: Path

    def server(self, *argv: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [program("paletta-server"), "--data", str(self.data), *argv],
            env=clean_env(), input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def terminal(self, name: str) -> Person:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        env = clean_env(
            PALETTA_URL=self.url,
            PALETTA_CONFIG_DIR=str(home / "config"),
            PALETTA_STATE_DIR=str(home / "state"),
            PALETTA_KEYRING="off",
            COLUMNS="80",
        )
        return Person(name, home, env)

    def person(self, role: str) -> Person:
        """The one of this role."""
        return self.terminal(role)

    def join(self, name: str, role: str) -> Person:
        """An account of this role, logged in."""
        self.server(
            "create-user", f"{name}@example.org", "--role", role, "--password-stdin", stdin=f"{PASSWORD}\n"
        )
        person = self.terminal(name)
        person.run("login", "--email", f"{name}@example.org", "--password-stdin", stdin=f"{PASSWORD}\n")
        return person

    def buyer(self, name: str, *pay: str) -> tuple[Person, str]:
        """A new customer who bought a clip, and the order's number."""
        person = self.join(name, "customer")
        person.run("cart", "add", clip_of(person, "Tram waits"))
        person.run("checkout", "--yes", "--pay-with", *(pay or ("sandbox:success",)))
        [order] = person.json("orders", "list")
        return person, str(order["number"])

    def mail(self, *, to: str, about: str) -> str:
        """The newest mail to somebody that has these words, once a worker has sent it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for path in sorted(self.maildir.rglob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
                if (
                    path.is_file()
                    and f"To: {to}" in (text := path.read_text(errors="replace"))
                    and about in text
                ):
                    return text
            time.sleep(0.1)  # nothing announces itself across processes here
        raise AssertionError(f"no mail about {about} to {to}")


def shoot(person: Person, name: str, *titles: str) -> Path:
    """A folder of small clips with a manifest."""
    folder = person.home / name
    folder.mkdir()
    lines = ["paletta: 1", "defaults:", "  categories: [transport]"]
    lines += [f"  keywords: [tram, lisbon, {name}, street, hill]", "clips:"]
    for number, title in enumerate(titles, start=1):
        seed = sum(title.encode())
        media.clip(folder / f"{number}.mp4", seconds=3.2, seed=seed, look="gradients")
        lines += [f"- file: {number}.mp4", f"  title: {title}"]
    (folder / "paletta.yaml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    port = free_ports(1)[0]
    with Up("--data", str(folder / "data"), "--port", str(port)) as up:
        told = up.ready()
        made = House(told["url"], folder / "data", folder, Path(told["maildir"]))
        for role in ROLES:
            made.join(role, role)
        admin, contributor = made.person("admin"), made.person("contributor")
        admin.run("admin", "taxonomy", "apply", str(repository / "manifests" / "taxonomy.yaml"), "--yes")
        admin.run("admin", "prices", "apply", str(repository / "manifests" / "price-book.yaml"))
        trams = ("Tram climbs", "Tram turns", "Tram waits", "Tram squeals")
        contributor.run("upload", str(shoot(contributor, "alfama", *trams)))
        admin.run("upload", str(shoot(admin, "harbour", "Ferry leaves the harbour")))
        found_in_the_shop(admin, *trams, "Ferry leaves the harbour")
        yield made


@pytest.fixture(params=ROLES)
def anybody(request: pytest.FixtureRequest, house: House) -> Person:
    return house.person(request.param)


@pytest.fixture(params=ROLES[1:])
def seller(request: pytest.FixtureRequest, house: House) -> Person:
    return house.person(request.param)


@pytest.fixture
def customer(house: House) -> Person:
    return house.person("customer")


@pytest.fixture
def contributor(house: House) -> Person:
    return house.person("contributor")


@pytest.fixture
def admin(house: House) -> Person:
    """Whose password counts as just given, however long the tests before took."""
    person = house.person("admin")
    person.run("confirm", "--password-stdin", stdin=f"{PASSWORD}\n")
    return person


def found_in_the_shop(person: Person, *titles: str) -> None:
    """Return once a search finds them: the index follows what goes live."""
    deadline = time.monotonic() + 60
    while not {*titles} <= {one["title"] for one in person.json("search")["items"]}:
        assert time.monotonic() < deadline, "they are not found"
        time.sleep(0.1)  # nothing announces itself across processes here


def clip_of(person: Person, title: str) -> str:
    [found] = [one for one in person.json("search", *title.split())["items"] if one["title"] == title]
    return str(found["id"])


def somebody_elses(person: Person) -> str:
    """A clip in the shop that this person may buy."""
    return clip_of(person, "Tram waits" if person.name.endswith("admin") else "Ferry leaves the harbour")


# ---- everybody


def test_register_log_in_manage_their_profile(house: House, anybody: Person) -> None:
    newcomer = house.terminal(f"new-{anybody.name}")
    address = f"new-{anybody.name}@example.org"
    newcomer.run("register", "--email", address, "--password-stdin", stdin=f"{PASSWORD}\n")
    code = re.search(r"plt_[a-z]_\w+", house.mail(to=address, about="onfirm"))
    assert code is not None
    newcomer.run("verify", code[0])
    newcomer.run("login", "--email", address, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert newcomer.json("whoami")["email"] == address
    anybody.run("profile", "edit", "--institution", f"Films of the {anybody.name}")
    assert anybody.json("profile", "show")["institution"] == f"Films of the {anybody.name}"


def test_search_for_clips_using_filters(anybody: Person) -> None:
    def found(*argv: str) -> set[str]:
        return {one["title"] for one in anybody.json("search", *argv)["items"]}

    trams = {"Tram climbs", "Tram turns", "Tram waits"}
    assert trams <= found("tram")
    assert found("--category", "transport", "--tag", "harbour") == {"Ferry leaves the harbour"}
    assert trams <= found("--tag", "alfama", "--category", "transport")
    assert found("--category", "nature") == set()


def test_view_video_details(anybody: Person) -> None:
    clip = anybody.json("clip", clip_of(anybody, "Tram waits"))
    assert (clip["title"], clip["categories"]) == ("Tram waits", ["transport"])
    assert {"tram", "lisbon"} <= set(clip["keywords"])
    assert {tier["tier"] for tier in clip["tiers"]} >= {"original"}
    assert all(tier["prices"] for tier in clip["tiers"])


def test_add_clips_to_a_shopping_cart(anybody: Person) -> None:
    clip = somebody_elses(anybody)
    anybody.run("cart", "clear", "--yes")
    anybody.run("cart", "add", clip, "--tier", "original", "--licence", "premium")
    [item] = anybody.json("cart", "list")["items"]
    assert (item["clip_id"], item["tier"], item["licence"]) == (clip, "original", "premium")
    anybody.run("cart", "remove", clip)
    assert anybody.json("cart", "list")["items"] == []


@pytest.mark.parametrize("role", ROLES)
def test_purchase_clips(house: House, role: str) -> None:
    person = house.join(f"buying-{role}", role)
    clip = somebody_elses(person)
    person.run("cart", "add", clip)
    person.run("checkout", "--yes", "--pay-with", "sandbox:success")
    [order] = person.json("orders", "list")
    assert order["status"] == "paid"
    assert [item["clip_id"] for item in person.json("orders", "show", order["number"])["items"]] == [clip]


@pytest.mark.parametrize("role", ROLES)
def test_view_and_download_purchased_videos_again(house: House, role: str, tmp_path: Path) -> None:
    person = house.join(f"fetching-{role}", role)
    person.run("cart", "add", somebody_elses(person))
    person.run("checkout", "--yes", "--pay-with", "sandbox:success")
    [order] = person.json("orders", "list")
    for place in ("once", "again"):
        person.run("orders", "download", order["number"], "--to", str(tmp_path / place))
        [film] = (tmp_path / place).rglob("*.mp4")
        assert film.stat().st_size > 10_000


# ---- contributors


def test_create_and_delete_categories_and_tags(seller: Person, customer: Person) -> None:
    name = f"Sea of the {seller.name}"
    slug = seller.json("categories", "create", name)["slug"]
    seller.run("tags", "create", f"{seller.name} waves")
    assert slug in {one["slug"] for one in seller.json("categories", "list")}
    seller.run("categories", "delete", slug, "--yes")
    seller.run("tags", "delete", f"{seller.name} waves", "--yes")
    assert slug not in {one["slug"] for one in seller.json("categories", "list")}
    customer.may_not("categories", "create", "Sea of mine")
    customer.may_not("tags", "create", "my waves")


def test_upload_video_clips_with_metadata(contributor: Person, admin: Person, customer: Person) -> None:
    for person, title in ((contributor, "Tram climbs"), (admin, "Ferry leaves the harbour")):
        own = {one["title"]: one for one in person.json("clips", "list")}
        shown = person.json("clips", "show", own[title]["id"])
        assert shown["stage"] == "live"
        assert {"tram", "lisbon", "street", "hill"} <= set(shown["keywords"])
    customer.may_not("upload", str(contributor.home / "alfama"))


def test_preview_thumbnail_selection(contributor: Person, customer: Person) -> None:
    clip = clip_of(contributor, "Tram turns")
    before = contributor.json("clips", "poster", clip)
    other = next(one["number"] for one in before["posters"] if not one["chosen"])
    contributor.run("clips", "poster", clip, "--pick", str(other))
    after = contributor.json("clips", "poster", clip)
    assert [one["number"] for one in after["posters"] if one["chosen"]] == [other]
    customer.may_not("clips", "poster", clip, "--pick", "1")


def test_edit_and_delete_their_own_clips(
    house: House, contributor: Person, admin: Person, customer: Person
) -> None:
    clip = clip_of(contributor, "Tram squeals")  # which no other test looks for: it is gone afterwards
    contributor.run("clips", "edit", clip, "--description", "It squeals.")
    assert contributor.json("clips", "show", clip)["description"] == "It squeals."
    customer.may_not("clips", "edit", clip, "--description", "Mine now")
    rival = house.join("rival", "contributor")
    assert rival.run("clips", "edit", clip, "--description", "Mine now", code=1).stderr.startswith("error: ")
    contributor.run("clips", "delete", clip, "--yes")
    assert clip not in {one["id"] for one in contributor.json("clips", "list")}


# ---- admins


def test_moderate_uploaded_videos(contributor: Person, admin: Person, customer: Person) -> None:
    clip = clip_of(admin, "Tram climbs")
    for person in (contributor, customer):
        person.may_not("admin", "clips", "pending")
        person.may_not("admin", "clips", "take-down", clip, "--reason", "mine", "--yes")
    admin.run("admin", "clips", "take-down", clip, "--reason", "a logo in the picture", "--yes")
    assert clip in {one["id"] for one in admin.json("admin", "clips", "taken-down")}
    admin.run("admin", "clips", "restore", clip)
    found_in_the_shop(admin, "Tram climbs")
    assert clip not in {one["id"] for one in admin.json("admin", "clips", "taken-down")}


def test_manage_user_accounts(house: House, admin: Person, contributor: Person, customer: Person) -> None:
    for person in (contributor, customer):
        person.may_not("admin", "users", "list")
        person.may_not("admin", "users", "delete", "admin@example.org", "--yes")
    admin.run("admin", "users", "create", "eve@example.org", "--role", "customer")
    eve = admin.json("admin", "users", "show", "eve@example.org")
    assert "eve@example.org" in house.mail(to="eve@example.org", about="password")
    admin.run("admin", "users", "edit", eve["id"], "--name", "Eve Editor")
    admin.run("admin", "users", "role", eve["id"], "contributor", "--yes")
    shown = admin.json("admin", "users", "show", eve["id"])
    assert (shown["display_name"], shown["role"]) == ("Eve Editor", "contributor")
    admin.run("admin", "users", "delete", eve["id"], "--yes")
    assert eve["id"] not in {one["id"] for one in admin.json("admin", "users", "list", "--status", "active")}


def test_access_system_analytics_and_logs(
    house: House, admin: Person, contributor: Person, customer: Person
) -> None:
    _, number = house.buyer("counted")
    for person in (contributor, customer):
        person.may_not("admin", "stats")
        person.may_not("admin", "logs")
    [sales] = admin.json("admin", "stats", "sales", "--by", "month")["totals"]
    assert (sales["orders"] >= 1, sales["revenue"] > 0) == (True, True)
    order = admin.json("admin", "orders", "show", number)["id"]
    actions = {one["action"] for one in admin.json("admin", "logs", "--object", order)}
    assert {"order:placed", "payment:captured"} <= actions
    admin.run("admin", "logs", "verify")


def test_view_and_manage_all_orders(
    house: House, admin: Person, contributor: Person, customer: Person
) -> None:
    buyer, number = house.buyer("managed")
    for person in (contributor, customer):
        person.may_not("admin", "orders", "list")
        person.may_not("admin", "orders", "show", number)
    assert number in {one["number"] for one in admin.json("admin", "orders", "list")}
    assert admin.json("admin", "orders", "show", number)["number"] == number
    admin.run("admin", "orders", "resend", number)
    assert number in house.mail(to=f"{buyer.name}@example.org", about="download")
    buyer.run("cart", "add", clip_of(buyer, "Ferry leaves the harbour"))
    buyer.run("checkout", "--yes", "--by", "invoice", "--purchase-order", "PO 7", "--no-wait")
    waiting = buyer.json("orders", "list")[0]["number"]
    for person in (contributor, customer):
        person.may_not("admin", "orders", "mark-paid", waiting, "--reference", "TX", "--yes")
        person.may_not("admin", "orders", "cancel", waiting, "--yes")
    admin.run("admin", "orders", "cancel", waiting, "--yes")
    assert buyer.json("orders", "show", waiting)["status"] == "cancelled"


def test_view_all_upload_history(admin: Person, contributor: Person, customer: Person) -> None:
    for person in (contributor, customer):
        person.may_not("admin", "uploads", "list")
    uploads = admin.json("admin", "uploads", "list")
    assert {one["file"] for one in uploads} >= {
        "1.mp4",
        "2.mp4",
        "3.mp4",
    }
    assert len({str(one["contributor"]) for one in uploads}) == 2


def test_handle_refunds_and_payment_disputes(
    house: House, admin: Person, contributor: Person, customer: Person
) -> None:
    _, number = house.buyer("disputing", "sandbox:dispute")
    buyer, paid = house.buyer("refunded")
    for person in (contributor, customer):
        person.may_not("admin", "refunds", "create", number, "--all", "--reason", "mine", "--yes")
        person.may_not("admin", "disputes", "list")
    deadline = time.monotonic() + 60
    while not (disputes := admin.json("admin", "disputes", "list")):
        assert time.monotonic() < deadline, "no dispute came"
        time.sleep(0.2)  # the bank's job tells nobody here
    admin.run("admin", "disputes", "accept", disputes[0]["id"], "--yes")
    admin.run("admin", "refunds", "create", paid, "--all", "--reason", "asked for", "--yes")
    assert buyer.json("orders", "show", paid)["status"] == "refunded"
