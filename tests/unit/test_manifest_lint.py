"""The lint of a folder: what it finds, where, and what it advises."""

import os
from pathlib import Path

import pytest

from paletta_cli.manifests import Folder, Problem, Rules, lint, load_folder

GOOD = """\
- file: {file}
  title: Yellow tram number {n} climbs a street
  keywords: [tram, lisbon, street, hill, city]
  categories: [transport]
"""


def shoot(
    path: Path, clips: str, head: str = "paletta: 1\n", files: tuple[str, ...] = ("a.mov", "b.mov")
) -> Folder:
    path.mkdir(exist_ok=True)
    (path / "paletta.yaml").write_text(f"{head}clips:\n{clips}", encoding="utf-8")
    for name in files:
        (path / name).write_bytes(b"x")
    return load_folder(path)


def problems_of(path: Path, clips: str, **rest: object) -> list[Problem]:
    return lint(shoot(path, clips, **rest), Rules.shipped())  # type: ignore[arg-type]


def one(problems: list[Problem], code: str) -> Problem:
    found = [problem for problem in problems if problem.code == code]
    assert len(found) == 1, problems
    return found[0]


def entry(extra: str = "", **changes: str) -> str:
    fields = {
        "file": "a.mov",
        "title": "Yellow tram climbs a street",
        "keywords": "[tram, lisbon, street, hill, city]",
        "categories": "[transport]",
    } | changes
    lines = [f"{key}: {value}" for key, value in fields.items() if value != "-"]
    lines += extra.splitlines()
    return "- " + "\n  ".join(lines) + "\n"


def test_a_good_folder_has_no_problems(tmp_path: Path) -> None:
    clips = GOOD.format(file="a.mov", n=1) + GOOD.format(file="b.mov", n=2)
    assert problems_of(tmp_path, clips) == []


@pytest.mark.parametrize(
    ("clip", "code", "place", "message", "hint"),
    [
        (entry(titel="x"), "unknown_field", (7, 3), "unknown field `titel`", "did you mean `title`?"),
        (entry(tags="[a]"), "unknown_field", (7, 3), "unknown field `tags`", "did you mean `keywords`?"),
        (entry(title="Tram"), "too_short", (4, 10), "`title` has 4 characters, at least 5 wanted", None),
        (
            entry(title="x" * 201),
            "too_long",
            (4, 10),
            "`title` has 201 characters, at most 200 allowed",
            None,
        ),
        (entry(title="-"), "required", (3, 3), "`title` is missing for `a.mov`", None),
        (entry(title=""), "required", (4, 3), "`title` is empty for `a.mov`", None),
        (entry(title='""'), "required", (4, 3), "`title` is empty for `a.mov`", None),
        (
            entry(keywords="a, b, c"),
            "type",
            (5, 13),
            "`keywords` must be a list, not a single value",
            "write it as a list: `keywords: [a, b, c]`",
        ),
        (entry(keywords="[a, b]"), "too_few", (5, 13), "`keywords` has 2 entries, at least 5 wanted", None),
        (
            entry(keywords='[a, b, c, d, "e,f"]'),
            "pattern",
            (5, 26),
            "`keywords` has the wrong form: `e,f`",
            "a comma separates keywords: write two entries",
        ),
        (
            entry(categories="[transprt]"),
            "category",
            (6, 16),
            "unknown category `transprt`",
            "did you mean `transport`?",
        ),
        (
            entry(categories="[Travel]"),
            "pattern",
            (6, 16),
            "`categories` has the wrong form: `Travel`",
            "did you mean `travel`?",
        ),
        (
            entry(shot_date="14.5.2026"),
            "date",
            (7, 14),
            "`shot_date` is not a date: `14.5.2026`",
            "write it as YYYY-MM-DD",
        ),
        (
            entry(shot_date="2026-02-30"),
            "date",
            (7, 14),
            "`shot_date` is not a date: `2026-02-30`",
            "write it as YYYY-MM-DD",
        ),
        (entry(mature="maybe"), "type", (7, 11), "`mature` must be true or false, not `maybe`", None),
        (
            entry(price='{hd: "49,00"}'),
            "pattern",
            (7, 15),
            "`price.hd` has the wrong form: `49,00`",
            "did you mean `49.00`?",
        ),
        (
            entry(price='{hd: "0.00"}'),
            "pattern",
            (7, 15),
            "`price.hd` has the wrong form: `0.00`",
            'price of the HD tier, such as "49.00"',
        ),
        (entry(poster_at="-1"), "too_small", (7, 14), "`poster_at` is -1, at least 0 wanted", None),
        (entry(poster_at="nan"), "type", (7, 14), "`poster_at` must be a number, not `nan`", None),
        (entry(editorial="{city: Lisbon}"), "required", (7, 14), "`editorial.text` is missing", None),
        (entry(location="{lat: 91}"), "too_large", (7, 19), "`location.lat` is 91, at most 90 allowed", None),
        (
            entry(file="aa.mov"),
            "missing_file",
            (3, 9),
            "`aa.mov` is not in the folder",
            "did you mean `a.mov`?",
        ),
        (
            entry(file="../a.mov"),
            "pattern",
            (3, 9),
            "`file` has the wrong form: `../a.mov`",
            "name of the clip's file in the same folder, without any folder",
        ),
    ],
)
def test_errors(
    tmp_path: Path, clip: str, code: str, place: tuple[int, int], message: str, hint: str | None
) -> None:
    problem = one([p for p in problems_of(tmp_path, clip, files=("a.mov",)) if p.severity == "error"], code)
    assert (problem.line, problem.col) == place
    assert problem.message == message
    assert problem.hint == hint
    assert problem.file == str(tmp_path / "paletta.yaml")


