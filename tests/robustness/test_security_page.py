"""docs/security.md names tests and versions that are there."""

from __future__ import annotations

import re

from helpers.packages import NEEDED
from helpers.paths import ROOT


def test_every_test_that_the_document_names_is_there():
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [row for row in text.split("## Trusted")[0].splitlines() if row.startswith("|")][2:]
    assert len(rows) >= 14
    assert all(re.search(r"`test_\w+`", row) for row in rows)
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in sources, name


def test_the_document_names_the_lowest_versions_that_the_project_allows():
    text = (ROOT / "docs" / "security.md").read_text()
    allowed = " ".join(NEEDED).lower()
    for name, version in re.findall(r"^\| `([a-z0-9]+)` \| ([\d.]+) \|", text, re.MULTILINE):
        assert f"{name}>={version}" in allowed
