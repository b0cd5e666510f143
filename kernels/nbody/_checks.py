"""Checks of arguments: errors name the argument and quote the value."""

import jax
import jax.numpy as jnp
import numpy as np

_DTYPES = ("float32", "float64")


def is_traced(value: object) -> bool:
    """Whether a value is known only when the compiled function runs."""
    return isinstance(value, jax.core.Tracer)


def check_places(name: str, array: jax.Array, least: int) -> None:
    """Refuses what is not (N, 3) of floats, N at least `least`."""
    if array.ndim != 2 or array.shape[1] != 3 or array.shape[0] < least:
        raise ValueError(f"{name} must be (N, 3) with N of at least {least}, not {array.shape}")
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{name} must be float32 or float64, not {array.dtype}")
    check_values(name, array)


def check_like(name: str, array: jax.Array, other: jax.Array) -> None:
    """Refuses an array of another shape or dtype than `other`."""
    if array.shape != other.shape or array.dtype != other.dtype:
        raise ValueError(
            f"{name} must be {other.shape} {other.dtype}, not {array.shape} {array.dtype}"
        )
    check_values(name, array)


def check_column(name: str, array: jax.Array, positions: jax.Array) -> None:
    """Refuses what is not one value for every body."""
    if array.shape != positions.shape[:1] or array.dtype != positions.dtype:
        raise ValueError(
            f"{name} must be ({positions.shape[0]},) {positions.dtype}, "
            f"not {array.shape} {array.dtype}"
        )
    check_values(name, array)


def check_species(
    species: jax.Array, sigmas: jax.Array, epsilons: jax.Array, positions: jax.Array
) -> None:
    """Refuses species that are no places in the tables of sigmas and epsilons."""
    if species.shape != positions.shape[:1] or not jnp.issubdtype(species.dtype, jnp.integer):
        raise ValueError(
            f"species must be ({positions.shape[0]},) integers, not {species.shape} {species.dtype}"
        )
    if sigmas.shape != epsilons.shape:
        raise ValueError(f"{sigmas.shape=} and {epsilons.shape=} must be the same")
    if not is_traced(species):
        wrong = [int(value) for value in np.unique(species) if not 0 <= value < len(sigmas)]
        if wrong:
            raise ValueError(f"species {wrong[0]} must be from 0 to {len(sigmas) - 1}")


def check_values(name: str, array: jax.Array, fits=np.isfinite, wanted: str = "a number") -> None:
    """Refuses an array with unfit values, quoting the first; values inside `jit` are not known."""
    if is_traced(array):
        return
    values = np.asarray(array)
    unfit = ~(np.isfinite(values) & fits(values))
    if unfit.any():
        place = tuple(int(index) for index in np.argwhere(unfit)[0])
        raise ValueError(f"{name}{list(place)} = {values[place]} must be {wanted}")
