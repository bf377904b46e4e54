"""Data sets: loading, splitting, decoding and augmenting images."""
