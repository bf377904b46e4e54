from .context import track as track
from .tracked_run import TrackedRun as TrackedRun
