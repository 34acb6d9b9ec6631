"""The sheet that receipts and certificates are printed on: A4, our colours, and words in any script.

Western text is set in Helvetica, which every reader has: a document then takes ten milliseconds and 3 KB. A value
with other letters is set in FiraGO, embedded (Greek, Cyrillic, Arabic, Hebrew, Devanagari, Thai, Georgian; it comes
with the wheel `pymupdf-fonts`), shaped by HarfBuzz. What FiraGO lacks, above all Chinese, Japanese and Korean, is
spelt in Latin letters, marked with a star, and the document says where it stands as it was written.
"""

import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from anyascii import anyascii
from fpdf import FPDF
from fpdf.enums import Align, XPos, YPos

Colour = tuple[int, int, int]
INK: Colour = (27, 26, 23)
SOFT: Colour = (98, 94, 85)
LINE: Colour = (226, 222, 211)
FIELD: Colour = (246, 244, 239)
BAD: Colour = (155, 34, 38)
BARS: tuple[Colour, ...] = ((200, 85, 61), (224, 164, 88), (79, 138, 139))

MARGIN = 22.0
WIDTH = 210 - 2 * MARGIN
STAR = " *"
_JOINERS = "\u200c\u200d"
_shaping = threading.Lock()
"""FiraGO is parsed by a library that makes no promises about threads."""


class Paper(FPDF):
    """A document of ours. All measures are millimetres, sizes of type are points."""

    def __init__(self, title: str, *, made: datetime, foot: str) -> None:
        super().__init__(format="A4", unit="mm")
        self.core_fonts_encoding = "windows-1252"
        self._foot = foot
        self.transcribed = False
        """Whether somebody's words had to be spelt in Latin letters; each such line ends with a star."""
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.set_auto_page_break(True, margin=24)
        self.set_title(title)
        self.set_author("Paletta")
        self.set_creator("Paletta")
        self.set_lang("en")
        self.set_creation_date(made)  # the same document again is the same bytes
        self.add_page()

    def header(self) -> None:
        """The brand, on each page."""
        for number, colour in enumerate(BARS):
            self.set_fill_color(*colour)
            self.rect(MARGIN + number * 3.1, 18, 2.2, 6.4, style="F", round_corners=True, corner_radius=0.5)
        self.set_xy(MARGIN + 11, 17.6)
        self.write_words("Paletta", size=12.5, bold=True, width=60, height=7.2)
        self.set_y(38)

    def footer(self) -> None:
        """What the document is, and the page's number where there are several."""
        self.set_y(-18)
        self.set_draw_color(*LINE)
        self.line(MARGIN, self.get_y(), MARGIN + WIDTH, self.get_y())
        self.set_y(-15)
        pages = f"page {self.page_no()}"
        self.write_words(self._foot, size=7.5, colour=SOFT, width=WIDTH - 20, height=4)
        self.set_xy(MARGIN + WIDTH - 20, -15)
        self.write_words(pages, size=7.5, colour=SOFT, width=20, height=4, align=Align.R)

    def write_words(
        self,
        text: str,
        *,
        size: float = 10,
        bold: bool = False,
        mono: bool = False,
        colour: Colour = INK,
        width: float = 0,
        height: float | None = None,
        align: Align = Align.L,
    ) -> None:
        """Write `text` from where we stand, broken into lines of `width`, and go to the line below."""
        words, foreign, spelt = fitted(text)
        self.transcribed |= spelt
        left = self.get_x()
        self.set_text_color(*colour)
        if foreign:
            self._use_foreign(size)
        else:
            self.set_font("courier" if mono else "helvetica", "B" if bold else "", size)
        leading = height if height is not None else size * 0.3528 * 1.42
        self.multi_cell(width or WIDTH, leading, words, align=align, new_x=XPos.LEFT, new_y=YPos.NEXT)
        if foreign:
            self.set_text_shaping(False)
        self.set_x(left)

    def _use_foreign(self, size: float) -> None:
        if "firago" not in self.fonts:
            self.add_font("firago", "", fname=_firago())
        self.set_text_shaping(True)
        self.set_font("firago", "", size)

    def headline(self, title: str, line: str) -> None:
        """What this is, in large letters."""
        self.write_words(title, size=24, bold=True, height=11)
        self.ln(1)
        self.write_words(line, size=10.5, colour=SOFT)
        self.ln(6)

    def facts(self, rows: Sequence[tuple[str, str]], *, label: float = 38) -> None:
        """Names and values, a line below each."""
        for name, value in rows:
            self.keep_together(12)
            top = self.get_y()
            self.set_xy(MARGIN, top + 2.4)
            self.write_words(name, size=9, colour=SOFT, width=label, height=4.6)
            self.set_xy(MARGIN + label, top + 2.2)
            self.write_words(value, size=10.5, width=WIDTH - label, height=5)
            bottom = self.get_y() + 2.2
            self.set_draw_color(*LINE)
            self.set_line_width(0.2)
            self.line(MARGIN, bottom, MARGIN + WIDTH, bottom)
            self.set_xy(MARGIN, bottom)

    def section(self, title: str) -> None:
        self.keep_together(22)
        self.ln(6)
        self.write_words(title, size=11.5, bold=True, height=6)
        self.ln(1)

    def explain_transcription(self, where: str) -> None:
        """Say what the stars mean, where there are any. `where` shows the words as they were written."""
        if self.transcribed:
            self.ln(3)
            words = f"* Spelt in Latin letters by us, for want of a typeface. As it was written, and counts: {where}"
            self.write_words(words, size=8.5, colour=SOFT, height=4.4)

    def keep_together(self, height: float) -> None:
        if self.get_y() + height > self.page_break_trigger:
            self.add_page()

    def printed(self) -> bytes:
        """The finished document."""
        with _shaping if "firago" in self.fonts else _free():
            return bytes(self.output())


