from .page import render as render, write_page as write_page, write_report as write_report
from .study_report import StudyReport as StudyReport
from .tables import (
    AUDIT_COLUMNS as AUDIT_COLUMNS,
    EFFECT_COLUMNS as EFFECT_COLUMNS,
    SUMMARY_COLUMNS as SUMMARY_COLUMNS,
    audit_rows as audit_rows,
    effect_rows as effect_rows,
    summary_rows as summary_rows,
)
