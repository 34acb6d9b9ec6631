"""What a person sees during a transfer fits the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from paletta_cli.output import Output
from paletta_cli.transfer.items import Item, Meter
from paletta_cli.transfer.view import LiveView

GIB = 1024**3


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_of_a_transcoding_says_what_it_measures() -> None:
    item = Item(
        "a.mov", Path("a.mov"), GIB, {}, stage="transcoding", sent=GIB, transferred=True, progress=0.85
    )
    view = LiveView(Output(stderr=Screen()), [item], Meter(total=GIB, sent=GIB))
    try:
        with view._live.console.capture() as captured:
            view._live.console.print(view._picture())
    finally:
        view.close()
    assert "transcoding 85%" in captured.get()


@pytest.mark.parametrize("columns", [80, 120])
def test_the_first_line_is_one_line(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    meter = Meter(total=1010 * GIB, skipped=int(1000.4 * GIB))
    view = LiveView(Output(stderr=screen), [Item("a.mov", Path("a.mov"), GIB, {}, stage="uploading")], meter)
    try:
        view._speed._samples.extend(
            [(0.0, 0), (1.0, 1000 * 1024**2)]
        )  # what a second of a fast line looks like
        with view._live.console.capture() as captured:
            view._live.console.print(view._picture())
    finally:
        view.close()
    lines = captured.get().splitlines()
    assert "uploading" in lines[0]
    assert "1000.4 GiB of 1010.0 GiB" in lines[0]
    assert "left" in lines[0]
    assert len(lines) == 2, lines
