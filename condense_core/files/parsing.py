"""Read text, JSON and TOML that others may have written, within limits of size and depth.

It comes from run stores, checkpoints and condensed networks that were copied, mailed or damaged.
Every fault is a ValueError of one line that names the file.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

MAX_JSON = 16 << 20  # bytes; the record of a study of a thousand runs has about 100 kB
MAX_ROWS = 256 << 20  # of JSON lines: a million epochs
MAX_TOML = 16 << 10  # characters; parsing takes its square if names have very many dots
MAX_DEPTH = 32
OTHER_MARKS = {  # at the start of a text; those of UTF-16 are the first half of those of UTF-32
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_bytes(path: Path, at_most: int) -> bytes:
    """Return the content of a plain file. Raise ValueError for more than `at_most` bytes, and OSError."""
    with open(path, "rb", opener=open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is not a plain file")
        if status.st_size > at_most:
            raise ValueError(f"{path}: has {status.st_size:,} bytes, more than {at_most:,}")
        return file.read(status.st_size)


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file for `open(opener=)`; without O_NONBLOCK a named pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: Path, at_most: int) -> str:
    """Return the text of a plain file. Raise ValueError, naming the file, if it is not UTF-8, and OSError."""
    return decode(read_bytes(path, at_most), str(path))


def decode(content: bytes, where: str) -> str:
    """Return UTF-8 as text, without the mark that Windows puts before it. Raise ValueError for any other."""
    found = next((name for mark, name in OTHER_MARKS.items() if content.startswith(mark)), None)
    if found is None and b"\0" in content[:2]:
        found = "UTF-16"  # without its mark
    try:
        if found is None:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"not UTF-8 ({error.reason} at byte {error.start})"
    raise ValueError(f"{where}: is {found}; save it as UTF-8")


def read_json(path: Path, at_most: int = MAX_JSON) -> Any:
    """Return the value of a strict JSON file. Raise ValueError, naming the file, or OSError."""
    return parse_json(read_bytes(path, at_most), str(path))


def parse_json(content: bytes | str, where: str) -> Any:
    """Return the value of strict JSON: no NaN, no lone surrogates, not nested deeper than MAX_DEPTH."""
    if isinstance(content, bytes):
        content = decode(content, where)
    try:
        value = msgspec.json.decode(content.removeprefix("\ufeff"))
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"{where}: is not JSON (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{where}: is not JSON ({error})") from error
    return value


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the table of a TOML text. Raise ValueError if it is not one."""
    import tomllib  # late: --help does not need it

    if len(text) > MAX_TOML:
        raise ValueError(f"{where}: has {len(text):,} characters, more than {MAX_TOML:,}")
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError(f"{where}: is not TOML (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{where}: is not TOML ({error})") from error


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        level = [item for part in level for item in _children(part)]


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_rows(path: Path, at_most: int = MAX_ROWS) -> list[Any]:
    """Return the values of a file of JSON lines without a torn last line. Raise as `read_json` does."""
    lines = read_bytes(path, at_most).split(b"\n")[:-1]  # after the last newline: nothing, or a torn line
    return [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
