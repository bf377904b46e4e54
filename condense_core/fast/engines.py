"""Give a network the fast execution, or take it away. All that other rooms need, without importing numba."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from condense_core.config import EXECUTIONS, Execution, RunConfig
from condense_core.model import CondenseNet, DenseBlock, Engine, Transition

if TYPE_CHECKING:
    from .program import Programs


def use(model: CondenseNet, execution: Execution = "fast") -> None:
    """Let a condensed network compute its blocks by the kernels, or as the reference does.

    Without numba the reference stays, with a warning. What the kernels cannot compute (gradients, hooks, other
    devices) is left to the reference, call by call. A network that is not condensed stays as it is: `programs`
    train it. Raises ValueError if there is no such execution.

    >>> from condense_core import PRESETS, CondenseNet
    >>> model = CondenseNet(PRESETS["condensenet-50"])
    >>> use(model, "reference")
    >>> model.execution
    'reference'
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution {execution!r}: must be one of {', '.join(EXECUTIONS)}")
    is_condensed = any(hasattr(part, "is_condensed") for part in model.blocks)  # its class is in a room above
    fast = execution == "fast" and is_condensed and available()
    for part in model.blocks:
        if isinstance(part, DenseBlock | Transition):
            part.engine = _engine_for(part) if fast else None


def _engine_for(part: DenseBlock | Transition) -> Engine:
    from . import inference_block, pooling

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
