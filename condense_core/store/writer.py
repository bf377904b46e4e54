"""Write a run: only the process that holds it does."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor


class Changed(ValueError):
    """Code, torch or data are no longer those that an unfinished run was begun with."""


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, for strict JSON."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, lambda file: file.write(content))
    return hashlib.sha256(content).hexdigest()
