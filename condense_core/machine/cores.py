"""The cores that this process may use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def usable_cores(system: Path = Path("/")) -> int:
    """Count the cores that this process may use, by its affinity and by its cgroups' quotas, rounded down.

    It is at least 1. `system` is the folder that holds `proc` and, below its mount points, the cgroups.
    """
    cores: float = allowed_cores()
    with suppress(OSError, ValueError):  # the system shows no cgroups, or not as Linux does
        cores = min([cores, *_quotas(system)])
    return max(1, int(cores))


def allowed_cores() -> int:
    """Count the cores on which the system lets this process run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(system: Path) -> Iterator[float]:
    """Yield the cores that each cgroup of this process grants, from its own up to the outermost one."""
    for mounted, folder in _cgroups(system):
        top = system / mounted.relative_to("/")
        own = top / folder
        for group in (own, *own.parents):
            with suppress(OSError, ValueError, ZeroDivisionError):
                yield _quota(group)
            if group == top:
                break


def _quota(group: Path) -> float:
    """Return the quota of a cgroup in cores, version 2 or 1. Raise OSError or ValueError if there is none."""
    if (both := group / "cpu.max").exists():
        quota, period = map(int, both.read_text().split())  # "max" is no number
    else:
        quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    if quota < 0:
        raise ValueError("no limit")
    return quota / period


def _cgroups(system: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Yield where cgroups that limit the processor are mounted, and this process's own group below that."""
    own: dict[str, str] = {}
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), group)
    for line in _lines(system / "proc/self/mountinfo"):
        root, place = map(_unescaped, line.split()[3:5])
        kind, _, options = line.partition(" - ")[2].split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller in own and (not controller or controller in options.split(",")):
            path = PurePosixPath(own[controller])
            inside = path.is_relative_to(root) and ".." not in path.parts  # else it is a container's own view
            yield PurePosixPath(place), path.relative_to(root) if inside else PurePosixPath()


def _unescaped(text: str) -> str:
    """Return a path of `mountinfo` as it is: there a space is \\040."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), text)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
