"""The certificate of a condensed network: what it keeps, and how its outputs compare with the masked one's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense_core.condensation import kept_in_stage
from condense_core.cost import cost_table
from condense_core.grouping import Masked, masked_layers
from condense_core.model import CondenseNet, Transition

TOLERANCE = 1e-5  # of outputs in float32, relative to the largest


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Largest difference: max |Δ| / max |reference|; not finite where either is not."""
    return ((outputs - reference).abs().max() / reference.abs().max().clamp(min=1e-30)).item()


@dataclass(frozen=True)
class LayerCertificate:
    """A masked layer: inputs that each group keeps, its share in the network's stage, and the difference."""

    name: str
    in_channels: int
    groups: int
    kept: int
    share: int
    difference: float


@dataclass(frozen=True)
class Certificate:
    """How a condensed network compares with the masked one; differences are max |Δ| / max |reference|."""

    layers: tuple[LayerCertificate, ...]
    stage: int | None
    last_stage: int
    logits_difference: float
    images: int
    images_from: str
    macs: int
    params_before: int
    params_after: int
    bytes_before: int
    bytes_after: int
    tolerance: float = TOLERANCE

    @property
    def worst(self) -> float:
        """The largest difference, of any layer or of the logits."""
        return max([self.logits_difference, *(layer.difference for layer in self.layers)])

    @property
    def passes(self) -> bool:
        """Whether every group keeps exactly its stage's share and no difference is above the tolerance."""
        return self.stage is not None and self.worst <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with the verdict."""
        return {"holds": self.passes, "worst_difference": self.worst, **asdict(self)}


def certify(model: CondenseNet, small: CondenseNet, images: Tensor, images_from: str) -> Certificate:
    """Compare a condensed network with the masked one it was made from, layer by layer on `images`."""
    reference, outputs = (_layer_outputs(network, images) for network in (model, small))
    difference = {name: relative_difference(outputs[name], reference[name]) for name in reference}
    last = model.config.last_stage
    stage = stage_by_shares(model)
    layers = tuple(
        LayerCertificate(
            name,
            layer.mask.shape[1],
            layer.groups,
            kept(layer),
            kept_in_stage(layer, last if stage is None else stage, last),
            difference[_output_of(name)],
        )
        for name, layer in masked_layers(model).items()
    )
    return Certificate(
        layers,
        stage,
        last,
        difference["classifier"],
        len(images),
        images_from,
        cost_table(small).macs,
        *(sum(tensor.numel() for tensor in network.parameters()) for network in (model, small)),
        *(sum(tensor.nbytes for tensor in network.state_dict().values()) for network in (model, small)),
    )


def kept(layer: Masked) -> int:
    """Inputs that every group of a layer still reads."""
    return int(layer.mask.sum(1).max())


def stage_by_shares(model: CondenseNet) -> int | None:
    """The latest stage whose shares all layers keep; None where there is none."""
    last = model.config.last_stage
    layers = masked_layers(model).values()
    return next(
        (
            stage
            for stage in range(last, -1, -1)
            if all(kept(layer) == kept_in_stage(layer, stage, last) for layer in layers)
        ),
        None,
    )


def _output_of(name: str) -> str:
    """Where the output of a masked layer is compared: behind what its batch norm may be folded into."""
    return name.replace(".conv1", ".conv2") if name.endswith(".conv1") else name.removesuffix(".conv")


@torch.no_grad()
def _layer_outputs(model: CondenseNet, images: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs[name] = output

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if name.endswith(".conv2") or name == "classifier" or isinstance(module, Transition)
    ]
    training = model.training
    try:
        model.eval()(images)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return outputs
