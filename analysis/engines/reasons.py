"""Why a run failed, in one line, wherever its error was raised: here, in a worker or on another machine."""

from __future__ import annotations

import builtins
import re
from itertools import dropwhile

WRAPPED = re.compile(r"Caught (\S+) .*\nOriginal Traceback")  # by torch, around a worker's whole traceback
SAYS_IT_ALL = (ValueError, OSError)  # the kinds by which the project names bad input


def reason_of(error: BaseException) -> str:
    """Return what an error says, after the name of its kind if it is not one that names bad input."""
    kind, name, text = type(error), type(error).__name__, str(error)
    if wrapped := WRAPPED.match(text):
        name, text = wrapped[1], _last_error(text)
        kind = vars(builtins).get(name, kind)
    text = " ".join(text.split())
    if text and issubclass(kind, SAYS_IT_ALL):
        return text
    return f"{name}: {text}" if text else name


def _last_error(text: str) -> str:
    """Return the message at the end of a traceback: what follows its last frame, without the error's kind."""
    lines = text.rpartition('\n  File "')[2].rstrip().split("\n")
    after = list(dropwhile(lambda line: line.startswith(" "), lines[1:]))
    return "\n".join(after).partition(": ")[2]
