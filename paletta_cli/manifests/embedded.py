"""What a clip's own file says about it: XMP, QuickTime keys and plain container tags.

Names and their meanings: IPTC Video Metadata Hub mappings, Adobe XMP specification part 2, PLUS 1.2 (release
status), Apple's QuickTime metadata keys. Writers other than Apple's drop the `com.apple.quicktime.` prefix, so
both spellings are read. Where XMP and the tags disagree, XMP wins: it is what editors write last.
"""

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import date
from typing import Any

from paletta_cli.manifests.cells import put
from paletta_cli.manifests.countries import code_of
from paletta_cli.manifests.probe import Probe
from paletta_cli.manifests.source import CONTROL

# A packet larger than this is thumbnails and edit histories; one with a DTD is an attack.
_MAX_XMP = 4 * 1024 * 1024
_NS = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "core": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_APPLE = "com.apple.quicktime."
_KEPT = "\n\t\u200c\u200d"
_ISO6709 = re.compile(r"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)")


def embedded(found: Probe) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields that the file carries, and where each was found (`XMP`, `QuickTime`), by field name."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, source in (("XMP", _from_xmp(found.xmp)), ("QuickTime", _from_tags(found.tags))):
        for path, value in source:
            if value:
                top = path.partition(".")[0]
                put(values, path, value)
                origin.setdefault(top, name)
    return values, origin


def _from_xmp(packet: str | None) -> Iterable[tuple[str, Any]]:
    if not packet or len(packet) > _MAX_XMP or "<!DOCTYPE" in packet or "<!ENTITY" in packet:
        return
    try:
        root = ET.fromstring(packet.strip("\ufeff\x00 \n\r\t"))  # noqa: S314  (no DTD, bounded: see above)
    except (ET.ParseError, ValueError):
        return
    for node in root.iter(_q("rdf:Description")):
        yield "title", _line(_text(node, "dc:title"))
        yield "description", _text(node, "dc:description")
        yield "keywords", _words(_items(node, "dc:subject"))
        yield "copyright", _line(_text(node, "dc:rights"))
        yield "location.city", _line(_text(node, "photoshop:City"))
        yield "location.region", _line(_text(node, "photoshop:State"))
        country = _text(node, "core:CountryCode") or _text(node, "photoshop:Country")
        yield "location.country", code_of(country) if country else None
        yield "shot_date", _day(_text(node, "photoshop:DateCreated") or _text(node, "xmp:CreateDate"))
        yield "source", _line(" ".join(filter(None, (_text(node, "tiff:Make"), _text(node, "tiff:Model")))))
        yield from _shown_location(node)


def _shown_location(node: ET.Element) -> Iterable[tuple[str, Any]]:
    """Iptc4xmpExt:LocationShown or LocationCreated: the first place of the list."""
    for name in ("ext:LocationShown", "ext:LocationCreated"):
        for place in node.iterfind(f"{name}//rdf:li", _NS):
            inner = place.find("rdf:Description", _NS)
            place = inner if inner is not None else place
            yield "location.city", _line(_text(place, "ext:City"))
            yield "location.region", _line(_text(place, "ext:ProvinceState"))
            country = _text(place, "ext:CountryCode") or _text(place, "ext:CountryName")
            yield "location.country", code_of(country) if country else None
            yield "location.text", _line(_text(place, "ext:Sublocation"))
            return


def _from_tags(tags: dict[str, str]) -> Iterable[tuple[str, Any]]:
    folded = {key.casefold(): _plain(value) for key, value in tags.items()}

    def tag(*names: str) -> str | None:
        found = (folded.get(prefix + name) for name in names for prefix in (_APPLE, ""))
        return next((value for value in found if value), None)

    yield "title", _line(tag("title", "displayname"))
    yield "description", tag("description", "comment")
    yield "keywords", _words(re.split(r"[,;]", tag("keywords") or ""))
    yield "copyright", _line(tag("copyright"))
    # `creation_time` is left alone: it is when the container was written, by an export as much as by a camera.
    yield "shot_date", _day(tag("creationdate"))
    make, model = tag("make"), tag("model", "camera.identifier")
    yield (
        "source",
        _line(model if model and make and model.startswith(make) else " ".join(filter(None, (make, model)))),
    )
    if match := _ISO6709.match(tag("location.iso6709", "location") or ""):
        yield "location.lat", float(match[1])
        yield "location.lon", float(match[2])


def _q(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NS[prefix]}}}{local}"


def _text(node: ET.Element, name: str) -> str | None:
    """A property written as an attribute, as text, or as alternatives by language (x-default first)."""
    if (attribute := node.get(_q(name))) is not None:
        return _plain(attribute) or None
    child = node.find(_q(name))
    if child is None:
        return None
    choices = child.findall(".//rdf:li", _NS)
    default = [item for item in choices if item.get(_LANG) == "x-default"]
    for item in (*default, *choices, child):
        if item.text and (text := _plain(item.text)):
            return text
    return None


def _items(node: ET.Element, name: str) -> list[str]:
    child = node.find(_q(name))
    return [_plain(item.text or "") for item in child.iterfind(".//rdf:li", _NS)] if child is not None else []


def _plain(text: str) -> str:
    """Text as a manifest may hold it: without controls and what hides or reorders text.

    The joiners of Persian, Hindi and emoji stay, as everywhere; any kind of line end becomes a plain one.
    """
    lines = "\n".join(text.splitlines()).strip()
    return "".join(char for char in lines if char in _KEPT or not _is_unwanted(char))


def _is_unwanted(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs") or CONTROL.match(char) is not None


def _words(items: Iterable[str]) -> list[str]:
    words: dict[str, str] = {}
    for item in items:
        for part in item.split(","):
            if (word := " ".join(part.split())) and len(word) <= 50:
                words.setdefault(word.casefold(), word)
    return list(words.values())[:50]


def _line(text: str | None) -> str | None:
    return " ".join(text.split())[:200] or None if text else None


def _day(text: str | None) -> str | None:
    """The day of `2026-05-14T10:11:12+0200` or `2026:05:14 …`; cameras without a clock say 1904 or 1970."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text[:10].replace(":", "-"))
    except ValueError:
        return None
    return day.isoformat() if day.year > 1980 else None