def test_vocabulary_lists_its_words(tmp_path: Path) -> None:
    problem = one(problems_of(tmp_path, entry(shot="{size: wyde}")), "vocabulary")
    assert problem.hint == "did you mean `wide`? known are extreme-wide, wide, medium, close-up, macro"


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    clips = (
        entry(title="x", categories="[trvel]")
        + entry(file="c.mov", keywords="[a]")
        + "- title: no file\n- text\n"
    )
    codes = {problem.code for problem in problems_of(tmp_path, clips, head="paletta: 2\nclip: 1\n")}
    assert codes >= {
        "version",
        "unknown_field",
        "too_short",
        "category",
        "missing_file",
        "too_few",
        "required",
        "type",
        "unmentioned",
    }


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems_of(tmp_path, entry(title="x", mature="maybe") + entry(file="b.mov", title="y"))
    assert [p.line for p in found] == sorted(p.line for p in found)


def test_defaults_are_merged_field_by_field(tmp_path: Path) -> None:
    head = (
        "paletta: 1\n"
        "defaults: {source: FX3, batch: one, categories: [travel], location: {city: Lisbon, country: PT},\n"
        "  price: {hd: 49, auto: no}}\n"
    )
    clip = entry(
        "batch:\nlocation: {city: Porto}\nprice: {uhd4k: 99}\nmature: yes\npeople: {count: 2}", categories="-"
    )
    folder = shoot(tmp_path, clip, head=head)
    expected = {
        "title": "Yellow tram climbs a street",
        "keywords": ["tram", "lisbon", "street", "hill", "city"],
        "categories": ["travel"],
        "source": "FX3",
        "location": {"city": "Porto", "country": "PT"},
        "price": {"hd": "49", "auto": False, "uhd4k": "99"},
        "mature": True,
        "people": {"count": "2"},
    }
    assert folder.clips[0].metadata == expected
    assert not [p for p in lint(folder, Rules.shipped()) if p.severity == "error"]
    assert folder.clips[0].metadata == expected


def test_a_mistake_in_the_defaults_is_said_once_and_there(tmp_path: Path) -> None:
    clips = entry() + entry(file="b.mov", title="Another tram on a hill")
    found = problems_of(tmp_path, clips, head="paletta: 1\ndefaults: {shot: {size: wyde}}\n")
    problem = one(found, "vocabulary")
    assert (problem.line, problem.col, problem.clip) == (2, 25, None)


def test_doubtful_things_are_warnings(tmp_path: Path) -> None:
    clips = entry(keywords="[tram, Tram, a, b, c, d]", location="{country: Portugal}") + entry(file="b.mov")
    found = problems_of(tmp_path, clips, files=("a.mov", "b.mov", "c.MOV", ".hidden.mov", "notes.txt"))
    assert {problem.severity for problem in found} == {"warning"}
    assert one(found, "duplicate_item").message == "`Tram` is twice in `keywords`"
    assert one(found, "country").hint == "write `PT`"
    assert one(found, "duplicate_title").hint == "`a.mov` has the same; say what is different"
    assert one(found, "unmentioned").file == str(tmp_path / "c.MOV")


def test_a_file_described_twice(tmp_path: Path) -> None:
    found = problems_of(tmp_path, entry() + entry(title="The same file again"))
    problem = one(found, "duplicate_file")
    assert problem.severity == "error"
    assert problem.hint == f"first at {tmp_path / 'paletta.yaml'}:3:9"


def test_names_that_differ_only_in_case(tmp_path: Path) -> None:
    clips = entry() + entry(file="A.mov", title="Another tram on a hill")
    problem = one(problems_of(tmp_path, clips, files=("a.mov", "A.mov")), "duplicate_file")
    assert problem.severity == "warning"


def sidecar(path: Path, name: str, text: str) -> None:
    (path / f"{name}.yaml").write_text(text, encoding="utf-8")


