"""Choose the size that the images of a folder are cropped to, from the heads of some of its files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from condense_core.machine import read_ahead

from .image_file import read_image_size

DEFAULT_IMAGE_SIZE = 224
MAX_LOOKED_AT = 1024  # files, evenly spaced: a head takes a tenth of a millisecond, on a network's disk ten
MAX_NAMED = 3


@dataclass(frozen=True)
class ChosenSize:
    """Height and width in pixels, and what to say of images that are smaller or not square (may be empty)."""

    pixels: int
    note: str = ""


def evenly_spaced(count: int, at_most: int) -> list[int]:
    """Return at most so many of `count` indices, evenly spaced: the same ones every time."""
    taken = min(count, at_most)
    return [place * count // taken for place in range(taken)]


def choose_size(paths: list[Path]) -> ChosenSize:
    """Return the size of most images, at most 224; look at 1,024 of them, and decode none.

    Raise ValueError if most are not square, or if no size is that of at least half: then it must be given.
    """
    looked_at = [paths[place] for place in evenly_spaced(len(paths), MAX_LOOKED_AT)]
    sizes = dict(zip(looked_at, read_ahead(read_image_size, looked_at, MAX_LOOKED_AT), strict=True))
    votes = Counter(map(_vote, sizes.values()))
    (width, height), count = max(votes.items(), key=lambda item: (item[1], item[0]))
    if 2 * count < len(sizes):
        low, high = (f"{w}×{h}" for w, h in (min(sizes.values()), max(sizes.values())))
        raise ValueError(f"data: the images have many sizes, from {low} to {high}; give data_image_size")
    if width != height:
        example = next(path for path, size in sizes.items() if size == (width, height))
        raise ValueError(f"data: {example} is {width}×{height}, not square; give data_image_size")
    return ChosenSize(width, _note(sizes, width))


def _vote(size: tuple[int, int]) -> tuple[int, int]:
    """What an image's size says of the size to crop to: 224 square if it is at least as large."""
    width, height = size
    return (DEFAULT_IMAGE_SIZE,) * 2 if min(size) >= DEFAULT_IMAGE_SIZE else (width, height)


def _note(sizes: dict[Path, tuple[int, int]], pixels: int) -> str:
    """Name the images that voted for another size."""
    odd = [path for path, size in sizes.items() if _vote(size) != (pixels, pixels)]
    if not odd:
        return ""
    named = ", ".join("{} ({}×{})".format(path, *sizes[path]) for path in odd[:MAX_NAMED])
    more = f" and {len(odd) - MAX_NAMED} more" if odd[MAX_NAMED:] else ""
    return f"resized to {pixels} pixels, the size of most: {named}{more} of {len(sizes)} images looked at"
