"""What is timed, and how: cases of several contestants that take turns, and the rows they give."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from experiments._turns import Run, take_turns


class Work(NamedTuple):
    """What a run has to do.

    Attributes:
        flops: Floating-point operations.
        bytes: Moved from and to memory; None where nothing says how many.
    """

    flops: float
    bytes: float | None


class Timed(NamedTuple):
    """A contestant, ready to be timed.

    Attributes:
        run: Computes once, and waits for the result.
        units: How many of the case's units a run does; rates and ratios are by unit.
        work: Of a run; None where it is not known.
    """

    run: Run
    units: float
    work: Work | None


class Skip(NamedTuple):
    """Stands for a contestant that this device or environment cannot have.

    Attributes:
        reason: Why, in words that follow a contestant's name.
    """

    reason: str


@dataclasses.dataclass(frozen=True)
class Case:
    """Contestants that do the same.

    Attributes:
        suite: "kernels", "models", "training" or, for what it can do at best, "device".
        name: Of the case.
        size: The number that a sweep changes.
        size_of: What it counts.
        unit: What rates count.
        contestants: By name, how to make each; the first is the baseline.
    """

    suite: str
    name: str
    size: int
    size_of: str
    unit: str
    contestants: dict[str, Callable[[], Timed] | Skip]

    @property
    def path(self) -> str:
        """The suite and the name: "kernels/ctc"."""
        return f"{self.suite}/{self.name}"

    @property
    def baseline(self) -> str:
        """The name of what the others are compared with."""
        return next(iter(self.contestants))

    def of(self, names: Collection[str]) -> "Case":
        """The case with the baseline and contestants of some names alone."""
        kept = {
            name: make
            for name, make in self.contestants.items()
            if name in names or name == self.baseline
        }
        return dataclasses.replace(self, contestants=kept)


def measure(case: Case, repetitions: int, *, hurried: bool = False) -> list[dict[str, Any]]:
    """Times the contestants of a case; one that fails does not stop the others.

    Args:
        case: What to time.
        repetitions: Timed turns, after two that compile and warm up.
        hurried: Without a rest before each run, where times do not matter.

    Returns:
        A row for each contestant: `suite`, `case`, `size`, `size_of`, `contestant`, `baseline`,
        `unit`, and either `skipped` or `error`, each a reason, or the figures: `median_seconds`,
        `least_seconds` and `most_seconds` of a run, `rate` (units a second), `ratio` to the
        baseline's speed (above 1: faster; the median of the ratios within a turn) with
        `least_ratio` and `most_ratio`, `flops` and `bytes` of a run, `flops_per_second`,
        `flops_per_byte`, and `all_seconds`.
    """
    ready, failed = {}, {}
    for name, make in case.contestants.items():
        if not isinstance(make, Skip):
            try:
                ready[name] = make()
                ready[name].run()
            except Exception as error:
                ready.pop(name, None)
                failed[name] = _one_line(error)
    take = _without_rest if hurried else take_turns
    try:
        seconds = take({name: timed.run for name, timed in ready.items()}, repetitions)
    except Exception as error:
        seconds = {}
        failed |= dict.fromkeys(ready, _one_line(error))
    rows = []
    for name, make in case.contestants.items():
        row = {
            "suite": case.suite,
            "case": case.name,
            "size": case.size,
            "size_of": case.size_of,
            "contestant": name,
            "baseline": case.baseline,
            "unit": case.unit,
        }
        if name in seconds:
            row |= _figures(name, case.baseline, ready, seconds)
        elif isinstance(make, Skip):
            row["skipped"] = make.reason
        else:
            row["error"] = failed[name]
        rows.append(row)
    return rows


def _without_rest(runs: dict[str, Run], repetitions: int) -> dict[str, list[float]]:
    seconds = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def _figures(name, baseline, ready, seconds):
    times, timed = seconds[name], ready[name]
    median = statistics.median(times)
    row = {
        "median_seconds": median,
        "least_seconds": min(times),
        "most_seconds": max(times),
        "rate": timed.units / median,
    }
    if baseline in seconds:
        share = timed.units / ready[baseline].units
        ratios = [
            share * theirs / mine for theirs, mine in zip(seconds[baseline], times, strict=True)
        ]
        row |= {
            "ratio": statistics.median(ratios),
            "least_ratio": min(ratios),
            "most_ratio": max(ratios),
        }
    if timed.work is not None:
        row |= {"flops": timed.work.flops, "flops_per_second": timed.work.flops / median}
        if timed.work.bytes:
            row |= {
                "bytes": timed.work.bytes,
                "flops_per_byte": timed.work.flops / timed.work.bytes,
            }
    return {**row, "all_seconds": [round(value, 7) for value in times]}


def _one_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
