"""What the device can do at best, and what it cannot do at all."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmark._cases import Case, Skip, Timed, Work

# Rows and columns of the products, and elements of the sums, that measure a device.
_SIZES = {"smoke": (128, 2**14), "small": (1024, 2**24), "paper": (8192, 2**28)}
HALVES = ("bfloat16", "float16")


class Ceilings(NamedTuple):
    """What a device can do at most.

    Attributes:
        source: Where the figures are from.
        bandwidth: Of memory, bytes a second.
        peaks: FLOP/s by the arithmetic's name.
    """

    source: str
    bandwidth: float
    peaks: dict[str, float]


_HOPPER = {"float32": 67e12, "TF32": 495e12, "bfloat16": 989e12}
# Data sheets of NVIDIA, without sparsity, and Google's descriptions of its TPUs; by JAX's names.
_TABLES = {
    "NVIDIA H200": Ceilings("data sheet", 4.8e12, _HOPPER),
    "NVIDIA H100 80GB HBM3": Ceilings("data sheet", 3.35e12, _HOPPER),
    "TPU v4": Ceilings("data sheet", 1.2e12, {"bfloat16": 275e12}),
    "TPU v5 lite": Ceilings("data sheet", 0.82e12, {"bfloat16": 197e12}),
    "TPU v5": Ceilings("data sheet", 2.77e12, {"bfloat16": 459e12}),
    "TPU v6 lite": Ceilings("data sheet", 1.64e12, {"bfloat16": 918e12}),
}


def cases(scale: str) -> list[Case]:
    """A large product, and a sum that moves three arrays (STREAM's triad)."""
    side, elements = _SIZES[scale]
    products = {"float32": functools.partial(_product, side, "float32")}
    for name in HALVES:
        products[name] = without_half(name) or functools.partial(_product, side, name)
    return [
        Case("device", "product", side, "rows", "FLOP", products),
        Case(
            "device", "triad", elements, "elements", "byte",
            {"float32": functools.partial(_triad, elements)},
        ),
    ]  # fmt: skip


def _product(side: int, dtype: str) -> Timed:
    matrix = jnp.full((side, side), 0.5, dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    work = Work(2 * side**3, 3 * matrix.nbytes)
    return Timed(lambda: jax.block_until_ready(multiply(matrix, matrix)), work.flops, work)


def _triad(elements: int) -> Timed:
    first, second = jnp.ones(elements), jnp.ones(elements)
    add = jax.jit(lambda a, b: a + 0.5 * b)
    work = Work(2 * elements, 3 * first.nbytes)
    return Timed(lambda: jax.block_until_ready(add(first, second)), work.bytes, work)


def ceilings(rows: list[dict[str, Any]], device_kind: str | None = None) -> Ceilings | None:
    """The device's ceilings, from a table or else from what its own cases reached.

    Args:
        rows: Of one device, those of `cases` among them.
        device_kind: JAX's name of the device; None for the one at hand.

    Returns:
        The ceilings; None if it is in no table and was not measured.
    """
    known = _TABLES.get(device_kind or jax.devices()[0].device_kind)
    if known:
        return known
    best = {
        (row["case"], row["contestant"]): row["rate"] * row["median_seconds"] / row["least_seconds"]
        for row in rows
        if row["suite"] == "device" and "rate" in row
    }
    bandwidth = best.get(("triad", "float32"))
    peaks = {dtype: rate for (case, dtype), rate in best.items() if case == "product"}
    return Ceilings("measured", bandwidth, peaks) if bandwidth and peaks else None


def without_half(name: str) -> Skip | None:
    """Why a half precision is not worth timing here; None if it is."""
    platform = jax.default_backend()
    if platform == "cpu":
        return Skip(f"a CPU computes {name} by way of float32 and is slower with it")
    if platform == "tpu" and name == "float16":
        return Skip("a TPU's matrix units have bfloat16 and no float16")
    return None


def without_kernel(is_supported: Callable[[], bool], needed: str) -> Skip | None:
    """Why a Mosaic GPU kernel cannot run here; None if it can.

    Args:
        is_supported: Of the kernel's own module.
        needed: What it runs on.
    """
    if is_supported():
        return None
    return Skip(f"needs {needed}, and this is {jax.devices()[0].device_kind}")


def without_library(name: str) -> Skip | None:
    """Why a library's own way cannot be timed here; None if it can."""
    if importlib.util.find_spec(name) is None:
        return Skip(f"{name} is not installed")
    if jax.default_backend() != "cpu":
        return Skip(f"{name} is timed beside a CPU only")
    return None
