"""Damaged and hostile inputs for whatever reads files, and a watch over what reading them does.

An input is a valid one, changed: bytes flipped, cut, spliced; values of its JSON, TOML, pickle or header
replaced by nasty ones. The seed makes the input. Reading may succeed or be refused by a ValueError or OSError
that names the file; anything else, a write, a program started, ten seconds or a gigabyte is an error.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import pickletools
import random
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG_SECONDS = 10
MOST_MEMORY = 1 << 30  # bytes beyond what the process had before
REFUSALS = (ValueError, OSError)
Draws = random.Random


class Hang(BaseException):
    """Reading an input took too long."""


def changed_bytes(content: bytes, draws: Draws) -> bytes:
    """One to four changes that know nothing of the format."""
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
                data[place : place + 8] = draws.choice(
                    (b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80")
                )
            case 5:
                data[place:place] = data[draws.randrange(len(data) + 1) :][:length]
            case _:
                data[place : place + 1] = draws.choice(
                    (b"{", b"[", b'"', b"}", b"\n", b"\\", b"\0", b"\x1b", b"-", b"e9")
                )
    return bytes(data)


NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 255, 10**6, 2**31, 2**63, -(2**63) - 1, 10**18, 10**300, 10**4000),
    *(0.5, -0.0, 1e-320, 1e39, 1.7e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "x", "x" * 100_000, "\0", "a\0b", "\x1b[2J\x1b]0;x\a", "\u202egnp.exe", "\ud800", "\u2028"),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "a\\b", "~", "-rf", "=1+1", "$\\frac{", "%s{0}"),
    *("<script>alert(1)</script>", "</script>", "digits", "folder:/", "learned", "none", "NaN"),
    *([], {}, [[]], {"": {}}, [None], [1] * 1000, ["x"] * 50, [[[[[[1]]]]]], {"a": 1}),
)
"""Values that a file of ours should not have where they are put."""


def nasty(draws: Draws) -> Any:
    """One of these, or a list in a list in a list."""
    value: Any = copy.deepcopy(draws.choice(NASTY))
    if draws.random() < 0.03:
        for _ in range(draws.choice((40, 200))):
            value = [value]
    return value


def changed_value(value: Any, draws: Draws) -> Any:
    """A JSON value with one to three of its parts replaced, removed, renamed, repeated or exchanged."""
    holder = [copy.deepcopy(value)]
    for _ in range(draws.randint(1, 3)):
        places = list(_places(holder))
        parent, key = draws.choice(places)
        other, other_key = draws.choice(places)
        match draws.randrange(7):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[draws.choice(("", "x", key + "_", key.upper(), "\x1b[31m", "__class__"))] = parent.pop(
                    key
                )
            case 2 if isinstance(parent, list) and parent is not holder:
                parent.extend(copy.deepcopy(parent[key]) for _ in range(draws.choice((1, 3, 100))))
            case 3:
                parent[key] = copy.deepcopy(other[other_key])
            case 4 if isinstance(parent[key], int | float) and abs(parent[key]) < 10**15:
                parent[key] = draws.choice(
                    (parent[key] + 1, -parent[key], parent[key] * 1000, float(parent[key]))
                )
            case _:
                parent[key] = nasty(draws)
    return holder[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def changed_json(content: bytes, draws: Draws) -> bytes:
    """A JSON text with other values, or cut and spliced as text."""
    if draws.random() < 0.25:
        return changed_bytes(content, draws)
    if draws.random() < 0.03:
        return draws.choice((b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'"' + b"x" * 10**6, b""))
    ascii_only = draws.random() < 0.7
    text = json.dumps(changed_value(json.loads(content), draws), ensure_ascii=ascii_only)
    return text.encode(errors="surrogatepass")


def changed_rows(content: bytes, draws: Draws) -> bytes:
    """JSON lines of which one is changed."""
    lines = content.split(b"\n")
    place = draws.randrange(len(lines))
    lines[place] = changed_json(lines[place], draws) if lines[place] else draws.randbytes(3)
    return b"\n".join(lines)


def changed_toml(content: bytes, draws: Draws) -> bytes:
    """A TOML text with other values, or cut and spliced as text."""
    import tomli_w

    if draws.random() < 0.4:
        return changed_bytes(content, draws)
    if draws.random() < 0.03:
        return draws.choice((b"a = " + b"[" * 50_000, b"a." * 50_000 + b"a = 1", b"a = " + b"9" * 30_000))
    import tomllib

    try:
        return tomli_w.dumps(changed_value(tomllib.loads(content.decode()), draws)).encode()
    except (TypeError, AttributeError, ValueError, RecursionError):  # null, a surrogate, a list at the top
        return changed_bytes(content, draws)


def changed_tensors(content: bytes, draws: Draws) -> bytes:
    """A safetensors file with another header, tensors or length."""
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
    """A file of torch.save with another pickle, records or length, its zip made whole again."""
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
    """A pickle of which operations are removed, repeated, exchanged or given another argument."""
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
    *(
        b"J\xff\xff\xff\x7f",
        b"J\xff\xff\xff\xff",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"K\x00",
        b"G\x7f\xf8" + b"\0" * 6,
    ),
    *(
        b"(",
        b"t",
        b"R",
        b"b",
        b"Q",
        b")",
        b"]",
        b"}",
        b"N",
        b"\x85",
        b"\x86",
        b"\x87",
        b"s",
        b"u",
        b"e",
        b"a",
        b".",
    ),
    *(
        b"0",
        b"2",
        b"X\x04\x00\x00\x00../x",
        b"X\xff\xff\xff\x7fx",
        b"h\x00",
        b"q\x00",
        b"\x81",
        b"c__main__\nx\n",
    ),
)


class Watch:
    """What happens while an input is read: files opened to write, programs started, connections made."""

    FORBIDDEN = frozenset(
        {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown"}
        | {"os.truncate", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"}
        | {"subprocess.Popen", "socket.connect", "socket.bind", "shutil.rmtree", "os.utime", "pty.spawn"}
        | {"code.__new__", "ctypes.dlopen"}
    )

    def __init__(self) -> None:
        self.on, self.seen, self.thread = False, list[str](), threading.get_ident()
        sys.addaudithook(self.hear)  # it stays for as long as the process lives

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what must not happen."""
        if not self.on:
            return
        if event in self.FORBIDDEN or (event == "open" and _writes(*arguments)):
            self.seen.append(f"{event}{arguments!r}"[:200])


