"""Checkpoints of the official code (ShichenLiu/CondenseNet): the network is read off its tensors.

Masked files hold a `_mask` of the weight's size, under which weights are not zero; converted ones (utils.py,
convert_model) an `index` of the surviving inputs, group by group, and a classifier cut to half of its inputs.
"""

from .checkpoint import read_checkpoint
from .load import load_official
from .resume import official_snapshot

__all__ = ["load_official", "official_snapshot", "read_checkpoint"]
