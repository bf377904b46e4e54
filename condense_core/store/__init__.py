"""The run store: a folder a run, in plain formats, in which a crash loses nothing that was finished."""
