"""Reading what others may have written: bounded, inside its folder, and named where it is wrong.

What is read here comes from run stores, checkpoints and condensed networks that were copied, mailed or damaged.
Every fault is a ValueError of one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LARGEST_JSON = 16 << 20  # bytes; the record of a study of a thousand runs has some 100 kB
LARGEST_ROWS = 256 << 20  # of JSON lines: a million epochs
LARGEST_TOML = 16 << 10  # characters; reading it takes the square of that where names have very many dots
DEEPEST_JSON = 32
PLAIN_NAME = re.compile(r"[^./\\\0][^/\\\0]*")
LARGEST_HEADER = 8 << 20  # of a safetensors file: some 50,000 tensors
LARGEST_TENSORS = 2 << 30  # of a safetensors file; it is read into memory whole
LARGEST_NUMBER = 4e38  # what float32 holds; beyond, axes and sums overflow
LARGEST_WHOLE = 2**63 - 1  # what a column of whole numbers holds


def plain_name(name: Any, what: str) -> str:
    """`name` where it can only mean a file or a folder in the one that it stands for. Raises ValueError."""
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or not name.isprintable():
        raise ValueError(f"{what} {_short(name)}: must be a plain file name")
    return name


def check_inside(path: Path, root: Path) -> Path:
    """`path`, which is below `root`. Raises ValueError where a symbolic link leads it elsewhere."""
    part, top = os.fspath(path), os.fspath(root)  # as text: a report asks this of every file of its runs
    while len(part) > len(top):
        if os.path.islink(part) and not _leads_below(path, root):
            raise ValueError(f"{path}: a symbolic link leads out of {root}")
        part = os.path.dirname(part)
    return path


def check_links(root: Path) -> None:
    """Raise ValueError where a link below `root` leads out of it: what is written there would be outside."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            check_inside(Path(folder, name), root)


