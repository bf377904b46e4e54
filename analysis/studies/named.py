"""The named studies: the paper's questions and ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from analysis.masks import MASK_VARIANTS
from condense_core.config import CONNECTIVITIES, GROWTH_SCHEDULES, RETRAINING
from condense_core.tables import Named


@dataclass(frozen=True)
class NamedStudy:
    """A question, its place in the paper, the axes that it varies, and what else differs from the ablation."""

    question: str
    paper: str
    varied: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)


KEPT_WITH_PRESETS = ("grouping", "reference", "dense_equal", "match", "groups_3x3")
"""Settings of which a study keeps its own value, not the preset's."""

_PRUNINGS = ("condensing", *RETRAINING)
_CRITERIA = ("l1", "l2", "norm-scale", "random")

_LEARNED = {
    "grouping": ("learned",),
    "growth": ("exponential",),
    "connectivity": ("full",),
    "reference": False,
    "dense_equal": False,
    "sizes": (),
}

NAMED_STUDIES = Named(
    "study",
    {
        "ablation": NamedStudy(
            "What do learned groups, growth and connectivity each contribute at equal cost?",
            "Sec. 4.3, Figure 6",
        ),
        "path": NamedStudy(
            "What does each step from DenseNet-BC to CondenseNet contribute at equal cost?",
            "Sec. 4.3, Figure 6",
            fixed=_LEARNED | {"sizes": (2, 8), "groups_3x3": 1},
        ),
        "grouping": NamedStudy(
            "Do groups that are learned beat groups that are drawn or given?",
            "Sec. 3.1 argues it",
            {"grouping": ("learned", "random", "independent", "sequential")},
            {"growth": ("exponential",), "connectivity": ("full",)},
        ),
        "growth": NamedStudy(
            "Does exponential growth beat constant growth at equal cost?",
            "Sec. 3.3, Figure 6",
            {"growth": GROWTH_SCHEDULES},
            _LEARNED,
        ),
        "connectivity": NamedStudy(
            "Does reading every block beat reading one's own at equal cost?",
            "Sec. 3.3, Figure 6",
            {"connectivity": CONNECTIVITIES},
            _LEARNED,
        ),
        "pruning": NamedStudy(
            "Does condensing while training beat pruning a trained network, at equal cost and equal epochs?",
            "Sec. 4.3, Figure 7 (left)",
            {"grouping": ("learned", "unstructured"), "pruning": _PRUNINGS, "criterion": _CRITERIA},
            _LEARNED | {"dense_equal": True},
        ),
        "groups": NamedStudy(
            "How many groups should a learned group convolution have?",
            "Sec. 4.3, Figure 7 (middle)",
            {"groups": (1, 2, 4, 8)},
            _LEARNED,
        ),
        "condense-factor": NamedStudy(
            "How much can be pruned: what error at what cost does each condense factor give?",
            "Sec. 4.3, Figure 7 (right)",
            {"condense_factor": (1, 2, 4, 8)},
            _LEARNED | {"sizes": (2, 8), "match": "width"},
        ),
        "lasso": NamedStudy(
            "Does the group lasso that prepares the pruning help?",
            "Sec. 3.1, Eq. 2; no figures",
            {"group_lasso": (0.0, 1e-5, 1e-4, 1e-3)},
            _LEARNED,
        ),
        "masks": NamedStudy(
            "Is it the mask, the way to it, or the dense start?",
            "no figure",
            fixed=_LEARNED | {"seeds": 5},
        ),
        "same": NamedStudy(
            "Does one network under two names seem to differ from itself?",
            "no figure",
            fixed=_LEARNED | {"seeds": 10},
        ),
    },
)
"""The paper's questions by name."""

PATH: dict[str, dict[str, Any]] = {
    "DenseNet-BC": {"grouping": "none", "growth": "constant", "connectivity": "block"},
    "+ learned groups": {"grouping": "learned", "growth": "constant", "connectivity": "block"},
    "+ exponential growth": {"grouping": "learned", "growth": "exponential", "connectivity": "block"},
    "+ full connectivity": {"grouping": "learned", "growth": "exponential", "connectivity": "full"},
}
"""From DenseNet-BC to CondenseNet, step by step (paper Figure 6)."""

MASKS: dict[str, dict[str, Any]] = {
    name: {"grouping": how.grouping, "pruning": how.pruning, "masks": name}
    for name, how in MASK_VARIANTS.items()
}
"""The variants of the study `masks`, which differ in where their masks come from."""
