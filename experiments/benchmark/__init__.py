"""Suites of timings: kernels, models and training steps, each beside a named baseline."""
