"""Timing of several things that take turns, so that what else the machine does meets all alike."""

import time
from collections.abc import Callable
from typing import Any

import jax

Run = Callable[[], Any]
_REST_SECONDS = 0.3


def take_turns(runs: dict[str, Run], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every run in every turn, after one that warms up."""
    seconds = {name: [] for name in runs}
    for turn in range(-1, repetitions):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            if jax.default_backend() == "cpu":
                # Threads of the one before may still be waiting for work, at full speed.
                time.sleep(_REST_SECONDS)
            begin = time.perf_counter()
            runs[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds
