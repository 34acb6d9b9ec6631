"""The container recipe. No image can be built in a test: it is read as a builder would read it, and, where
`PALETTA_TEST_CONTAINER=1`, its pip lines are run in a fresh environment (a minute, with a package index)."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from paletta_server.alive import alive
from paletta_server.aws.template.environment import CERTIFICATES, WORK_FOLDER
from paletta_server.aws.template.network import API_PORT

TOP = Path(__file__).parents[2]
RECIPE = TOP / "paletta_server" / "deploy" / "Containerfile"
BUILT = "PALETTA_TEST_CONTAINER"


def instructions() -> list[tuple[int, str, str]]:
    """(stage, instruction, rest) of the recipe, lines joined and comments dropped."""
    text = re.sub(r"\\\n\s*", " ", RECIPE.read_text("utf-8"))
    found, stage = [], -1
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append((stage, word, rest.strip()))
    return found


def of(word: str, stage: int | None = None) -> list[str]:
    return [rest for at, name, rest in instructions() if name == word and stage in (None, at)]


def copied() -> list[str]:
    found = []
    for rest in of("COPY"):
        *sources, _ = [part for part in shlex.split(rest) if not part.startswith("--")]
        found += sources
    return found


def test_what_is_copied_exists_and_is_let_into_the_build() -> None:
    ignore = RECIPE.with_name("Containerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    assert ignore[[line for line in ignore if not line.startswith("#")] and 1] == "*"
    assert set(copied()) == let_in
    for source in copied():
        assert (TOP / source).exists(), source
    assert any(fnmatch("a/__pycache__", line) for line in ignore)
    assert not any(fnmatch(".env", name) or fnmatch(".git", name) for name in let_in)


def test_what_hatch_needs_for_the_wheel_is_copied() -> None:
    project = (TOP / "pyproject.toml").read_text("utf-8")
    for name in ("README.md", "LICENSE", "manifests", "paletta_cli", "paletta_server"):
        assert f'"{name}' in project
        assert name in copied()


def test_two_stages_from_one_base_that_can_be_named_by_digest() -> None:
    assert of("ARG") == ["PYTHON=docker.io/library/python:3.11-slim"]
    assert of("FROM") == ["${PYTHON} AS wheels", "${PYTHON}"]
    floor = re.search(r'requires-python = ">=(\d+\.\d+)"', (TOP / "pyproject.toml").read_text("utf-8"))
    assert floor is not None
    assert of("ARG")[0].partition("python:")[2].startswith(floor[1])


def test_the_last_stage_has_no_root_no_compiler_and_asks_nobody() -> None:
    last = 1
    assert of("USER", last) == ["10001:10001"]
    assert instructions().index((last, "USER", "10001:10001")) > max(
        number for number, (stage, word, _) in enumerate(instructions()) if word == "RUN" and stage == last
    )
    runs = " ".join(of("RUN", last))
    assert not re.search(r"gcc|build-essential|-dev\b|curl|wget|git\b", runs)
    assert "--no-index" in runs
    assert "rm -rf /var/lib/apt/lists" in runs
    environment = " ".join(of("ENV", last))
    assert "PYTHONUNBUFFERED=1" in environment
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert not re.search(r"SECRET|PASSWORD|TOKEN|KEY", " ".join(rest for _, _, rest in instructions()))


def test_recipe_and_template_agree() -> None:
    assert any(rest.endswith(f" {CERTIFICATES}") for rest in of("ADD"))
    assert of("VOLUME") == [f'["{WORK_FOLDER}", "/tmp"]']
    assert of("EXPOSE") == [str(API_PORT)]
    assert f"PALETTA_SCRATCH_DIR={WORK_FOLDER}/scratch" in " ".join(of("ENV"))
    assert f"--mode=0750 {WORK_FOLDER}" in " ".join(of("RUN"))


def test_the_command_exists() -> None:
    assert of("ENTRYPOINT") == ['["paletta-server"]']
    (command,) = of("CMD")
    words = re.findall(r'"([^"]+)"', command)
    done = subprocess.run(
        [sys.executable, "-m", "paletta_server.cli", words[0], "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for word in words:
        if word.startswith("--"):
            assert word in done.stdout


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_the_probe_asks_the_api(status: int, well: bool) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert alive(server.server_port) is well
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["/healthz"]
    assert alive(server.server_port) is False  # nobody listens any more


@pytest.mark.skipif(
    os.environ.get(BUILT) != "1", reason=f"{BUILT}=1 installs as the recipe does, from an index"
)
def test_the_recipe_s_own_lines_install_a_service_that_starts(tmp_path: Path) -> None:
    environment, wheels = tmp_path / "venv", tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    lines = [re.sub(r"--mount=\S+ ", "", rest) for rest in of("RUN") if "-m pip" in rest]
    assert len(lines) == 2
    for line in lines:
        words = [word.replace("/wheels", str(wheels)) for word in shlex.split(line)]
        subprocess.run([environment / "bin" / words[0], *words[1:]], cwd=TOP, check=True)
    for words in (
        ["--version"],
        ["api", "--help"],
        ["worker", "--help"],
        ["aws", "template"],
        ["aws", "cost"],
    ):
        subprocess.run(
            [environment / "bin" / "paletta-server", *words], cwd=tmp_path, check=True, capture_output=True
        )


PARTS = {
    "anyio": "fastapi",
    "botocore": "boto3",
    "fontTools": "fpdf2",
    "pydantic": "fastapi",
    "starlette": "fastapi",
}
"""What is imported by the name of a part of something declared, which is not itself without that part."""


def imported(path: Path) -> set[str]:
    """The packages that a module imports when its code runs, wherever in it."""

    class Imports(ast.NodeVisitor):
        def __init__(self) -> None:
            self.found: set[str] = set()

        def visit_If(self, node: ast.If) -> None:
            if "TYPE_CHECKING" not in ast.dump(node.test):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            self.found.update(alias.name.partition(".")[0] for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            if node.level == 0 and node.module:
                self.found.add(node.module.partition(".")[0])

    seen = Imports()
    seen.visit(ast.parse(path.read_text("utf-8")))
    return seen.found


def test_what_the_image_s_code_imports_is_declared_for_the_image() -> None:
    """Not merely brought along by something else today, nor declared for the machine that runs everything alone."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    (installed,) = re.findall(r"--find-links /wheels 'paletta\[([\w,]+)\]'", " ".join(of("RUN", 1)))
    wanted = list(project["dependencies"])
    for extra in installed.split(","):
        wanted += project["optional-dependencies"][extra]
    declared = {re.split(r"[\s\[>=<;]", one)[0].lower().replace("_", "-") for one in wanted}
    package = TOP / "paletta_server"
    used = {
        name: path.relative_to(TOP)
        for path in package.rglob("*.py")
        if package / "embedded" not in path.parents
        for name in imported(path) - sys.stdlib_module_names - {"paletta_server", "paletta_cli"}
    }
    providers = packages_distributions()
    undeclared = {
        name: str(path)
        for name, path in used.items()
        if not {one.lower().replace("_", "-") for one in providers.get(name, [])} & declared
        and PARTS.get(name) not in declared
    }
    assert undeclared == {}
