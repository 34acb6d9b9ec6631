"""`make bench-cli`: what a command costs before it does anything, and checking a very large manifest.

Start-up is measured beside a Typer hello-world in the same environment, in turn. The manifest has ten thousand
clips; no peer checks such a thing, so its figure stands beside PyYAML merely reading the same file.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import Cost, median, run

BIN = Path(sys.executable).parent
HELLO = """\
import typer

def main(name: str = "world") -> None:
    print(f"hello {name}")

typer.run(main)
"""
READ = """\
import sys, yaml
with open(sys.argv[1], "rb") as file:
    yaml.load(file, Loader=yaml.CSafeLoader)
"""
CLIPS = 10_000


def manifest() -> str:
    lines = ["paletta: 1", "defaults:", "  source: Sony FX3", "  copyright: A. Rossi", "clips:"]
    for number in range(CLIPS):
        lines += [
            f"- file: clip_{number:05}.mp4",
            f"  title: Tram number {number} climbs a steep street",
            f"  description: Wide shot of tram {number} in the morning light",
            f"  keywords: [tram, lisbon, street, hill, morning, line {number % 97}]",
            "  categories: [transport, travel]",
            "  location: {city: Lisbon, country: PT}",
            "  shot_date: 2026-05-14",
            "  shot: {size: wide, move: pan}",
        ]
    return "\n".join(lines) + "\n"


def in_turn(
    commands: dict[str, list[str]], rounds: int, cwd: Path, expect: dict[str, int]
) -> dict[str, Cost]:
    """Medians of each command's cost; the first round warms caches and is not counted."""
    environment = {**os.environ, "PALETTA_STATE_DIR": str(cwd), "PALETTA_CONFIG_DIR": str(cwd)}
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            cost = run(command, environment, cwd=cwd, expect=(expect.get(name, 0),))
            if number:
                costs[name].append(cost)
    return {name: median(found) for name, found in costs.items()}


def show(title: str, costs: dict[str, Cost], against: str) -> None:
    print(f"\n{title}")
    print(f"  {'':32} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'× ' + against:>14}")
    for name, cost in costs.items():
        ratio = cost.wall / costs[against].wall
        print(f"  {name:32} {cost.wall:8.3f} {cost.cpu:8.3f} {cost.memory:9.0f} {ratio:14.2f}")


def main() -> None:
    python, paletta = str(BIN / "python"), str(BIN / "paletta")
    with tempfile.TemporaryDirectory(prefix="paletta-bench-") as name:
        home = Path(name)
        (home / "hello.py").write_text(HELLO)
        (home / "read.py").write_text(READ)
        commands = {
            "typer hello": [python, "hello.py"],
            "paletta --version": [paletta, "--version"],
            "paletta --help": [paletta, "--help"],
            "paletta manifest check --help": [paletta, "manifest", "check", "--help"],
        }
        show("start-up, bar: --version ≤ 1.3", in_turn(commands, 15, home, {}), "typer hello")
        folder = home / "shoot"
        folder.mkdir()
        (folder / "paletta.yaml").write_text(manifest())
        for number in range(CLIPS):
            (folder / f"clip_{number:05}.mp4").touch()
        commands = {
            "PyYAML load": [python, "read.py", str(folder / "paletta.yaml")],
            "paletta manifest check": [
                paletta,
                "manifest",
                "check",
                str(folder),
                "--offline",
                "--no-check-media",
            ],
        }
        show(f"{CLIPS:,} clips, bar: check ≤ 2 s", in_turn(commands, 5, home, {}), "PyYAML load")


if __name__ == "__main__":
    main()
