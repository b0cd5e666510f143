"""The bodies of a simulation: where they are, how they move, what they weigh."""

from typing import NamedTuple

import jax
import numpy as np

# A traced array has a shape and a dtype, but no values to look at.
Array = jax.Array | np.ndarray


class Bodies(NamedTuple):
    """N bodies. Units are the law's: see `Gravity` and `Molecular`.

    Attributes:
        positions: (N, 3), float32 or float64.
        velocities: (N, 3), of the same dtype, as all that follows.
        masses: (N,).
        charges: (N,); None where gravity acts.
        sigmas: (N,), Lennard-Jones diameters; None where gravity acts.
        epsilons: (N,), Lennard-Jones depths; None where gravity acts.
    """

    positions: Array
    velocities: Array
    masses: Array
    charges: Array | None = None
    sigmas: Array | None = None
    epsilons: Array | None = None


def is_molecular(bodies: Bodies) -> bool:
    """Whether the bodies have what the molecular law needs."""
    return not any(array is None for array in (bodies.charges, bodies.sigmas, bodies.epsilons))


def check_bodies(bodies: Bodies) -> None:
    """Raises a ValueError unless shapes and dtypes agree and the values can be simulated.

    Under a trace only shapes and dtypes are looked at.
    """
    shape = np.shape(bodies.positions)
    if len(shape) != 2 or shape[1] != 3:
        raise ValueError(f"positions have shape {shape}, not (N, 3)")
    if shape[0] < 2:
        raise ValueError(f"a simulation needs at least 2 bodies, not {shape[0]}")
    dtype = bodies.positions.dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"positions are {dtype}, not float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError("positions are float64, which JAX computes with only after jax_enable_x64")
    for name, array in bodies._asdict().items():
        if array is None:
            continue
        wanted = shape if name in ("positions", "velocities") else shape[:1]
        if np.shape(array) != wanted:
            raise ValueError(f"{name} have shape {np.shape(array)}, not {wanted}")
        if array.dtype != dtype:
            raise ValueError(f"{name} are {array.dtype}, but positions {dtype}")
        if not isinstance(array, jax.core.Tracer):
            _check_values(name, np.asarray(array), is_molecular(bodies))


def _check_values(name: str, values: np.ndarray, molecular: bool) -> None:
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"{name}[{', '.join(map(str, where))}] is {values[tuple(where)]}")
    positive = name == "sigmas" or (name == "masses" and molecular)
    if positive and values.min() <= 0:
        raise ValueError(f"{name} must be above 0, not {values.min()}")
    if name in ("masses", "epsilons") and values.min() < 0:
        raise ValueError(f"{name} must not be negative, as {values.min()} is")
