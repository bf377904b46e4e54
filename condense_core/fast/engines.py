"""Give a network the fast execution, or take it away. All that other rooms need, without importing numba."""

from __future__ import annotations

import warnings
from functools import lru_cache

from torch import Tensor, nn

from condense_core import condensation
from condense_core.config import EXECUTIONS, Execution
from condense_core.grouping import LearnedGroupConv
from condense_core.model import CondenseNet, DenseBlock, Engine, Transition

from .conditions import modules_of


def use(model: CondenseNet, execution: Execution = "fast") -> None:
    """Let `model` compute its blocks by the kernels, or as the reference does.

    Without numba the reference stays, with a warning. What the kernels cannot compute (dropout, hooks, another
    device) is left to the reference, call by call. Raises ValueError if there is no such execution.

    >>> from condense_core import PRESETS, CondenseNet
    >>> model = CondenseNet(PRESETS["condensenet-50"])
    >>> use(model, "reference")
    >>> model.execution
    'reference'
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution {execution!r}: must be one of {', '.join(EXECUTIONS)}")
    fast = execution == "fast" and available()
    for part in model.blocks:
        if isinstance(part, DenseBlock | Transition):
            part.engine = _engine_for(part) if fast else None


def _engine_for(part: DenseBlock | Transition) -> Engine:
    from . import inference_block, training_block

    if isinstance(part, Transition):
        return training_block.PoolingEngine()
    if getattr(part, "is_condensed", False):  # its class is in a room that imports this one
        return inference_block.InferenceEngine()
    return training_block.TrainingEngine()


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether the kernels can be compiled here; warn once if not."""
    try:
        from . import inference_block, training_block  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"execution 'fast' is not available ({error}): the slower reference is used", stacklevel=3
        )
        return False
    return True


def group_lasso(model: nn.Module) -> Tensor:
    """`condensation.group_lasso` by a kernel, if there is one for the device: scalar."""
    layers = [module for module in modules_of(model) if isinstance(module, LearnedGroupConv)]
    if not layers or layers[0].weight.device.type != "cpu" or not available():
        return condensation.group_lasso(model)
    from .lasso import group_lasso_of

    return group_lasso_of(layers)
