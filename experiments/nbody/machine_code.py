"""Counts the machine instructions of the N-body kernels, on any machine.

    python -m experiments.nbody.machine_code

Compiles every force law for an NVIDIA H200 (nothing runs, no GPU is needed) and reads what ptxas
made of it: registers, spills, and the instructions of the innermost loop for each interaction.
Needs the extra `gpu` for CUDA's compiler and `nvidia-cuda-nvdisasm` for its disassembler. Writes
the record `nbody_machine_code`.

An H200 issues 132 multiprocessors x 4 schedulers x 32 lanes x 1.98 GHz = 33.5 T instructions a
second, lane by lane, so the instructions of an interaction say what the kernel can reach at most.
The minimum for each law counts what its formula needs when every product with a following sum is
one instruction; loads of sources from shared memory come on top, one for several interactions.
"""

import collections
import sys
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels.nbody import KernelConfig, _laws, mosaic_gpu
from experiments import _arguments, _machine_code, records

# Differences 3, squared distance 3, then: rsqrt 1, three products to m / s^3, three sums;
_GRAVITY = 3 + 3 + 1 + 3 + 3
# velocities 3, r.v 3, -3 (r.v) / s^2 two products, times m / s^3, and six sums in place of three;
_JERK = _GRAVITY + 3 + 3 + 2 + 1 + 6
# Lennard-Jones: sigma, its square over r^2, cubed (2), depth, times sixth, 12 s - 6, and the
# virial's sum with Coulomb's; times 1 / r^2; charges' product. Then rsqrt, 1 / r^2, q q' / r;
_LENNARD_JONES = 3 + 3 + (1 + 2 + 2 + 1 + 1 + 1 + 1) + 1 + 1 + 3
# or a reciprocal and q q' / r^2; or rsqrt, 1 / r^2, r, exponent, power, 1 + x, share, D, 1 / D,
# energy (2), its slope (4), and their sum.
MINIMUM = {
    "gravity": _GRAVITY,
    "gravity_and_jerk": _JERK,
    "lennard_jones_coulomb_constant": _LENNARD_JONES + 3,
    "lennard_jones_coulomb_linear": _LENNARD_JONES + 2,
    "lennard_jones_coulomb_sigmoidal": _LENNARD_JONES + 9 + 2 + 4 + 1,
}
# Issue slots a second of one lane each, and what the project asks for.
SLOTS = 132 * 128 * 1.98e9
GOALS = {"gravity": 13.5, "gravity_and_jerk": 30.0}
_GOAL_OVER_MINIMUM = 1.08


def laws() -> list[_laws.Law]:
    """The five force laws of the paper."""
    molecular = [_laws.lennard_jones_coulomb(name) for name in _laws.DIELECTRICS]
    return [_laws.gravity(), _laws.gravity_and_jerk(), *molecular]


def measure(law: _laws.Law, number: int, config: KernelConfig | None = None) -> dict[str, Any]:
    """Compiles a law and reads its machine code.

    Args:
        law: What to compile.
        number: Bodies, of which the kernel's sizes depend.
        config: The kernel's sizes; None for its own choice.

    Returns:
        `law`, `instructions` an interaction, `minimum`, `goal`, `reached`, `registers`,
        `spilled_bytes`, `billion_interactions_per_second_at_most`, and the `mix` of the innermost
        loop.

    Raises:
        RuntimeError: CUDA's compiler or disassembler is missing.
    """
    config = config or KernelConfig.choose(number, number)
    scalar, column = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((), (number,)))

    def run(constants, targets, sources):
        offset = jnp.int32(0) if law.singular else None
        return mosaic_gpu.sum_pairs(law, constants, targets, sources, offset, config=config)

    constants = () if law.singular else (scalar,)
    arguments = (
        constants,
        (column,) * len(law.target_padding),
        (column,) * len(law.source_padding),
    )
    made = _machine_code.compile_kernel(run, arguments)
    interactions = config.unroll * config.targets // 128
    mix = main_loop(made.code)
    instructions = mix.total() / interactions
    goal = GOALS.get(law.name, _GOAL_OVER_MINIMUM * MINIMUM[law.name])
    return {
        "law": law.name,
        "instructions": instructions,
        "minimum": MINIMUM[law.name],
        "goal": goal,
        "reached": instructions <= goal,
        "registers": made.registers,
        "spilled_bytes": made.spilled_bytes,
        "billion_interactions_per_second_at_most": SLOTS / instructions / 1e9,
        "mix": {name: count / interactions for name, count in mix.most_common()},
    }


def main_loop(code: str) -> collections.Counter[str]:
    """Counts the instructions of the innermost loop that adds sources.

    Args:
        code: Of one kernel, as `nvdisasm` prints it.

    Returns:
        How often each instruction stands in the loop. Of several innermost loops it is the one
        with square roots or reciprocals and without selections, which only pairs to be left out
        need.

    Raises:
        ValueError: There is no such loop.
    """
    inner = _machine_code.innermost_loops(code)
    sums = [mix for mix in inner if mix["MUFU"] and not mix["FSEL"]]
    if len(sums) != 1:
        raise ValueError(f"{len(sums)} loops look like the sum over sources, not one")
    return sums[0]


def _print(rows):
    table = Table(title="machine code for an H200, instructions an interaction")
    columns = ("law", "instructions", "minimum", "goal", "registers", "spilled", "T/s at most")
    for column in columns:
        table.add_column(column, justify="left" if column == "law" else "right")
    for row in rows:
        table.add_row(
            row["law"],
            f"{row['instructions']:.2f}",
            str(row["minimum"]),
            f"{row['goal']:.1f}",
            str(row["registers"]),
            str(row["spilled_bytes"]),
            f"{row['billion_interactions_per_second_at_most'] / 1e3:.2f}",
        )
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("number", 262144, "Bodies.", lower_bound=2)
    flags.DEFINE_string("record", "nbody_machine_code", "Name of the record.")


def main(argv: list[str]) -> None:
    """Counts and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    _machine_code.prepare()
    try:
        rows = [
            measure(law, given.number)
            for law in track(laws(), "compiling", console=Console(stderr=True))
        ]
    except (RuntimeError, ValueError) as error:
        sys.exit(f"machine_code: {error}")
    _print(rows)
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Machine instructions of the N-body kernels, compiled for an H200",
        number=given.number,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
