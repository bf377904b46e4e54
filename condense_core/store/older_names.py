"""The names that runs on image folders had when these were named by their path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from condense_core.config import RunConfig


def older_names(config: RunConfig) -> Iterator[str]:
    """Yield the names of a run on a folder by every usual spelling of its path, the given one first."""
    for path in _spellings(config.data.name.partition(":")[2]):
        data = replace(config.data, name=f"{config.data.kind}:{path}", content=None)
        yield replace(config, data=data).name


def _spellings(path: str) -> list[str]:
    """Spell a path as given, plain, from here, absolute and without links; each also with a slash."""
    plain = os.path.normpath(os.path.expanduser(path))
    absolute, home = os.path.abspath(plain), os.path.expanduser("~")
    places = [path, plain, os.path.relpath(plain), absolute, os.path.realpath(plain)]
    if absolute.startswith(home + os.sep):
        places.append("~" + absolute.removeprefix(home))
    below = [f"./{place}" for place in places if not place.startswith((".", "/", "~"))]
    whole = [place.rstrip("/") for place in (*places, *below)]
    return list(dict.fromkeys([path, *whole, *(f"{place}/" for place in whole)]))
