"""Minimal SVG: a box with axes, texts and legends, for pictures that must appear at once."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from analysis.plots import thinned

Look = dict[str, str]  # attributes of an SVG element


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture, in pixels, and the values at its left and right, bottom and top edges."""

    left: float
    top: float
    width: float
    height: float
    across: tuple[float, float] = (0, 1)
    up: tuple[float, float] = (0, 1)

    def x(self, value: float) -> float:
        """Return the position of a value, in pixels from the left."""
        return self.left + self.width * (value - self.across[0]) / (self.across[1] - self.across[0])

    def y(self, value: float) -> float:
        """Return the position of a value, in pixels from the top."""
        return self.top + self.height * (self.up[1] - value) / (self.up[1] - self.up[0])

    def pixels(self, colours: np.ndarray) -> str:
        """Fill the box with colours: (rows, columns, 3 or 4), 0 to 1."""
        buffer = io.BytesIO()
        Image.fromarray((255 * colours).round().astype(np.uint8)).save(buffer, "png")
        data = base64.b64encode(buffer.getvalue()).decode()
        place = f'x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}"'
        look = 'preserveAspectRatio="none" style="image-rendering: pixelated"'
        return f'<image {place} {look} href="data:image/png;base64,{data}"/>'

    def line(self, xs: Iterable[float], ys: Iterable[float], look: Look) -> str:
        """Draw a line through the points that have a value."""
        values = ((x, y) for x, y in zip(xs, ys, strict=True) if y is not None and math.isfinite(y))
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in values)
        return f'<polyline points="{points}" {_attributes({"fill": "none"} | look)}/>'

    def bar(self, place: int, bottom: float, height: float, look: Look, tooltip: str) -> str:
        """Draw a bar around `place`, with a tooltip."""
        left, top = self.x(place - 0.4), self.y(bottom + height)
        width, size = self.x(place + 0.4) - left, self.y(bottom) - top
        edges = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{size:.1f}"'
        return f"<rect {edges} {_attributes(look)}><title>{escape(tooltip)}</title></rect>"

    def edges(self, form: Callable[[float], str]) -> str:
        """Draw the left and the lower edge, with numbers at the left one."""
        line = f"M{self.left} {self.top}V{self.top + self.height}H{self.left + self.width}"
        return f'<path d="{line}" fill="none" stroke="currentColor"/>' + self.beside(numbers_at(self.up, form))

    def below(self, ticks: dict[float, str], turned: bool = False) -> str:
        """Draw texts at values below the box."""
        aside, down, anchor = (4, 5, "end") if turned else (0, 14, "middle")
        y = self.top + self.height + down
        return "".join(label(self.x(value) + aside, y, text, anchor, turned) for value, text in ticks.items())

    def beside(self, ticks: dict[float, str]) -> str:
        """Draw texts at values on the left of the box."""
        return "".join(label(self.left - 5, self.y(value) + 4, text, "end") for value, text in ticks.items())


def names_at(labels: Iterable[Any], most: int) -> dict[float, str]:
    """Return at most about `most` labels by their place."""
    places, texts = thinned([str(label) for label in labels], most)
    return dict(zip(places, texts, strict=True))


def numbers_at(
    edges: tuple[float, float], form: Callable[[float], str], integer: bool = False
) -> dict[float, str]:
    """Return round numbers between two edges, as texts by their value."""
    ticks = MaxNLocator(5, integer=integer).tick_values(*edges)
    return {float(tick): form(tick) for tick in ticks if edges[0] <= tick <= edges[1]}


def legend(x: float, y: float, names: Sequence[str], looks: Iterable[Look]) -> str:
    """Draw a row of names, each after a square of its colour."""
    drawn = []
    for name, look in zip(names, looks, strict=True):
        square = {"fill": look.get("fill", look.get("stroke", "none"))} | look | {"stroke": "none"}
        drawn.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" {_attributes(square)}/>')
        drawn.append(label(x + 14, y, name, "start"))
        x += 34 + 6 * len(name)
    return "".join(drawn)


def _attributes(look: Look) -> str:
    return " ".join(f'{name}="{value}"' for name, value in look.items())


def label(x: float, y: float, text: str, anchor: str = "middle", turned: bool = False) -> str:
    """Draw a text at a place; `turned` makes it run upwards."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'


def picture(width: float, height: float, drawn: Iterable[str], description: str) -> str:
    """Return an SVG picture with a description, in the colour of the text around it."""
    size = f'viewBox="0 0 {width:g} {height:g}" style="display: block; width: 100%; max-width: {width:g}px"'
    look = 'fill="currentColor" font-size="11" font-family="sans-serif"'
    return f'<svg {size} {look} role="img" aria-label="{escape(description)}">{"".join(drawn)}</svg>'
