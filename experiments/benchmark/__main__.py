r"""Times the project's kernels, models and training steps, each beside a named baseline.

    python -m experiments.benchmark                            # all suites, sizes for two CPU cores
    python -m experiments.benchmark kernels --only=nbody
    python -m experiments.benchmark kernels --sweep            # over a range of sizes
    python -m experiments.benchmark training --only=deep_speech_2 --contestants=bfloat16
    python -m experiments.benchmark --scale=paper --record=benchmark_gpu    # on an accelerator

Suites:
    kernels     Force sums, WaveNet generation, products with pruned matrices, a recurrent layer,
                CTC and the log-mel front end, beside the usual way to compute each.
    models      Inference of every published system, in half precision beside float32.
    training    A whole step of every system, with each technique beside plain float32.

Contestants of a case take turns, and a ratio is the median of the ratios within a turn; above 1 it
is faster than the baseline. What a device cannot do is a row that says why; what fails is a row
with the error, the others go on, and the exit status is 1.

Writes results.json, results.csv and roofline.png (with --sweep also sweep.png) into --output.
The same command again goes on there: what was measured at this scale, on this device, by this
revision and these libraries is not measured again, unless --again says so. On a CPU,
JAX_NUM_CPU_DEVICES=2 makes a device of each of two cores, for data parallelism and the force sums.
Scales: "smoke" only shows that all works, its times mean nothing; "small" takes minutes on two CPU
cores; "paper" has the papers' sizes and needs an accelerator.
"""

import fnmatch
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments import _arguments, records
from experiments.benchmark import _device, _kernels, _models, _pictures, _training
from experiments.benchmark._cases import Case, Skip, measure
from experiments.benchmark._results import Results, about

SUITES = {"kernels": _kernels.cases, "models": _models.cases, "training": _training.cases}
_REPETITIONS = {"smoke": 2, "small": 5, "paper": 11}
_TABLE_WIDTH = 110


def choose(
    suites: list[str],
    scale: str,
    *,
    sweep: bool,
    only: str | None,
    contestants: list[str] | None = None,
) -> list[Case]:
    """The cases of some suites whose path holds a pattern.

    Args:
        suites: Names; empty for all.
        scale: "smoke", "small" or "paper".
        sweep: Whether kernels come at several sizes.
        only: A pattern of paths such as "kernels/ctc*", or a part of them; None for all.
        contestants: Names of those that are timed beside the baseline; None for all.

    Raises:
        ValueError: There is no such suite, no such case, or no such contestant.
    """
    for name in suites:
        if name not in SUITES:
            nearest = _arguments.nearest(name, SUITES)
            raise ValueError(
                f"no such suite {name}; nearest: {nearest}; there are {', '.join(SUITES)}"
            )
    wanted = [make for name, make in SUITES.items() if name in (suites or SUITES)]
    found = [case for make in wanted for case in make(scale, sweep)]
    if only:
        found = [case for case in found if fnmatch.fnmatch(case.path, f"*{only}*")]
        if not found:
            raise ValueError(f"--only={only}: no case of that name; see --list")
    if contestants is None:
        return found
    if unknown := set(contestants).difference(*(case.contestants for case in found)):
        raise ValueError(f"--contestants={min(unknown)}: no such contestant; see --list")
    return [case.of(contestants) for case in found]


