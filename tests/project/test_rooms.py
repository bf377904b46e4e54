"""The structure that readers rely on: a small core, small folders, rooms entered by their face."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

PACKAGES = ("condense_core", "analysis")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FOLDERS = sorted({path.parent for path in FILES})
ROOMS = {".".join(folder.relative_to(ROOT).parts) for folder in FOLDERS} - set(PACKAGES)


def module(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a file imports from our packages."""
    package = ".".join(path.parent.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source.split(".")[0] in PACKAGES:
                yield from ((source, alias.name) for alias in node.names)


def room_of(name: str) -> str:
    """The room that a module is in: `condense_core.fast` of `condense_core.fast.kernels.tiles`."""
    return ".".join(name.split(".")[:2])


def test_the_top_of_the_core_is_short_enough_to_be_read_in_one_sitting():
    files = list((ROOT / "condense_core").glob("*.py"))
    assert len(files) <= 14
    assert sum(len(path.read_text().splitlines()) for path in files) <= 1600


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_folder_has_at_most_16_modules(folder):
    assert len(list(folder.glob("*.py"))) <= 16


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_private_name_is_imported_from_another_file(path):
    private = [f"{source}.{name}" for source, name in imported(path) if name.startswith("_")]
    assert not private


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_room_is_entered_by_its_face(path):
    for source, name in imported(path):
        room = room_of(source)
        if room in ROOMS and room != room_of(module(path)):
            assert source == room, f"from {source} import {name}: import it from {room}"
