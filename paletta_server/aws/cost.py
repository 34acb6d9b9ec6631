"""`paletta-server aws cost`: what a month on AWS costs, by formulas that `deploy/README.md` explains.

Prices and assumptions are in `prices.yaml`; nothing here knows a figure. Dollars are floats: these are estimates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from paletta_server.aws.tables import columns

NEW_SHARE, SOLD_SHARE = 0.03, 0.02
"""Of the clips in the shop, each month, where nobody says otherwise."""
PAGE_CLIPS = (1_000, 100_000, 10_000_000)
"""What `deploy/README.md` works out."""


class PricesRefused(ValueError):
    """A file of prices that cannot be used; the message says why."""


@dataclass(frozen=True)
class Line:
    """An item of the bill. `instead` are alternatives, which the total does not count."""

    item: str
    basis: str
    usd: float
    instead: bool = False


@dataclass(frozen=True)
class Bill:
    clips: int
    new_clips: int
    sales: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> float:
        return sum(line.usd for line in self.lines if not line.instead)


class Book:
    """Prices and assumptions by name."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._prices: dict[str, Any] = data["prices"]
        self._assumed = {name: float(entry["value"]) for name, entry in data["assumptions"].items()}
        self.sizes: list[dict[str, Any]] = data["sizes"]

    def price(self, name: str, units: float = 1.0) -> float:
        """Of so many units in a month, by tiers where it has them."""
        entry = self._prices[name]
        if "tiers" not in entry:
            return float(entry["usd"]) * units
        total, begin = 0.0, 0.0
        for end, usd in entry["tiers"]:
            stop = units if end is None else min(units, float(end))
            total += max(0.0, stop - begin) * float(usd)
            begin = max(begin, stop)
        return total

    def __getattr__(self, name: str) -> float:
        try:
            return self._assumed[name]
        except KeyError:
            raise AttributeError(name) from None

    def size(self, clips: int) -> dict[str, Any]:
        return next(size for size in self.sizes if size["clips"] is None or clips <= size["clips"])


def load(path: Path | None = None) -> Book:
    """Ours, with those of `path` over them. Raises `PricesRefused`."""
    import yaml

    data = yaml.safe_load(files("paletta_server.aws").joinpath("prices.yaml").read_text("utf-8"))
    if path is None:
        return Book(data)
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PricesRefused(f"`{path}` cannot be read: {type(error).__name__}") from error
    if not isinstance(given, dict):
        raise PricesRefused(f"`{path}` has to be a mapping with prices, assumptions or sizes")
    for section, values in given.items():
        _put_over(data, section, values)
    return Book(data)


def _put_over(data: dict[str, Any], section: str, values: Any) -> None:
    if section == "sizes":
        wanted = set(data["sizes"][0])
        if not isinstance(values, list) or not values or any(set(one) != wanted for one in values):
            raise PricesRefused(f"sizes: a list whose entries have {', '.join(sorted(wanted))}")
        if values[-1]["clips"] is not None:
            raise PricesRefused("sizes: the last one has to be for any number of clips (clips: null)")
        data["sizes"] = values
        return
    if section not in ("prices", "assumptions") or not isinstance(values, dict):
        raise PricesRefused(f"`{section}` is neither prices, assumptions nor sizes")
    for name, value in values.items():
        if name not in data[section]:
            raise PricesRefused(f"{section}: `{name}` is not known")
        data[section][name] = _entry(section, name, value)


def _entry(section: str, name: str, value: Any) -> Any:
    """A bare number, or an entry in our own shape."""
    key = "usd" if section == "prices" else "value"
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = {key: value}
    known = isinstance(value, dict) and (key in value or (section == "prices" and "tiers" in value))
    number = value.get(key, 0) if known else None
    if not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
        raise PricesRefused(f"{section}: `{name}` has to be a number, zero or more")
    is_share = name.startswith("share_") or name in ("spot_share", "worker_utilisation")
    if is_share and number > 1:
        raise PricesRefused(f"{section}: `{name}` is a share, 1 at most")
    if name == "worker_utilisation" and number == 0:
        raise PricesRefused(f"{section}: `{name}` has to be more than zero")
    return value


def bill(
    clips: int, *, new_clips: int | None = None, sales: int | None = None, book: Book | None = None
) -> Bill:
    """One month with so many clips in the shop, so many coming in and so many sold."""
    book = book or load()
    new = round(clips * NEW_SHARE) if new_clips is None else new_clips
    sold = round(clips * SOLD_SHARE) if sales is None else sales
    lines = [
        *_storage(book, clips, new),
        *_transcoding(book, clips, new),
        *_delivery(book, clips, sold),
        *_database(book, clips),
        *_search(book, clips),
        *_fixed(book, clips, sold),
    ]
    return Bill(clips, new, sold, tuple(lines))


