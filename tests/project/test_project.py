"""The project's own files agree with one another."""

from __future__ import annotations

import ast
import re

import pytest
from helpers.packages import LOCK, NEEDED, name_of, pins
from helpers.paths import ROOT


def test_conda_users_get_the_versions_of_the_lock():
    conda = pins((ROOT / "environment.yml").read_text())
    assert set(conda) == {name_of(requirement) for requirement in NEEDED}
    assert conda == {name: LOCK[name] for name in conda}


def test_the_readme_says_what_each_dependency_is_for():
    readme = (ROOT / "README.md").read_text()
    for requirement in NEEDED:
        assert f"`{name_of(requirement)}`" in readme, requirement


def test_ci_runs_the_tests_and_nothing_else():
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[-1] == "make test"
    assert [line for line in commands if line.startswith("make")] == ["make test"]


def test_every_make_target_that_the_readme_names_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"ablate", "test"} <= named <= targets


def test_the_readmes_pictures_and_links_are_there():
    for link in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.parametrize("path", sorted((ROOT / "condense_core").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_never_imports_the_analysis(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.partition(".")[0] == "analysis" for name in names)
