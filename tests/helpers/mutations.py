"""Damaged and hostile variants of valid files: bytes, JSON, TOML, safetensors, pickles and torch.save zips.

Every function takes valid content and draws its changes from the given generator, so that the seed decides the
result.
"""

from __future__ import annotations

import copy
import io
import json
import pickletools
import random
import tomllib
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import tomli_w

Draws = random.Random


def changed_bytes(content: bytes, draws: Draws) -> bytes:
    """Make one to four changes that know nothing of the format."""
    data = bytearray(content)
    for _ in range(draws.randint(1, 4)):
        place, length = draws.randrange(len(data) + 1), draws.choice((1, 2, 8, 100, 5000))
        match draws.randrange(7):
            case 0 if data:
                data[place % len(data)] ^= 1 << draws.randrange(8)
            case 1:
                del data[place:]
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = draws.randbytes(length)
            case 4:
                data[place : place + 8] = draws.choice(NUMBERS_IN_BYTES)
            case 5:
                data[place:place] = data[draws.randrange(len(data) + 1) :][:length]
            case _:
                data[place : place + 1] = draws.choice(SYNTAX_IN_BYTES)
    return bytes(data)


NUMBERS_IN_BYTES = (b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80")
SYNTAX_IN_BYTES = (b"{", b"[", b'"', b"}", b"\n", b"\\", b"\0", b"\x1b", b"-", b"e9")

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 255, 10**6, 2**31, 2**63, -(2**63) - 1, 10**18, 10**300, 10**4000),
    *(0.5, -0.0, 1e-320, 1e39, 1.7e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "x", "x" * 100_000, "\0", "a\0b", "\x1b[2J\x1b]0;x\a", "\u202egnp.exe", "\ud800", "\u2028"),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "a\\b", "~", "-rf", "=1+1", "$\\frac{", "%s{0}"),
    *("<script>alert(1)</script>", "</script>", "digits", "folder:/", "learned", "none", "NaN"),
    *([], {}, [[]], {"": {}}, [None], [1] * 1000, ["x"] * 50, [[[[[[1]]]]]], {"a": 1}),
)
"""Values that no file of ours should have."""


def nasty(draws: Draws) -> Any:
    """Choose one of `NASTY`; now and then nest it deeply in lists."""
    value: Any = copy.deepcopy(draws.choice(NASTY))
    if draws.random() < 0.03:
        for _ in range(draws.choice((40, 200))):
            value = [value]
    return value


