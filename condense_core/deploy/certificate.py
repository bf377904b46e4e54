"""The certificate of a condensed network: the inputs it keeps, and its difference from the masked one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from condense_core.condensation import Learned
from condense_core.cost import cost_table
from condense_core.grouping import Masked, masked_layers
from condense_core.looking import unwrapped
from condense_core.model import CondenseNet
from condense_core.stages import kept_in_stage

from .outputs import TOLERANCE, Arguments, arguments_of, difference, run
from .tracing import Condensed, Place, batch_of


@dataclass(frozen=True)
class LayerCertificate:
    """A masked layer: inputs that each group keeps, its share in the network's stage, and the difference.

    A layer that does not run in evaluation mode has none.
    """

    name: str
    in_channels: int
    groups: int
    kept: int
    share: int
    difference: float | None


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
        found = [layer.difference for layer in self.layers if layer.difference is not None]
        return max([self.logits_difference, *found])

    @property
    def passes(self) -> bool:
        """True if every group keeps exactly its stage's share and no difference is above the tolerance."""
        return self.stage is not None and self.worst <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the verdict."""
        return {"holds": self.passes, "worst_difference": self.worst, **asdict(self)}


def certify(model: nn.Module, small: nn.Module, images: Any, images_from: str) -> Certificate:
    """Compare a condensed network with the masked one it was made from, layer by layer on `images`.

    They are what `condense` takes as an example; the outputs of networks other than CondenseNets may be nested.
    """
    model, arguments = unwrapped(model), arguments_of(images)
    places = _places(model, small)
    with _outputs_of(model, [place.reference for place in places.values()]) as reference:
        logits = run(model, arguments)
    with _outputs_of(small, [place.module for place in places.values()]) as outputs:
        logits_difference = difference(run(small, arguments), logits)
    last = last_stage(model)
    stage = stage_by_shares(model)
    layers = tuple(
        LayerCertificate(
            name,
            layer.mask.shape[1],
            len(layer.mask),
            kept(layer),
            _share(layer, last if stage is None else stage, last),
            _layer_difference(places.get(name), outputs, reference),
        )
        for name, layer in masked_layers(model).items()
    )
    return Certificate(
        layers,
        stage,
        last,
        logits_difference,
        batch_of(arguments),
        images_from,
        _macs(small, arguments),
        *(sum(tensor.numel() for tensor in network.parameters()) for network in (model, small)),
        *(sum(tensor.nbytes for tensor in network.state_dict().values()) for network in (model, small)),
    )


def last_stage(model: nn.Module) -> int:
    """Return the stage in which pruning is finished."""
    if isinstance(model, CondenseNet):
        return model.config.last_stage
    return max((layer.condense_factor for layer in masked_layers(model).values()), default=1) - 1


def kept(layer: Masked) -> int:
    """Return how many inputs every group of a layer still reads."""
    return int(layer.mask.sum(1).max())


def _share(layer: Masked, stage: int, last_stage: int) -> int:
    """Return how many inputs every group of a layer keeps in a stage."""
    learned = isinstance(layer, Learned)
    return kept_in_stage(layer.mask.shape[1], layer.condense_factor, stage, last_stage, learned)


def stage_by_shares(model: nn.Module) -> int | None:
    """Return the latest stage whose shares all layers keep, or None."""
    last, layers = last_stage(model), masked_layers(model).values()
    for stage in range(last, -1, -1):
        if all(kept(layer) == _share(layer, stage, last) for layer in layers):
            return stage
    return None


def _macs(small: nn.Module, arguments: Arguments) -> int:
    """Count the multiply-adds of a condensed network for one image."""
    if isinstance(small, CondenseNet):
        return cost_table(small).macs
    with FlopCounterMode(display=False) as counter:
        run(small, arguments)
    return int(counter.get_total_flops()) // 2 // batch_of(arguments)


def _places(model: nn.Module, small: nn.Module) -> Mapping[str, Place]:
    """Return where each masked layer is compared, by its name."""
    if isinstance(model, CondenseNet):
        return {name: Place(_output_of(name), _output_of(name)) for name in masked_layers(model)}
    done = getattr(small, "condensed", None)
    return done.places if isinstance(done, Condensed) else {}


def _output_of(name: str) -> str:
    """Return the module after which a masked layer is compared: its own batch norm may be folded away."""
    return name.replace(".conv1", ".conv2") if name.endswith(".conv1") else name.removesuffix(".conv")


@contextmanager
def _outputs_of(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Note what modules give while the block runs the model, before anything changes it in place."""
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs[name] = output.clone()

        return record

    with ExitStack() as stack:
        for name in set(names):
            stack.enter_context(model.get_submodule(name).register_forward_hook(hook(name)))
        yield outputs


def _layer_difference(
    place: Place | None, outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor]
) -> float | None:
    """Compare the channels of a layer that are still computed; None if it did not run."""
    if place is None or place.module not in outputs:
        return None
    expected = reference[place.reference]
    if place.channels is not None:
        expected = expected[:, place.channels]
    with torch.no_grad():
        return difference(outputs[place.module], expected if place.norm is None else place.norm(expected))