def _writes(path: Any, mode: Any, flags: Any) -> bool:
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return path != "/dev/null"
    return isinstance(flags, int) and bool(flags & 0o3)  # O_WRONLY, O_RDWR


_watches: list[Watch] = []


def the_watch() -> Watch:
    """The one of this process, for a hook cannot be taken away."""
    return _watches[0] if _watches else _watches.append(Watch()) or _watches[0]  # type: ignore[func-returns-value]


@contextmanager
def limited(seconds: float = HANG_SECONDS, memory: int = MOST_MEMORY) -> Iterator[None]:
    """Hang is raised after `seconds`, MemoryError for more than `memory` bytes beyond what is there."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Target:
    """Something that reads files: `prepare` lays an input out; it returns what reads it and its name."""

    name: str
    prepare: Callable[[Draws], tuple[Callable[[], Any], str]]


@dataclass
class Found:
    """What became of the inputs of a target."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    memory_growth: int = 0  # of the peak, bytes
    errors: list[dict[str, Any]] = field(default_factory=list)


def fuzz(target: Target, inputs: int, first: int = 0) -> Found:
    """Read `inputs` inputs of a target, those of the seeds from `first` on."""
    watch, found = the_watch(), Found(target.name, inputs)
    _read(target, watch, -1)  # imports write caches
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, first + inputs):
        verdict, seconds = _read(target, watch, seed)
        found.slowest_seconds = max(found.slowest_seconds, seconds)
        if verdict in ("accepted", "refused"):
            setattr(found, verdict, getattr(found, verdict) + 1)
        else:
            found.errors.append({"seed": seed, "error": verdict})
    found.memory_growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return found


def _read(target: Target, watch: Watch, seed: int) -> tuple[str, float]:
    """'accepted', 'refused', or what went wrong; and the seconds that it took."""
    read, name = target.prepare(Draws(f"{target.name} {seed}"))
    watch.seen.clear()
    began = time.perf_counter()
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch.on = seed >= 0
            read()
        verdict = "accepted"
    except REFUSALS as error:
        verdict = "refused" if name in str(error) else f"does not name {name}: {error!r}"[:500]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        verdict = "".join(traceback.format_exception(error))[-1500:]
    finally:
        watch.on = False
    return f"wrote: {watch.seen}" if watch.seen else verdict, time.perf_counter() - began


