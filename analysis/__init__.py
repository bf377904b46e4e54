"""The workbench on top of `condense_core`: studies, frames, statistics, figures and reports."""
