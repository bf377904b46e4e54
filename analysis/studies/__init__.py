"""Studies: variants, seeds, matching costs, settings and what a study will take."""
