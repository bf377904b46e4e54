"""The environment that a run was computed in, and what changed in it since."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from condense_core.files import is_stray
from condense_core.machine import processor

HERE = Path(__file__).parent.parent
PACKAGES = ("condense", "torch", "torchvision", "numpy")
MAX_NAMED = 3  # changed files: a message that is too long is cut off before it says what to do


@lru_cache
def environment() -> dict[str, Any]:
    """Return versions, platform, processor, git commit, and the hash of the code that trains."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        **{name: version(name) for name in PACKAGES},
        "code": _hash("".join(f"{name} {digest}\n" for name, digest in code().items())),
        **_git(),
    }


@lru_cache
def code() -> dict[str, str]:
    """Return a hash of every file of `condense_core`, by its name."""
    return {
        path.relative_to(HERE).as_posix(): _hash(path.read_text(encoding="utf-8"))
        for path in sorted(HERE.rglob("*.py"))
        if not any(map(is_stray, path.relative_to(HERE).parts))
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _git() -> dict[str, Any]:
    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def changes(
    record: Mapping[str, Any], data_fingerprint: str | None, masks_fingerprint: str | None = None
) -> list[str]:
    """Return what changed since a run was started: code, torch, and data and masks if these are known."""
    then, now, found = record["environment"], environment(), []
    if then.get("code") != now["code"]:
        files = _changed_files(record.get("code", {}))
        found.append(f"condense_core: {then.get('code', 'unknown')} then, {now['code']} now{files}")
    if then.get("torch") != now["torch"]:
        found.append(f"torch: {then.get('torch', 'unknown')} then, {now['torch']} now")
    if data_fingerprint not in (None, record["data_fingerprint"]):
        found.append(f"data: {record['data_fingerprint']} then, {data_fingerprint} now")
    if masks_fingerprint not in (None, record.get("masks_fingerprint")):
        found.append(f"masks: {record.get('masks_fingerprint')} then, {masks_fingerprint} now")
    return found


def _changed_files(then: Mapping[str, str]) -> str:
    """The first few files that changed, in parentheses; empty if they are not known."""
    now = code()
    files = sorted(name for name in {*then, *now} if then.get(name) != now.get(name)) if then else []
    more = f" and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else ""
    return f" ({', '.join(files[:MAX_NAMED])}{more})" if files else ""
