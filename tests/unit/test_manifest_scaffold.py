"""`init`: what it reads from clips, and that it never touches what a person wrote."""

import os
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paletta_cli.errors import ManifestInvalid
from paletta_cli.manifests import Rules, lint, load_folder
from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.embedded import embedded
from paletta_cli.manifests.emit import flow, scalar
from paletta_cli.manifests.probe import Probe, probe
from paletta_cli.manifests.scaffold import scaffold, suggested_title
from paletta_cli.manifests.schema import as_plain
from paletta_cli.manifests.source import CONTROL, parse
from tests.support import media

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
  photoshop:City="Lisbon" photoshop:Country="Portugal" photoshop:DateCreated="2026-05-14T10:00:00+01:00">
<dc:title><rdf:Alt><rdf:li xml:lang="de">Bahn</rdf:li>
<rdf:li xml:lang="x-default">Tram on a hill</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>tram</rdf:li><rdf:li>Tram</rdf:li><rdf:li>hill</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def found(xmp: str | None = None, **tags: str) -> Probe:
    return Probe("mov", "h264", 1920, 1080, 5.0, 25.0, False, tags, xmp)


def test_xmp_wins_over_quicktime_keys() -> None:
    tags = {"com.apple.quicktime.title": "Other", "com.apple.quicktime.description": "From the phone"}
    values, origin = embedded(found(XMP, **tags))
    assert values == {
        "title": "Tram on a hill",
        "keywords": ["tram", "hill"],
        "location": {"city": "Lisbon", "country": "PT"},
        "shot_date": "2026-05-14",
        "description": "From the phone",
    }
    assert origin["title"] == "XMP"
    assert origin["description"] == "QuickTime"


@pytest.mark.parametrize("prefix", ["com.apple.quicktime.", ""])
def test_quicktime_keys_in_both_spellings(prefix: str) -> None:
    tags = {
        "title": "Tram on a hill",
        "keywords": "tram, hill",
        "creationdate": "2026-05-14T10:11:12+0100",
        "location.ISO6709": "+38.7139-009.1334+012.000/",
        "make": "Apple",
        "model": "Apple iPhone 17",
    }
    values, _ = embedded(found(None, **{prefix + key: value for key, value in tags.items()}))
    assert values == {
        "title": "Tram on a hill",
        "keywords": ["tram", "hill"],
        "shot_date": "2026-05-14",
        "source": "Apple iPhone 17",
        "location": {"lat": 38.7139, "lon": -9.1334},
    }


@pytest.mark.parametrize(
    "packet", ["", "not xml", "<a/>", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<a>" * 5000]
)
def test_strange_packets_say_nothing(packet: str) -> None:
    assert embedded(found(packet)) == ({}, {})


def test_a_packet_with_entities_is_not_parsed() -> None:
    assert embedded(found(XMP))[0]
    assert embedded(found('<!DOCTYPE a [<!ENTITY b "c">]>' + XMP.partition("?>")[2])) == ({}, {})


def xmp_box(packet: str) -> bytes:
    box = (
        bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet.encode()
    )  # XMP specification part 3, table 8
    return (len(box) + 8).to_bytes(4, "big") + b"uuid" + box


def test_xmp_is_read_from_a_file(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4", seconds=0.5, size=(320, 180))
    with path.open("ab") as stream:
        stream.write(xmp_box(XMP))
    assert embedded(probe(path, xmp=True))[0]["title"] == "Tram on a hill"


def test_controls_of_a_tag_are_dropped_and_joiners_stay() -> None:
    tags = {
        "title": "\u202eTram\x1b[31m on\u0085a\u2028 hill\ufffe",
        "description": "\u0645\u06cc\u200c\u062e\u0648\r\n\x07second\x0bthird\ufeff",
        "keywords": "tr\u00adam, \x9bhill",
    }
    assert embedded(found(None, **tags))[0] == {
        "title": "Tram[31m on a hill",
        "description": "\u0645\u06cc\u200c\u062e\u0648\nsecond\nthird",
        "keywords": ["tram", "hill"],
    }


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("yellow-tram_lisbon_4k_02.mov", "Yellow tram lisbon"),
        ("YellowTramClimbs.mp4", "Yellow Tram Climbs"),
        ("fog over forest 2160p ProRes422 v3 final.mov", "Fog over forest"),
        ("DSC_0042.MOV", None),
        ("C0012.MP4", None),
        ("GX010012.MP4", None),
        ("clip-3.mov", None),
        ("20260514_101112.mp4", None),
        ("_.mov", None),
    ],
)
def test_titles_from_file_names(name: str, title: str | None) -> None:
    assert suggested_title(name) == title


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "a.mov"
    return media.clip(path, seconds=0.5, size=(320, 180), metadata={"title": "From the file"}).read_bytes()


def test_a_new_manifest(tmp_path: Path, clip: bytes) -> None:
    for name in ("shot_10.mov", "red-kite_soaring.mov", "shot_2.mov"):
        (tmp_path / name).write_bytes(clip)
    (tmp_path / "broken.mov").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"x")
    done = scaffold(tmp_path)
    assert done.created
    assert done.added == ["broken.mov", "red-kite_soaring.mov", "shot_2.mov", "shot_10.mov"]
    assert done.unreadable == {"broken.mov": "is empty"}
    folder = load_folder(tmp_path)
    assert folder.problems == []
    assert folder.clips[1].metadata["title"] == "From the file"
    text = (tmp_path / "paletta.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=paletta.schema.json\n")
    assert (tmp_path / "paletta.schema.json").read_bytes() == data_file("paletta.schema.json").read_bytes()
    assert "title: From the file  # from QuickTime" in text
    assert [path.name for path in tmp_path.glob(".*")] == []


HAND_WRITTEN = [
    "paletta: 1  # ours\nclips:\n- file: a.mov\n  title: x # why\n",
    (
        "paletta: 1\nclips:\n\n  # the first\n  - file: a.mov\n    title: >-\n      folded\n      # not a comment\n\n\n"
        "  # trailing\n"
    ),
    (
        "paletta: 1\nclips:\n- file: a.mov\n  keywords: [a,\n    b]  # list\n  # later: more\n# about defaults\n"
        "defaults: {source: x}\n"
    ),
    "paletta: 1\r\nclips:\r\n- file: a.mov\r\n  title: x\r\n\r\n- file: c.mov\r\n  title: 'y'",
    "\ufeffpaletta: 1\nclips:\n- {file: a.mov, title: x}\n- {file: c.mov}\n",
    "paletta: 1\nclips:\n- title: x\n  file: a.mov\n  source:\n",
    "paletta: 1\nclips: []  # none yet\n# end\n",
    "paletta: 1\nclips:\n",
    "paletta: 1\nclips: ~\ndefaults: {source: x}\n",
    "paletta: 1\ndefaults: {source: x}\n# end",
]


@pytest.mark.parametrize("text", HAND_WRITTEN)
def test_adding_leaves_every_other_byte(tmp_path: Path, clip: bytes, text: str) -> None:
    manifest = tmp_path / "paletta.yaml"
    manifest.write_bytes(text.encode())
    before = [c.file for c in load_folder(tmp_path).clips]
    for name in (*before, "new1.mov", "new2.mov"):
        (tmp_path / name).write_bytes(clip)
    assert scaffold(tmp_path).added == ["new1.mov", "new2.mov"]

    after = manifest.read_bytes().decode()
    folder = load_folder(tmp_path)
    assert folder.problems == []
    assert [c.file for c in folder.clips] == [*before, "new1.mov", "new2.mov"]
    kept = [line for line in after.splitlines() if line.strip()]
    gone = [line for line in text.splitlines() if line.strip() and line not in kept]
    assert gone in ([], ["clips: []  # none yet"], ["clips: ~"])
    if before:
        start = next(n for n in range(len(text) + 1) if text[:n] != after[:n] or n == len(text))
        assert after.startswith(text[: start - 1] if start < len(text) else text)
        assert after.endswith(text[start:].lstrip("\r\n"))
    assert after.count("# ") == text.count("# ") + after.count("# from") + after.count(
        "# 5 to"
    ) + after.count("# one or")

    again = manifest.read_bytes()
    assert scaffold(tmp_path).added == []
    assert manifest.read_bytes() == again


def test_new_clips_stand_behind_the_last_one_s_own_comments(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "b.mov").write_bytes(clip)
    text = "paletta: 1\nclips:\n- file: a.mov\n  title: x\n  # keywords: later\n# the end\n"
    (tmp_path / "paletta.yaml").write_text(text)
    scaffold(tmp_path)
    lines = (tmp_path / "paletta.yaml").read_text().splitlines()
    assert lines[:7] == [*text.splitlines()[:5], "", "- file: b.mov"]
    assert lines[-1] == "# the end"


def test_a_broken_manifest_is_left_alone(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "a.mov").write_bytes(clip)
    (tmp_path / "paletta.yaml").write_text("paletta: 1\nclips: [\n")
    with pytest.raises(ManifestInvalid):
        scaffold(tmp_path)
    assert (tmp_path / "paletta.yaml").read_text() == "paletta: 1\nclips: [\n"


def test_clips_in_brackets_are_left_alone(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "b.mov").write_bytes(clip)
    (tmp_path / "paletta.yaml").write_text("paletta: 1\nclips: [{file: a.mov}]\n")
    with pytest.raises(ManifestInvalid, match="brackets"):
        scaffold(tmp_path)


def test_a_schema_of_ones_own_stays(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "a.mov").write_bytes(clip)
    (tmp_path / "paletta.schema.json").write_text("{}")
    assert scaffold(tmp_path).created
    assert (tmp_path / "paletta.schema.json").read_text() == "{}"


def test_names_that_no_manifest_can_hold_are_left_out(tmp_path: Path, clip: bytes) -> None:
    odd = ("a\u202evom.mov", "b\x1b[31m.mov", "c\u2028.mov", os.fsdecode(b"caf\xe9.mov"))
    for name in (*odd, "tram.mov"):
        (tmp_path / name).write_bytes(clip)
    done = scaffold(tmp_path)
    assert done.added == ["tram.mov"]
    controls = "has control characters in it"
    assert done.unusable == dict(zip(odd, (controls, controls, controls, "is not valid UTF-8"), strict=True))
    assert [one.file for one in load_folder(tmp_path)] == ["tram.mov"]


def test_a_clip_is_known_however_its_accents_are_encoded(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "caf\u00e9.mov").write_bytes(clip)
    scaffold(tmp_path)
    (tmp_path / "caf\u00e9.mov").rename(tmp_path / "cafe\u0301.mov")
    assert scaffold(tmp_path).added == []


def test_names_that_differ_only_in_encoding_are_left_out(tmp_path: Path, clip: bytes) -> None:
    twins = ("cafe\u0301.mov", "caf\u00e9.mov")
    for name in twins:
        (tmp_path / name).write_bytes(clip)
    done = scaffold(tmp_path)
    assert done.added == []
    assert done.unusable == dict.fromkeys(twins, "differs from another only in how accents are encoded")


def test_a_sidecar_s_name_may_hold_no_controls(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "a\u202evom.mov").write_bytes(clip)
    (tmp_path / "a\u202evom.mov.yaml").write_text("paletta: 1\ntitle: The clip with an odd name\n")
    found = [
        problem for problem in lint(load_folder(tmp_path), Rules.shipped()) if problem.code == "bad_name"
    ]
    assert [problem.hint for problem in found] == ["rename it"]


names = st.text(st.characters(exclude_characters="/\0"), max_size=30).map(lambda stem: f"x{stem}.mov")
# What XML can carry: no C0 controls, no surrogates, no noncharacters.
said = st.text(
    st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")
)


@settings(deadline=None)
@given(st.lists(names, min_size=1, max_size=3, unique=True), said, st.lists(said, max_size=3))
def test_what_init_writes_can_be_read_and_extended(
    clip: bytes, files: list[str], title: str, words: list[str]
) -> None:
    entries = {"dc:title": [title], "dc:description": [title + "\n" + title], "dc:subject": words}
    inside = "".join(
        f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{escape(text)}</rdf:li>' for text in texts)}</rdf:Bag></{name}>"
        for name, texts in entries.items()
    )
    head, _, tail = XMP.partition("<dc:title>")
    box = xmp_box(head + inside + "</rdf:Description>" + tail.partition("</rdf:Description>")[2])
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        known: list[str] = []
        for name in files:
            try:
                (folder / name).write_bytes(clip + box)
            except (OSError, UnicodeError):  # too long in UTF-8, or no name at all on this system
                continue
            done = scaffold(folder)
            assert not done.unreadable
            known += done.added
            again = load_folder(folder)
            assert again.problems == []
            assert [one.file for one in again] == known
            assert name in known or name in done.unusable


readable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30).filter(
    lambda text: not CONTROL.search(text)
)


@given(
    st.one_of(
        readable,
        st.sampled_from(["no", "NO", "~", "null", "1e3", "2024", "a: b", "#x", "- x", " x ", "", "'", '"']),
    )
)
def test_any_text_survives_being_written(text: str) -> None:
    for written in (f"k: {scalar(text)}\n", f"k: {flow([text])}\n", f"k: {flow({text: text})}\n"):
        document = parse(written.encode("utf-8", "surrogatepass"), "f")
        assert document.problems == []
        assert document.root is not None
        value = as_plain(document.root)["k"]
        assert value in (text, [text], {text: text})
