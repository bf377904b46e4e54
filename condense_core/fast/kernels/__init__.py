"""Kernels, compiled by numba on their first call. The README of `fast` says what they may assume."""
