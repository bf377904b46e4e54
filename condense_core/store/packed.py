"""Packed stores: what reports read of a store, in one archive that is small enough for a repository.

`runs.tar.xz` holds the records of studies, runs and benchmarks, without weights and checkpoints. `RunStore`
unpacks it in its folder when that is first opened, and again if the file changed. Runs that are there stay.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.files import (
    check_inside,
    is_stray,
    make_folder,
    naming,
    plain_name,
    read_bytes,
    read_json,
    write_atomically,
    write_json,
)

from .locks import alone
from .schemas import FORMAT, check_study, runs_of

if TYPE_CHECKING:
    from .run import Run
    from .store import RunStore

NAME = "runs.tar.xz"
LEFT_OUT = ("weights.safetensors", "error.txt", "checkpoints")  # of a run; tracebacks name folders
LEFT_OUT_OF_TUNING = (*LEFT_OUT, "outcomes.safetensors", "importance.jsonl")  # its errors alone are read
MAX_PACKED = 128 << 20  # bytes of an archive
MAX_UNPACKED = 512 << 20  # bytes; an archive is unpacked in memory
MAX_MEMORY = 256 << 20  # bytes that lzma may ask for
DICTIONARY = 64 << 20  # bytes within which equal parts of runs are found
UNPACKING = ".unpacking-"


@dataclass(frozen=True)
class Packed:
    """What was packed: the file, its bytes, and how many studies and runs it holds."""

    path: Path
    size: int
    studies: int
    runs: int


def pack(store: RunStore, studies: Sequence[str], folder: Path) -> Packed:
    """Pack studies of a store, with the runs that they need and all benchmarks, into `folder`.

    Equal stores give equal bytes. Raises FileNotFoundError for an unknown study, and ValueError if `folder` is
    the store, if a run is damaged, or if there is too much.
    """
    from .integrity import find_damages  # late: it stands on the store

    if folder.resolve() == store.root.resolve():
        raise ValueError(f"to {str(folder)!r}: is the store itself; name another folder")
    results, tuned = _needed(store, studies)
    names = sorted(results | tuned)
    for fault in find_damages(store, names).values():
        raise ValueError(f"{fault}; only whole runs are packed")
    runs = {name: store.named(name) for name in names}
    runs = {name: run for name, run in runs.items() if run.started}
    files = {f"studies/{name}.json": store.root / "studies" / f"{name}.json" for name in studies}
    files |= {f"benchmarks/{path.name}": path for path in store.benchmark_files()}
    for run in runs.values():
        run.check_links()
        left_out = LEFT_OUT if run.name in results else LEFT_OUT_OF_TUNING
        files |= {path.relative_to(store.root).as_posix(): path for path in _files(run, left_out)}
    if (size := sum(path.stat().st_size for path in files.values())) > MAX_UNPACKED // 2:
        raise ValueError(f"studies {', '.join(studies)}: have {size:,} bytes, more than {MAX_UNPACKED // 2:,}")
    content = _compressed(files)
    make_folder(folder)
    write_atomically(folder / NAME, lambda file: file.write(content))
    return Packed(folder / NAME, len(content), len(studies), len(runs))


def _needed(store: RunStore, studies: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the runs of studies and those of their tuning, each with the runs that they start from."""
    records = [store.read_study(name) for name in studies]
    results = [name for record in records for name in runs_of(record)]
    tuned = [name for record in records for trial in record.get("tuning", ()) for name in trial["runs"]]
    return _with_sources(store, results), _with_sources(store, tuned)


def _with_sources(store: RunStore, names: Sequence[str]) -> set[str]:
    left, found = list(names), set[str]()
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            run = store.named(name)
            left += run.config.needs if run.started and not run.is_tracked else ()
    return found


def _files(run: Run, left_out: Sequence[str]) -> Iterator[Path]:
    for path in run.folder.rglob("*"):
        parts = path.relative_to(run.folder).parts
        if path.is_file() and parts[0] not in left_out and not any(map(is_stray, parts)):
            yield path


def _compressed(files: dict[str, Path]) -> bytes:
    """Return the archive of files, without times and owners; files of one kind stand together."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files, key=lambda name: (name.partition("/")[2], name)):
            content, member = files[name].read_bytes(), tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": DICTIONARY, "lc": 1, "lp": 2}
    ]
    return lzma.compress(plain.getvalue(), lzma.FORMAT_XZ, lzma.CHECK_SHA256, filters=filters)


def unpack(store: RunStore) -> None:
    """Unpack the archive in a store's folder unless that was done; what is there already stays.

    The record of a study is replaced; if that there lists other runs, it is kept under another name. Raises
    PermissionError if the folder cannot be written, and ValueError, naming the archive, if it is damaged.
    """
    content = read_bytes(store.root / NAME, MAX_PACKED)
    sha256 = hashlib.sha256(content).hexdigest()
    if _unpacked(store) == sha256:
        return
    if not os.access(store.root, os.W_OK):
        raise PermissionError(
            f"runs {str(store.root)!r}: cannot be written, so {NAME} cannot be unpacked there; copy the folder "
            "to one of your own and name that"
        )
    with alone(store.root / "locks", NAME):
        if _unpacked(store) == sha256:  # by another process, meanwhile
            return
        for left in store.root.glob(f"{UNPACKING}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = store.root / f"{UNPACKING}{uuid.uuid4().hex[:12]}"
        make_folder(folder)
        try:
            _extract(content, folder, store.root / NAME)
            _sync()  # once, instead of every file alone
            _take_over(store, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _sync()
        write_json(store.root / "store.json", {**_mark(store), "unpacked": sha256})


def _mark(store: RunStore) -> dict[str, Any]:
    """Return what marks a run store, `store.json`."""
    with suppress(FileNotFoundError, ValueError):
        if isinstance(found := read_json(store.root / "store.json"), dict):
            return found
    return {"format": FORMAT}


def _unpacked(store: RunStore) -> Any:
    return _mark(store).get("unpacked")


def _extract(content: bytes, folder: Path, path: Path) -> None:
    """Write the files of an archive to a folder. Raise ValueError, naming it, if it is not one of a store."""
    try:
        inflate = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_MEMORY)
        plain = inflate.decompress(content, MAX_UNPACKED + 1)
        if not inflate.eof:
            raise ValueError(f"is cut off or has more than {MAX_UNPACKED:,} bytes unpacked")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            members = archive.getmembers()  # all are checked before any is written
            for member in members:
                _check(member)
            for member in members:
                _write(archive, member, folder)
        for record in (folder / "studies").glob("*.json"):
            check_study(read_json(record), record)
    except (lzma.LZMAError, tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error})") from error


def _check(member: tarfile.TarInfo) -> None:
    """Raise ValueError unless a member is a plain file of a run, a study or a benchmark."""
    parts = member.name.split("/")
    if not 2 <= len(parts) <= 3 or member.type != tarfile.REGTYPE or member.issparse():
        raise ValueError(f"{member.name!r}: is no file of a run, a study or a benchmark")
    for part in parts:
        plain_name(part, "member")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path, file = folder / member.name, archive.extractfile(member)
    assert file is not None
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.read())


def _take_over(store: RunStore, folder: Path) -> None:
    """Move what was unpacked into the store, and leave what is there already."""
    for source in sorted(path for path in folder.iterdir() if path.name not in ("studies", "benchmarks")):
        if not os.path.lexists(store.root / source.name):
            source.rename(store.root / source.name)
    make_folder(store.root / "benchmarks")
    for source in (folder / "benchmarks").glob("*.json"):
        source.replace(check_inside(store.root / "benchmarks", store.root) / source.name)
    make_folder(store.root / "studies")
    check_inside(store.root / "studies", store.root)
    for source in sorted((folder / "studies").glob("*.json")):
        store.keep_study(source.stem, read_json(source))


def _sync() -> None:
    """Flush all disks, where the system can."""
    getattr(os, "sync", lambda: None)()


def is_packed(run: Run) -> bool:
    """Return whether a run is in a folder with a packed store."""
    return (run.folder.parent / NAME).is_file()


def without_weights(run: Run) -> str:
    """Return why a run of a packed store lacks weights, as the end of a message; nothing for another store."""
    if is_packed(run):
        return (
            f"; its store was packed without weights and checkpoints ({NAME}), so use the store that trained it"
        )
    return ""
