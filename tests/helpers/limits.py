"""Limits on reading a file: time, memory, no writing, no other programs; and how a reader must refuse one."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MAX_SECONDS = 10  # of the processor, which do not depend on what else it does
PATIENCE = 12  # times as many seconds may pass, or it waits for something that never comes
MAX_MEMORY = 1 << 30  # bytes beyond what the process had before


class Hang(BaseException):
    """Reading an input took too long."""


@contextmanager
def limited(seconds: float = MAX_SECONDS, memory: int = MAX_MEMORY) -> Iterator[None]:
    """Raise Hang after `seconds` of processor time, MemoryError for `memory` bytes more than are in use."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, stop) for number in timers.values()}
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """Notes forbidden events while it is on: files opened to write, programs started, connections made."""

    FORBIDDEN = frozenset(
        {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown"}
        | {"os.truncate", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"}
        | {"subprocess.Popen", "socket.connect", "socket.bind", "shutil.rmtree", "os.utime", "pty.spawn"}
        | {"code.__new__", "ctypes.dlopen"}
    )

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self.hear)  # a hook cannot be removed

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event if it is forbidden."""
        if not self.on:
            return
        if event in self.FORBIDDEN or (event == "open" and _writes(*arguments)):
            self.seen.append(f"{event}{arguments!r}"[:200])


def _writes(path: Any, mode: Any, flags: Any) -> bool:
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return path != "/dev/null"
    return isinstance(flags, int) and bool(flags & 0o3)  # O_WRONLY, O_RDWR


_watches: list[Watch] = []


def process_watch() -> Watch:
    """Return the watch of this process, which has only one, because its hook cannot be removed."""
    if not _watches:
        _watches.append(Watch())
    return _watches[0]


def refused(read: Callable[[Path], Any], path: Path, message: str) -> None:
    """Assert that reading a file raises a ValueError that names it in one short line."""
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