BESIDE = "paletta: 1\ntitle: Fog over a pine forest\nkeywords: [a, b, c, d, e]\ncategories: [plants]\n"


def test_sidecars_take_the_folder_s_defaults(tmp_path: Path) -> None:
    sidecar(tmp_path, "b.mov", BESIDE)
    folder = shoot(tmp_path, entry(), head="paletta: 1\ndefaults: {source: FX3}\n")
    assert lint(folder, Rules.shipped()) == []
    assert [clip.file for clip in folder] == ["a.mov", "b.mov"]
    assert folder.clips[1].metadata["source"] == "FX3"
    assert str(folder.locate("b.mov", "/metadata/title")) == f"{tmp_path / 'b.mov.yaml'}:2:8"
    assert str(folder.locate("b.mov", "/metadata/source")) == f"{tmp_path / 'paletta.yaml'}:2:20"


def test_sidecars_alone(tmp_path: Path) -> None:
    sidecar(tmp_path, "a.mov", BESIDE)
    (tmp_path / "a.mov").write_bytes(b"x")
    folder = load_folder(tmp_path)
    assert lint(folder, Rules.shipped()) == []
    assert folder.clips[0].sidecar


def test_both_a_sidecar_and_an_entry_is_a_conflict(tmp_path: Path) -> None:
    sidecar(tmp_path, "a.mov", BESIDE)
    problem = one(problems_of(tmp_path, entry()), "conflict")
    assert problem.file == str(tmp_path / "a.mov.yaml")
    assert problem.hint == f"it is already described at {tmp_path / 'paletta.yaml'}:3:3; keep one of the two"


def test_a_sidecar_without_its_clip(tmp_path: Path) -> None:
    sidecar(tmp_path, "z.mov", BESIDE + "file: y.mov\n")
    found = problems_of(tmp_path, entry(), files=("a.mov",))
    assert one(found, "missing_file").clip == "z.mov"
    assert one(found, "conflict").line == 5


def test_no_manifest_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes(b"x")
    problem = one(lint(load_folder(tmp_path), Rules.shipped()), "no_manifest")
    assert problem.hint == f"`paletta manifest init {tmp_path}` writes one"


def test_one_clip_of_a_folder(tmp_path: Path) -> None:
    shoot(tmp_path, entry() + entry(file="b.mov", title="x"))
    folder = load_folder(tmp_path / "a.mov")
    assert [clip.file for clip in folder] == ["a.mov"]
    assert lint(folder, Rules.shipped()) == []


def test_locate_follows_pointers(tmp_path: Path) -> None:
    folder = shoot(
        tmp_path,
        entry(location="{city: Porto}"),
        head="paletta: 1\ndefaults: {location: {country: PT}, source: x}\n",
    )
    where = {
        "/metadata/title": (5, 10),
        "/metadata/keywords/1": (6, 20),
        "/metadata/location/city": (8, 20),
        "/metadata/location/country": (2, 32),
        "/metadata/source": (2, 45),
        "/metadata/description": (4, 3),
        "/title": (5, 10),
        "/file/name": (4, 9),
        "": (4, 3),
    }
    assert {pointer: folder.locate("a.mov", pointer)[1:] for pointer in where} == where
    problem = folder.problem("a.mov", "/metadata/title", "no", code="x")
    assert str(problem) == f"{tmp_path / 'paletta.yaml'}:5:10: error: no"


def test_unknown_category_without_the_service_is_only_doubtful(tmp_path: Path) -> None:
    problem = one(problems_of(tmp_path, entry(categories="[drone-racing]")), "category")
    assert problem.severity == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "paletta: 1",
        "paletta: 1\nclips: {a: b}",
        "\x00",
        "clips: [[[]]]",
        "paletta: 1\ndefaults: []\nclips: [1, [2], {file: }]",
    ],
)
def test_strange_manifests_are_errors_not_crashes(tmp_path: Path, text: str) -> None:
    (tmp_path / "paletta.yaml").write_text(text)
    assert any(problem.severity == "error" for problem in lint(load_folder(tmp_path), Rules.shipped()))


def test_a_name_that_the_service_refuses_is_found(tmp_path: Path) -> None:
    """By sidecar, where no `file:` is checked by the schema."""
    if os.name != "posix":
        pytest.skip("no such names there")
    for name in ("a\\b.mov", "Tram 12:30.mov"):
        (tmp_path / name).write_bytes(b"x")
        fields = entry().replace("- file: a.mov\n", "").replace("\n  ", "\n").strip()
        (tmp_path / f"{name}.yaml").write_text(f"paletta: 1\n{fields}\n")
    found = [p for p in lint(load_folder(tmp_path), Rules.shipped()) if p.severity == "error"]
    assert [(p.code, p.clip, p.message) for p in found] == [
        ("bad_name", "a\\b.mov", "the file name `a\\b.mov` has a slash or a backslash in it")
    ]


