"""Which files torch.load may see: those of torch.save that hold no more than they claim.

`weights_only` keeps code from running, but not memory and time within bounds: compressed records, pickles that
build gigabytes from bytes, storages larger than the file, keys that take years to hash. So a pickle is first
walked through without building anything of it, and a zip is copied record by record, so that torch reads what
was looked at here.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

from condense_core.files import read_bytes

MAX_FILE_BYTES = 2 << 30  # bytes
MAX_PICKLE_BYTES = 2 << 20  # the names and shapes of some 10,000 tensors
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the first pickle of torch.save before 1.6
LEGACY_PICKLES = 5  # magic number, protocol, machine, the saved object, keys of the storages
BYTES_PER_ITEM = {
    **{f"{name}Storage": 8 for name in ("Double", "Long")},
    **{f"{name}Storage": 4 for name in ("Float", "Int")},
    **{f"{name}Storage": 2 for name in ("Half", "BFloat16", "Short")},
    **{f"{name}Storage": 1 for name in ("Byte", "Char", "Bool")},
}
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
CALLED = {"collections OrderedDict", *(f"torch._utils {name}" for name in REBUILT)}
STORAGES = {f"torch {name}": size for name, size in BYTES_PER_ITEM.items()}


class Refused(ValueError):
    """A file that torch.save does not write, or not for a state dict."""


def checked_file(path: Path) -> IO[bytes]:
    """Return the file for torch.load. Raises Refused, OSError, or the errors of zipfile and pickletools."""
    content = read_bytes(path, MAX_FILE_BYTES)
    if content.startswith(b"PK\x03\x04"):
        return _checked_zip(content)
    if content.startswith(LEGACY):
        pickles = io.BytesIO(content[:MAX_PICKLE_BYTES])
        for _ in range(LEGACY_PICKLES):
            for key, length in storages_of(pickles).items():
                _check_length(key, length, len(content))
        return io.BytesIO(content)
    raise Refused("cannot be read: it is truncated or no file of torch.save")


def _checked_zip(content: bytes) -> IO[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        names = [entry.filename.partition("/")[2] for entry in entries]
        if len(set(names)) < len(names) or names.count("data.pkl") != 1:
            raise Refused("is no file of torch.save: it has records twice or no data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Refused("has compressed records, which torch.save does not write")
        if sum(entry.file_size for entry in entries) > len(content):
            raise Refused("has records that overlap")
        records = dict(zip(names, entries, strict=True))
        if records["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"describes its tensors with {records['data.pkl'].file_size:,} bytes")
        for key, length in storages_of(io.BytesIO(archive.read(records["data.pkl"]))).items():
            record = records.get(f"data/{key}")
            _check_length(key, length, record.file_size if record else 0)
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as written:
            for name, entry in records.items():
                if name in ("data.pkl", "byteorder", "version") or name.startswith("data/"):
                    written.writestr(f"archive/{name}", archive.read(entry))
    copy.seek(0)
    return copy


def _check_length(key: str, claimed: int, there: int) -> None:
    """Torch allocates, or even reads, as many bytes as a pickle claims."""
    if claimed > there:
        raise Refused(f"its storage {key!r} would have {claimed:,} bytes, but there are {there:,}")


def storages_of(file: IO[bytes]) -> dict[str, int]:
    """Walk to the end of a pickle; the bytes of every storage that it claims, by key. Raises Refused."""
    walk = _Walk()
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in VALUES:
            walk.stack.append(argument if VALUES[name] is _ARGUMENT else VALUES[name])
        elif step := getattr(walk, f"_{name.lower()}", None):
            step(argument)
        else:
            raise Refused(f"is no file of torch.save: its pickle has {name}")
    return walk.storages


class _Global(str):
    """What a pickle would import: 'module name'."""


_ARGUMENT, _OTHER, _TABLE = object(), object(), object()  # what is read; what was built; an OrderedDict


class _Walk:
    """A walk through a pickle that follows text, numbers and tuples, and builds nothing else."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, int] = {}

    def _proto(self, _: Any) -> None:
        pass

    _stop = _proto

    def _mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _global(self, argument: str) -> None:
        if argument not in CALLED and argument not in STORAGES:
            raise Refused(f"is refused: reading it would call {argument.replace(' ', '.')}")
        self.stack.append(_Global(argument))

    def _binpersid(self, _: Any) -> None:
        found = self.stack.pop()
        if not isinstance(found, tuple) or len(found) not in (5, 6) or found[0] != "storage":
            raise Refused("is no file of torch.save: it names something else than a storage")
        kind, key, _, items = found[1:5]
        if kind not in STORAGES or not isinstance(key, str) or type(items) is not int or items < 0:
            raise Refused("is no file of torch.save: it has a storage of no type, key or length")
        self.storages[key] = max(self.storages.get(key, 0), STORAGES[kind] * items)
        self.stack.append(_OTHER)

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Global) or called not in CALLED or not isinstance(arguments, tuple):
            raise Refused("is refused: reading it would call something that it has built")
        ordered = called == "collections OrderedDict"
        if ordered and arguments:
            raise Refused("is refused: it has an OrderedDict with arguments")
        self.stack.append(_TABLE if ordered else _OTHER)

    def _build(self, _: Any) -> None:
        self.stack.pop()
        if self.stack[-1] is not _TABLE:
            raise Refused("is refused: it sets the attributes of something else than an OrderedDict")

    def _append(self, _: Any) -> None:
        self.stack.pop()

    def _appends(self, _: Any) -> None:
        self._to_mark()

    def _setitem(self, _: Any) -> None:
        self._check_keys([self.stack.pop(-2), self.stack.pop()])

    def _setitems(self, _: Any) -> None:
        self._check_keys(self._to_mark())

    @staticmethod
    def _check_keys(items: list[Any]) -> None:
        """Text and numbers alone: a tuple of tuples can take years to hash."""
        if not all(isinstance(key, str | int) for key in items[::2]):
            raise Refused("is no checkpoint: a key of its tables is neither text nor a whole number")

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


VALUES: dict[str, Any] = {
    **dict.fromkeys(("NONE", "EMPTY_LIST", "EMPTY_DICT"), _OTHER),
    "EMPTY_TUPLE": (),
    "NEWTRUE": True,
    "NEWFALSE": False,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _ARGUMENT),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINSTRING"), _ARGUMENT),
}