def cpu_seconds(book: Book) -> float:
    """Of an average clip, all outputs."""
    for_each_second = (
        book.share_h264_hd * book.cpu_h264_hd
        + book.share_prores_hd * book.cpu_prores_hd
        + book.share_hevc_4k * book.cpu_hevc_4k
    )
    return for_each_second * book.seconds_of_clip + book.cpu_around


def ffmpeg_usd(book: Book, *, spot: bool) -> float:
    """Of one clip, on workers of the template's shape."""
    hours = cpu_seconds(book) / 3600 / book.worker_utilisation
    hour = book.price("fargate_vcpu_hour") + book.worker_gb_per_vcpu * book.price("fargate_gb_hour")
    return hours * hour * (book.price("spot_share") if spot else 1.0)


def mediaconvert_usd(book: Book) -> float:
    """Of one clip: the comp as SD, HD and 4K renditions where the original does not serve. The loop is cut out of the
    comp by a worker, and captured frames cost next to nothing."""

    def minutes(seconds: float) -> float:
        return max(seconds, book.mediaconvert_least_seconds) / 60

    film = minutes(book.seconds_of_clip)
    normalized = film
    normalized += film * book.mediaconvert_hd_multiplier * (book.share_prores_hd + book.share_hevc_4k)
    normalized += film * book.mediaconvert_4k_multiplier * book.share_hevc_4k
    return book.price("mediaconvert_minute", normalized)


def _storage(book: Book, clips: int, new: int) -> list[Line]:
    originals = clips * book.original_gb
    rest = clips * (book.renditions_gb + book.previews_gb)
    infrequent, archive = originals * book.share_infrequent, originals * book.share_archive
    tiered = (
        book.price("s3_standard_gb", originals - infrequent - archive)
        + book.price("s3_infrequent_gb", infrequent)
        + book.price("s3_archive_instant_gb", archive)
        + book.price("s3_monitoring_1000_objects", clips / 1000)
    )
    return [
        Line("originals, Intelligent-Tiering", f"{_gb(originals)}", tiered),
        Line(
            "originals, Standard", f"{_gb(originals)}", book.price("s3_standard_gb", originals), instead=True
        ),
        Line(
            "originals, Glacier Instant",
            f"{_gb(originals)}, without retrieval",
            book.price("s3_archive_instant_gb", originals),
            instead=True,
        ),
        Line("renditions and previews, Standard", f"{_gb(rest)}", book.price("s3_standard_gb", rest)),
        Line(
            "storing new objects",
            f"{new * book.objects_per_clip:,.0f} requests",
            book.price("s3_put_1000", new * book.objects_per_clip / 1000),
        ),
    ]


def _least_worker(book: Book) -> float:
    """The one that always runs: mails and sweeps are its work too, also where MediaConvert transcodes."""
    hour = book.price("fargate_vcpu_hour") + book.worker_gb_per_vcpu * book.price("fargate_gb_hour")
    return book.worker_vcpus * hour * book.price("spot_share") * book.hours


def _handlers(book: Book) -> float:
    """Two completion handlers of half a vCPU."""
    hour = book.price("fargate_vcpu_hour") / 2 + book.price("fargate_gb_hour")
    return 2 * hour * book.hours


def _transcoding(book: Book, clips: int, new: int) -> list[Line]:
    spot, always, managed = ffmpeg_usd(book, spot=True), ffmpeg_usd(book, spot=False), mediaconvert_usd(book)
    basis = f"{new:,} clips of {cpu_seconds(book):.0f} CPU-s"
    return [
        Line("transcoding, ffmpeg on Spot", basis, new * spot),
        Line(
            "a worker's idle time",
            "one of 4 vCPU is always there",
            max(0.0, _least_worker(book) - new * spot),
        ),
        Line("transcoding, ffmpeg on demand", basis, new * always, instead=True),
        Line("transcoding, MediaConvert", f"{new:,} clips at {managed:.4f}", new * managed, instead=True),
        Line("MediaConvert's handlers", "2 × ½ vCPU", _handlers(book), instead=True),
        Line("all clips once, ffmpeg on Spot", f"{clips:,} clips at {spot:.5f}", clips * spot, instead=True),
        Line(
            "all clips once, MediaConvert", f"{clips:,} clips at {managed:.4f}", clips * managed, instead=True
        ),
    ]


def _delivery(book: Book, clips: int, sold: int) -> list[Line]:
    views = clips * book.previews_per_clip
    gigabytes = sold * book.fetches_per_sale * book.sold_gb + views * book.preview_view_gb
    requests = views * book.requests_per_view + sold * book.fetches_per_sale
    by_cloudfront = book.price("cloudfront_out_gb", gigabytes) + book.price(
        "cloudfront_10000_requests", requests / 10_000
    )
    by_s3 = book.price("internet_out_gb", gigabytes) + book.price("s3_get_1000", requests / 1000)
    return [
        Line("delivery, CloudFront", f"{_gb(gigabytes)}, {requests / 1e6:,.2f} M requests", by_cloudfront),
        Line("delivery, straight from S3", f"{_gb(gigabytes)}", by_s3, instead=True),
    ]


