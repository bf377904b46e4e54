"""Give a network the fast execution, or take it away. All that other rooms need, without importing numba."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import nn

from condense_core.config import EXECUTIONS, Execution, RunConfig
from condense_core.model import CondenseNet, Transition

if TYPE_CHECKING:
    from .program import Programs


def use(model: CondenseNet, execution: Execution = "fast") -> None:
    """Let a condensed network compute its blocks by the kernels, or as the reference does.

    Without numba the reference stays, with a warning. What the kernels cannot compute (gradients, hooks, other
    devices) is left to the reference, call by call. A network that is not condensed stays as it is: `programs`
    train it. Raises ValueError if there is no such execution.

    >>> from condense_core import PRESETS, CondenseNet, condense
    >>> small = condense(CondenseNet(PRESETS["condensenet-50"]))
    >>> use(small, "reference")
    >>> execution_of(small)
    'reference'
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution {execution!r}: must be one of {', '.join(EXECUTIONS)}")
    for part in _condensed_parts(model):
        part.engine = _engine_for(part) if execution == "fast" and available() else None


def execution_of(model: CondenseNet) -> Execution:
    """Return how a network is computed: 'fast', if `use` has said so."""
    return "fast" if any(part.engine for part in _condensed_parts(model)) else "reference"


def _condensed_parts(model: CondenseNet) -> list[Any]:
    """Return what takes an engine; the classes are in a room that imports this one."""
    return [part for part in (model, *model.blocks) if hasattr(part, "engine")]


def _engine_for(part: nn.Module) -> Any:
    from . import inference_block, inference_network, pooling

    if isinstance(part, CondenseNet):
        return inference_network.NetworkEngine()
    return pooling.PoolingEngine() if isinstance(part, Transition) else inference_block.InferenceEngine()


def programs(model: CondenseNet, config: RunConfig) -> Programs | None:
    """Return what trains and evaluates a run's network by kernels; None if the reference or a GPU does."""
    if config.execution != "fast" or config.device != "cpu" or not available():
        return None
    from .program import Programs

    return Programs(model)


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether the kernels can be compiled here; warn once if not."""
    try:
        from . import inference_block  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"execution 'fast' is not available ({error}): the slower reference is used", stacklevel=3
        )
        return False
    return True
