"""What a month costs: the arithmetic by hand, the page and the code saying the same, prices of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paletta_server.aws import cost
from paletta_server.aws.cost import Book, PricesRefused, bill, cpu_seconds, ffmpeg_usd, load, mediaconvert_usd

PAGE = Path(cost.__file__).parents[1] / "deploy" / "README.md"


def test_the_page_has_the_table_that_the_code_makes() -> None:
    begin, end = "<!-- paletta-server aws cost: begin -->\n", "\n<!-- end -->"
    text = PAGE.read_text("utf-8")
    assert text.partition(begin)[2].partition(end)[0] == cost.page_table()


def test_every_price_has_its_source_and_its_date_and_every_assumption_its_reason() -> None:
    import yaml

    data = yaml.safe_load((Path(cost.__file__).parent / "prices.yaml").read_text("utf-8"))
    for name, entry in data["prices"].items():
        assert entry["source"].startswith("https://aws.amazon.com/"), name
        assert str(entry["as_of"])[:4] in ("2024", "2025", "2026"), name
    assert all(entry["why"] for entry in data["assumptions"].values())
    shares = [data["assumptions"][f"share_{name}"]["value"] for name in ("h264_hd", "prores_hd", "hevc_4k")]
    assert sum(shares) == pytest.approx(1)


def test_tiers_are_paid_one_after_the_other() -> None:
    book = load()
    assert book.price("internet_out_gb", 100) == 0
    assert book.price("internet_out_gb", 101) == pytest.approx(0.09)
    assert book.price("internet_out_gb", 10_240 + 10) == pytest.approx(10_140 * 0.09 + 10 * 0.085)
    assert book.price("s3_standard_gb", 600_000) == pytest.approx(
        51_200 * 0.023 + 460_800 * 0.022 + 88_000 * 0.021
    )


def test_a_clip_by_hand() -> None:
    book = load()
    # 20 s: H.264 for 35 %, ProRes for 25 %, HEVC in 4K for 40 %, and two seconds around them.
    assert cpu_seconds(book) == pytest.approx(
        20 * (0.35 * book.cpu_h264_hd + 0.25 * book.cpu_prores_hd + 0.4 * book.cpu_hevc_4k) + 2
    )
    hour = 0.03238 + 2 * 0.00356
    assert ffmpeg_usd(book, spot=True) == pytest.approx(cpu_seconds(book) / 3600 / 0.6 * hour * 0.35)
    # Normalized minutes: a comp of 20 s, HD twice for 65 %, 4K four times for 40 %.
    minutes = 20 / 60 + 2 * 20 / 60 * 0.65 + 4 * 20 / 60 * 0.4
    assert mediaconvert_usd(book) == pytest.approx(0.0075 * minutes)


def test_the_total_leaves_alternatives_out_and_grows_with_the_shop() -> None:
    totals = [bill(clips).total for clips in cost.PAGE_CLIPS]
    assert totals == sorted(totals)
    one = bill(100_000)
    assert one.total == pytest.approx(sum(line.usd for line in one.lines if not line.instead))
    assert (one.new_clips, one.sales) == (3000, 2000)
    idle = {line.item: line.usd for line in bill(10, new_clips=0, sales=0).lines}
    assert idle["transcoding, ffmpeg on Spot"] == 0
    assert idle["a worker's idle time"] > 0


def test_prices_of_ones_own_go_over_ours(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("prices: {s3_standard_gb: 0.01}\nassumptions: {original_gb: 1}\n")
    usual, changed = bill(1000), bill(1000, book=load(mine))
    line = {one.item: one.usd for one in changed.lines}["originals, Standard"]
    assert line == pytest.approx(1000 * 1 * 0.01)
    assert changed.total != usual.total
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "paletta_server.cli",
            "aws",
            "cost",
            "--clips",
            "1000",
            "--prices",
            mine,
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["total"] == pytest.approx(changed.total)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has to be a mapping"),
        ("[]", "has to be a mapping"),
        ("prices: {s3: 1}", "`s3` is not known"),
        ("prices: {secret: free}", "has to be a number"),
        ("prices: {secret: -1}", "zero or more"),
        ("assumptions: {hours: true}", "has to be a number"),
        ("prices: {secret: .nan}", "has to be a number"),
        ("prices: {secret: .inf}", "has to be a number"),
        ("assumptions: {worker_utilisation: 0}", "more than zero"),
        ("assumptions: {share_hevc_4k: 5}", "a share"),
        ("discounts: {}", "neither prices"),
        ("sizes: []", "sizes"),
        ("prices: {secret: [", "cannot be read"),
    ],
)
def test_prices_that_make_no_sense_are_refused(tmp_path: Path, text: str, why: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(PricesRefused, match=why):
        load(mine)


def test_the_table_fits_a_terminal_and_what_is_not_assumed_is_no_attribute() -> None:
    for clips in cost.PAGE_CLIPS:
        assert max(map(len, cost.table(bill(clips)).splitlines())) <= 80
    with pytest.raises(AttributeError):
        _ = Book({"prices": {}, "assumptions": {}, "sizes": []}).nothing