# What is read


def configurations(folder: Path) -> Target:
    """Configurations of runs as JSON."""
    from condense_core import RunConfig
    from condense_core.config import DataConfig, RecipeConfig
    from condense_core.cost import cost_table
    from condense_core.presets import PRESETS
    from condense_core.validation import from_json, to_dict, to_json, to_toml

    valid = [to_json(RunConfig(model, RecipeConfig(), DataConfig())).encode() for model in PRESETS.values()]

    def prepare(draws: Draws) -> tuple[Callable[[], Any], str]:
        text = changed_json(draws.choice(valid), draws).decode(errors="replace")

        def read() -> None:
            config = from_json(RunConfig, text)
            assert config.name
            to_toml(config)
            assert from_json(RunConfig, to_json(config)) == config
            assert to_dict(config)
            cost_table(config.model)

        return read, ""

    return Target("configuration", prepare)


def tomls(folder: Path) -> Target:
    """Settings of a study as a TOML file."""
    import tomli_w

    from analysis.studies import command, read_toml, study_config
    from analysis.studies.config import DEFAULTS

    full = {name: list(v) if isinstance(v, tuple) else v for name, v in DEFAULTS.items() if v is not None}
    valid = [
        tomli_w.dumps(full),
        'study = "pruning"\nseeds = 5\n',
        'preset = "condensenet-86"\ndata = "cifar10"\n',
    ]
    path = folder / "study.toml"

    def prepare(draws: Draws) -> tuple[Callable[[], Any], str]:
        path.write_bytes(changed_toml(draws.choice(valid).encode(), draws))
        return lambda: command(study_config(**read_toml(path))), ""

    return Target("toml", prepare)


def condensed(folder: Path) -> Target:
    """Condensed networks with their plans."""
    import torch

    from condense_core import condense
    from condense_core.deploy import load_condensed, make_plan, save_condensed
    from helpers.networks import lived_in
    from helpers.runs import small_model

    valid, images = [], torch.zeros(1, 3, 8, 8)
    for settings in ({}, {"connectivity": "block", "classifier_pruning": True}):
        small = condense(lived_in(small_model(**settings)))
        save_condensed(small, folder / "valid.safetensors", make_plan(small, images, 1))
        valid.append((folder / "valid.safetensors").read_bytes())
    path = folder / "network.safetensors"

    def prepare(draws: Draws) -> tuple[Callable[[], Any], str]:
        path.write_bytes(changed_tensors(draws.choice(valid), draws))

        def read() -> None:
            network, plan = load_condensed(path)
            if network.config.image_size <= 32 and sum(network.config.stages) < 10:
                network(images)
            str(plan)

        return read, str(path)

    return Target("condensed", prepare)


