"""The configuration of a tracked run: a network and a training loop of the user's own.

Annotations are not text here either (see `condense_core.config`).
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from condense_core.config import Pixels, Pruning
from condense_core.files import NonNegative, NonNegativeInt, PositiveInt, Text
from condense_core.validation import Checked, Many, to_dict

MAX_SLUG = 60  # characters of a folder's name that are the variant's
OF_THE_READER = ("untraced",)  # not in the name: another version may trace more


class TrackedLayer(TypedDict):
    """A layer that learns groups. `sources` say which layer made its inputs `start` to `stop` (exclusive)."""

    name: Text
    inputs: PositiveInt
    outputs: PositiveInt
    groups: PositiveInt
    condense_factor: PositiveInt
    sources: list[tuple[str, int, int]]


@dataclass(frozen=True)
class TrackedConfig(Checked):
    """What is known of a run of one's own: what the user said, its condensation, and the layers it prunes."""

    network: Annotated[Text, Meta(description="class of the network")]
    variant: Annotated[Text, Meta(description="what the runs of several seeds have in common")]
    seed: Annotated[NonNegativeInt, Meta(description="what the user calls its seed")]
    image_size: Annotated[Pixels, Meta(description="height and width of the images that costs are of")]
    epochs: Annotated[PositiveInt, Meta(description="passes over the training images")]
    steps: Annotated[PositiveInt, Meta(description="steps of the optimizer")]
    group_lasso: NonNegative
    pruning: Pruning
    criterion: Text
    layers: Many[TrackedLayer]
    data: Annotated[Text, Meta(description="what the user calls the data")] = "own"
    settings: dict[str, Any] = field(default_factory=dict)
    untraced: Annotated[Text | None, Meta(description="why the sources of channels are not known")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.settings.items():
            _check_plain(name, value)

    @property
    def last_stage(self) -> int:
        """The last stage of the network: C−1 of the layer that is pruned most."""
        return max(layer["condense_factor"] for layer in self.layers) - 1

    def common(self, name: str) -> int | None:
        """Return the `groups` or the `condense_factor` of all layers; None if they differ."""
        found = {layer[name] for layer in self.layers}  # type: ignore[literal-required]
        return found.pop() if len(found) == 1 else None

    @cached_property
    def hash(self) -> str:
        """Ten hex digits of SHA-256 over all that was said and chosen; how channels are traced is not in it."""
        values = {name: value for name, value in to_dict(self).items() if name not in OF_THE_READER}
        layers = [{key: own for key, own in layer.items() if key != "sources"} for layer in values["layers"]]
        text = json.dumps(values | {"layers": layers}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Name of the run's folder: variant, seed and hash."""
        slug = re.sub(r"[^A-Za-z0-9_=.]+", "-", self.variant)[:MAX_SLUG].strip("-.")
        return f"{slug or 'tracked'}-s{self.seed}-{self.hash}"

    def differences(self, other: "TrackedConfig") -> list[str]:
        """Return what another run of the same variant was told otherwise, apart from its seed."""
        own, others = (_flat(replace(config, seed=0, untraced=None)) for config in (self, other))
        names = [name for name in dict.fromkeys([*own, *others]) if own.get(name) != others.get(name)]
        return [
            f"{name} {others.get(name, 'not given')!r}, not {own.get(name, 'not given')!r}" for name in names
        ]


def _flat(config: TrackedConfig) -> dict[str, Any]:
    values = to_dict(config)
    layers = {layer["name"]: (layer["groups"], layer["condense_factor"]) for layer in values.pop("layers")}
    return values.pop("settings") | values | {f"groups of {name}": sizes for name, sizes in layers.items()}


def _check_plain(name: Any, value: Any) -> None:
    """Raise ValueError unless a setting of the user's is a plain value of JSON under a plain name."""
    if not isinstance(name, str) or not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,100}", name):
        raise ValueError(f"settings {name!r}: a name must be text without control characters")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        valid = "must be a number, text, true or false, or a list or table of these"
        raise ValueError(f"settings {name} {value!r}: {valid}") from None
