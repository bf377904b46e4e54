"""Files of torch.save, in the zip format and in the one before torch 1.6: their content as plain values.

Only what `pickle_guard` has noted reaches torch: a list of tensors, in a pickle that is written here, and the
records of their numbers. Records that are compressed or overlap and storages larger than the file are refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense_core.files import read_bytes

from .pickle_guard import BYTES_PER_ITEM, SAVE_WEIGHTS, Refused, Storage, StoredTensor, Walked, walk

MAX_FILE_BYTES = 2 << 30  # bytes
MAX_PICKLE_BYTES = 2 << 20  # the names and shapes of some 10,000 tensors
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the first pickle of torch.save before 1.6
LEGACY_HEAD = 3  # magic number, protocol, machine; then come the saved object, and the keys of the storages


def read_archive(path: Path) -> Any:
    """Return the content of a file of torch.save. Raises Refused, OSError, or errors of zipfile and torch."""
    content = read_bytes(path, MAX_FILE_BYTES)
    if content.startswith(b"PK\x03\x04"):
        return _read_zip(content)
    if content.startswith(LEGACY):
        return _read_legacy(content)
    raise Refused(f"cannot be read: it is truncated or no file of torch.save; {SAVE_WEIGHTS}")


def _read_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = _checked_records(archive, len(content))
        walked = walk(io.BytesIO(archive.read(records["data.pkl"])))
        tensors, copy = _tensors_of(walked), io.BytesIO()
        with zipfile.ZipFile(copy, "w") as written:
            written.writestr("archive/data.pkl", _pickled(tensors))
            for name in ("byteorder", "version", *(f"data/{key}" for key in walked.storages)):
                if name in records:
                    written.writestr(f"archive/{name}", archive.read(records[name]))
        for storage in walked.storages.values():
            record = records.get(f"data/{storage.key}")
            _check_length(storage, record.file_size if record else 0)
    copy.seek(0)
    return _filled(walked, tensors, copy)


def _checked_records(archive: zipfile.ZipFile, length: int) -> dict[str, zipfile.ZipInfo]:
    """Return the records of a zip by their names without its folder."""
    entries = archive.infolist()
    names = [entry.filename.partition("/")[2] for entry in entries]
    if len(set(names)) < len(names) or names.count("data.pkl") != 1:
        raise Refused("is no file of torch.save: it has records twice or no data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refused("has compressed records, which torch.save does not write")
    if sum(entry.file_size for entry in entries) > length:
        raise Refused("has records that overlap")
    records = dict(zip(names, entries, strict=True))
    if records["data.pkl"].file_size > MAX_PICKLE_BYTES:
        raise Refused(f"describes its tensors with {records['data.pkl'].file_size:,} bytes; {SAVE_WEIGHTS}")
    return records


def _read_legacy(content: bytes) -> Any:
    pickles = io.BytesIO(content[:MAX_PICKLE_BYTES])
    for _ in range(LEGACY_HEAD):
        walk(pickles)
    start = pickles.tell()
    walked = walk(pickles)
    end = pickles.tell()
    walk(pickles)  # the keys
    for storage in walked.storages.values():
        _check_length(storage, len(content))
    tensors = _tensors_of(walked)
    whole = [*walked.storages.values(), *tensors]  # torch reads a storage that a tensor or this list names
    copy = io.BytesIO(content[:start] + _pickled(whole, (None,)) + content[end:])
    return _filled(walked, tensors, copy)


def _check_length(storage: Storage, there: int) -> None:
    """Torch allocates, or even reads, as many bytes as a pickle claims."""
    claimed = BYTES_PER_ITEM[storage.kind] * storage.items
    if claimed > there:
        raise Refused(f"its storage {storage.key!r} would have {claimed:,} bytes, but there are {there:,}")


def _tensors_of(walked: Walked) -> list[StoredTensor]:
    """Return the tensors in a pickle's containers, each once."""
    found = (value for container in walked.containers for value in _values(container))
    return list(dict.fromkeys(value for value in found if isinstance(value, StoredTensor)))


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _pickled(values: list[Any], view: tuple[None, ...] = ()) -> bytes:
    """Pickle tensors and storages as torch.save does; files before torch 1.6 name a `view` of each storage."""
    buffer = io.BytesIO()
    _Pickler(buffer, view).dump(values)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, view: tuple[None, ...]):
        super().__init__(file, protocol=2)
        self.view = view

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            kind = getattr(torch, value.kind.removeprefix("torch."))
            return "storage", kind, value.key, "cpu", value.items, *self.view
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, StoredTensor):
            hooks: OrderedDict[str, Any] = OrderedDict()  # with a type in the call it would have an attribute
            shape = value.size, value.stride
            return torch._utils._rebuild_tensor_v2, (value.storage, value.offset, *shape, False, hooks)
        return NotImplemented


def _filled(walked: Walked, tensors: list[StoredTensor], file: io.BytesIO) -> Any:
    """Put the tensors that torch reads in the places of those that a pickle describes."""
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    by_description: dict[Any, Tensor] = dict(zip(tensors, loaded[len(loaded) - len(tensors) :], strict=True))
    for container in walked.containers:
        places = container if isinstance(container, dict) else range(len(container))
        for place in places:
            if isinstance(container[place], StoredTensor):
                container[place] = by_description[container[place]]
    return walked.value
