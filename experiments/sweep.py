r"""Trains a grid of configurations, and compares what came of them.

    python -m experiments.sweep --config=experiments/configs/onsets_and_frames.py:smoke \
        --config.data_dir=CORPUS --workdir=SWEEP \
        --grid config.optimizer.schedule.peak=1e-3,3e-3 --grid config.seed=0,1,2

Every combination of the grid's values is a member: a run of `experiments.train` in a process and
a folder of its own, such as SWEEP/peak=0.001,seed=0, where log.txt holds what it said. Settings
outside of the grid are given as to `experiments.train`. The same command again goes on with a
half-done sweep: finished members are left alone, a half-done one goes on from its checkpoint. A
longer grid adds members. A member that fails does not stop the others; it is named at the end.

    --list               says which members there are and runs nothing
    --member=I           runs only member I, from 0; in a Slurm array, SLURM_ARRAY_TASK_ID does so:
                         sbatch --array=0-5 JOB, with this command in JOB
    --summarize          runs nothing; compares what is in --workdir so far
    --metrics=NAME,NAME  which metrics, of those in the members' metrics.csv; the first is plotted
    --plot=curves        over the steps, not over the first swept setting

Writes SWEEP/sweep.csv (a row a member, the last value of every metric) and SWEEP/sweep.png.
Exits with 0, with 1 if a member failed, with 2 on wrong usage.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import _arguments, _grid, _sweep_summary

PROGRAM = (sys.executable, "-m", "experiments.train")
_DEFAULT_METRICS = ("loss/total", "validation/metric/note/f1")
_LOG = "log.txt"
# Seconds between looks at how far a member has come.
_LOOK_EVERY = 0.5
_TAIL_BYTES = 4096


def run_members(
    members: Sequence[_grid.Member],
    workdir: Path,
    config: str,
    overrides: dict[str, Any],
    num_steps: int,
) -> dict[str, str]:
    """Runs members one after another, those that are not finished.

    Args:
        members: To run.
        workdir: The sweep's folder.
        config: FILE:VARIANT of the configuration.
        overrides: Settings of all members by dotted name.
        num_steps: Of a member's whole run, unless it is swept.

    Returns:
        What went wrong, by member's name; empty if nothing did.
    """
    failures = {}
    with _progress() as progress:
        bar = progress.add_task("", total=len(members), doing="")
        for member in members:
            progress.update(bar, description=member.name, doing="")
            folder = workdir / member.name
            about = {"config": config, "settings": overrides, "values": member.values}
            if not _is_finished(folder, about):
                last = member.values.get("num_steps", num_steps)

                def show(step, last=last):
                    progress.update(bar, doing=f"step {step} of {last}")

                if failure := _run_member(folder, about, last, show):
                    failures[member.name] = failure
                    progress.console.print(f"{member.name}: failed: {failure}", markup=False)
            progress.advance(bar)
    return failures


def _run_member(folder: Path, about: dict[str, Any], num_steps: int, show: Any) -> str | None:
    """Runs one member to its end; says what went wrong, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, about, finished=False)
    settings = {**about["settings"], **about["values"]}
    command = [
        *PROGRAM,
        f"--config={about['config']}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
        f"--workdir={folder}",
    ]
    with (folder / _LOG).open("ab") as log:
        # In a session of its own, so that Ctrl-C reaches it once, by way of this program.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            while True:
                try:
                    code = process.wait(_LOOK_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    show(_last_step(folder))
        finally:
            if process.returncode is None:
                # It saves a checkpoint before it ends.
                process.terminate()
                process.wait()
    if code:
        return _last_words(folder / _LOG) or f"exit code {code}"
    if (step := _last_step(folder)) < num_steps:
        return f"stopped at step {step} of {num_steps}"
    _write(folder, about, finished=True)
    return None


def _is_finished(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the folder holds a finished run of exactly these settings.

    A run of others is left to `experiments.train`, which goes on with it or refuses.
    """
    path = folder / _sweep_summary.MEMBER_FILE
    return path.exists() and json.loads(path.read_text()) == _as_json({**about, "finished": True})


def _write(folder: Path, about: dict[str, Any], *, finished: bool) -> None:
    path = folder / _sweep_summary.MEMBER_FILE
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps({**about, "finished": finished}, indent=2))
    partial.replace(path)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _last_step(folder: Path) -> int:
    """The step of the last whole row of a run's metrics, 0 if there is none."""
    rows = _tail(folder / "metrics.csv").rpartition("\n")[0].splitlines()
    steps = [row.partition(",")[0] for row in rows]
    return next((int(step) for step in reversed(steps) if step.isdecimal()), 0)


def _last_words(log: Path) -> str:
    """The last line that a member said, which is its error."""
    # A progress bar returns to the line's beginning.
    lines = [line.strip() for line in re.split(r"[\r\n]", _tail(log))]
    return next((line for line in reversed(lines) if line), "")


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def summarize(workdir: Path, metrics: Sequence[str], kind: str, *, strict: bool = True) -> None:
    """Prints the table of what there is, and writes sweep.csv and sweep.png.

    Args:
        workdir: The sweep's folder.
        metrics: Names of metrics; the first is plotted.
        kind: "values" or "curves".
        strict: Whether a metric that no member has is an error.

    Raises:
        ValueError: There are no members, or none has the metric.
    """
    results = _sweep_summary.read_results(workdir)
    if strict:
        _sweep_summary.check_metrics(results, metrics)
    rows = _sweep_summary.table(results, metrics)
    _sweep_summary.write_csv(rows, workdir / "sweep.csv")
    _sweep_summary.plot(results, metrics[0], kind, workdir / "sweep.png")
    Console().print(_sweep_summary.terminal_table(rows, workdir.name))
    print(f"wrote {workdir / 'sweep.csv'} and {workdir / 'sweep.png'}")


def _chosen(members: Sequence[_grid.Member]) -> Sequence[_grid.Member]:
    """All members, or the one that a flag or Slurm asks for."""
    index, source = flags.FLAGS.member, "--member"
    if index is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        index, source = int(os.environ["SLURM_ARRAY_TASK_ID"]), "SLURM_ARRAY_TASK_ID"
    if index is None:
        return members
    if not 0 <= index < len(members):
        raise ValueError(f"{source}={index}: the grid has members 0 to {len(members) - 1}")
    return members[index : index + 1]


def _sweep(workdir: Path) -> dict[str, str]:
    """Does what the flags say, and returns the failures.

    Raises:
        ValueError: The flags are wrong.
    """
    values = flags.FLAGS
    metrics = values.metrics or _DEFAULT_METRICS
    if values.summarize:
        summarize(workdir, metrics, values.plot, strict=bool(values.metrics))
        return {}
    if values.config is None:
        raise ValueError("--config is missing")
    grid = _grid.parse_grid(values.grid, values.config)
    overrides = dict(config_flags.get_override_values(flags.FLAGS["config"]))
    for name in grid:
        if name in overrides:
            raise ValueError(f"--config.{name} and --grid config.{name} are both given")
    members = _grid.members(grid)
    if values.list:
        for index, member in enumerate(members):
            print(f"{index:4d}  {member.name}")
        return {}
    chosen = _chosen(members)
    config = config_flags.get_config_filename(flags.FLAGS["config"])
    failures = run_members(chosen, workdir, config, overrides, values.config.num_steps)
    if len(chosen) == len(members):
        summarize(workdir, metrics, values.plot, strict=False)
    return failures


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    config_flags.DEFINE_config_file("config", None, "What to train: FILE:VARIANT.")
    flags.DEFINE_string("workdir", None, "The sweep's folder; each member has its own in it.")
    flags.DEFINE_multi_string(
        "grid", [], "config.SETTING=VALUE,VALUE,... Give it once for each swept setting."
    )
    flags.DEFINE_integer("member", None, "Run only this member, from 0; see --list.")
    flags.DEFINE_bool("list", False, "Say which members there are; run nothing.")
    flags.DEFINE_bool("summarize", False, "Make the table and the plot; run nothing.")
    flags.DEFINE_list("metrics", [], "Metrics of the table; the first is plotted.")
    flags.DEFINE_enum(
        "plot", "values", ["values", "curves"], "Plot over the first swept setting, or over steps."
    )
    flags.mark_flag_as_required("workdir")


def main(argv: list[str]) -> None:
    """Reads the flags, runs the members, and compares them."""
    if len(argv) > 1:
        _arguments.fail(f"unexpected arguments: {' '.join(argv[1:])}")
    # Slurm ends a job so; the member that runs is then ended too, and saves.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        failures = _sweep(Path(flags.FLAGS.workdir))
    except ValueError as error:
        _arguments.fail(str(error))
    except OSError as error:
        sys.exit(f"sweep: {error}")
    if failures:
        print(f"sweep: {len(failures)} failed: {'; '.join(failures)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
