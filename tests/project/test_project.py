"""The files of the project agree with one another."""

from __future__ import annotations

import ast
import re
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
from helpers.packages import LOCK, NEEDED, PROJECT, name_of, pins
from helpers.paths import ROOT
from packaging.specifiers import SpecifierSet

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_conda_users_get_the_versions_of_the_lock():
    conda = pins((ROOT / "environment.yml").read_text())
    assert set(conda) == {name_of(requirement) for requirement in NEEDED}
    assert conda == {name: LOCK[name] for name in conda}


def test_every_pinned_package_runs_on_the_oldest_supported_python():
    oldest = re.search(r"[\d.]+", PROJECT["requires-python"])[0] + ".0"
    wanted = {name: metadata(name).get("Requires-Python") for name in LOCK if is_installed(name)}
    assert len(wanted) > 100
    assert [name for name, needs in wanted.items() if needs and oldest not in SpecifierSet(needs)] == []


def is_installed(name: str) -> bool:
    """Return whether a package is installed in the pinned version."""
    try:
        return version(name) == LOCK[name]
    except PackageNotFoundError:
        return False


def test_the_docs_say_what_each_dependency_is_for():
    assert "](docs/dependencies.md)" in (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in NEEDED:
        assert f"`{name_of(requirement)}`" in page, requirement


def test_ci_runs_the_tests_and_nothing_else():
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[-1] == "make test"
    assert [line for line in commands if line.startswith("make")] == ["make test"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_make_target_that_the_readme_names_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"ablate", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_and_link_of_a_page_is_there(page):
    for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        linked = page.parent / link if link else page
        assert link.startswith("http") or linked.exists(), link
        assert not anchor or anchor in anchors(linked), f"{link}#{anchor}"


def test_every_test_that_a_page_names_is_there():
    files = list((ROOT / "tests").glob("*/test_*.py"))
    names = {path.stem for path in files}
    names |= {name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())}
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"`(test_\w+)`", text):
            assert name in names, f"{page.name}: {name}"
        for part in re.findall(r"`…(\w+)…`", text):
            assert any(part in name for name in names), f"{page.name}: {part}"


def test_the_index_of_the_docs_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").as_posix()
        assert path == "README.md" or f"]({path})" in index, path


@pytest.mark.parametrize("path", sorted((ROOT / "condense_core").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_never_imports_the_analysis(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.partition(".")[0] == "analysis" for name in names)