def _leads_below(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop
        return False


def read_bytes(path: Path, at_most: int) -> bytes:
    """The content of a plain file. Raises ValueError for more than `at_most` bytes, and OSError."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is no plain file")
        if status.st_size > at_most:
            raise ValueError(f"{path}: has {status.st_size:,} bytes, more than {at_most:,}")
        return file.read(status.st_size)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for a writer


def read_json(path: Path, at_most: int = LARGEST_JSON) -> Any:
    """The value of a strict JSON file. Raises ValueError, naming the file, and OSError."""
    return parse_json(read_bytes(path, at_most), str(path))


def parse_json(content: bytes | str, where: str) -> Any:
    """The value of strict JSON: no NaN, no lone surrogates, not nested deeper than DEEPEST_JSON."""
    try:
        text = content if isinstance(content, str) else content.decode()
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
        if text.count("[") + text.count("{") > DEEPEST_JSON:
            _check_depth(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{where}: is not JSON of ours (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{where}: is not JSON of ours ({error})") from error
    return value


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text. Raises ValueError."""
    if len(text) > LARGEST_TOML:
        raise ValueError(f"{where}: has {len(text):,} characters, more than {LARGEST_TOML:,}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: is not TOML (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{where}: is not TOML ({error})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError("nested too deeply")
        level = [item for part in level for item in _children(part)]


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_rows(path: Path, at_most: int = LARGEST_ROWS) -> list[Any]:
    """The values of a file of JSON lines; a torn last line is left out. Raises as `read_json` does."""
    lines = read_bytes(path, at_most).split(b"\n")[:-1]  # behind the last newline: nothing, or a torn line
    return [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def check_record(value: Any, shape: Any, where: str) -> Any:
    """`value` where it has a shape. Raises ValueError that says where it has not.

    A shape is a type, a tuple of types (None among them for null), a range of numbers, a frozenset of valid
    values, a list of one shape, or a dict of shapes by name, of which those that end in '?' may be missing;
    more names may be there.
    Numbers are finite and at most LARGEST_NUMBER or LARGEST_WHOLE, bool is no number.
    """
    if fault := _fault(value, shape):
        raise ValueError(f"{where}{fault}")
    return value


def _fault(value: Any, shape: Any) -> str:
    """Where `value` has not a shape, and what would be valid; empty where it has."""
    if isinstance(shape, dict):
        return _fault_in_table(value, shape) if type(value) is dict else _wrong(value, (dict,))
    if isinstance(shape, list):
        return _fault_in_list(value, shape[0]) if type(value) in (list, tuple) else _wrong(value, (list,))
    if isinstance(shape, Between):
        return shape.fault(value)
    if isinstance(shape, frozenset):
        valid = isinstance(value, str) and value in shape
        return "" if valid else f" {_short(value)}: must be one of {', '.join(sorted(shape))}"
    kinds = shape if isinstance(shape, tuple) else (shape,)
    return "" if _is_one_of(value, kinds) else _wrong(value, kinds)


def _fault_in_table(value: dict[Any, Any], shape: dict[str, Any]) -> str:
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            if fault := _fault(value[key], inner):
                return f": {key}{fault}"
        elif key == name:
            return f": {key} is missing"
    return ""


def _fault_in_list(value: Sequence[Any], shape: Any) -> str:
    faults = ((place, _fault(item, shape)) for place, item in enumerate(value))
    return next((f"[{place}]{fault}" for place, fault in faults if fault), "")


def _is_one_of(value: Any, kinds: tuple[Any, ...]) -> bool:
    if value is None:
        return None in kinds
    kind = type(value)
    if kind in (int, float):
        return (kind in kinds or float in kinds) and abs(value) <= LARGEST[kind]
    return kind in kinds


def _wrong(value: Any, kinds: tuple[Any, ...]) -> str:
    words = " or ".join(dict.fromkeys(WORDS.get(kind, "true or false") for kind in kinds))
    return f" {_short(value)}: must be {words}"


@dataclass(frozen=True)
class Between:
    """The shape of a number, whole or not, within a range; `or_none` allows null."""

    low: float
    high: float = LARGEST_NUMBER
    kind: type = float
    or_none: bool = False

    def fault(self, value: Any) -> str:
        """What is wrong with a value; empty where nothing is."""
        if value is None and self.or_none:
            return ""
        if _is_one_of(value, (self.kind,)) and self.low <= value <= self.high:
            return ""
        top = f" and at most {self.high:g}" if self.high < LARGEST_NUMBER else ""
        return f" {_short(value)}: must be {WORDS[self.kind]} of at least {self.low:g}{top}"


LARGEST: dict[type, float] = {int: LARGEST_WHOLE, float: LARGEST_NUMBER}
WORDS: dict[Any, str] = {
    dict: "a table",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    None: "null",
}


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return "of very many digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def read_tensors(path: Path, at_most: int = LARGEST_TENSORS) -> bytes:
    """The content of a safetensors file. Raises ValueError, naming the file, and OSError.

    How long its tensors are by its header is compared with the file before they are read.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is no plain file")
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(LARGEST_HEADER, status.st_size - 8):
            raise ValueError(f"{path}: is not a safetensors file (its header would have {size:,} bytes)")
        said, there = _length_of_tensors(file.read(size), path), status.st_size - 8 - size
        if said != there:
            raise ValueError(f"{path}: its tensors should have {said:,} bytes, but there are {there:,}")
        if status.st_size > at_most:
            raise ValueError(f"{path}: has {status.st_size:,} bytes, more than {at_most:,}")
        file.seek(0)
        return file.read(status.st_size)


def read_checked(path: Path, root: Path, checksum: str, digits: int = 64) -> bytes:
    """A safetensors file below `root`, as `read_tensors`, with the first `digits` of its SHA-256."""
    content = read_tensors(check_inside(path, root))
    if hashlib.sha256(content).hexdigest()[:digits] != checksum:
        raise ValueError(f"{path}: does not match its checksum")
    return content


def _length_of_tensors(header: bytes, path: Path) -> int:
    """Bytes of all tensors by a header; whether they follow one another is for safetensors to say."""
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        return int(max((entry["data_offsets"][1] for entry in entries.values()), default=0))
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ValueError(f"{path}: is not a safetensors file (its header is none)") from error


def notes_of(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that was read and loaded: texts by name."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})


def load_arrays(content: bytes, path: Path, framework: str = "torch") -> dict[str, Any]:
    """The tensors (`framework` 'torch') or arrays ('numpy') of a safetensors file that was read.

    Raises ValueError, naming the file.
    """
    from importlib import import_module

    from safetensors import SafetensorError

    try:
        found: Mapping[str, Any] = import_module(f"safetensors.{framework}").load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path}: is not a safetensors file of ours ({_one_line(error)})") from error
    return dict(found)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
