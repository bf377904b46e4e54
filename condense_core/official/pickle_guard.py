"""The plain values of a pickle, read without calling anything that it names.

`weights_only` of torch keeps code from running, but it refuses whatever lies beside the weights, and memory and
time have no bounds. So a pickle is walked through here: tables, lists, text and numbers are built, tensors and
storages are noted, and any other object becomes an `Inert`. Torch never sees the pickle.
"""

from __future__ import annotations

import pickletools
import re
import sys
from dataclasses import dataclass
from typing import IO, Any

BYTES_PER_ITEM = {
    "torch.ComplexDoubleStorage": 16,
    **{f"torch.{name}Storage": 8 for name in ("Double", "Long", "ComplexFloat")},
    **{f"torch.{name}Storage": 4 for name in ("Float", "Int")},
    **{f"torch.{name}Storage": 2 for name in ("Half", "BFloat16", "Short")},
    **{f"torch.{name}Storage": 1 for name in ("Byte", "Char", "Bool")},
}
"""The storages of torch by name, and the bytes of one of their numbers."""

TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
PARAMETER = "torch._utils._rebuild_parameter"
GETATTR = ("builtins.getattr", "__builtin__.getattr")  # how Python before 3.11.4 names the member of an enum

PLAIN = re.compile(
    r"(argparse|collections|datetime|decimal|fractions|pathlib|pathlib\._local|uuid)\.\w+"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|bytes|complex|range|xrange|slice|object|dict|list|tuple)"
    r"|numpy(\.\w+)*\.(dtype|ndarray|scalar|_reconstruct|_frombuffer|__\w+_ctor)"
    r"|torch\.(Size|device|serialization\._get_layout)|torch\.torch_version\.TorchVersion"
    r"|_codecs\.encode|copy_?reg\._reconstructor|types\.SimpleNamespace|functools\.partial"
)
"""What else files of torch.save hold beside weights: it is passed over."""

LIBRARIES = frozenset(sys.stdlib_module_names) | {"__builtin__", "commands", "numpy", "torch", "urllib2"}
"""Where a file that means harm finds what to call: such a file is refused, not passed over."""

SAVE_WEIGHTS = "save the weights alone: torch.save(model.state_dict(), file)"


class Refused(ValueError):
    """A file that torch.save does not write, or not for a state dict."""


@dataclass(frozen=True)
class Storage:
    """A storage that a pickle names: its type in torch, its key and its number of items."""

    kind: str
    key: str
    items: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that a pickle describes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Table(dict[Any, Any]):
    """An OrderedDict, which may have attributes in a pickle; they are left out."""


