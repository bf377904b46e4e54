"""The workbench: studies, frames, statistics, figures and reports on top of `condense_core`.

`analysis.frames`, `analysis.plots`, `analysis.stats`, `analysis.Study` and `analysis.explore` come with
`import analysis`, each when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Study", "explore", "frames", "plots", "stats"]


def __getattr__(name: str) -> Any:
    if name in ("frames", "plots", "stats"):
        return importlib.import_module(f".{name}", __name__)
    if name == "Study":
        from .studies.study import Study

        return Study
    if name == "explore":
        from .explorer.widgets import explore

        return explore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
