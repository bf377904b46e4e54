"""Questions about what a study found: its intervals, its controls, and what its claims amount to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from analysis.axes import MATCH_TOLERANCE
from analysis.stats import DIFFERS, OPEN, SAME, UNKNOWN
from analysis.text import count, duration
from condense_core.tables import LEARNED

from .answer import HELD, NOT_HELD, PARTLY, Answer, by_share, ends
from .differences import Difference
from .settling import headline, headline_name, settling_steps

if TYPE_CHECKING:
    from .study_findings import StudyFindings


def seeds(study: StudyFindings) -> Answer:
    """Answer whether the seeds can resolve a difference of the margin."""
    requirement = f"Intervals resolve {study.meaningful:g} points"
    rows, trained = headline(study.compared), study.done.groupby("variant").seed.nunique().max()
    half = (rows.high - rows.low) / 2 if len(rows) else pd.Series(dtype=float)
    number = "one seed" if trained == 1 else f"{trained} seeds"
    if not half.notna().any():
        return Answer(requirement, NOT_HELD, f"{number}: no interval", "--seeds 5")
    widths = ends(f"±{half.min():.2f}", f"±{half.max():.2f}")
    found = f"{number}: {headline_name(rows)}, intervals of {widths} points"
    verdict = by_share(float((half <= study.meaningful).mean()))
    return Answer(requirement, verdict, found, "" if verdict == HELD else settling_steps(study.compared))


def images(study: StudyFindings) -> Answer | None:
    """Answer whether the intervals cover the sampling of the test images."""
    rows = headline(study.compared)
    rows = rows[rows.finding != UNKNOWN] if len(rows) else rows
    if rows.empty:
        return None
    covered = rows.covers == "seeds and images"
    found = f"{study.done.test_images.max():,.0f} test images in a run"
    if covered.any():
        low, high = rows.se_images[covered].min(), rows.se_images[covered].max()
        found += f"; their standard error is {ends(f'{low:.2f}', f'{high:.2f}')} points"
    if not covered.all():
        found += f"; {int((~covered).sum())} of {headline_name(rows)} cover the seeds alone"
    mend = "" if covered.all() else "train again: older runs kept no answers"
    return Answer("Intervals cover the test images", by_share(float(covered.mean())), found, mend)


def dense_control(study: StudyFindings) -> Answer:
    """Answer whether the base is compared with a dense network of its cost."""
    requirement = "Control: dense at equal cost"
    found = study.summary[(study.summary.role == "dense-equal") & (study.summary.n > 0)]
    if found.empty:
        return Answer(requirement, NOT_HELD, "there is none", "--dense-equal")
    row = found.iloc[0]
    verdict = HELD if abs(row.residual) <= MATCH_TOLERANCE else PARTLY
    numbers = Difference.of_variant(row).numbers
    return Answer(requirement, verdict, f"{numbers} against the base, at {100 * row.residual:+.1f} % MACs")


def random_control(study: StudyFindings) -> Answer | None:
    """Answer whether learned groups are compared with random ones that cover every input."""
    return _grouping_control(study, "random")


def independent_control(study: StudyFindings) -> Answer | None:
    """Answer whether learned groups are compared with random ones that may leave inputs out, as they do."""
    return _grouping_control(study, "independent")


def _grouping_control(study: StudyFindings, control: str) -> Answer | None:
    trained = study.done.grouping
    learned = [name for name in dict.fromkeys(trained) if name in LEARNED]
    if not learned:
        return None
    requirement = f"Control: {control} groups"
    row = _against(study.effects, learned, control)
    if row is None and len(found := _to_base(study.summary, control)):
        numbers = Difference.of_variant(found.iloc[0]).numbers
        return Answer(requirement, HELD, f"{control} against the base, which is learned: {numbers}")
    if row is None:
        among = (trained == control).any()
        named = ",".join(dict.fromkeys([*study.setting("grouping", learned), control]))
        what = "there are some, but no main effect of them" if among else "there are none"
        return Answer(requirement, PARTLY if among else NOT_HELD, what, "" if among else f"--grouping {named}")
    return Answer(requirement, HELD, f"{row.level} against {row.against}: {Difference.of_effect(row).numbers}")


def _to_base(summary: pd.DataFrame, control: str) -> pd.DataFrame:
    """Return the variant of a control that differs from a learned base in its masks alone, if there is one."""
    listed = summary[(summary.n > 0) & (summary.study == "masks")] if "study" in summary else summary[:0]
    return listed[listed.grouping == control]


def _against(effects: pd.DataFrame, learned: Iterable[str], control: str) -> pd.Series | None:
    """Return the main effect of learned groups against a control, if there is one."""
    pairs = [{name, control} for name in learned]
    rows = (row for _, row in effects.iterrows() if row.factor == "grouping")
    return next((row for row in rows if {row.level, row.against} in pairs), None)


def training_cost(study: StudyFindings) -> Answer | None:
    """Answer what the result cost to train."""
    base = study.summary[(study.summary.role == "base") & (study.summary.n > 0)]
    if base.empty:
        return None
    own = base.iloc[0].training_macs
    names = {"reference": "the dense reference", "dense-equal": "dense at equal cost"}
    others = [row for row in study.summary.itertuples() if row.role in names and row.n]
    ratios = [f"{own / row.training_macs:.2g} times {names[row.role]}" for row in others]
    found = f"the base's training takes {count(own)} MACs" + (f", {' and '.join(ratios)}" if ratios else "")
    return Answer("The cost of training is stated", HELD, f"{found}; all runs {duration(study.seconds)}")


def claims(study: StudyFindings) -> Answer | None:
    """Answer whether the comparisons are settled, and whether what differs is as large as the margin."""
    rows = headline(study.compared)
    if rows.empty:
        return None
    differences = [Difference.of_effect(row) for row in rows.itertuples()]
    small = sum(one.differs and one.within(study.meaningful) for one in differences)
    differ, same, left = (int(rows.finding.isin(ones).sum()) for ones in ([DIFFERS], [SAME], [OPEN, UNKNOWN]))
    parts = [f"{differ} {'differs' if differ == 1 else 'differ'}"]
    parts[0] += f" ({small} of them within the margin)" if small else ""
    parts.append(f"{same} {_are(same)} the same within {study.meaningful:g} points")
    parts.append(f"{left} {_are(left)} open")
    settled = float(rows.finding.isin([DIFFERS, SAME]).mean())
    mend = settling_steps(study.compared)
    return Answer(
        "Claims are settled", by_share(settled), f"of {headline_name(rows)}, {', '.join(parts)}", mend
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
