"""Measures the headline claims of the eight papers, at a size that fits the machine.

    python -m experiments.claims                         # all eight, for two CPU cores
    python -m experiments.claims nbody deep_speech_1     # some
    python -m experiments.claims --scale=smoke           # only to see that everything runs
    python -m experiments.claims --list

Every claim says what its paper claims, what is measured in its stead, and whether it holds. Arms of
a comparison have the same data, steps and seeds. Training runs are kept in --workdir: what was
interrupted goes on, and what is done is not done again, also where two claims train the same. The
scale `small` reads the corpora that `experiments.make_piano_corpus` and
`experiments.make_speech_corpus` make, `piano`, `speech` and `mandarin` in the folder --corpora, and
takes one to two hours on two CPU cores; `paper` has the papers' sizes and reads MAPS, LibriSpeech
and LJSpeech there. A record and a picture of each claim go to experiments/records/claims/, those of
scale `smoke` into --workdir.
"""

import os
import sys
import time
from pathlib import Path

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import _arguments, _h200, records
from experiments.claims import (
    _claim,
    deep_speech_1,
    deep_speech_2,
    dense_sparse_dense,
    gradual_pruning,
    mixed_precision,
    nbody,
    onsets_and_frames,
    parallel_wavenet,
)

CLAIMS = {
    module.CLAIM.name: module.CLAIM
    for module in (
        parallel_wavenet,
        onsets_and_frames,
        mixed_precision,
        gradual_pruning,
        dense_sparse_dense,
        deep_speech_2,
        deep_speech_1,
        nbody,
    )
}
_ANSWERS = {True: "yes", False: "NO", None: "not measured"}


def measure(
    names: list[str], setting: _claim.Setting, directory: Path, console: Console
) -> list[str]:
    """Measures claims one after another, and writes and prints what each came to.

    Args:
        names: Which.
        setting: How.
        directory: Of the records.
        console: To print on.

    Returns:
        The names of those that could not be measured, with the reason.
    """
    failures = []
    for name in names:
        claim = CLAIMS[name]
        console.rule(f"{name} ({claim.paper})")
        console.print(f"“{claim.sentence}”\nMeasured in its stead: {claim.instead}.")
        begin = time.monotonic()
        try:
            outcome = claim.measure(setting)
        except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
            failures.append(f"{name}: {error}")
            console.print(f"could not be measured: {error}", style="red", markup=False)
            continue
        _print(outcome, console)
        path = _claim.write(claim, setting, outcome, directory)
        console.print(f"{time.monotonic() - begin:.0f} s; wrote {path}", soft_wrap=True)
    return failures


def _print(outcome: _claim.Outcome, console: Console) -> None:
    table = Table("asked", "found", "holds", show_lines=True)
    for check in outcome.checks:
        table.add_row(check.asked, check.found, _ANSWERS[check.holds])
    console.print(table)
    answer = "holds" if _claim.holds(outcome.checks) else "does not hold"
    console.print(f"The claim {answer}.", style="bold")


def _list(console: Console) -> None:
    table = Table("name", "paper", "measured")
    for claim in CLAIMS.values():
        table.add_row(claim.name, claim.paper, claim.instead)
    console.print(table)


def _jobs(given: int | None) -> int:
    """Runs at a time: a core each on a processor, else one."""
    if given:
        return given
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _prepare(scale: str, device: str | None, workdir: Path) -> None:
    """Chooses the device, and keeps compiled programs: the same arm is trained from many seeds."""
    if device:
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(device, device)
        jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
    # For this process, and for those that it starts.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(workdir / "compiled")
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    if device == "cpu" and scale != "smoke":
        # Some of what is measured is compiled for a graphics card that is not there.
        _h200.prepare()


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_enum("scale", "small", list(_claim.SCALES), "How large.")
    flags.DEFINE_enum("device", None, ["cpu", "gpu", "tpu"], "On what; JAX's choice if not given.")
    flags.DEFINE_string("corpora", "corpora", "The folder of the corpora piano, speech, mandarin.")
    flags.DEFINE_string("workdir", "claims", "Where training runs are kept.")
    flags.DEFINE_integer("seeds", None, "Of every arm; 3, at scale smoke 1.", lower_bound=1)
    flags.DEFINE_integer("jobs", None, "Runs at a time; a core each if not given.", lower_bound=1)
    flags.DEFINE_string("records", None, "Folder of the records, if not the usual one.")
    flags.DEFINE_bool("list", False, "Say which claims there are; measure nothing.")


def main(argv: list[str]) -> None:
    """Measures what is named, or everything; exits with 1 if something could not be measured."""
    given = flags.FLAGS
    console = Console()
    if given.list:
        _list(console)
        return
    names = argv[1:] or list(CLAIMS)
    for name in names:
        if name not in CLAIMS:
            known = ", ".join(CLAIMS)
            _arguments.fail(f"no such claim: {name}; there are {known}")
    smoke = given.scale == "smoke"
    workdir = Path(given.workdir).resolve()
    _prepare(given.scale, given.device, workdir)
    setting = _claim.Setting(
        scale=given.scale,
        corpora=Path(given.corpora).resolve(),
        workdir=workdir,
        seeds=tuple(range(given.seeds or (1 if smoke else 3))),
        jobs=_jobs(given.jobs),
    )
    directory = Path(given.records or (workdir / "records" if smoke else records.RECORDS))
    failures = measure(names, setting, directory, console)
    if failures:
        sys.exit(f"claims: {len(failures)} could not be measured: {'; '.join(failures)}")


if __name__ == "__main__":
    # Errors begin with the program's name, and the file is called __main__.
    sys.argv[0] = "claims"
    _arguments.run(main, _define_flags)
