"""Writing files so that a crash leaves the old or the new, and reading files of others within limits."""
