"""Agencies' CSV files to a manifest and back: the same cells."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paletta_cli.errors import ManifestInvalid, UsageError
from paletta_cli.manifests import Folder, Rules, lint, load_folder
from paletta_cli.manifests.agencies import plan, plans
from paletta_cli.manifests.exchange import export_table, import_tables, manifest_text, recognise
from paletta_cli.manifests.loader import plain_metadata
from paletta_cli.manifests.tables import decode, parse_table, write_table

ADOBE = "Filename,Title,Keywords,Category,Releases\n"
SHUTTERSTOCK = "Filename,Description,Keywords,Categories,Editorial,Mature content,illustration\n"
POND5 = (
    "originalfilename,title,description,keywords,city,region,country,location,specifysource,modelreleased,"
    "propertyreleased,release,copyright,setpriceforme,price,pricelarge\n"
)
BLACKBOX = (
    "File Name,Description,Keywords,Category,Batch name,Editorial,Editorial Text,Editorial City,Editorial State,"
    "Editorial Country,Editorial Date,Title,Shooting Country,Shooting Date\n"
)
HEADERS = {"adobe": ADOBE, "shutterstock": SHUTTERSTOCK, "pond5": POND5, "blackbox": BLACKBOX}


def imported(tmp_path: Path, *texts: str, agency: str | None = None) -> Folder:
    tables = [parse_table(text, f"{n}.csv") for n, text in enumerate(texts)]
    result = import_tables([(table, recognise(table, agency)) for table in tables])
    (tmp_path / "paletta.yaml").write_text(manifest_text(result), encoding="utf-8", newline="")
    folder = load_folder(tmp_path)
    assert folder.problems == []
    return folder


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def back(folder: Folder, agency: str) -> list[list[str]]:
    table = export_table(folder, plan(agency))
    return cells(write_table(table.header, table.rows))


ROWS = {
    "adobe": ADOBE
    + 'a.mov,Tram climbs a hill,"tram, lisbon, hill, city, street",20,\nb.mov,Fog,fog,99,"x.pdf,y.pdf"\n',
    "shutterstock": SHUTTERSTOCK
    + 'a.mov,"Lisbon, Portugal - May 14, 2026: A tram",tram,Transportation,Yes,No,no\nb.mov,Fog,"a,b",Nature,,,\n',
    "pond5": POND5
    + 'a.mov,Tram,Text,"a,b",Lisbon,,Portugal,"Lisbon, Portugal",FX3,yes,no,a.pdf,Me,,99,49\n'
    + "b.mov,Fog,,a;b,,,USA,Elsewhere,FX3,no,yes,house.pdf,Me,1,$25.00,\n",
    "blackbox": BLACKBOX
    + 'a.mov,A tram climbs a hill,"a, b",Transportation,b1,True,What,Lisbon,,Portugal,05/14/2026,Tram,PT,2026-05-14\n'
    + 'b.mov,Fog,a,Nope,b1,FALSE,left over,,,,,,Utopia,"May 3, 2026"\n',
}


@pytest.mark.parametrize("agency", HEADERS)
def test_the_same_cells_come_back(tmp_path: Path, agency: str) -> None:
    folder = imported(tmp_path, ROWS[agency])
    assert back(folder, agency) == cells(ROWS[agency])


def test_what_the_cells_mean(tmp_path: Path) -> None:
    folder = imported(tmp_path, ROWS["pond5"])
    first, second = (clip.metadata for clip in folder)
    assert first["location"] == {"city": "Lisbon", "country": "PT"}
    assert first["price"] == {"hd": "49", "uhd4k": "99"}
    assert first["releases"] == {"model": ["a.pdf"]}
    assert first["source"] == "FX3"
    assert second["location"] == {"country": "US"}
    assert second["price"] == {"hd": "25.00", "auto": True}
    assert second["releases"] == {"property": ["house.pdf"]}
    folder = imported(tmp_path, ROWS["blackbox"])
    editorial = {"text": "What", "city": "Lisbon", "country": "PT", "date": "2026-05-14"}
    assert folder.clips[0].metadata["editorial"] == editorial
    assert "editorial" not in folder.clips[1].metadata
    assert folder.clips[1].metadata["shot_date"] == "2026-05-03"


def test_one_text_fills_the_fields_that_would_be_empty(tmp_path: Path) -> None:
    folder = imported(tmp_path, SHUTTERSTOCK + "a.mov,A tram climbs a hill,tram,Transportation,yes,no,no\n")
    metadata = folder.clips[0].metadata
    assert (
        metadata["title"]
        == metadata["description"]
        == metadata["editorial"]["text"]
        == "A tram climbs a hill"
    )


def test_an_editorial_clip_without_a_caption_asks_for_one(tmp_path: Path) -> None:
    folder = imported(tmp_path, SHUTTERSTOCK + "a.mov,,tram,Transportation,yes,no,no\n")
    assert "`editorial.text` is missing" in [problem.message for problem in lint(folder, Rules.shipped())]
    assert back(folder, "shutterstock")[1] == ["a.mov", "", "tram", "Transportation", "yes", "no", "no"]
    assert "editorial" in plain_metadata(folder, folder.clips[0])


def test_a_place_is_composed_of_its_parts(tmp_path: Path) -> None:
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- {file: a.mov, location: {city: Lisbon, country: PT}}\n"
        "- {file: b.mov, location: {text: At sea}}\n"
    )
    header, *rows = back(load_folder(tmp_path), "pond5")
    assert [row[header.index("location")] for row in rows] == ["Lisbon, Portugal", "At sea"]


def test_files_are_joined_on_the_clip(tmp_path: Path) -> None:
    folder = imported(tmp_path, ROWS["adobe"], ROWS["pond5"], ROWS["shutterstock"])
    assert [clip.file for clip in folder] == ["a.mov", "b.mov"]
    metadata = folder.clips[0].metadata
    assert metadata["title"] == "Tram climbs a hill"  # the first file that says something wins
    assert metadata["description"] == "Text"
    assert metadata["categories"] == ["transport"]
    for agency in ("adobe", "pond5", "shutterstock"):
        assert back(folder, agency) == cells(ROWS[agency])


def test_an_edit_shows_in_the_export_though_the_cell_was_spelled_otherwise(tmp_path: Path) -> None:
    imported(tmp_path, ADOBE + 'a.mov, Tram ,"a,b",20,\nb.mov,Fog,"a,b",20,\n')
    manifest = tmp_path / "paletta.yaml"
    text = manifest.read_text().replace("title: Tram", "title: Yellow tram", 1)
    manifest.write_text(text.replace("categories: [transport]", "categories: [health]", 1))
    assert back(load_folder(tmp_path), "adobe")[1] == ["a.mov", "Yellow tram", "a,b", "16", ""]


def test_the_manifest_may_give_an_agency_its_own(tmp_path: Path) -> None:
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: Tram\n  keywords: [a]\n  agencies: {adobe: {category: 7}}\n"
    )
    assert back(load_folder(tmp_path), "adobe")[1] == ["a.mov", "Tram", "a", "7", ""]


@pytest.mark.parametrize("agency", HEADERS)
def test_order_case_and_missing_columns(tmp_path: Path, agency: str) -> None:
    required = [column.name for column in plan(agency).columns if column.required]
    header = [name.upper() for name in reversed(required)]
    row = ["a.mov" if name == required[0] else "x" for name in reversed(required)]
    text = write_table([*header, "Notes"], [[*row, "kept"]])
    folder = imported(tmp_path, text)
    assert back(folder, agency) == [[*header, "Notes"], [*row, "kept"]]


def test_a_line_above_the_heading() -> None:
    table = parse_table(f"sep=;\r\n{ADOBE.replace(',', ';')}a.mov;T;k;1;\r\n", "x.csv")
    assert (table.delimiter, table.rows, table.lines) == (";", [["a.mov", "T", "k", "1", ""]], [3])
    assert recognise(table).agency == "adobe"
    with pytest.raises(ManifestInvalid, match=r"x\.csv:2: the row has 5 cells, the heading has 1") as caught:
        parse_table(f"exported by me\n{ADOBE}a.mov,T,k,1,\n", "x.csv")
    assert caught.value.hint == "delete what stands above the heading: `exported by me`"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters(encoding: str, delimiter: str) -> None:
    stream = io.StringIO(newline="")
    rows = [["Filename", "Title", "Keywords", "Category"], ["a.mov", "Café, straße; “x”", "a,b", "20"]]
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    text, _ = decode(stream.getvalue().encode(encoding), "x.csv")
    table = parse_table(text, "x.csv")
    assert [table.header, *table.rows] == rows
    assert recognise(table).agency == "adobe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (ADOBE + "a.mov,T,k,1,,,,extra\n", "x.csv:2: the row has 8 cells, the heading has 5"),
        (ADOBE + 'a.mov,"T"x,k,1,\n', "x.csv:2"),
        (ADOBE + "a.mov,T\x1b[2J,k,1,\n", r"x.csv:2: control character U\+001B"),
        (ADOBE + "a.mov,T,k,1,\na.mov,T,k,1,\n", "x.csv:3: `a.mov` is there twice"),
        (ADOBE + ",T,k,1,\n", "x.csv:2: the row names no file"),
        ("Filename,Title,Keywords,TITLE\na.mov,x,y,z\n", "two columns"),
        ("Filename,Title,Keywords,\na.mov,x,y,z\n", "no heading"),
    ],
)
def test_what_is_no_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestInvalid, match=message):
        import_tables([(table := parse_table(text, "x.csv"), recognise(table))])


def test_rows_of_commas_are_no_rows(tmp_path: Path) -> None:
    assert len(imported(tmp_path, ADOBE + "a.mov,T,k,1,\n,,,,\n\n").clips) == 1


def test_headings_of_nobody_and_of_several() -> None:
    with pytest.raises(UsageError) as raised:
        recognise(parse_table("a,b\n1,2\n", "x.csv"))
    assert raised.value.hint == f"say --agency {'|'.join(plans())}"
    with pytest.raises(UsageError, match="no column `Filename`"):
        recognise(parse_table("a,b\n1,2\n", "x.csv"), "adobe")
    assert recognise(parse_table(SHUTTERSTOCK, "x.csv")).agency == "shutterstock"
    assert recognise(parse_table("Filename,Title,Keywords,Zebra\n", "x.csv")).agency == "adobe"


def test_export_names_what_is_lost(tmp_path: Path) -> None:
    folder = imported(tmp_path, ROWS["pond5"])
    lost = export_table(folder, plan("adobe")).lost
    assert lost["description"] == 1
    assert lost["location.country"] == 2
    assert "title" not in lost
    assert "releases.model" not in lost
    assert export_table(folder, plan("pond5")).lost == {}


def test_an_editorial_caption_is_composed(tmp_path: Path) -> None:
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: Tram\n  description: d\n  keywords: [a]\n"
        "  editorial: {text: A tram burns, city: Lisbon, country: PT, date: 2026-05-04}\n"
    )
    folder = load_folder(tmp_path)
    row = back(folder, "shutterstock")[1]
    assert row[1] == "Lisbon, Portugal - May 4, 2026: A tram burns"
    assert row[4] == "yes"


def test_limits_of_an_agency(tmp_path: Path) -> None:
    title = "x" * 71 + ","
    (tmp_path / "paletta.yaml").write_text(
        f'paletta: 1\nclips:\n- file: {"f" * 30}.mov\n  title: "{title}"\n  keywords: [a, b, c, d, e]\n'
        "  categories: [drones]\n  price: {hd: '10'}\n"
    )
    folder = load_folder(tmp_path)

    def said(agency: str) -> list[tuple[int, str]]:
        found = lint(folder, Rules.shipped(), agencies=[agency])
        return [(p.line, p.message) for p in found if p.code == "agency_limit"]

    assert said("adobe") == [
        (3, "Adobe Stock: `file` has 34 characters, at most 30 allowed"),
        (4, "Adobe Stock: `title` has 72 characters, at most 70 allowed"),
        (4, "Adobe Stock: `title` must not contain `,`"),
    ]
    assert (7, "Pond5: `price.hd` is 10, at least 25 wanted") in said("pond5")
    assert (6, "Shutterstock: the category has no equivalent") in said("shutterstock")
    assert (5, "Shutterstock: `keywords` has 5 entries, at least 7 wanted") in said("shutterstock")


# The property: whatever stands in the cells.

refused = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\ufffe\uffff"
printable = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=refused)
text = st.text(st.one_of(printable, st.sampled_from("\n\r\t,;\"'")), max_size=12)
words = st.sampled_from(
    [
        "",
        " ",
        "yes",
        "No",
        "TRUE",
        "false",
        "1",
        "0",
        "20",
        "Nature",
        "People",
        "Food and Drink,Nature",
        "Portugal",
        "USA",
    ]
)
more = st.sampled_from(
    [
        "NO",
        "2026-05-14",
        "05/14/2026",
        "May 14, 2026",
        "a, b",
        "b;a",
        "a,A",
        "49",
        "$49.5",
        "49,00",
        "null",
        "~",
        "[x]",
        "# x",
    ]
)
a_cell = st.one_of(words, more, text)
file_name = st.text(alphabet="abcXYZ019_- .é", min_size=1, max_size=8).filter(lambda name: name.strip() != "")


@st.composite
def a_table(draw: st.DrawFn, agency: str) -> list[list[str]]:
    chosen = plan(agency)
    optional = [name for name in HEADERS[agency].strip().split(",") if not chosen.column(name).required]  # type: ignore[union-attr]
    header = [column.name for column in chosen.columns if column.required]
    header += draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    header += draw(st.lists(st.sampled_from(["My notes", "x-1", "Rating", "spelling2"]), unique=True))
    header = draw(st.permutations(header))
    names = draw(st.lists(file_name, min_size=1, max_size=4, unique_by=lambda name: " ".join(name.split())))
    at = next(n for n, name in enumerate(header) if (c := chosen.column(name)) and c.field == "file")
    rows = []
    for name in names:
        row = [draw(a_cell) for _ in header]
        row[at] = name
        rows.append(row)
    return [list(header), *rows]


@pytest.mark.parametrize("agency", HEADERS)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_comes_back_cell_for_cell(tmp_path: Path, agency: str, data: st.DataObject) -> None:
    rows = data.draw(a_table(agency))
    folder = imported(tmp_path, write_table(rows[0], rows[1:]), agency=agency)
    assert back(folder, agency) == rows


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_joined_tables_come_back_cell_for_cell(tmp_path: Path, data: st.DataObject) -> None:
    tables = {}
    names = data.draw(
        st.lists(file_name, min_size=1, max_size=3, unique_by=lambda name: " ".join(name.split()))
    )
    for agency in ("pond5", "blackbox", "adobe"):
        header = HEADERS[agency].strip().split(",")
        tables[agency] = [header] + [[name] + [data.draw(a_cell) for _ in header[1:]] for name in names]
    folder = imported(tmp_path, *(write_table(rows[0], rows[1:]) for rows in tables.values()))
    for agency, rows in tables.items():
        assert back(folder, agency) == rows