def changed_value(value: Any, draws: Draws) -> Any:
    """Replace, remove, rename, repeat or exchange one to three parts of a JSON value."""
    holder = [copy.deepcopy(value)]
    for _ in range(draws.randint(1, 3)):
        places = list(_places(holder))
        parent, key = draws.choice(places)
        other, other_key = draws.choice(places)
        match draws.randrange(7):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, dict):
                names = ("", "x", key + "_", key.upper(), "\x1b[31m", "__class__")
                parent[draws.choice(names)] = parent.pop(key)
            case 2 if isinstance(parent, list) and parent is not holder:
                parent.extend(copy.deepcopy(parent[key]) for _ in range(draws.choice((1, 3, 100))))
            case 3:
                parent[key] = copy.deepcopy(other[other_key])
            case 4 if isinstance(parent[key], int | float) and abs(parent[key]) < 10**15:
                number = parent[key]
                parent[key] = draws.choice((number + 1, -number, number * 1000, float(number)))
            case _:
                parent[key] = nasty(draws)
    return holder[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def changed_json(content: bytes, draws: Draws) -> bytes:
    """Change values of a JSON text, or cut and splice it as text."""
    if draws.random() < 0.25:
        return changed_bytes(content, draws)
    if draws.random() < 0.03:
        return draws.choice((b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'"' + b"x" * 10**6, b""))
    ascii_only = draws.random() < 0.7
    text = json.dumps(changed_value(json.loads(content), draws), ensure_ascii=ascii_only)
    return text.encode(errors="surrogatepass")


def changed_rows(content: bytes, draws: Draws) -> bytes:
    """Change one row of a JSON-lines text."""
    lines = content.split(b"\n")
    place = draws.randrange(len(lines))
    lines[place] = changed_json(lines[place], draws) if lines[place] else draws.randbytes(3)
    return b"\n".join(lines)


def changed_toml(content: bytes, draws: Draws) -> bytes:
    """Change values of a TOML text, or cut and splice it as text."""
    if draws.random() < 0.4:
        return changed_bytes(content, draws)
    if draws.random() < 0.03:
        return draws.choice((b"a = " + b"[" * 50_000, b"a." * 50_000 + b"a = 1", b"a = " + b"9" * 30_000))
    try:
        return tomli_w.dumps(changed_value(tomllib.loads(content.decode()), draws)).encode()
    except (TypeError, AttributeError, ValueError, RecursionError):  # null, a surrogate, a list at the top
        return changed_bytes(content, draws)


def changed_tensors(content: bytes, draws: Draws) -> bytes:
    """Change the header, the tensors or a length of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + size], content[8 + size :]
    match draws.randrange(5):
        case 0:
            return changed_bytes(content, draws)
        case 1:
            length = draws.choice((0, 1, size - 1, size + 1, len(content), 2**31, 2**63 - 1, 2**64 - 1))
            return length.to_bytes(8, "little") + header + body
        case 2:
            return content[: 8 + size] + changed_bytes(body, draws)
        case 3:
            value = json.loads(header)
            notes = value.get("__metadata__", {})
            for key in [key for key in ("model", "plan") if key in notes]:
                if draws.random() < 0.7:
                    notes[key] = changed_json(notes[key].encode(), draws).decode(errors="replace")
            header = json.dumps(value).encode()
        case _:
            header = changed_json(header, draws)
    return len(header).to_bytes(8, "little") + header + body


def changed_checkpoint(content: bytes, draws: Draws) -> bytes:
    """Change the pickle, records or lengths of a file of torch.save, and make a valid zip of it again."""
    if not content.startswith(b"PK") or draws.random() < 0.2:
        return _changed_pickle(content, draws) if draws.random() < 0.5 else changed_bytes(content, draws)
    file, kind = io.BytesIO(), draws.randrange(6)
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w") as written:
        names = archive.namelist()
        chosen = draws.choice(names)
        for name in names:
            record = archive.read(name)
            if name.endswith("data.pkl") and kind < 4:
                record = _changed_pickle(record, draws)
            elif name == chosen and kind == 4:
                flipped = bytearray(record)
                flipped[draws.randrange(len(flipped))] ^= 1 << draws.randrange(8)
                record = draws.choice((changed_bytes(record, draws), b"", record * 3, bytes(flipped)))
            compressed = zipfile.ZIP_DEFLATED if name == chosen and kind == 5 else zipfile.ZIP_STORED
            written.writestr(name, record, compressed)
            if name == chosen and draws.random() < 0.05:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    written.writestr(draws.choice((name, f"../{name}", "archive/data.pkl")), record)
    return file.getvalue()


def _changed_pickle(content: bytes, draws: Draws) -> bytes:
    """Remove, repeat, exchange or insert operations of a pickle, or change their arguments."""
    try:
        ends = [place for _, _, place in pickletools.genops(content)]
    except Exception:
        return changed_bytes(content, draws)
    stop = ends[-1] + 1
    steps = [content[a:b] for a, b in zip(ends, [*ends[1:], stop], strict=True)]
    for _ in range(draws.randint(1, 3)):
        place = draws.randrange(len(steps))
        match draws.randrange(6):
            case 0:
                del steps[place]
                steps = steps or [b"."]
            case 1:
                steps.insert(place, steps[draws.randrange(len(steps))])
            case 2:
                steps[place] = steps[draws.randrange(len(steps))]
            case 3:
                steps.insert(place, draws.choice(PICKLE_STEPS))
            case 4:
                steps[place] = changed_bytes(steps[place], draws)
            case _:
                steps[place] = steps[place][:1] + draws.randbytes(max(0, len(steps[place]) - 1))
    return b"".join(steps) + content[stop:]


PICKLE_STEPS = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch.nn.modules.linear\nLinear\n", b"ctorch\nFloatStorage\n"),
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\nbytearray\n"),
    *(b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"K\x00"),
    b"G\x7f\xf8" + b"\0" * 6,
    *(b"(", b"t", b"R", b"b", b"Q", b")", b"]", b"}", b"N", b"\x85", b"\x86", b"\x87", b"s", b"u", b"e", b"a"),
    *(b".", b"0", b"2", b"X\x04\x00\x00\x00../x", b"X\xff\xff\xff\x7fx", b"h\x00", b"q\x00", b"\x81"),
    b"c__main__\nx\n",
)