def official_state(model: Any, converted: bool = False) -> dict[str, Any]:
    """The state dict that the official code would save of a network of ours that learned its groups."""
    import torch

    from condense_core.deploy import output_order
    from condense_core.grouping import MaskedConv1x1, live_weights
    from condense_core.official.tensors import official_parts

    state: dict[str, Any] = {}
    for name, part in official_parts(model).items():
        if not isinstance(part, MaskedConv1x1):
            state |= {f"{name}.{kind}": tensor.clone() for kind, tensor in part.state_dict().items()}
            continue
        holder, index = name.removesuffix(".conv"), part.mask.nonzero()[:, 1]
        if converted:
            order = output_order(part)
            live = live_weights(part)[order].flatten(1)
            weight = part.weight.detach()[order].flatten(1)[live].view(part.out_channels, -1, 1, 1)
            state |= {f"{name}.weight": weight, f"{holder}.index": index}
            for kind in ("weight", "bias", "running_mean", "running_var"):
                state[f"{holder}.norm.{kind}"] = state[f"{holder}.norm.{kind}"][index]
        else:
            rows = part.mask.float().repeat(part.out_channels // part.groups, 1)
            state |= {f"{name}.weight": part.weight.detach().clone(), f"{holder}._mask": rows[:, :, None, None]}
            state[f"{holder}._count"] = torch.tensor([float((~part.mask[0]).sum())])
            state[f"{holder}._stage"] = torch.tensor([float(part.condense_factor - 1)])
    return state


def _is_small(tensor: Any) -> bool:
    """Whether changing a tensor once more takes no memory to speak of."""
    return hasattr(tensor, "numel") and tensor.numel() < 10**6


def changed_state(state: dict[str, Any], draws: Draws) -> dict[str, Any]:
    """A state dict of which one to three tensors are replaced, removed or renamed."""
    import torch

    state = dict(state)
    for _ in range(draws.randint(1, 3)):
        name = draws.choice([name for name, tensor in state.items() if _is_small(tensor)])
        tensor, other = state[name], draws.choice(list(state.values()))
        ways: list[Callable[[], Any]] = [
            lambda tensor=tensor: tensor * float("nan"),
            lambda tensor=tensor: tensor.double(),
            lambda tensor=tensor: tensor.half(),
            lambda tensor=tensor: tensor.to(torch.int64),
            lambda tensor=tensor: tensor.bool(),
            lambda tensor=tensor: tensor.to(torch.complex64),
            lambda tensor=tensor: tensor.flatten()[:0],
            lambda tensor=tensor: tensor[None],
            lambda tensor=tensor: tensor.flatten(),
            lambda tensor=tensor: tensor.mT if tensor.dim() > 1 else tensor.flatten().flip(0),
            lambda tensor=tensor: tensor.flatten()[:1].expand(draws.choice((7, 10**6, 10**9, 10**15))),
            lambda tensor=tensor: (
                tensor.flatten()[:1].view(1, 1, 1, 1).expand(100_000, draws.choice((1, 10**5)), 1, 1)
            ),
            lambda tensor=tensor: torch.zeros(draws.choice((0, 1, 3, 4096)), 1, 1, 1),
            lambda tensor=tensor: tensor + draws.choice((1, -1, 10**9)),
            lambda tensor=tensor: -tensor,
            lambda tensor=tensor: tensor.to_sparse() if tensor.layout == torch.strided else tensor,
            lambda tensor=tensor: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor,
            lambda other=other: other,
            lambda: draws.choice((None, 1, "x", [], {}, (1, (2,)), 1.5)),
        ]
        match draws.randrange(5):
            case 0:
                del state[name]
            case 1:
                renamed = draws.choice(
                    (f"module.{name}", f"{name}x", "", "\x1b[31m", name.replace("_1", "_9999"))
                )
                state[renamed] = state.pop(name)
            case _:
                with suppress(RuntimeError, IndexError, TypeError):  # what this tensor does not allow
                    state[name] = draws.choice(ways)()
    return state


def official(folder: Path) -> Target:
    """Official checkpoints, masked and converted, in the zip files of torch.save and in those before."""
    import torch

    from condense_core import load_official
    from helpers.networks import lived_in
    from helpers.runs import small_model

    model = lived_in(small_model(growth=(8, 8, 8), groups_3x3=4, image_size=32))
    valid, path = [], folder / "checkpoint.pth.tar"
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1, "params": list(range(9))}]}
    beside = {"epoch": 3, "arch": "condensenet", "best_prec1": 0.5, "optimizer": optimizer}
    states = [official_state(model, converted) for converted in (False, True)]

    def save(state: dict[str, Any], as_zip: bool) -> bytes:
        named = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"state_dict": named, **beside}, path, _use_new_zipfile_serialization=as_zip)
        return path.read_bytes()

    for state in states:
        for as_zip in (True, False):
            valid.append(save(state, as_zip))
            load_official(path)

    def prepare(draws: Draws) -> tuple[Callable[[], Any], str]:
        if draws.random() < 0.5:
            save(changed_state(draws.choice(states), draws), draws.random() < 0.7)
        else:
            path.write_bytes(changed_checkpoint(draws.choice(valid), draws))
        return lambda: load_official(path), str(path)

    return Target("official", prepare)