def _database(book: Book, clips: int) -> list[Line]:
    size = book.size(clips)
    steps = 2 ** (size["database"] - 1)
    gigabytes = max(100.0, book.database_gb_fixed + book.database_gb_per_million * clips / 1_000_000)
    one = book.price("rds_large_hour", steps * book.hours) + book.price("rds_gb", gigabytes)
    name = ("large", "xlarge", "2xlarge", "4xlarge")[size["database"] - 1]
    basis = f"db.m7g.{name}, {_gb(gigabytes)}"
    return [
        Line("database, two zones", basis, 2 * one),
        Line("database, one zone", basis, one, instead=True),
    ]


def _search(book: Book, clips: int) -> list[Line]:
    """The index lives in the API's nodes; OpenSearch is the alternative."""
    size = book.size(clips)
    steps, nodes = 2 ** (size["search"] - 1), size["search_nodes"]
    gigabytes = max(20.0, 2 * book.search_gb_per_million * clips / 1_000_000)
    usd = nodes * (
        book.price("opensearch_large_hour", steps * book.hours) + book.price("opensearch_gb", gigabytes)
    )
    return [
        Line("search, an index in each API node", "in the API's line", 0.0),
        Line("search, OpenSearch", f"{nodes} nodes of {steps}× large", usd, instead=True),
    ]


def _fixed(book: Book, clips: int, sold: int) -> list[Line]:
    size = book.size(clips)
    node = book.price("fargate_vcpu_hour") + size["api_gb"] * book.price("fargate_gb_hour")
    balancer = book.price("balancer_hour") + book.balancer_units * book.price("balancer_unit_hour")
    network = book.price("nat_hour") + 3 * book.price("public_address_hour")
    watching = (
        book.price("logs_gb", book.log_gb_per_node * (size["api_nodes"] + 1))
        + book.price("alarm", book.alarms)
        + book.price("secret", book.secrets)
    )
    return [
        Line(
            "API on Fargate",
            f"{size['api_nodes']} × 1 vCPU, {size['api_gb']} GB",
            size["api_nodes"] * node * book.hours,
        ),
        Line("balancer and NAT", "one of each", (balancer + network) * book.hours),
        Line("logs, alarms, secrets", "", watching),
        Line(
            "mail",
            f"{sold * book.mails_per_sale:,.0f} mails",
            book.price("ses_1000", sold * book.mails_per_sale / 1000),
        ),
    ]


def _gb(gigabytes: float) -> str:
    return f"{gigabytes / 1024:,.1f} TB" if gigabytes >= 10_240 else f"{gigabytes:,.0f} GB"


def table(found: Bill) -> str:
    """For a terminal; alternatives in brackets."""
    rows = [
        (line.item, line.basis, f"({line.usd:,.2f})" if line.instead else f"{line.usd:,.2f}")
        for line in found.lines
    ]
    rows.append(("total", "brackets are alternatives", f"{found.total:,.2f}"))
    heading = f"{found.clips:,} clips, {found.new_clips:,} new and {found.sales:,} sold in a month; USD, list prices"
    return heading + "\n" + columns(("item", "basis", "a month"), rows)


def page_table() -> str:
    """The table of `deploy/README.md`, in Markdown; a test compares them."""
    bills = [bill(clips) for clips in PAGE_CLIPS]
    lines = [
        "| USD a month | " + " | ".join(f"{one.clips:,} clips" for one in bills) + " |",
        "|---|" + "---:|" * len(bills),
    ]
    for number, line in enumerate(bills[0].lines):
        cells = [one.lines[number].usd for one in bills]
        shown = [f"({usd:,.2f})" if line.instead else f"{usd:,.2f}" for usd in cells]
        lines.append(f"| {line.item} | " + " | ".join(shown) + " |")
    totals = " | ".join(f"**{one.total:,.2f}**" for one in bills)
    return "\n".join([*lines, f"| **total** (brackets are alternatives) | {totals} |"])


def run_cost(
    *, clips: int, new_clips: int | None, sales: int | None, prices: Path | None, as_json: bool
) -> int:
    """Print the bill; 2 where the file of prices cannot be used."""
    from paletta_server.commands import terminal

    try:
        found = bill(clips, new_clips=new_clips, sales=sales, book=load(prices))
    except PricesRefused as error:
        terminal.error(str(error))
        return 2
    if as_json:
        terminal.result(json.dumps(asdict(found) | {"total": found.total}, indent=2))
        return 0
    terminal.result(table(found))
    terminal.say("hint: list prices may have changed: check them, or give your own with --prices")
    return 0
