from .answer import HELD as HELD, NOT_HELD as NOT_HELD, PARTLY as PARTLY, Answer as Answer
from .audit import audit as audit, verdict_counts as verdict_counts
from .differences import Difference as Difference
from .settling import settling_sentence as settling_sentence
from .study_findings import (
    StudyFindings as StudyFindings,
    comparison_sentences as comparison_sentences,
    joined_outcomes as joined_outcomes,
)
from .study_series import StudySeries as StudySeries
from .tuning import TrialRow as TrialRow, tried as tried, value_text as value_text
