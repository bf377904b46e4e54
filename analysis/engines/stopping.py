"""Stop at a signal: a switch that all processes of a study see, and the handlers that set it."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawValue
from typing import Any

from analysis.text import say


class StopSwitch:
    """A switch that all worker processes see: once set, every run saves its state and ends.

    It is plain shared memory. A lock, which `multiprocessing.Event` has, could never be taken by a signal
    handler that interrupts its owner.
    """

    def __init__(self) -> None:
        self._stop, self._now = RawValue(ctypes.c_bool), RawValue(ctypes.c_bool)

    def set(self) -> None:
        """Ask every run to save its state and end."""
        self._stop.value = True

    def is_set(self) -> bool:
        """Return whether the runs should end."""
        return self._stop.value

    def set_at_once(self) -> None:
        """Ask every process to end without saving."""
        self._now.value = True

    def is_at_once(self) -> bool:
        """Return whether processes should end without saving."""
        return self._now.value


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop a study: Ctrl-C, a scheduler's, a closed terminal's (not under nohup)."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


@contextmanager
def signals_to(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Let the signals that stop a study call `handle` meanwhile."""
    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping(stop: StopSwitch) -> Iterator[None]:
    """Let a stop signal end the runs meanwhile: the first saves their state, the second ends at once."""
    asked = False  # not the switch: a worker that got the signal too may have set it before

    def handle(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            stop.set_at_once()
            raise KeyboardInterrupt
        asked = True
        stop.set()
        say("Stopping: the runs save their state. Interrupt again to stop at once.", err=True)

    with signals_to(handle):
        yield
