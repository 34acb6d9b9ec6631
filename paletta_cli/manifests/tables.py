"""CSV files as people have them: any encoding, any of three delimiters, with or without a BOM."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from paletta_cli.errors import ManifestInvalid
from paletta_cli.manifests.source import CONTROL, MAX_BYTES
from paletta_cli.text import clean

_DELIMITERS = ",;\t"
# Excel writes and reads a first line that says by what the cells are separated.
_SEPARATOR_LINE = re.compile(rf'"?sep=([{_DELIMITERS}])"?\r?\n', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file: its heading cells, its rows (each as wide as the heading) and the line each row ends on."""

    name: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    encoding: str
    delimiter: str


def read_table(path: Path) -> Table:
    """Read a CSV file.

    Raises ManifestInvalid, naming file and line, for one that cannot be read as a table.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise ManifestInvalid(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from error
    if raw is None:
        raise ManifestInvalid(f"`{path}` is larger than {MAX_BYTES >> 20} MiB", hint="split it")
    text, encoding = decode(raw, str(path))
    return parse_table(text, str(path), encoding)


def decode(raw: bytes, name: str) -> tuple[str, str]:
    """Text and encoding of a file from a spreadsheet: UTF-8, UTF-16 or, failing these, Windows' cp1252."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        guesses = ["utf-16"]
    elif raw.startswith(b"\xef\xbb\xbf"):
        guesses = ["utf-8-sig"]
    else:
        # UTF-16 without a mark: the heading is ASCII, so every other byte is zero.
        head = raw[:64]
        guesses = ["utf-16-le"] if head[1::2].count(0) > len(head) // 4 else []
        guesses += ["utf-16-be"] if head[::2].count(0) > len(head) // 4 else []
        guesses += ["utf-8", "cp1252"]
    for encoding in guesses:
        try:
            return raw.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise ManifestInvalid(f"`{name}` is in no known text encoding", hint="save it as UTF-8")


def parse_table(text: str, name: str, encoding: str = "utf-8") -> Table:
    """Rows of CSV text; rows without any text are passed over.

    Raises ManifestInvalid for an empty file, control characters, broken quoting and rows with too many cells.
    """
    if found := CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ManifestInvalid(f"{name}:{line}: control character U+{ord(found[0]):04X}", hint="delete it")
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue  # spreadsheets leave rows of commas behind
            if not header:
                if reader.line_num > 1 or not _SEPARATOR_LINE.match(text):
                    header = row
                continue
            extra = row[len(header) :]
            if any(cell.strip() for cell in extra):
                hint = "put a cell that contains the delimiter in double quotes"
                if len(header) == 1:
                    hint = f"delete what stands above the heading: `{clean(header[0][:40])}`"
                raise ManifestInvalid(
                    f"{name}:{reader.line_num}: the row has {len(row)} cells, the heading has {len(header)}",
                    hint=hint,
                )
            rows.append(row[: len(header)] + [""] * (len(header) - len(row)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise ManifestInvalid(
            f"{name}:{reader.line_num}: {error}", hint="check the quotes in this line"
        ) from None
    if not header:
        raise ManifestInvalid(f"`{name}` is empty")
    return Table(name, header, rows, lines, encoding, delimiter)


def _delimiter(text: str) -> str:
    """The character that splits the heading into most cells; spreadsheets in half of Europe write semicolons."""
    if found := _SEPARATOR_LINE.match(text):
        return found[1]
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=lambda char: len(next(csv.reader([first], delimiter=char), [])))


def write_table(header: list[str], rows: list[list[str]]) -> str:
    """CSV text as the agencies' templates have it: commas, quotes where needed, CRLF (RFC 4180)."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        # A row of one empty cell would be a blank line.
        writer.writerow(row) if row != [""] else stream.write('""\r\n')
    return stream.getvalue()
