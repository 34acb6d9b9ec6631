"""The one place that writes to the terminal. Commands hand over values; nothing else in the package prints.

Results go to stdout, everything else to stderr. Three modes of one object:

- `json`: the result as one JSON document (`--json`);
- `table`: aligned columns with colours, when stdout is a terminal;
- `plain`: tab-separated values without a heading, when stdout is a pipe or a file.

Every string that came from a server or a file is stripped of control characters, and none is read as rich
markup.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from paletta_cli.errors import UsageError
from paletta_cli.text import clean, clean_block, encodable

if TYPE_CHECKING:
    from rich.console import Console

Mode = Literal["json", "table", "plain"]
_READABLE = 24  # columns that what is broken into lines keeps as long as words elsewhere can be shortened
_LEAST = 8  # columns of a terminal that a text keeps, however long the others are
_STYLES = {"error": "1;31", "warning": "1;33", "hint": "1;36", "bold": "1"}


@dataclass(frozen=True)
class Column:
    """One column of a table:

    `key` in the row's mapping, `title` above it, `show` to turn the value into text.
    """

    key: str
    title: str = ""
    show: Callable[[Any], str] | None = None
    right: bool = False
    style: Callable[[Any], str] | None = None  # value → rich style, such as "green"
    wrap: bool = False

    def text(self, row: Mapping[str, Any]) -> str:
        value = row.get(self.key)
        if self.show is not None:
            return clean(self.show(value))
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (list, tuple)):
            return clean(", ".join(str(part) for part in value))
        return clean(value)


def _fitting(cells: Sequence[Sequence[str]], columns: Sequence[Column], room: int) -> list[int]:
    """Widths that add up to `room`, if that can be.

    What may be broken into lines gives way first, then words and paths, the longest first; so ids and results stay
    whole as long as anything else can be shortened. Numbers never give way.
    """
    from rich.cells import cell_len

    widths = [
        max([cell_len(column.title), *(cell_len(line[n]) for line in cells)])
        for n, column in enumerate(columns)
    ]
    wordy = [any(" " in line[n] or "/" in line[n] for line in cells) for n in range(len(columns))]

    def rank(n: int) -> int:
        if columns[n].wrap:
            return 0 if widths[n] > _READABLE else 2
        return 1 if wordy[n] else 3

    while sum(widths) > room:
        texts = [n for n, column in enumerate(columns) if not column.right and widths[n] > _LEAST]
        if not texts:
            break
        widths[min(texts, key=lambda n: (rank(n), -widths[n]))] -= 1
    return widths


def _at_words(line: str, width: int) -> str:
    """`line` in lines of at most `width` columns, broken between words, and never within backticks.

    A terminal breaks lines wherever they end, also in the middle of a word. What it breaks itself is copied as one
    line, and a command that is pasted as two would run without its options.
    """
    if (
        len(line) <= width // 2
    ):  # no character is wider than two columns; the library that counts takes its time
        return line
    from rich.cells import cell_len

    if cell_len(line) <= width:
        return line
    found: list[str] = []
    for word in re.findall(r"(?:`[^`]*`|\S)+", line):
        if found and cell_len(found[-1]) + 1 + cell_len(word) <= width:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return "\n".join(found)


class Output:
    """Where a command's words go. Make one per command: `out = Output(json=json_)`."""

    def __init__(
        self, *, json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.mode: Mode = "json" if json else "table" if self.stdout.isatty() else "plain"

    # Results, on stdout

    def data(self, value: Any) -> None:
        """Print `value` as JSON, in JSON mode only."""
        if self.mode == "json":
            self._write(self.stdout, encodable(json.dumps(value, ensure_ascii=False, indent=2, default=str)))

    def line(self, text: object) -> None:
        """One line of result for people; nothing in JSON mode."""
        if self.mode != "json":
            self._write(self.stdout, clean(text))

    def raw(self, text: str) -> None:
        """A document as it is (YAML, CSV), in every mode.

        Controls are stripped only if a terminal would read them.
        """
        if self.stdout.isatty():
            # `clean_block` joins lines; the end of the last one is the document's, or the prompt comes behind it.
            self._write(self.stdout, clean_block(text), end="\n" if text.endswith(("\n", "\r")) else "")
        else:
            self._write(self.stdout, text, end="")

    def drawing(self, sequences: str) -> None:
        """A picture: escape sequences of our own making, for a terminal that was found to understand them."""
        self._write(self.stdout, sequences, end="")

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, empty: str = "") -> None:
        """Print rows: a JSON array of the whole rows, aligned columns, or tab-separated columns.

        `empty` is said on stderr when there are no rows.
        """
        if self.mode == "json":
            return self.data(list(rows))
        if not rows and empty:
            return self.note(empty)
        if self.mode == "plain":
            for row in rows:
                self._write(self.stdout, "\t".join(column.text(row) for column in columns))
            return None
        return self._rich_table(self.console(self.stdout), rows, columns)

    def record(self, row: Mapping[str, Any], columns: Sequence[Column]) -> None:
        """Print one object: as JSON, or a line per column (`title: value`); empty values are left out."""
        if self.mode == "json":
            return self.data(row)
        width = max((len(column.title or column.key) for column in columns), default=0) + 1
        for column in columns:
            if text := column.text(row):
                label = f"{column.title or column.key}:"
                self._write(
                    self.stdout, f"{label:<{width}} {text}" if self.mode == "table" else f"{label} {text}"
                )
        return None

    # Everything else, on stderr

    def note(self, text: object = "") -> None:
        """A word beside the result."""
        self._write(self.stderr, clean_block(text))

    def warn(self, text: object) -> None:
        self._labelled("warning", text)

    def error(self, text: object, hint: str | None = None) -> None:
        """`error: …`, and the hint on a line of its own."""
        self._labelled("error", text)
        if hint:
            self.hint(hint)

    def hint(self, text: object) -> None:
        self._labelled("hint", text)

    def summary(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, heading: bool = True
    ) -> None:
        """A table on stderr, for plans and other things that are not the result."""
        if not rows:
            return
        if self.stderr.isatty():
            self._rich_table(self.console(), rows, columns)
            return
        cells = [[column.title for column in columns]] if heading else []
        cells += [[column.text(row) for column in columns] for row in rows]
        widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
        for line in cells:
            padded = "  ".join(
                text.rjust(width) if column.right else text.ljust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            )
            self._write(self.stderr, padded.rstrip())

    # Questions

    def confirm(self, question: str, *, yes: bool = False) -> bool:
        """Ask before something that cannot be taken back. `yes` is the command's --yes.

        Raises UsageError when there is nobody to ask.
        """
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError(f"cannot ask without a terminal: {question}", hint="pass --yes to go ahead")
        return self._ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def prompt(self, question: str, *, option: str, default: str | None = None, secret: bool = False) -> str:
        """Ask for a value; `option` is how it could have been given (`--email`, `--password-stdin`), for the
        hint.

        Raises UsageError when there is nobody to ask.
        """
        if not sys.stdin.isatty():
            raise UsageError(f"cannot ask for the {question} without a terminal", hint=f"pass {option}")
        shown = f"{question} [{default}]: " if default else f"{question}: "
        while True:
            answer = self._ask_secret(shown) if secret else self._ask(shown).strip()
            if answer or default is not None:
                return answer or default or ""

    def _ask(self, shown: str) -> str:
        self._write(self.stderr, clean(shown), end="")
        answer = sys.stdin.readline()
        if not answer:
            self._write(self.stderr, "")
            raise UsageError("the input ended before an answer")
        return answer.rstrip("\n")

    def _ask_secret(self, shown: str) -> str:
        import getpass

        try:
            return getpass.getpass(clean(shown), stream=self.stderr)
        except EOFError:
            self._write(self.stderr, "")
            raise UsageError("the input ended before an answer") from None

    # Means

    def console(self, stream: TextIO | None = None) -> "Console":
        """A rich console on stderr (or `stream`) that reads no markup and highlights nothing."""
        from rich.console import Console

        return Console(
            file=stream or self.stderr,
            markup=False,
            highlight=False,
            emoji=False,
            no_color=_no_color() or None,
        )

    def _rich_table(
        self, console: "Console", rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]
    ) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=None, pad_edge=False, header_style="bold", show_header=any(c.title for c in columns)
        )
        cells = [[column.text(row) for column in columns] for row in rows]
        room = console.width - 2 * (len(columns) - 1)
        for column, width in zip(columns, _fitting(cells, columns, room), strict=True):
            table.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                overflow="fold" if column.wrap else "ellipsis",
                no_wrap=not column.wrap,
                width=width,
            )
        for row, line in zip(rows, cells, strict=True):
            table.add_row(
                *(
                    Text(text, style=column.style(row.get(column.key)) if column.style else "")
                    for text, column in zip(line, columns, strict=True)
                )
            )
        console.print(table)

    def _labelled(self, label: str, text: object) -> None:
        said = f"{label}: {clean_block(text)}"
        if self.stderr.isatty():
            width = shutil.get_terminal_size().columns
            said = "\n".join(_at_words(line, width) for line in said.split("\n"))
        self._write(self.stderr, self._paint(label + ":", label) + said.removeprefix(label + ":"))

    def _paint(self, text: str, style: str) -> str:
        if not self.stderr.isatty() or _no_color() or os.environ.get("TERM") == "dumb":
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    @staticmethod
    def _write(stream: TextIO, text: str, end: str = "\n") -> None:
        try:
            stream.write(text + end)
        except UnicodeEncodeError:  # a terminal with a narrow encoding must not end the command
            encoding = stream.encoding or "ascii"
            stream.write((text + end).encode(encoding, "replace").decode(encoding))
        stream.flush()


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))