@contextmanager
def _free() -> Iterator[None]:
    yield


def fitted(text: str) -> tuple[str, bool, bool]:
    """`text` as it can be printed, on one line; whether it needs the embedded font, and whether it had to be spelt in
    Latin letters: then it ends with a star."""
    line = " ".join("".join(_printable(char) for char in unicodedata.normalize("NFC", text)).split(" "))
    try:
        line.encode("windows-1252")
    except UnicodeEncodeError:
        pass
    else:
        return line, False, False
    letters = _letters()
    printed = "".join(_spelt(char, letters) for char in line)
    spelt = printed != line
    if spelt:
        printed += STAR
    try:
        printed.encode("windows-1252")
    except UnicodeEncodeError:
        return printed, True, spelt
    return " ".join(printed.split(" ")), False, spelt


def _printable(char: str) -> str:
    category = unicodedata.category(char)
    if (
        category == "Cf"
    ):  # marks that steer the text around them have no width: only Persian and Indic joiners stay
        return char if char in _JOINERS else ""
    return char if category not in ("Cc", "Cs", "Co", "Cn") or char == "\n" else " "


def _spelt(char: str, letters: frozenset[int]) -> str:
    if ord(char) < 128 or ord(char) in letters:
        return char
    # Syllables of Chinese have no spaces between them: each keeps its own beginning, in capitals.
    return anyascii(char) or "?"


@cache
def _letters() -> frozenset[int]:
    """What FiraGO can write, as code points."""
    from fontTools.ttLib import TTFont

    with TTFont(_firago()) as font:
        return frozenset(font.getBestCmap())


@cache
def _folder() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="paletta-fonts-")


@cache
def _firago() -> str:
    """The font as a file of this process, which is how the PDF library wants it."""
    import pymupdf_fonts

    path = Path(_folder().name) / "firago.ttf"
    path.write_bytes(pymupdf_fonts.myfont("figo"))
    return str(path)
