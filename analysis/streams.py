"""The standard streams: any of them may be closed, full, cut off, or unable to show a character."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import IO, Any


def prepare_streams() -> None:
    """Let a command work whatever its streams are.

    The null device stands in for a closed one, else the next file that is opened would take its number, and get
    what libraries and child processes write there. What an encoding lacks is written as an escape.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with suppress(OSError):
            _stand_in(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 — as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            with suppress(OSError, ValueError):
                os.set_blocking(stream.fileno(), True)  # another program on the terminal may have changed it


def _stand_in(number: int) -> None:
    """Open the null device under the number of a stream, if that is free."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)  # for child processes as well
        if null != number:
            os.close(null)
        else:
            os.set_inheritable(number, True)


def is_terminal() -> bool:
    """Return whether progress is shown to somebody: stderr is there, and a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, closed, or an object of somebody's own
        return False


class ProgressStream:
    """Stderr for displays that redraw themselves: what a full disk or a lost terminal refuses is dropped."""

    def write(self, text: str) -> int:
        """Write the text if that is possible."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written if that is possible."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def drop_unwritten(stream: IO[str]) -> None:
    """Forget what cannot be written, so that Python does not try again, and exit with 120, when it ends."""
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), stream.fileno())
