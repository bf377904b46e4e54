"""Train runs with any engine: check, prepare, enter the study, train."""

from __future__ import annotations

from collections.abc import Sequence

from condense_core.config import RunConfig
from condense_core.store import FINISHED, Changed, RunStore, changes

from .single_run import Outcome, finished_outcome


def split_finished(configs: Sequence[RunConfig], store: RunStore) -> tuple[list[Outcome], list[RunConfig]]:
    """Return the outcomes of the finished runs, and the configurations that are left to train."""
    known = [(config, finished_outcome(store.run(config))) for config in configs]
    return [outcome for _, outcome in known if outcome], [config for config, outcome in known if not outcome]


def refuse_changed(configs: Sequence[RunConfig], store: RunStore, data_fingerprint: str | None) -> None:
    """Raise Changed, naming every change, if started runs cannot be resumed."""
    started = [run for config in configs if (run := store.run(config)).begun]
    left = [run for run in started if run.status["state"] not in FINISHED]
    found = {run.name: changes(run.record, data_fingerprint) for run in left}
    if changed := {name: texts for name, texts in found.items() if texts}:
        texts = "; ".join(sorted({text for texts in changed.values() for text in texts}))
        raise Changed(
            f"{len(changed)} runs were started with different code, torch or data: {texts}. "
            "Revert the change (even a comment counts) to resume them, or use --force to restart them; "
            f"the old runs are kept ({', '.join(changed)})"
        )
