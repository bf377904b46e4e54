"""Kernels, compiled by numba on first use."""
