"""How well simulations keep the energy of a Plummer sphere.

    python -m experiments.nbody.energy

Follows a sphere of stars in Hénon units for one unit of time (a third of a crossing time) with each
integrator, in float32 and float64, and writes the record `nbody_energy`: steps taken, and the
relative error of the energy at the end and at its largest.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio import simulation
from experiments import _arguments, records

SOFTENING = 0.01
_CASES = [
    (integrator, eta, precision)
    for integrator, etas in (("hermite", (0.02, 0.005)), ("leapfrog", (0.02, 0.005)))
    for eta in etas
    for precision in ("float32", "float64")
]


def measure(
    integrator: str, eta: float, precision: str, *, number: int, t_end: float
) -> dict[str, Any]:
    """Follows one sphere.

    Args:
        integrator: "hermite" or "leapfrog".
        eta: Accuracy of the adaptive steps.
        precision: "float32" or "float64".
        number: Stars.
        t_end: Units of time.

    Returns:
        A row: the settings, `steps`, `energy_error` at the end, `largest_energy_error`, and
        `wall_seconds`.
    """
    steps = simulation.Hermite() if integrator == "hermite" else simulation.Leapfrog()
    begin = time.perf_counter()
    with jax.enable_x64(precision == "float64"), tempfile.TemporaryDirectory() as folder:
        result = simulation.simulate(
            simulation.plummer(number, 0, dtype=precision),
            simulation.Gravity(softening=SOFTENING),
            t_end=t_end,
            integrator=steps,
            eta=eta,
            snapshot_every=t_end / 20,
            folder=Path(folder) / "run",
        )
    last = result.diagnostics[-1]
    return {
        "integrator": integrator,
        "eta": eta,
        "precision": precision,
        "number": number,
        "t_end": t_end,
        "steps": last.steps,
        "energy_error": last.energy_error,
        "largest_energy_error": max(abs(row.energy_error) for row in result.diagnostics),
        "wall_seconds": time.perf_counter() - begin,
    }


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("number", 1024, "Stars.", lower_bound=2)
    flags.DEFINE_float("t_end", 1.0, "Units of time.", lower_bound=1e-6)
    flags.DEFINE_string("record", "nbody_energy", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    rows = []
    try:
        for case in track(_CASES, "simulating", console=Console(stderr=True)):
            rows.append(measure(*case, number=given.number, t_end=given.t_end))
    except (ValueError, ArithmeticError) as error:
        sys.exit(f"energy: {error}")
    for row in rows:
        print(
            f"{row['integrator']:8} eta {row['eta']:<6g} {row['precision']} {row['steps']:6d} "
            f"steps, energy error {row['energy_error']:.2e}"
        )
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Relative energy error of a Plummer sphere followed for a while",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
