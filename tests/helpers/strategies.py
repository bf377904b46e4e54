"""hypothesis strategies for configurations."""

from __future__ import annotations

from hypothesis import strategies as st

from condense_core import ModelConfig


@st.composite
def model_configs(draw) -> ModelConfig:
    grouping = draw(st.sampled_from(["learned", "random", "independent", "sequential", "unstructured", "none"]))
    groups, factor = (1, 1) if grouping == "none" else (draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    blocks = draw(st.integers(1, 4))
    rate = groups * draw(st.integers(1, 3))
    stages = tuple(draw(st.lists(st.integers(1, 4), min_size=blocks, max_size=blocks)))
    connectivity = draw(st.sampled_from(["full", "block"]))
    layers = sum(stages) + (blocks - 1 if connectivity == "block" else 0)
    is_uneven = grouping in ("learned", "unstructured") and draw(st.booleans())
    return ModelConfig(
        stages=stages,
        growth=tuple(rate * draw(st.sampled_from([1, 2, 3])) for _ in range(blocks)),
        grouping=grouping,
        connectivity=connectivity,
        groups=groups,
        condense_factor=factor,
        condense_factors=tuple(draw(st.integers(1, 6)) for _ in range(layers)) if is_uneven else None,
        groups_3x3=draw(st.sampled_from([1, groups])),
        bottleneck=draw(st.integers(1, 4)),
        reduction=draw(st.floats(0.1, 1)),
        dropout=draw(st.floats(0, 0.9)),
        classifier_pruning=draw(st.booleans()),
        image_size=draw(st.integers(8, 64)),
        stem_stride=draw(st.sampled_from([None, 1])),
    )