def run(
    cases: list[Case], results: Results, repetitions: int, *, again: bool, hurried: bool
) -> None:
    """Times the cases that are not measured yet, and says what is skipped or fails.

    Args:
        cases: What to time.
        results: Where rows are kept.
        repetitions: Timed turns.
        again: Whether what was measured is measured again.
        hurried: Without rests, where times do not matter.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(bar, description=f"{case.path} {case.size}")
            if again or not results.measured(case):
                rows = measure(case, repetitions, hurried=hurried)
                results.add(rows)
                for row in rows:
                    if reason := row.get("error"):
                        progress.console.print(_line(row, f"failed: {reason}"), markup=False)
            progress.advance(bar)


def _line(row: dict[str, Any], what: str) -> str:
    return f"{row['suite']}/{row['case']} {row['size']}, {row['contestant']}: {what}"


def _print(rows: list[dict[str, Any]], title: str) -> None:
    """A table of what was timed, and a line for each reason why something was not."""
    table = Table(title=title)
    for name in ("case", "size", "contestant", "median ms", "least-most", "ratio", "spread"):
        left = name in ("case", "contestant")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    reasons = {}
    for row in rows:
        if "rate" in row:
            table.add_row(*_cells(row))
        elif "skipped" in row:
            contestants, of = reasons.setdefault(row["skipped"], ({}, {}))
            # In order, as sets have none.
            contestants[row["contestant"]] = of[row["case"]] = None
    Console(width=_TABLE_WIDTH).print(table)
    for reason, (contestants, of) in reasons.items():
        print(f"skipped: {', '.join(contestants)} of {', '.join(of)}: {reason}")


def _cells(row):
    least, middle, most = (1e3 * row[f"{name}_seconds"] for name in ("least", "median", "most"))
    ratio, spread = "-", "-"
    if "ratio" in row:
        ratio = f"{row['ratio']:.2f}"
        spread = f"{row['least_ratio']:.2f}-{row['most_ratio']:.2f}"
    if row["contestant"] == row["baseline"]:
        spread = "baseline"
    return (
        f"{row['suite']}/{row['case']}",
        f"{row['size']:,}",
        row["contestant"],
        f"{middle:.3f}",
        f"{least:.3f}-{most:.3f}",
        ratio,
        spread,
    )


def _list(cases: list[Case]) -> None:
    for case in cases:
        print(f"{case.path} ({case.size} {case.size_of})")
        for name, make in case.contestants.items():
            note = f"skipped: {make.reason}" if isinstance(make, Skip) else ""
            note = note or ("baseline" if name == case.baseline else "")
            print(f"    {name}{': ' if note else ''}{note}")


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_enum("scale", "small", list(_REPETITIONS), "Sizes of what is timed.")
    flags.DEFINE_string("output", "benchmark_output", "Folder of the results.")
    flags.DEFINE_string("record", None, "Also write the record of this name.")
    flags.DEFINE_string("records", str(records.RECORDS), "Folder of the record.")
    flags.DEFINE_string("only", None, "Only cases like this: a part of their name, or a pattern.")
    flags.DEFINE_list("contestants", None, "Only these contestants, and the baseline.")
    flags.DEFINE_integer("repetitions", None, "Timed turns; None for the scale's.", lower_bound=1)
    flags.DEFINE_bool("sweep", False, "Time kernels at a range of sizes.")
    flags.DEFINE_bool("again", False, "Measure again what was measured.")
    flags.DEFINE_bool("list", False, "Say which cases there are; run nothing.")
    flags.DEFINE_bool("force", False, "Allow the papers' sizes on a CPU.")


def main(argv: list[str]) -> None:
    """Reads the flags, measures, and writes results, pictures and perhaps a record."""
    given = flags.FLAGS
    scale, hurried = given.scale, given.scale == "smoke"
    if scale == "paper" and jax.default_backend() == "cpu" and not (given.force or given.list):
        _arguments.fail("--scale=paper is for accelerators and this is a CPU; --force runs it")
    # Where times do not matter, compiling is most of the work.
    jax.config.update("jax_disable_most_optimizations", hurried)
    try:
        cases = choose(
            argv[1:],
            scale,
            sweep=given.sweep,
            only=given.only,
            contestants=given.contestants,
        )
        if given.list:
            _list(cases)
            return
        output = Path(given.output)
        results = Results(output, about(scale))
    except (ValueError, OSError) as error:
        _arguments.fail(str(error))
    of_device = _device.cases(scale)
    repetitions = given.repetitions or _REPETITIONS[scale]
    run([*of_device, *cases], results, repetitions, again=given.again, hurried=hurried)
    rows = results.rows([*of_device, *cases])
    ceilings = _device.ceilings(rows)
    title = f"{records.device()}, {scale} sizes"
    _print(rows, title)
    # The device's own cases are the ceilings.
    measured = [row for row in rows if row["suite"] != "device"]
    _pictures.roofline(measured, ceilings, title, output / "roofline.png")
    pictures = ["roofline.png"]
    if given.sweep:
        pictures.append("sweep.png")
        swept = [row for row in measured if row["suite"] == "kernels"]
        _pictures.sweep(swept, output / "sweep.png")
    print(f"wrote {output / 'results.json'}, results.csv, {', '.join(pictures)}")
    if given.record:
        _write_record(rows, ceilings)
    failed = [row for row in rows if "error" in row]
    if failed:
        what = "; ".join(_line(row, row["error"]) for row in failed)
        print(f"benchmark: {len(failed)} failed: {what}", file=sys.stderr)
        sys.exit(1)


def _write_record(rows: list[dict[str, Any]], ceilings: _device.Ceilings | None) -> None:
    given = flags.FLAGS
    try:
        path = records.write_record(
            given.record,
            None,
            rows,
            description="Times of kernels, models and training steps beside their baselines",
            directory=given.records,
            scale=given.scale,
            ceilings=ceilings._asdict() if ceilings else None,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"benchmark: {error}")
    print(f"wrote {path}")


if __name__ == "__main__":
    # Errors begin with the program's name, and the file is called __main__.
    sys.argv[0] = "benchmark"
    _arguments.run(main, _define_flags)
