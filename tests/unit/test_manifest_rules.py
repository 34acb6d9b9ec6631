"""The shipped data files agree with each other, and with what the service publishes."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from paletta_cli.errors import UsageError
from paletta_cli.manifests import Rules, agencies, lint, load_folder
from paletta_cli.manifests.data import data_file
from paletta_cli.manifests.schema import as_plain
from paletta_cli.manifests.source import parse


def plain(*parts: str) -> Any:
    document = parse(data_file(*parts).read_bytes(), parts[-1])
    assert not document.problems
    assert document.root is not None
    return as_plain(document.root)


@pytest.fixture
def live_body() -> dict[str, Any]:
    from paletta_server.clips.metadata import VOCABULARIES
    from paletta_server.core.settings import Settings
    from paletta_server.manifest_schema import service

    return json.loads(
        json.dumps(
            {
                "schema": service.manifest_schema(),
                "limits": service.limits(Settings()),
                "vocabularies": VOCABULARIES,
                "categories": [{"slug": "transport", "name": "Transport"}],
                "upload": {"min_part": 1},
            }
        )
    )


def test_the_schema_is_a_schema() -> None:
    schema = json.loads(data_file("paletta.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_examples_are_good(tmp_path: Path) -> None:
    schema = json.loads(data_file("paletta.schema.json").read_text())
    for name in ("paletta.yaml", "sidecar/clip.mov.yaml"):
        text = data_file("examples", name).read_text()
        assert text.startswith("# yaml-language-server: $schema=")
        target = text.splitlines()[0].partition("=")[2]
        assert (data_file("examples", name).parent / target).is_file()
        (tmp_path / Path(name).name).write_text(text)
    folder = load_folder(tmp_path)
    for clip in folder:
        (tmp_path / clip.file).write_bytes(b"x")
    folder = load_folder(tmp_path)
    assert lint(folder, Rules.shipped()) == []
    for clip in folder:
        jsonschema.validate(clip.metadata, schema["$defs"]["metadata"] | {"$defs": schema["$defs"]})
    assert "uhd4k" not in folder.clips[1].metadata["price"]


def test_the_taxonomy_has_the_same_equivalents_as_the_agency_plans() -> None:
    categories = plain("taxonomy.yaml")["categories"]
    assert len(categories) == 26
    for category in categories:
        assert category["description"]
        assert sorted(category["agencies"]) == ["adobe", "blackbox", "shutterstock"]
        for name, word in category["agencies"].items():
            assert agencies.plan(name).category(category["slug"]) == word
    first = [item["agencies"]["adobe"] for item in categories[:21]]
    assert first == [str(n) for n in range(1, 22)]  # Adobe's own list, in bijection


def test_starter_tags_are_folded_and_never_two_things() -> None:
    tags = plain("taxonomy.yaml")["tags"]
    words = [tag["name"] for tag in tags] + [word for tag in tags for word in tag.get("synonyms", ())]
    assert len(tags) >= 150
    assert len(set(words)) == len(words)
    assert all(word == " ".join(word.casefold().split()) and "," not in word for word in words)


def test_an_agency_s_word_leads_back_to_a_slug_of_that_word() -> None:
    for plan in agencies.plans().values():
        for slug, word in plan.options.get("categories", {}).items():
            back = plan.slug(word)
            assert back is not None, (plan.agency, slug)
            assert plan.category(back) == word


def test_unknown_agency() -> None:
    with pytest.raises(UsageError) as raised:
        agencies.plan("adobee")
    assert raised.value.hint == "did you mean `adobe`?"


def test_the_service_s_schema_is_understood(live_body: dict[str, Any], tmp_path: Path) -> None:
    rules = Rules.from_schema_response(live_body)
    assert rules.live
    assert list(rules.categories) == ["transport"]
    assert rules.media == Rules.shipped().media
    assert set(rules.clip_fields) == set(Rules.shipped().clip_fields)
    (tmp_path / "a.mov").write_bytes(b"x")
    (tmp_path / "paletta.yaml").write_text(
        "paletta: 1\nclips:\n- file: a.mov\n  title: A tram on a hill\n  keywords: [a, b, c, d, 'e,f']\n"
        "  categories: [travel]\n  price: {hd: 49.5, uhd4k: x}\n  shot: {size: wyde}\n  poster_at: 1.5\n"
        "  people: {count: 2}\n  shot_date: 1.2.2026\n  mature: yes\n"
    )
    folder = load_folder(tmp_path)
    found = {(p.line, p.code) for p in lint(folder, rules)}
    assert found == {(5, "pattern"), (6, "category"), (7, "pattern"), (8, "vocabulary"), (11, "date")}
    assert folder.clips[0].metadata["poster_at"] == 1.5
    assert folder.clips[0].metadata["people"] == {"count": "2"}
    assert folder.clips[0].metadata["mature"] is True


def test_the_service_takes_what_the_lint_passes(tmp_path: Path) -> None:
    from paletta_server.clips.metadata import ClipMetadata

    text = data_file("examples", "paletta.yaml").read_text()
    (tmp_path / "paletta.yaml").write_text(text)
    for clip in load_folder(tmp_path):
        ClipMetadata.model_validate(clip.metadata)


def test_limits_of_the_service_win(live_body: dict[str, Any]) -> None:
    live_body["limits"]["media"] |= {"min_seconds": 1, "codecs": ["H264"]}
    rules = Rules.from_schema_response(live_body)
    assert rules.media.min_seconds == 1
    assert rules.media.codecs == ("h264",)
    assert rules.media.max_seconds == 120


def test_an_answer_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="clips"):
        Rules.from_schema_response({"schema": {"type": "object"}})
