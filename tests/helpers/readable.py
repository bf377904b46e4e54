"""Whether a figure can be read on a phone."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

PHONE = 388  # pixels of a phone of 420 between the margins of the page
SMALLEST = 8  # pixels of a text on it


def check_readable(figure: Figure, name: str) -> None:
    """Fail if a text of a figure is too small on a phone, cut off, or covers its neighbour on an axis."""
    figure.draw_without_rendering()
    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in texts_of(axis)}
    shown = min(1.0, PHONE / (96 * figure.get_figwidth()))
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text() or text.get_window_extent().width == 0:
            continue
        said = f"{name}: {text.get_text()!r}"
        assert text.get_fontsize() / 72 * 96 * shown >= SMALLEST, f"{said} is too small"
        box = text.get_window_extent()
        if text not in ticks:  # some of these are outside and not drawn
            assert box.x0 >= -2, f"{said} is cut off on the left"
            assert box.x1 <= figure.bbox.x1 + 2, f"{said} is cut off on the right"
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
        rotated = any(text.get_rotation() for text in axes.get_xticklabels())
        if axes.get_visible() and not rotated and axes.xaxis.get_visible():
            assert not any(one.x1 > two.x0 + 1 for one, two in pairwise(boxes)), f"{name}: ticks overlap"


def texts_of(axis: Axis) -> list[Text]:
    return axis.get_ticklabels(which="both")
