"""Figures of nothing: they say in words what there is not to draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

import pandas as pd
from matplotlib.figure import Figure

from .style import GREY, style

Draw = TypeVar("Draw", bound=Callable[..., Figure])


def nothing(text: str) -> Figure:
    """Draw a sentence in place of a figure."""
    with style():
        figure = Figure(figsize=(6.4, 1.2))
        figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY, wrap=True)
    return figure


def says_if_nothing(text: str, *columns: str) -> Callable[[Draw], Draw]:
    """Let a figure say `text` if its frame has no rows, or no value in any of `columns`.

    The figure raises ValueError for a frame that has rows but not these columns.
    """

    def wrap(draw: Draw) -> Draw:
        first = next(iter(signature(draw).parameters))

        @wraps(draw)
        def figure(*arguments: Any, **named: Any) -> Figure:
            frame = arguments[0] if arguments else named[first]
            if frame.empty:
                return nothing(text)
            check_columns(frame, *columns)
            if columns and frame[list(columns)].isna().all(axis=None):
                return nothing(text)
            return draw(*arguments, **named)

        return cast(Draw, figure)

    return wrap


def check_columns(frame: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError for a frame that lacks one of some columns."""
    for column in columns:
        if column not in frame:
            raise ValueError(f"column {column!r}: is not in the frame, which has {', '.join(map(str, frame))}")
