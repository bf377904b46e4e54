"""Measured times: latency, runtimes, and where milliseconds go."""
