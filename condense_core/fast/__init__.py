"""The fast execution: the same numbers as the reference's, to rounding, by kernels of our own."""
