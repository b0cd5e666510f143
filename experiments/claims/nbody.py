"""N-body forces: the paper's five laws, interactions a second."""

import concurrent.futures
import math
import multiprocessing
import os
from typing import Any

import jax

from experiments.claims._claim import Check, Claim, Outcome, Panel, Setting
from experiments.nbody import benchmark, machine_code

# What the paper's graphics card reached over the best code for a processor of its day, at least,
# and what a graphics card of today must reach of its own ceiling.
_TIMES_NUMPY = 10.0
_OF_CEILING = 0.5
# Of the fewest instructions an interaction can be computed with.
_OVER_MINIMUM = 1.1


def _measure(setting: Setting) -> Outcome:
    on_gpu = jax.default_backend() == "gpu"
    numbers = setting.pick([256], [65_536] if on_gpu else [16_384], [1_048_576])
    measure = benchmark.measure_gpu if on_gpu else _measure_cpu
    rows = measure(numbers, setting.pick(1, 7, 7))
    compiled, of_code = _instructions(setting)
    checks = [_speed(setting, rows, on_gpu), _paper(setting, rows), of_code]
    ours = [row for row in rows if row["contestant"].startswith("deepaudio")]
    panels = [
        Panel("billion interactions a second", _by_law(rows, "billion_interactions_per_second")),
        Panel("GFLOPS by the paper's count", _by_law(ours, "gflops_by_the_papers_count")),
    ]
    named = [{"arm": "speed", **row} for row in rows]
    return Outcome([*named, *({"arm": "code", **row} for row in compiled)], checks, panels)


def _measure_cpu(numbers: list[int], repetitions: int) -> list[dict[str, Any]]:
    """In a process of its own, in which every core is a device, as JAX loops on one core each."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=_make_devices
    ) as pool:
        return pool.submit(benchmark.measure_cpu, numbers, repetitions).result()


def _make_devices() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", os.cpu_count())


def _by_law(rows: list[dict[str, Any]], name: str) -> dict[str, list[float]]:
    return {f"{row['law'].replace('_', ' ')}: {row['contestant']}": [row[name]] for row in rows}


def _speed(setting: Setting, rows: list[dict[str, Any]], on_gpu: bool) -> Check:
    """Gravity beside numpy on the same processor, or beside the graphics card's ceiling."""
    if on_gpu:
        shares = [row["share_of_issue_slots"] for row in rows if "share_of_issue_slots" in row]
        return Check(
            f"gravity at {_OF_CEILING:.0%} of the graphics card's ceiling or more",
            f"{max(shares):.0%}",
            max(shares) >= _OF_CEILING,
        )
    times = next(row["ours_is_faster_times"] for row in rows if row["contestant"] == "numpy")
    return Check(
        f"gravity {_TIMES_NUMPY:.0f} times as fast as numpy on the same processor",
        f"{times:.1f} times",
        times >= _TIMES_NUMPY if setting.scale != "smoke" else None,
    )


def _paper(setting: Setting, rows: list[dict[str, Any]]) -> Check:
    """The five laws beside the paper's graphics card, in the geometric mean."""
    best: dict[str, float] = {}
    for row in rows:
        if row["contestant"].startswith("deepaudio"):
            share = row["gflops_by_the_papers_count"] / row["papers_gflops_x1900xtx"]
            best[row["law"]] = max(share, best.get(row["law"], 0.0))
    mean = math.prod(best.values()) ** (1 / len(best))
    told = ", ".join(f"{law.replace('_', ' ')} {share:.2f}" for law, share in best.items())
    return Check(
        "the five laws as fast as on the paper's graphics card of 2007, in the geometric mean",
        f"{mean:.2f} times ({told})",
        mean >= 1.0 if setting.scale != "smoke" else None,
    )


def _instructions(setting: Setting) -> tuple[list[dict[str, Any]], Check]:
    """Machine instructions of the kernels' inner loops, compiled for an H200."""
    asked = (
        f"compiled for an H200, inner loops have at most {_OVER_MINIMUM} times the fewest "
        "instructions possible"
    )
    if setting.scale == "smoke":
        return [], Check(asked, "not measured at this scale", None)
    try:
        rows = [machine_code.measure(law, 65_536) for law in machine_code.laws()]
    except RuntimeError as error:
        return [], Check(asked, str(error), None)
    most = max(row["instructions"] / row["minimum"] for row in rows)
    told = ", ".join(f"{row['law'].replace('_', ' ')} {row['instructions']:.1f}" for row in rows)
    return rows, Check(asked, f"{told}; at most {most:.2f} times", most <= _OVER_MINIMUM)


CLAIM = Claim(
    name="nbody",
    paper="arXiv 0706.3060",
    sentence=(
        "We have developed a highly optimized algorithm for performing the O(N^2) force "
        "calculations ... we achieve sustained performance of nearly 100 GFlops on an ATI "
        "X1900XTX."
    ),
    instead=(
        "Interactions a second of the paper's five force laws, with its count of operations, "
        "beside numpy and numba on the same processor, or beside plain XLA and CUDA C++ on a "
        "graphics card; machine instructions of the kernels as compiled for an H200"
    ),
    measure=_measure,
)
