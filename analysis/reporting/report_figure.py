"""A figure of a report with what belongs to it, and the data of a study that its figures are drawn from."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from analysis import frames
from condense_core.store import Run, RunStore

STYLES = (
    "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif}</style>"
    '<style id="dark">@media (prefers-color-scheme: dark){'
    '[style*="fill: #262626"]{fill:#e6e6e6!important}[style*="stroke: #262626"]{stroke:#e6e6e6!important}'
    '[style*="fill: #4c4c4c"]{fill:#bdbdbd!important}[style*="stroke: #4c4c4c"]{stroke:#bdbdbd!important}'
    "}</style>"
)


@dataclass(frozen=True)
class ReportFigure:
    """A figure in a report: `alt` states its finding, `data` is the frame that it is drawn from.

    Unless it is one of those on top, it stands in its `chapter`.
    """

    key: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame
    chapter: str = "More figures"

    @cached_property
    def svg(self) -> str:
        """The figure as SVG, the same bytes for the same figure; its text turns light on a dark page."""
        buffer = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "condense"}):
            self.figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
        svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
        svg = re.sub(r"<!DOCTYPE.*?>", "", svg, flags=re.DOTALL)
        svg = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))
        svg = re.sub(r' id="[a-zA-Z.]+[\da-z]*_[_\d.]+"', "", svg)  # names of parts that nothing refers to
        svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
        svg = re.sub(r"font: ([^;']*px) '[^;]*", r"font-size: \1", svg)  # the family is in STYLES
        svg = re.sub(r" font-family: [^;]*;", "", svg)
        svg = svg.strip().replace("<defs>", f"{STYLES}<defs>", 1)
        return svg.replace("'", "&#39;").replace(
            '"', "'"
        )  # in a URL within double quotes these stay as they are


@dataclass(frozen=True)
class StudyData:
    """The runs of a study, their summary and comparisons: what its figures are drawn from."""

    store: RunStore
    runs: pd.DataFrame
    summary: pd.DataFrame
    compared: pd.DataFrame

    def named(self, names: Iterable[str]) -> list[Run]:
        """Return runs of the store by their names."""
        return [Run(self.store.root / name) for name in names]

    @property
    def is_tracked(self) -> bool:
        """Whether the runs are those of loops of one's own."""
        return bool((self.runs.growth == frames.OWN).all())

    @property
    def is_tested(self) -> bool:
        """Whether any finished run has a test error."""
        return bool(self.done.test_error_percent.notna().any())

    @property
    def done(self) -> pd.DataFrame:
        """The runs that are done."""
        return self.runs[self.runs.state == "done"]

    @property
    def grid(self) -> pd.DataFrame:
        """The summary of the base and the grid, without variants that have no finished run."""
        return self.summary[self.summary.role.isin(["base", "grid"]) & (self.summary.n > 0)]


def learned_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs that learned which connections to keep."""
    if runs.empty:
        return runs
    is_dense = runs.condense_factor <= 1  # the layers of a tracked network may have several factors
    learned = (runs.grouping == "learned") & (runs.pruning != "at-start") & ~is_dense
    return runs[(runs.state == "done") & learned]


def shown_run(runs: pd.DataFrame) -> str | None:
    """Return the learned run whose connections are shown: the base's first seed, if the base is learned."""
    done = learned_runs(runs)
    if done.empty:
        return None
    return str(done.sort_values("role", kind="stable", key=lambda role: role != "base").run.iloc[0])
