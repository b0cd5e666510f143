"""Systems by name, each with settings under which it is worth looking at."""

import dataclasses
import math
from collections.abc import Callable

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._initial import (
    FIGURE_EIGHT_PERIOD,
    figure_eight,
    kepler,
    plummer,
    uniform_sphere,
)
from deepaudio.simulation._molecules import ionic_cluster, lennard_jones_cluster

# Hot enough to melt, and for single atoms to leave.
_LENNARD_JONES_TEMPERATURE = 0.9
_IONIC_TEMPERATURE = 0.5


@dataclasses.dataclass(frozen=True)
class Model:
    """A system to start from, and what suits it.

    Attributes:
        make: From a number of bodies, a seed and a dtype to the bodies.
        molecular: Whether the law is molecular, not gravity.
        num_bodies: How many, by default.
        t_end: When to stop, by default.
        softening: Of gravity, by default.
        eta: Of adaptive steps, by default.
        precision: "float32" or "float64", by default.
        snapshots: How many, by default.
    """

    make: Callable[[int, int, str], Bodies]
    molecular: bool
    num_bodies: int
    t_end: float
    softening: float = 0.0
    eta: float = 0.02
    precision: str = "float32"
    snapshots: int = 100


def _kepler(num_bodies: int, seed: int, dtype: str) -> Bodies:
    _exactly("kepler", 2, num_bodies)
    return kepler(dtype=dtype)


def _figure_eight(num_bodies: int, seed: int, dtype: str) -> Bodies:
    _exactly("figure-eight", 3, num_bodies)
    return figure_eight(dtype=dtype)


def _exactly(name: str, wanted: int, num_bodies: int) -> None:
    if num_bodies != wanted:
        raise ValueError(f"{name} has {wanted} bodies, not {num_bodies}")


def _lennard_jones(num_bodies: int, seed: int, dtype: str) -> Bodies:
    temperature = _LENNARD_JONES_TEMPERATURE
    return lennard_jones_cluster(num_bodies, seed, temperature=temperature, dtype=dtype)


def _ionic(num_bodies: int, seed: int, dtype: str) -> Bodies:
    side = max(round(num_bodies ** (1 / 3)), 2)
    if side**3 != num_bodies:
        raise ValueError(f"ionic needs a cube number of bodies, not {num_bodies}; try {side**3}")
    return ionic_cluster(side, seed, temperature=_IONIC_TEMPERATURE, dtype=dtype)


# Few bodies can be followed closely, and their trails want many snapshots.
_FEW = {"eta": 0.005, "precision": "float64", "snapshots": 400}

# By the names that the command takes.
MODELS = {
    "plummer": Model(
        lambda n, seed, dtype: plummer(n, seed, dtype=dtype), False, 1024, 6.0, softening=0.01
    ),
    "uniform": Model(
        lambda n, seed, dtype: uniform_sphere(n, seed, dtype=dtype),
        False,
        1024,
        3.0,
        softening=0.02,
    ),
    "kepler": Model(_kepler, False, 2, 2 * math.pi, **_FEW),
    "figure-eight": Model(_figure_eight, False, 3, 2 * FIGURE_EIGHT_PERIOD, **_FEW),
    "lennard-jones": Model(_lennard_jones, True, 500, 20.0),
    "ionic": Model(_ionic, True, 512, 20.0),
}
