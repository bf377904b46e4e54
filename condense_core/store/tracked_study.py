"""Studies of tracked runs: each run enters the record of its study when it begins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from filelock import FileLock

from condense_core.files import make_folder

from .schemas import skip_damaged
from .store import RunStore
from .tracked import TrackedConfig

QUESTION = "What do networks and loops of one's own gain by learned groups?"
WAIT_SECONDS = 60.0
Record = dict[str, Any]


def join_study(store: RunStore, name: str, config: TrackedConfig) -> None:
    """Enter a tracked run into a study, which is made if it is not there; the first variant is the base.

    A run of the same variant and seed gives way to it, but stays in the store. Raise ValueError if the study is
    not one of tracked runs, or if other seeds of the variant were told otherwise.
    """
    make_folder(store.root / "locks")
    with FileLock(store.root / "locks" / f"{name}.study", timeout=WAIT_SECONDS):
        record = _record(store, name)
        variant = _variant(record, config.variant)
        runs = dict(zip(variant["seeds"], variant["runs"], strict=True))
        runs.pop(config.seed, None)
        for seed, run in runs.items():
            _check_alike(store, config, seed, run)
        runs = dict(sorted((runs | {config.seed: config.name}).items()))
        variant |= {"seeds": list(runs), "runs": list(runs.values())}
        store.write_study(name, record)


def _record(store: RunStore, name: str) -> Record:
    with suppress(FileNotFoundError):
        record = store.read_study(name)
        if not record.get("tracked"):
            raise ValueError(f"study {name!r}: is one of analysis.ablate; give tracked runs another study")
        return record
    return {"name": name, "question": QUESTION, "tracked": True, "settings": {"name": name}, "variants": []}


def _variant(record: Record, label: str) -> Any:
    """Return the record of a variant, which is added if it is not there."""
    for variant in record["variants"]:
        if variant["label"] == label:
            return variant
    role = "tracked" if record["variants"] else "base"
    record["variants"].append({"label": label, "role": role, "curve": label, "seeds": [], "runs": []})
    return record["variants"][-1]


def _check_alike(store: RunStore, config: TrackedConfig, seed: int, run: str) -> None:
    for other in skip_damaged(lambda name: store.named(name).tracked, run):
        if differences := config.differences(other):
            text = f"variant {config.variant!r}: its seed {seed} has {'; '.join(differences[:3])}"
            raise ValueError(f"{text}; give it another variant or study")
