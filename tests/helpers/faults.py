"""A file system that fails where a test wants it to, and one that loses what was not flushed in a power cut."""

from __future__ import annotations

import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

Step = tuple[Any, ...]  # what was done, the path, and what it was done with


def kill() -> None:
    """The process dies at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(number: int = errno.ENOSPC) -> Callable[[], None]:
    """The disk is full, or the quota used up."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


@dataclass
class Files:
    """Counts what is done to files below `root`, and lets `fault` happen at step `at`.

    If it `lasts`, also at all later ones that need room. A write that fails has written half of its bytes.
    """

    root: Path
    at: int | None = None
    fault: Callable[[], None] = kill
    lasts: bool = False
    steps: list[Step] = field(default_factory=list)

    def step(self, kind: str, path: Any, *details: Any) -> bool:
        """Count a step; whether the fault is to happen at it."""
        if not self.is_below(path):
            return False
        self.steps.append((kind, Path(path), *details))
        if self.lasts and self.at is not None:
            return len(self.steps) >= self.at and kind != "unlink"
        return len(self.steps) == self.at

    def is_below(self, path: Any) -> bool:
        """Whether a path is one of those that are watched."""
        return Path(path).is_relative_to(self.root)

    @contextmanager
    def watched(self) -> Iterator[Files]:
        """Around what is tested."""
        opened, names = io.open, ("replace", "rename", "unlink", "mkdir")
        real = {name: getattr(os, name) for name in (*names, "fsync")}

        def one(name: str) -> Callable[..., Any]:
            def call(path: Any, *arguments: Any, **keywords: Any) -> Any:
                if self.step(name, path, *arguments):
                    self.fault()
                return real[name](path, *arguments, **keywords)

            return call

        def fsync(descriptor: int) -> None:
            if self.step("fsync", os.readlink(f"/proc/self/fd/{descriptor}")):
                self.fault()
            real["fsync"](descriptor)

        def open_file(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            if isinstance(file, int) or set(mode) <= set("rbt") or not self.is_below(file):
                return opened(file, mode, *arguments, **keywords)
            if self.step("open", file, mode):
                self.fault()
            raw = _File(self, file, mode.replace("b", "").replace("t", ""))
            return raw if "b" in mode else io.TextIOWrapper(raw, write_through=True)

        with (
            patch.multiple(os, fsync=fsync, **{name: one(name) for name in names}),
            patch("io.open", open_file),
        ):
            yield self


class _File(io.FileIO):
    def __init__(self, files: Files, path: Any, mode: str):
        super().__init__(path, mode)
        self.files = files

    def write(self, data: Any) -> int:
        content = bytes(data)
        if self.files.step("write", self.name, content):
            super().write(content[: len(content) // 2])
            self.files.fault()
        return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        if self.files.step("truncate", self.name, size):
            self.files.fault()
        return super().truncate(size)


def disks_after_power_cuts(
    steps: list[Step], root: Path
) -> Iterator[tuple[int, list[dict[Path, bytes | None]]]]:
    """After each step the states in which a power cut may leave the disk: paths below `root` and their bytes.

    A folder's bytes are None. Names that were not flushed are all lost, all there, or there in one folder
    only; bytes that were not flushed are lost.
    """
    disk = _Disk()
    for number, step in enumerate(steps):
        disk.take(step)
        yield number, disk.states(root)


@dataclass
class _Disk:
    """Names lead to files (numbers); of both, what is in memory and what is on the disk."""

    names: dict[Path, int] = field(default_factory=dict)
    kept: dict[Path, int] = field(default_factory=dict)
    bytes: dict[int, bytes | None] = field(default_factory=dict)
    kept_bytes: dict[int, bytes | None] = field(default_factory=dict)

    def _make(self, path: Path, content: bytes | None) -> None:
        number = len(self.bytes)
        self.names[path], self.bytes[number] = number, content
        self.kept_bytes[number] = content if content is None else b""

    def take(self, step: Step) -> None:
        kind, path, *rest = step
        if kind == "mkdir":
            self._make(path, None)
        elif kind == "open" and ("w" in rest[0] or path not in self.names):
            self._make(path, b"")
        elif kind in ("write", "truncate"):
            number = self.names[path]
            self.bytes[number] = (
                self.bytes[number] + rest[0] if kind == "write" else self.bytes[number][: rest[0]]
            )
        elif kind in ("replace", "rename"):
            target = Path(rest[0])
            for name in [name for name in self.names if name.is_relative_to(path)]:
                self.names[target / name.relative_to(path)] = self.names.pop(name)
        elif kind == "unlink":
            self.names.pop(path, None)
        elif kind == "fsync" and path in self.names and self.bytes[self.names[path]] is not None:
            self.kept_bytes[self.names[path]] = self.bytes[self.names[path]]
        elif kind == "fsync":
            self._flush_names(path)

    def _flush_names(self, folder: Path) -> None:
        self.kept = {name: file for name, file in self.kept.items() if name.parent != folder}
        self.kept |= {name: file for name, file in self.names.items() if name.parent == folder}

    def states(self, root: Path) -> list[dict[Path, bytes | None]]:
        folders = {
            name.parent
            for name in self.names.keys() | self.kept.keys()
            if self.names.get(name) != self.kept.get(name)
        }
        choices = [self.kept, self.names]
        for folder in folders if len(folders) > 1 else ():
            others = {name: file for name, file in self.kept.items() if name.parent != folder}
            choices.append(others | {name: file for name, file in self.names.items() if name.parent == folder})
        return [self._reachable(names, root) for names in choices]

    def _reachable(self, names: dict[Path, int], root: Path) -> dict[Path, bytes | None]:
        """What is left below `root`; a file whose folder is lost is lost with it."""
        found: dict[Path, bytes | None] = {}
        for name in sorted(names):
            if name == root or (name.is_relative_to(root) and (name.parent == root or name.parent in found)):
                found[name] = self.kept_bytes[names[name]]
        return found


def write_disk(state: dict[Path, bytes | None], root: Path, target: Path) -> None:
    """Make a state of `root` real in `target`."""
    target.mkdir(parents=True)
    for path, content in state.items():
        copy = target / path.relative_to(root)
        if content is None:
            copy.mkdir(exist_ok=True)
        else:
            copy.write_bytes(content)
