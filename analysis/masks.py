"""The study of masks: where each variant has its masks from, and what their differences say."""

from __future__ import annotations

from dataclasses import dataclass

from condense_core.tables import GIVEN


@dataclass(frozen=True)
class MaskVariant:
    """How a variant comes to its masks; one with `grouping` GIVEN takes those of a learned run.

    The masks are those of the learned run of its own seed or `of_another_seed`; with `shuffled` the channels of
    every source layer are drawn anew. `other_weights`: its initial weights are another seed's.
    """

    help: str
    grouping: str = GIVEN
    pruning: str = "condensing"
    of_another_seed: bool = False
    shuffled: bool = False
    other_weights: bool = False


LEARNED = "learned"

MASK_VARIANTS: dict[str, MaskVariant] = {
    LEARNED: MaskVariant("learned in stages from a dense start", "learned"),
    "replay": MaskVariant("the learned masks from the first step, with the same initial weights"),
    "transplant": MaskVariant("the learned masks, with other initial weights", other_weights=True),
    "stranger": MaskVariant("the learned masks of another seed", of_another_seed=True),
    "shuffled": MaskVariant("as many channels of every source layer, drawn anew", shuffled=True),
    "independent": MaskVariant("drawn for each group alone", "independent"),
    "random": MaskVariant("drawn so that the groups share the inputs out", "random"),
    "sequential": MaskVariant("neighbouring inputs", "sequential"),
    "at-start": MaskVariant("by the scores of the initial weights", "learned", pruning="at-start"),
}
"""The variants of the study `masks` by name, the base first."""


@dataclass(frozen=True)
class MaskQuestion:
    """What the difference between two variants shows; those of the chain add up."""

    gives: str  # what `level` has and `against` lacks
    level: str
    against: str
    in_chain: bool = False


MASK_QUESTIONS: dict[str, MaskQuestion] = {
    "dense start": MaskQuestion("the dense start and pruning in stages", LEARNED, "replay", True),
    "channels": MaskQuestion("learned channels within each source layer", "replay", "shuffled", True),
    "source shares": MaskQuestion("learned shares of the source layers", "shuffled", "independent", True),
    "initial weights": MaskQuestion(
        "the initial weights that the masks were learned with", "replay", "transplant"
    ),
    "own seed": MaskQuestion("masks that its own seed learned", "replay", "stranger"),
    "training": MaskQuestion("masks chosen by trained instead of initial weights", "replay", "at-start"),
    "overlap": MaskQuestion("groups that draw alone, so that inputs are left out", "independent", "random"),
    "distance": MaskQuestion("near and far inputs mixed in each group", "random", "sequential"),
}
"""The questions of the study by the name of their factor; the chain first, from its top to its bottom."""


def other_seed(seed: int) -> int:
    """Return the seed whose masks or weights another one takes: the one before, and for 0 the next.

    More seeds in a study leave the runs of those before as they are.

    >>> [other_seed(seed) for seed in range(4)]
    [1, 0, 1, 2]
    """
    return seed - 1 if seed else 1
