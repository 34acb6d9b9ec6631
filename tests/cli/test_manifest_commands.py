"""`paletta manifest`: what a person sees, and the exit codes that scripts see."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paletta_cli.main import main
from paletta_cli.manifests.data import data_file
from tests.support import media

MANIFEST = """\
paletta: 1
clips:
- file: tram.mov
  title: Yellow tram climbs a street
  keywords: [tram, lisbon, street, hill, city]
  categories: [{category}]
"""


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No service, no profile, relative paths: what is printed does not depend on this machine."""
    monkeypatch.setenv("PALETTA_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setenv("PALETTA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PALETTA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PALETTA_TOKEN", raising=False)
    monkeypatch.setenv("PALETTA_KEYRING", "off")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "a.mov"
    return media.clip(path, seconds=3, size=media.HD, codec="mjpeg", look="flat").read_bytes()


@pytest.fixture
def shoot(tmp_path: Path, clip: bytes) -> Path:
    folder = tmp_path / "shoot"
    folder.mkdir()
    (folder / "tram.mov").write_bytes(clip)
    return Path("shoot")


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["manifest", *argv])
    return code, *capsys.readouterr()


def test_check_finds_a_mistake(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transprt"))
    assert run(capsys, "check", "shoot", "--offline") == (
        3,
        "shoot/paletta.yaml:6:16: error: unknown category `transprt`\nhint: did you mean `transport`?\n".replace(
            "\nhint", "\n  hint"
        ),
        "checked against the rules that came with `paletta` (--offline)\nerror: 1 clip, 1 error, 0 warnings\n",
    )


def test_check_passes(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    code, out, err = run(capsys, "check", "shoot", "--offline")
    assert (code, out) == (0, "")
    assert err.endswith("1 clip, 0 errors, 0 warnings\n")


def test_check_says_which_keywords_become_their_tag(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = MANIFEST.format(category="transport").replace("hill, city", "Time-Lapse, dusk")
    (shoot / "paletta.yaml").write_text(manifest)
    code, out, err = run(capsys, "check", "shoot", "--offline")
    assert (code, out) == (0, "")
    assert err.splitlines()[0] == "2 keywords are taken as their tag: Time-Lapse → time lapse, dusk → sunset"
    assert err.endswith("1 clip, 0 errors, 0 warnings\n")
    machine = json.loads(run(capsys, "check", "shoot", "--offline", "--json")[1])
    assert machine["keywords_as_tags"] == {"Time-Lapse": "time lapse", "dusk": "sunset"}


@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link(
    dangling: bool, shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs.yaml"
    if not dangling:
        theirs.write_text("paletta: 1\nclips:\n")
    (shoot / "paletta.yaml").symlink_to(theirs)
    before = theirs.read_text() if theirs.exists() else None
    (tmp_path / "a.csv").write_text("Filename,Title,Keywords,Category,Releases\ntram.mov,Tram,tram,1,\n")
    for words in (("init", "shoot"), ("import", "a.csv", "--folder", "shoot", "--force")):
        code, out, err = run(capsys, *words)
        assert (code, out) == (1, "")
        assert "error: `shoot/paletta.yaml` is a symbolic link: nothing is written through it\n" in err
        assert (shoot / "paletta.yaml").is_symlink()
        assert (theirs.read_text() if theirs.exists() else None) == before
    assert {path.name for path in shoot.iterdir()} == {"paletta.yaml", "tram.mov"}


def test_a_draft_that_is_a_link_is_not_followed(
    shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (shoot / f".paletta.yaml.{os.getpid()}").symlink_to(theirs)
    assert run(capsys, "init", "shoot")[0] == 0
    assert theirs.read_text() == "theirs"
    assert not (shoot / "paletta.yaml").is_symlink()


def test_a_linked_clip_is_a_clip_for_init_as_for_the_upload(
    shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shoot / "tram.mov").rename(tmp_path / "elsewhere.mov")
    (shoot / "tram.mov").symlink_to(tmp_path / "elsewhere.mov")
    assert json.loads(run(capsys, "init", "shoot", "--json")[1])["added"] == ["tram.mov"]
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    assert run(capsys, "check", "shoot", "--offline")[:2] == (0, "")


def test_check_of_something_else_says_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    code, out, _ = run(capsys, "check", "passwd", "--offline")
    assert code == 3
    assert out == (
        "passwd: error: neither a clip nor a manifest\n"
        "  hint: name a folder of clips, its `paletta.yaml`, or one clip\n"
    )


def test_check_opens_the_clips(shoot: Path, capsys: pytest.CaptureFixture[str], clip: bytes) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    (shoot / "tram.mov").write_bytes(clip[: len(clip) // 2])
    code, out, _ = run(capsys, "check", "shoot", "--offline")
    assert code == 3
    assert out.startswith("shoot/paletta.yaml:3:9: error: `tram.mov` is cut short: at least ")
    assert run(capsys, "check", "shoot", "--offline", "--no-check-media")[0] == 0
    assert run(capsys, "check", "shoot", "--offline", "--no-media")[0] == 0, "what scripts may still say"
    assert "--no-media" not in run(capsys, "check", "--help")[1]


def test_check_says_when_the_service_is_out_of_reach(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    code, _, err = run(capsys, "check", "shoot")
    assert code == 0
    assert "checked against the rules that came with `paletta`: cannot reach http://127.0.0.1:9" in err


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service that publishes stricter rules and one category of its own."""
    schema = json.loads(data_file("paletta.schema.json").read_text())
    schema["$defs"]["title"]["minLength"] = 50
    body = {
        "schema": schema,
        "limits": {"media": {"min_seconds": 10}},
        "categories": [{"slug": "trams", "name": "Trams"}],
        "synonyms": {"hill": "slope"},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps(body).encode()
            self.send_response(200 if self.path == "/v1/manifest-schema" else 404)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PALETTA_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("service")
def test_check_takes_the_service_s_rules(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    code, out, err = run(capsys, "check", "shoot", "--json")
    assert code == 3
    answer = json.loads(out)
    assert answer["rules"] == "service"
    assert (answer["clips"], answer["errors"], answer["warnings"]) == (1, 3, 0)
    assert [(p["line"], p["column"], p["code"], p["clip"]) for p in answer["problems"]] == [
        (3, 9, "media_short", "tram.mov"),
        (4, 10, "too_short", "tram.mov"),
        (6, 16, "category", "tram.mov"),
    ]
    assert answer["keywords_as_tags"] == {"hill": "slope"}
    assert "checked against the rules of http://127.0.0.1:" in err


def test_check_prints_nothing_that_drives_a_terminal(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "evil\x1b[31m.mov").write_bytes(b"x")
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category='"[link=http://x]x"'))
    _, out, err = run(capsys, "check", "shoot", "--offline")
    assert "\x1b" not in out + err
    assert "`[link=http://x]x`" in out


def test_a_name_with_a_line_end_forges_no_problem(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    (shoot / "a\nshoot.yaml:1:1: error: forged.mov").write_bytes(b"")
    _, out, _ = run(capsys, "check", str(shoot), "--offline")
    assert "shoot/a shoot.yaml:1:1: error: forged.mov: warning: no manifest mentions this clip\n" in out
    assert not any(line.startswith("shoot.yaml:") for line in out.splitlines())


def test_where_a_manifest_cannot_be_written_is_said(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").mkdir()
    code, _, err = run(capsys, "init", str(shoot))
    assert code == 1
    assert err == ("error: cannot write `shoot/paletta.yaml`: is a directory\nhint: move it out of the way\n")
    assert [path.name for path in sorted(shoot.iterdir())] == ["paletta.yaml", "tram.mov"]


def test_check_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "nowhere") == (
        2,
        "",
        "error: `nowhere` does not exist\nhint: name a folder of clips\n",
    )


def test_check_with_an_agency_s_limits(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text(MANIFEST.format(category="transport"))
    code, out, _ = run(capsys, "check", "shoot", "--offline", "--agency", "Shutterstock", "--agency", "adobe")
    assert code == 0
    assert (
        "shoot/paletta.yaml:5:13: warning: Shutterstock: `keywords` has 5 entries, at least 7 wanted" in out
    )
    assert run(capsys, "check", "shoot", "--offline", "--agency", "abode")[0] == 2


def test_check_mentions_an_agency_that_the_manifest_speaks_of(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MANIFEST.format(category="transport") + "  agencies: {shutterstock: {illustration: no}}\n"
    (shoot / "paletta.yaml").write_text(text)
    code, out, err = run(capsys, "check", "shoot", "--offline")
    assert (code, out) == (0, "")
    assert "Shutterstock would complain 3 times: see --agency shutterstock\n" in err


def test_init_twice_then_check(shoot: Path, capsys: pytest.CaptureFixture[str], clip: bytes) -> None:
    code, out, err = run(capsys, "init", "shoot")
    assert (code, out) == (0, "")
    assert "wrote `shoot/paletta.yaml`: 1 clip added" in err
    before = (shoot / "paletta.yaml").read_text()
    (shoot / "fog-over-forest.mov").write_bytes(clip)
    code, out, _ = run(capsys, "init", "shoot", "--json")
    assert json.loads(out)["added"] == ["fog-over-forest.mov"]
    assert (shoot / "paletta.yaml").read_text().startswith(before.rstrip("\n"))
    assert run(capsys, "init", "shoot")[2] == "nothing new for `shoot/paletta.yaml`\n"
    code, out, _ = run(capsys, "check", "shoot", "--offline")
    assert code == 3
    assert "`keywords` has 0 entries" in out


def test_import_and_export(shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'Filename,Title,Keywords,Category\r\ntram.mov,Yellow tram climbs,"a,b,c,d,e",20\r\n'
    Path("adobe.csv").write_bytes(text.encode("utf-16"))
    code, out, err = run(capsys, "import", "adobe.csv")
    assert code == 0
    assert out.startswith("# Made by `paletta manifest import`")
    assert err == "`adobe.csv`: Adobe Stock, 1 row, utf-16\n"

    code, out, err = run(capsys, "import", "adobe.csv", "--folder", "shoot")
    assert (code, out) == (0, "")
    assert run(capsys, "import", "adobe.csv", "--folder", "shoot")[0] == 2  # never over a manifest
    assert run(capsys, "check", "shoot", "--offline")[0] == 0

    assert run(capsys, "export", "shoot", "--agency", "adobe")[:2] == (0, text)
    code, out, err = run(capsys, "export", "shoot", "--agency", "pond5", "--output", "p.csv")
    assert (code, out) == (0, "")
    assert "warning: Pond5 has no place for `categories` (1 clip)" in err
    assert Path("p.csv").read_bytes().startswith(b"originalfilename,title,")


def test_import_asks_for_the_agency(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.csv").write_text("a,b\n1,2\n")
    code, _, err = run(capsys, "import", "x.csv")
    assert code == 2
    assert "hint: say --agency adobe|blackbox|pond5|shutterstock" in err
    assert run(capsys, "import", "missing.csv")[0] == 3


def test_export_of_a_broken_manifest(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "paletta.yaml").write_text("clips: [")
    code, out, err = run(capsys, "export", "shoot", "--agency", "adobe")
    assert (code, out) == (3, "")
    assert "shoot/paletta.yaml:1:8: error: `[` or `{` is not closed" in err


FORGED = "a\nerror: forged.mov"


def test_init_keeps_a_name_with_a_line_end_on_its_line(
    shoot: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (shoot / FORGED).write_bytes(clip)
    code, _, err = run(capsys, "init", "shoot")
    assert code == 0
    assert err.splitlines()[0] == (
        "warning: the file name `a error: forged.mov` has control characters in it: left out"
    )
    assert not any(line.startswith("error:") for line in err.splitlines())


@pytest.mark.parametrize("table", ['"a\nerror: forged",b\n1,2\n', '"a\nerror: forged"\n1,2\n'])
def test_import_keeps_a_heading_with_a_line_end_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    (tmp_path / "adobe.csv").write_text(table)
    code, _, err = run(capsys, "import", "adobe.csv")
    assert code in (2, 3)
    assert "a error: forged" in err
    assert not any(line.startswith("error: forged") for line in err.splitlines())


def test_export_keeps_a_field_with_a_line_end_on_its_line(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MANIFEST.format(category="transport") + '  location: {"a\\nerror: forged": x}\n'
    (shoot / "paletta.yaml").write_text(text)
    _, _, err = run(capsys, "export", "shoot", "--agency", "adobe")
    assert "`location.a error: forged`" in err
    assert not any(line.startswith("error:") for line in err.splitlines())
