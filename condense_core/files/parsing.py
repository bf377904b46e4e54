"""Reading what others may have written: bounded, inside its folder, and named where it is wrong.

What is read here comes from run stores, checkpoints and condensed networks that were copied, mailed or damaged.
Every fault is a ValueError of one line that names the file.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

LARGEST_JSON = 16 << 20  # bytes; the record of a study of a thousand runs has some 100 kB
LARGEST_ROWS = 256 << 20  # of JSON lines: a million epochs
LARGEST_TOML = 16 << 10  # characters; reading it takes the square of that where names have very many dots
DEEPEST_JSON = 32


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
