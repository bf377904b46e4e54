"""The certificate of a condensed network: the inputs it keeps, and its difference from the masked one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from condense_core.condensation import Learned
from condense_core.cost import cost_table
from condense_core.grouping import Masked, masked_layers
from condense_core.looking import evaluating
from condense_core.model import CondenseNet, Transition
from condense_core.stages import kept_in_stage

TOLERANCE = 1e-5  # of outputs in float32, relative to the largest


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest difference, max |Δ| / max |reference|; not finite if either tensor is not."""
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
        """True if every group keeps exactly its stage's share and no difference is above the tolerance."""
        return self.stage is not None and self.worst <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the verdict."""
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
            _share(layer, last if stage is None else stage, last),
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
    """Return how many inputs every group of a layer still reads."""
    return int(layer.mask.sum(1).max())


def _share(layer: Masked, stage: int, last_stage: int) -> int:
    """Return how many inputs every group of a layer keeps in a stage."""
    learned = isinstance(layer, Learned)
    return kept_in_stage(layer.mask.shape[1], layer.condense_factor, stage, last_stage, learned)


def stage_by_shares(model: CondenseNet) -> int | None:
    """Return the latest stage whose shares all layers keep, or None."""
    last, layers = model.config.last_stage, masked_layers(model).values()
    for stage in range(last, -1, -1):
        if all(kept(layer) == _share(layer, stage, last) for layer in layers):
            return stage
    return None


def _output_of(name: str) -> str:
    """Return the module after which a masked layer is compared: its own batch norm may be folded away."""
    return name.replace(".conv1", ".conv2") if name.endswith(".conv1") else name.removesuffix(".conv")


def _layer_outputs(model: CondenseNet, images: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs[name] = output

        return record

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, module in model.named_modules():
            if name.endswith(".conv2") or name == "classifier" or isinstance(module, Transition):
                stack.enter_context(module.register_forward_hook(hook(name)))
        model(images)
    return outputs
