import jax
import pytest


@pytest.fixture
def x64():
    """JAX computes in float64."""
    with jax.enable_x64(True):
        yield
