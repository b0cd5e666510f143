"""Training runs of the claims: several at a time, each measured once and found again."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from rich.console import Console
from rich.progress import track

from experiments import train

Measure = Callable[[Path], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Run:
    """An arm from one seed.

    Attributes:
        arm: Its name.
        folder: Where it is kept.
        config: What is trained.
        measure: From the folder to figures; goes to other processes, so it must be of a module.
    """

    arm: str
    folder: Path
    config: ml_collections.ConfigDict
    measure: Measure


def train_all(runs: Sequence[Run], jobs: int) -> list[dict[str, Any]]:
    """Trains and measures what has not been, and returns a row for each run.

    On a processor several runs go side by side, a core each, which makes more of small networks
    than all cores for one. What each prints is in its folder's `log.txt`.

    Args:
        runs: In the order of the rows. Runs in one folder are the same run.
        jobs: Runs at a time.

    Returns:
        `arm`, `seed`, `steps` and the figures; or `failed`, why a run did not come to its end.

    Raises:
        ValueError: A folder holds a run of other settings, or the data cannot be read.
        InterruptedError: A signal ended a run.
    """
    distinct = list({run.folder: run for run in runs}.values())
    todo = [run for run in distinct if _measured(run) is None]
    if jobs == 1 or len(todo) == 1:
        for run in track(todo, "training", console=Console(stderr=True)):
            _finish(run)
    elif todo:
        _side_by_side(todo, jobs)
    return [_row(run) for run in runs]


def _row(run: Run) -> dict[str, Any]:
    about = {"arm": run.arm, "seed": run.config.seed, "steps": run.config.num_steps}
    return {**about, **_measured(run)}


def _side_by_side(runs, jobs):
    # A process a run: compiled programs of one are of no use to the next, and take memory.
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    for core in itertools.islice(itertools.cycle(available), jobs):
        cores.put(core)
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_keep_cores, initargs=(cores,), max_tasks_per_child=1
    ) as pool:
        futures = [pool.submit(_on_a_core, run) for run in runs]
        done = concurrent.futures.as_completed(futures)
        try:
            for future in track(done, "training", total=len(runs), console=Console(stderr=True)):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_cores: Any = None


def _keep_cores(cores: Any) -> None:
    global _cores
    _cores = cores


def _on_a_core(run: Run) -> None:
    core = _cores.get()
    try:
        if core is not None and jax.config.jax_platforms in (None, "cpu"):
            os.sched_setaffinity(0, {core})
        _finish(run)
    finally:
        _cores.put(core)


def _finish(run: Run) -> None:
    """Trains and measures one run."""
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "log.txt"
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            # A copy: training fills in what it takes from the data.
            train.train_whole(run.config.copy_and_resolve_references(), run.folder)
            figures = run.measure(run.folder)
        except ArithmeticError as error:
            # That an arm does not train is a result too.
            figures = {"failed": str(error)}
    content = {"settings": _settings(run), "figures": figures}
    partial = run.folder / "measured.json.tmp"
    partial.write_text(json.dumps(content, default=float))
    partial.replace(run.folder / "measured.json")


def _measured(run: Run) -> dict[str, Any] | None:
    path = run.folder / "measured.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    if content["settings"] != _settings(run):
        raise ValueError(f"{run.folder}: was measured with other settings; use another --workdir")
    return content["figures"]


def _settings(run: Run) -> Any:
    """What was trained and measured, as JSON gives it back."""
    measured = getattr(run.measure, "keywords", {})
    text = run.config.to_json_best_effort(sort_keys=True)
    return json.loads(json.dumps([json.loads(text), measured], default=str))
