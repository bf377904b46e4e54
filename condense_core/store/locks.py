"""One process per run: a lock of the system on this machine, a heartbeat for machines that share its disk.

The system frees the lock of a process that dies. A lock does not reach another machine; there the holder's
heartbeat shows that it lives. No clock is read: the heartbeat only has to keep changing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from condense_core.files import make_folder, naming

BEAT_SECONDS = 10.0
SILENCE_SECONDS = 60.0  # longer than a network's file system may show an old state


class RunHeld(Exception):
    """Another process trains this run."""


@dataclass
class Hold:
    """A run that this process holds; `claim` is the file that says so."""

    run: str
    claim: Path
    _ended: threading.Event = field(default_factory=threading.Event)
    _lost: bool = False

    def check(self) -> None:
        """Raise RunHeld if another machine took the run over because this process was silent for too long."""
        if self._lost:
            raise RunHeld(f"run {self.run}: was taken over, after this process had been silent")

    def beat(self) -> None:
        """Keep showing that this process lives, until it ends or another one took the run over."""
        beats = 0
        while not self._ended.wait(BEAT_SECONDS):
            beats += 1
            try:
                _write_claim(self.claim, os.O_TRUNC, beats)
            except FileNotFoundError:
                self._lost = True
                return
            except OSError:
                continue  # a disk that is full or away for a moment is not a reason to give up


@contextmanager
def hold(folder: Path, run: str) -> Iterator[Hold]:
    """Hold `run` by files in `folder`. Raises RunHeld, naming the holder.

    If another machine holds it, wait until its heartbeat has been silent for long enough.
    """
    make_folder(folder)
    lock = FileLock(folder / f"{run}.lock", fallback_to_soft=False)  # soft ones outlive those who are killed
    try:
        lock.acquire(timeout=0)
        seen_by_all = True
    except Timeout:
        raise RunHeld(_held_by(run, _last_claim(folder, run))) from None
    except (NotImplementedError, OSError):
        seen_by_all = False  # a file system without locks: the heartbeat must do
    try:
        held = Hold(run, _claim(folder, run, seen_by_all))
        thread = threading.Thread(target=held.beat, daemon=True)
        thread.start()
        try:
            yield held
        finally:
            held._ended.set()
            thread.join()
            with suppress(OSError):  # if it stays it is void: the lock is free, and it does not beat
                held.claim.unlink()
    finally:
        lock.release()


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Wait until no other process of this machine does the same; go on where locks do not work."""
    make_folder(folder)
    lock = FileLock(folder / f"{what}.lock", fallback_to_soft=False)
    with suppress(NotImplementedError, OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _claim(folder: Path, run: str, locks_work: bool) -> Path:
    """Make the next claim on a run, once the last one is void."""
    last = _last_claim(folder, run)
    while last and not (locks_work and _read_claim(last).get("host") == socket.gethostname()):
        if _is_silent(last, run):
            break
        last = _last_claim(folder, run)
    number = int(last.suffix[1:]) + 1 if last else 1
    claim = folder / f"{run}.{number}"
    try:
        _write_claim(claim, os.O_CREAT | os.O_EXCL, 0)  # of two processes that wait, one is first
    except FileExistsError:
        raise RunHeld(_held_by(run, claim)) from None
    except OSError:
        claim.unlink(missing_ok=True)  # without a name in it others would have to wait for it
        raise
    if last:
        last.unlink(missing_ok=True)  # shows a holder that wakes up that it lost the run
    return claim


def _last_claim(folder: Path, run: str) -> Path | None:
    claims = [path for path in folder.glob(f"{escape(run)}.*") if path.suffix[1:].isdecimal()]
    return max(claims, key=lambda path: int(path.suffix[1:]), default=None)


def _is_silent(claim: Path, run: str) -> bool:
    """Wait until a claim has been silent for long enough; return False if it is released meanwhile."""
    silent_since, seen = time.monotonic(), _read_claim(claim)
    while True:
        silent = time.monotonic() - silent_since  # before it is read again: this process may have slept itself
        if not claim.exists():
            return False
        if _read_claim(claim) != seen:
            raise RunHeld(_held_by(run, claim))
        if silent >= SILENCE_SECONDS:
            return True
        time.sleep(BEAT_SECONDS / 10)


def _write_claim(claim: Path, how: int, beats: int) -> None:
    text = json.dumps({"process": os.getpid(), "host": socket.gethostname(), "beats": beats})
    descriptor = os.open(claim, os.O_WRONLY | how)
    try:
        with naming(claim):
            os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read_claim(claim: Path) -> dict[str, Any]:
    try:
        found = json.loads(claim.read_bytes())
    except (OSError, ValueError):
        return {}  # just being written, or gone
    return found if isinstance(found, dict) else {}


def _held_by(run: str, claim: Path | None) -> str:
    holder = _read_claim(claim) if claim else {}
    known = {"process", "host"} <= holder.keys()
    who = f"process {holder['process']} on {holder['host']}" if known else "another process"
    return f"run {run}: is being trained by {who}"
