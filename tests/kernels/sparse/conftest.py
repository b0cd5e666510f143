"""Sparse matrices of all sorts, the product by its definition, and both implementations."""

import functools

import jax
import numpy as np
import pytest

from deepaudio.kernels.sparse import KernelConfig, matvec, mosaic_gpu, unpack

try:
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:  # JAX 0.11
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams


@pytest.fixture
def draw(rng):
    """A function from a shape and a share of nonzeros to a matrix, float32."""

    def draw(shape, density):
        return np.where(rng.random(shape) < density, rng.normal(0, 1, shape), 0).astype(np.float32)

    return draw


@pytest.fixture
def check(rng):
    """A function that compares a product with its definition, the dense float64 product."""

    def check(multiply, packed, batch):
        vectors = rng.normal(0, 1, (batch, packed.inputs)).astype(np.float32)
        expected = vectors.astype(np.float64) @ unpack(packed).astype(np.float64)
        found = multiply(packed, vectors)
        assert found.shape == (batch, packed.outputs) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    return check


@pytest.fixture(params=["xla", "mosaic_gpu"])
def multiply(request):
    """Each implementation: the one of this device compiled, the GPU's in the interpreter."""
    if request.param == "xla":
        return jax.jit(functools.partial(matvec, implementation="xla"))
    # One thing at a time, so that two copies of a step's are there to be waited for.
    config = KernelConfig(chunk=4)
    return functools.partial(
        mosaic_gpu.matvec, config=config, interpret=InterpretGPUParams(detect_races=True)
    )