class Inert(dict[Any, Any]):
    """An object that was not made: the name of its class or function, and its items if it has any."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name


class _Named(str):
    """What a pickle would import: 'module.name'."""


@dataclass(frozen=True)
class Walked:
    """What a pickle holds: its value, the containers in it, and its storages by key."""

    value: Any
    containers: list[Any]
    storages: dict[str, Storage]


def walk(file: IO[bytes]) -> Walked:
    """Read to the end of a pickle. Raises Refused, or errors of pickletools and of a stack that runs out."""
    walker = _Walk()
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ARGUMENTS:
            walker.stack.append(argument)
        elif name in VALUES:
            walker.stack.append(VALUES[name])
        elif step := getattr(walker, f"_{name.lower()}", None):
            step(argument)
        else:
            raise Refused(f"is no file of torch.save: its pickle has {name}; {SAVE_WEIGHTS}")
    return Walked(walker.stack[-1], walker.containers, walker.storages)


class _Walk:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.containers: list[Any] = []

    def _ignored(self, _: Any) -> None:
        pass

    _proto = _stop = _ignored

    def _mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _push(self, container: Any) -> None:
        self.containers.append(container)
        self.stack.append(container)

    def _empty_list(self, _: Any) -> None:
        self._push([])

    def _empty_dict(self, _: Any) -> None:
        self._push({})

    def _global(self, argument: str) -> None:
        self.stack.append(_Named(argument.replace(" ", ".")))

    def _binpersid(self, _: Any) -> None:
        found = self.stack.pop()
        if isinstance(found, tuple) and found[:1] == ("module",) and isinstance(found[1], _Named):
            self.stack.append(found[1])  # before torch 1.6 a class of layers came with its source
            return
        if not isinstance(found, tuple) or len(found) not in (5, 6) or found[0] != "storage":
            raise Refused("is no file of torch.save: it names something else than a storage")
        kind, key, _, items = found[1:5]
        if not isinstance(kind, _Named) or not isinstance(key, str) or type(items) is not int or items < 0:
            raise Refused("is no file of torch.save: it has a storage of no type, key or length")
        if kind not in BYTES_PER_ITEM:
            raise Refused(f"has a {kind}, which no weights are in; {SAVE_WEIGHTS}")
        known = self.storages.setdefault(key, Storage(kind, key, items))
        if (known.kind, known.items) != (kind, items):
            raise Refused(f"is no file of torch.save: its storage {key!r} has two types or lengths")
        self.stack.append(known)

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Named) or not isinstance(arguments, tuple):
            raise Refused("is refused: reading it would call something that it has built")
        if called == "collections.OrderedDict" and arguments:
            raise Refused("is refused: it has an OrderedDict with arguments")
        if called == "collections.OrderedDict":
            self._push(Table())
        elif called in TENSORS:
            self.stack.append(_tensor(*arguments[:4]))
        elif called == PARAMETER:
            self.stack.append(arguments[0])
        elif called in GETATTR and _is_member(arguments):
            self._push(Inert(arguments[0]))
        else:
            self._push(_passed_over(called))

    def _newobj(self, _: Any) -> None:
        _, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, _Named):
            raise Refused("is refused: reading it would call something that it has built")
        self._push(Inert(kind))

    def _build(self, _: Any) -> None:
        self.stack.pop()
        if not isinstance(self.stack[-1], Table | Inert):
            raise Refused("is refused: it sets the attributes of something else than an OrderedDict")

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Inert):
            raise Refused("is no file of torch.save: it appends to something else than a list")

    def _setitem(self, _: Any) -> None:
        self._set_items([self.stack.pop(-2), self.stack.pop()])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._to_mark())

    def _set_items(self, items: list[Any]) -> None:
        """Set items by keys that are quickly hashed: a tuple of tuples can take years."""
        if not all(_is_key(key) for key in items[::2]):
            raise Refused(f"is no checkpoint: a key of its tables is neither text nor a number; {SAVE_WEIGHTS}")
        if not isinstance(self.stack[-1], dict):
            raise Refused("is no file of torch.save: it sets items of something else than a table")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _tuple(self, _: Any) -> None:
        items = tuple(self._to_mark())
        self.stack.append(items)

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _binput(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def _binget(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    _long_binput, _long_binget = _binput, _binget


def _is_key(key: Any) -> bool:
    """Return whether a key of a table is text, a number or None, or a flat tuple of them."""
    parts = key if isinstance(key, tuple) else (key,)
    return len(parts) < 64 and all(
        part is None or isinstance(part, str | bytes | int | float) for part in parts
    )


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or not _are_whole((offset,)):
        raise Refused("is no file of torch.save: it has a tensor of no storage")
    if not _are_whole(size) or not _are_whole(stride) or len(size) != len(stride):
        raise Refused("is no file of torch.save: it has a tensor of no shape")
    return StoredTensor(storage, offset, size, stride)


def _are_whole(numbers: Any) -> bool:
    return isinstance(numbers, tuple) and all(type(number) is int and number >= 0 for number in numbers)


def _is_member(arguments: tuple[Any, ...]) -> bool:
    """Return whether they name a class, from no library where harm finds what to call, and its member."""
    owner, name = arguments if len(arguments) == 2 else (None, None)
    return isinstance(owner, _Named) and owner.partition(".")[0] not in LIBRARIES and type(name) is str


def _passed_over(called: str) -> Inert:
    """Return what stands for a call that is not made; raise Refused for one that a harmless file has not."""
    if called.partition(".")[0] in LIBRARIES and not PLAIN.fullmatch(called):
        raise Refused(f"is refused: reading it would call {called}; {SAVE_WEIGHTS}")
    return Inert(called)


ARGUMENTS = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "BINSTRING")
)
VALUES: dict[str, Any] = {"NONE": None, "EMPTY_TUPLE": (), "NEWTRUE": True, "NEWFALSE": False}