def stores(folder: Path) -> Target:
    """Run stores: a run that is done, with its stages, checkpoints, study and benchmark."""
    from analysis.engines.single_run import execute
    from condense_core.store import RunStore
    from helpers.runs import small_run

    store = RunStore(folder / "runs")
    store.create()
    run = store.run(small_run())
    execute(small_run(), store, folder)
    store.write_study("one", _study_of(run.name))
    store.write_benchmark(BENCHMARK)
    whole = {path: path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()}
    whole = {path: content for path, content in whole.items() if path.suffix in CHANGES}
    sums = {path: _sum_of(path) for path in whole if path.suffix == ".safetensors"}
    touched: list[Path] = []
    made: list[Path] = []

    def prepare(draws: Draws) -> tuple[Callable[[], Any], str]:
        for path in made:
            path.unlink()
        for path in touched:
            path.write_bytes(whole[path])
        made.clear()
        touched[:] = [draws.choice(list(whole))]
        path = touched[0]
        path.write_bytes(CHANGES[path.suffix](whole[path], draws))
        if path in sums and draws.random() < 0.8:  # with a checksum that fits
            old, new = (hashlib.sha256(one).hexdigest() for one in (whole[path], path.read_bytes()))
            if (record := sums[path]) is None:  # it stands in its name
                made.append(path.rename(path.with_name(path.name.replace(old[:16], new[:16]))))
            else:
                record.write_bytes(whole[record].replace(old.encode(), new.encode()))
                touched.append(record)
        in_full = draws.random() < 0.25  # a report's statistics take longer than all the rest
        return lambda: _read_store(store, run, in_full), str(store.root)

    return Target("store", prepare)


def _read_store(store: Any, run: Any, in_full: bool) -> None:
    """All that commands read of a store with one run."""
    from analysis import frames
    from analysis.networks import load_run
    from analysis.reporting import StudyReport
    from analysis.reporting.connection_maps import connection_maps
    from condense_core.store import Run, checkpoints

    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        chapter = StudyReport(store, "one")
        if in_full:
            _read_chapter(chapter)
        runs = [Run(store.root / name) for name in chapter.runs.run] if len(chapter.runs) else []
        connection_maps(runs)
        for frame in (frames.epochs, frames.stages, frames.steps, frames.layers, frames.connections):
            frame(runs)
        assert frames.times(store).empty or frames.parts(store) is not None
    load_run(run)
    passed_over: list[str] = []
    assert next(checkpoints.load(run.folder / "checkpoints", 6, passed_over.append), None) or passed_over
    if passed_over:
        raise ValueError(passed_over[0])
    if faults := [str(warning.message) for warning in left_out if "left out" in str(warning.message)]:
        raise ValueError(faults[0])


def _study_of(run: str) -> dict[str, Any]:
    """A study of one run."""
    variant = {"label": "learned", "role": "base", "size": 4, "residual": 0.0, "curve": None, "runs": [run]}
    settings = {"data": "digits"}
    return {"name": "one", "question": "?", "path": False, "settings": settings, "variants": [variant]}


CHANGES: dict[str, Callable[[bytes, Draws], bytes]] = {
    ".json": changed_json,
    ".jsonl": changed_rows,
    ".safetensors": changed_tensors,
}


def _sum_of(path: Path) -> Path | None:
    """The record that holds the checksum of a file of a run; None where its name does."""
    if path.parent.name == "checkpoints":
        return None
    return path.with_suffix(".json") if path.parent.name == "stages" else path.with_name("result.json")


def _read_chapter(chapter: Any) -> None:
    """All that a report shows but its figures, which take seconds."""
    for name in (
        "tables",
        "unfinished",
        "damaged",
        "requested",
        "curves_on",
        "command",
        "settings",
        "environments",
    ):
        assert getattr(chapter, name) is not None
    for name in ("finished", "seconds", "findings", "run_table", "maps"):
        assert getattr(chapter, name) is not None
    for view in chapter.run_views:
        for name in ("state", "reason", "error", "stages", "settings"):
            assert getattr(view, name) is not None
        for chart in view.charts:
            assert all(map(chart.points, chart.lines)) or chart.lines


BENCHMARK = {
    "times": [
        {
            "model": "x",
            "execution": "torch",
            "processor": "p",
            "date": "2026-01-01",
            "batch": 1,
            "image_size": 8,
            "macs": 10,
            "computed_macs": 20,
            "params": 5,
            "threads": 1,
            "milliseconds": 1.0,
            "low": 0.9,
            "high": 1.1,
            "gflops": 1.0,
            "peak_gflops": 9.0,
            "peak_memory": None,
        }
    ],
    "ties": [],
    "parts": [
        {
            "model": "x",
            "execution": "torch",
            "part": "1×1",
            "date": "2026-01-01",
            "layer": "a",
            "batch": 1,
            "milliseconds": 1.0,
            "gflops": None,
        }
    ],
}

TARGETS: dict[str, Callable[[Path], Target]] = {
    "configuration": configurations,
    "toml": tomls,
    "store": stores,
    "condensed": condensed,
    "official": official,
}