def test_a_path_for_a_name_is_one_mistake(tmp_path: Path) -> None:
    found = problems_of(tmp_path, entry(file="clips/a.mov"))
    assert [p.code for p in found if p.severity == "error"] == ["pattern"]


COMPOSED, DECOMPOSED = "caf\u00e9 lisboa.mov", "cafe\u0301 lisboa.mov"


@pytest.mark.parametrize(("written", "on_disk"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_an_accent_is_the_same_however_it_is_encoded(tmp_path: Path, written: str, on_disk: str) -> None:
    folder = shoot(tmp_path, entry(file=written), files=(on_disk,))
    assert lint(folder, Rules.shipped()) == []
    [clip] = folder
    assert (clip.file, clip.written) == (on_disk, written)
    assert clip.path.exists()


def test_a_sidecar_finds_its_clip_however_accents_are_encoded(tmp_path: Path) -> None:
    (tmp_path / DECOMPOSED).write_bytes(b"x")
    sidecar(tmp_path, COMPOSED, BESIDE)
    for path in (tmp_path, tmp_path / f"{COMPOSED}.yaml"):
        folder = load_folder(path)
        assert [clip.file for clip in folder] == [DECOMPOSED]
        assert lint(folder, Rules.shipped()) == []


def test_one_file_in_two_spellings_is_described_twice(tmp_path: Path) -> None:
    clips = entry(file=COMPOSED) + entry(file=DECOMPOSED, title="The same file again")
    problem = one(problems_of(tmp_path, clips, files=(DECOMPOSED,)), "duplicate_file")
    assert problem.severity == "error"


@pytest.mark.parametrize("named", [(COMPOSED,), (DECOMPOSED,), ("a.mov",)])
def test_files_that_differ_only_in_encoding_are_ambiguous(tmp_path: Path, named: tuple[str, ...]) -> None:
    clips = "".join(entry(file=name) for name in named)
    found = problems_of(tmp_path, clips, files=("a.mov", COMPOSED, DECOMPOSED))
    ambiguous = [problem for problem in found if problem.code == "ambiguous_file"]
    assert ambiguous
    assert {problem.severity for problem in ambiguous} == {"error"}
    assert "differ only in how accents are encoded" in ambiguous[0].message
    assert str(ambiguous[0].hint).startswith("rename one")


def test_a_half_composed_name_is_no_guess(tmp_path: Path) -> None:
    both, neither, half = "\u00e9\u00e9.mov", "e\u0301e\u0301.mov", "\u00e9e\u0301.mov"
    found = problems_of(tmp_path, entry(file=half), files=(both, neither))
    assert [problem.code for problem in found] == ["ambiguous_file"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a\nb.mov", "rename it: its name has control characters in it, which no manifest can hold"),
        ("\u202evom.mov", "rename it: its name has control characters in it, which no manifest can hold"),
        (os.fsdecode(b"caf\xe9.mov"), "`convmv` converts them"),
    ],
)
def test_a_clip_that_init_leaves_out_is_to_be_renamed(tmp_path: Path, name: str, hint: str) -> None:
    problem = one(problems_of(tmp_path, entry(), files=("a.mov", name)), "unmentioned")
    assert hint in str(problem.hint)
    assert "init" not in str(problem.hint)


def test_clips_to_be_renamed_are_shown_before_the_many(tmp_path: Path) -> None:
    names = ("a.mov", *(f"b{n}.mov" for n in range(30)), "z\n.mov")
    found = [p for p in problems_of(tmp_path, entry(), files=names) if p.code == "unmentioned"]
    assert any(str(problem.hint).startswith("rename it") for problem in found)
    assert any(problem.message.startswith("10 more clips") for problem in found)


@pytest.mark.parametrize(
    ("head", "code"),
    [("paletta: 1\n\tdefaults:\n", "yaml"), ("paletta: 1\nclips: a.mov\n", "type"), ("", "manifest")],
)
def test_who_cannot_read_a_manifest_does_not_say_whom_it_leaves_out(
    tmp_path: Path, head: str, code: str
) -> None:
    (tmp_path / "paletta.yaml").write_text(head)
    for name in ("a.mov", "b.mov"):
        (tmp_path / name).write_bytes(b"x")
    assert [problem.code for problem in lint(load_folder(tmp_path), Rules.shipped())] == [code]


def test_a_broken_sidecar_mentions_its_clip_all_the_same(tmp_path: Path) -> None:
    folder = shoot(tmp_path, entry(), files=("a.mov", "b.mov", "c.mov"))
    (folder.path / "b.mov.yaml").write_text("title: x\n\ttitle: y\n")
    problems = lint(load_folder(tmp_path), Rules.shipped())
    assert [(p.code, p.clip) for p in problems if p.severity == "warning"] == [("unmentioned", "c.mov")]
