"""Where the weights are in a file: below how many tables, and behind which prefix of their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .pickle_guard import SAVE_WEIGHTS, Inert

FIRST = "features.init_conv.weight"  # every official network has it
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""What DataParallel, torch.compile, FSDP and activation checkpoints add to the names of what they wrap."""
PREFERRED = ("state_dict", "model_state_dict", "model", "net", "network", "module")
NOT_WEIGHTS = ("_extra_state", "total_ops", "total_params")
"""The last names of what layers keep besides weights: states of their own, and the counters of thop."""
MAX_DEPTH = 6


@dataclass(frozen=True)
class Weights:
    """The named values of a network, and all that is stored beside them."""

    named: dict[str, Any]
    rest: dict[str, Any]


@dataclass(frozen=True)
class _Place:
    """A table in a file, and the tables around it, the outermost first."""

    names: tuple[str, ...]
    tables: tuple[Mapping[Any, Any], ...]

    @property
    def table(self) -> Mapping[Any, Any]:
        return self.tables[-1]

    @property
    def text(self) -> str:
        """How messages call it."""
        return f"its {'.'.join(self.names)!r}" if self.names else "it"

    @property
    def has_network(self) -> bool:
        """Whether an official network's first layer is among its names."""
        return any(_ends_in_first(_unwrapped(name)) for name in self.table if isinstance(name, str))


def find_weights(content: Any) -> Weights:
    """Find the one official network in a file. Raises ValueError, saying what is there instead."""
    places = list(_places(content))
    fitting = [place for place in places if place.has_network]
    if not fitting:
        raise ValueError(_nothing_found(content, places))
    place = _chosen(fitting)
    prefix, tensors = _named(place)
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    rest = [item for table in place.tables[:-1] for item in table.items()]
    rest += [(name, value) for name, value in place.table.items() if not isinstance(value, Tensor)]
    return Weights(named, dict(rest))


def _places(content: Any) -> Iterator[_Place]:
    """Yield every table in a file once, from the outside in."""
    waiting = [_Place((), (content,))] if isinstance(content, Mapping) else []
    seen: set[int] = set()
    while waiting:
        place = waiting.pop(0)
        if id(place.table) in seen:
            continue
        seen.add(id(place.table))
        yield place
        if len(place.names) < MAX_DEPTH:
            waiting += [
                _Place((*place.names, str(name)), (*place.tables, value))
                for name, value in place.table.items()
                if isinstance(value, Mapping)
            ]


def _chosen(fitting: list[_Place]) -> _Place:
    """Return the only network of a file, or the one of the usual name: averages lie beside it."""
    if len(fitting) == 1:
        return fitting[0]
    for usual in PREFERRED:
        named = [place for place in fitting if place.names[-1:] == (usual,)]
        if len(named) == 1:
            return named[0]
    names = ", ".join(repr(".".join(place.names)) for place in fitting)
    raise ValueError(f"has {len(fitting)} networks ({names}); save the one that you mean alone")


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _ends_in_first(name: str) -> bool:
    return name == FIRST or name.endswith(f".{FIRST}")


def _named(place: _Place) -> tuple[str, dict[str, Any]]:
    """Return the prefix of a network's names, and its values by names without wrappers. Raises ValueError."""
    texts = {name: value for name, value in place.table.items() if isinstance(name, str)}
    named = {_unwrapped(name): value for name, value in texts.items()}
    if len(named) < len(texts):
        raise ValueError(f"has tensors twice, with and without a prefix such as {_wrapper_of(texts)!r}")
    prefixes = [name.removesuffix(FIRST) for name in named if _ends_in_first(name)]
    if len(prefixes) > 1:
        raise ValueError(f"has {len(prefixes)} networks, under {prefixes}; save one of them alone")
    prefix, kept = prefixes[0], {}
    for name, value in named.items():
        if name.rpartition(".")[2] in NOT_WEIGHTS:
            continue
        is_own = name.startswith((f"{prefix}features.", f"{prefix}classifier."))
        if isinstance(value, Tensor) and (is_own or not _is_counter(value)):
            kept[name] = value
        elif is_own:
            raise ValueError(f"{name!r} is {_kind(value)}, not a tensor of a state dict")
    if other := next((name for name in kept if not name.startswith(prefix)), None):
        raise ValueError(
            f"{place.text} has a network under {prefix!r} and more beside it ({other}); "
            f"save that network alone: torch.save(model.{prefix}state_dict(), file)"
        )
    return prefix, kept


def _is_counter(tensor: Tensor) -> bool:
    """Return whether a tensor is one whole number, like the count of an averaged model."""
    return tensor.numel() == 1 and not tensor.is_floating_point()


def _wrapper_of(names: Mapping[str, Any]) -> str:
    found = (part for name in names for part in name.split(".") if part in WRAPPERS)
    return f"{next(found, '')}."


def _nothing_found(content: Any, places: list[_Place]) -> str:
    """Say what a file without an official network holds."""
    if isinstance(content, Inert) and not content:
        return f"is not a checkpoint: it holds an object of {content.name}, not a state dict; {SAVE_WEIGHTS}"
    most = max(places, key=lambda place: _count(place.table), default=None)
    if most and (tensors := [name for name, value in most.table.items() if isinstance(value, Tensor)]):
        return f"is of another architecture: {most.text} has {tensors[0]}, but no {FIRST}"
    for place in reversed(places):
        for name, value in place.table.items():
            if isinstance(value, Inert) or place.names[-1:] in [(usual,) for usual in PREFERRED]:
                where = f"{place.text}: " if place.names else ""
                fault = f"{name!r} is {_kind(value)}, not a tensor of a state dict"
                return f"is not a checkpoint: {where}{fault}; {SAVE_WEIGHTS}"
    return f"is not a checkpoint: it holds no state dict; {SAVE_WEIGHTS}"


def _count(table: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, Tensor) for value in table.values())


def _kind(value: Any) -> str:
    """Return the type of a value, or the class of an object that was not made."""
    return f"an object of {value.name}" if isinstance(value, Inert) else type(value).__name__
