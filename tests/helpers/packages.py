"""The packages that pyproject.toml requires and constraints.txt pins."""

from __future__ import annotations

import re
import tomllib

from helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")


def pins(text: str) -> dict[str, str]:
    return {
        name_of(name): version
        for name, version in re.findall(r"^\s*-?\s*([\w.-]+)==(\S+)$", text, re.MULTILINE)
    }


LOCK = pins((ROOT / "constraints.txt").read_text())


NEEDED = [
    *PROJECT["dependencies"],
    *(
        name
        for extra in PROJECT["optional-dependencies"].values()
        for name in extra
        if name_of(name) != "condense"
    ),
]
