"""A small task whose loss is known, and batches that remember where they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class LineTask:
    """Fits y = w x + b; dropout-like noise makes the step's key matter."""

    def init(self, key):
        """Parameters and a counter as model state."""
        return {
            "params": {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())},
            "batch_stats": {"seen": jnp.zeros(())},
        }

    def loss(self, params, model_state, batch, key):
        """Mean squared error."""
        noise = 0.01 * jax.random.normal(key, batch["y"].shape)
        error = batch["x"] @ params["w"] + params["b"] + noise - batch["y"]
        loss = jnp.mean(error**2)
        seen = model_state["batch_stats"]["seen"] + 1.0
        return loss, ({"loss/total": loss}, {"batch_stats": {"seen": seen}})


class Batches:
    """Endless batches that follow from their number alone."""

    def __init__(self, size=16, poison=None):
        """`poison`: the number of a batch that holds a NaN."""
        self.number, self._size, self._poison = 0, size, poison

    def __next__(self):
        rng = np.random.default_rng(self.number)
        x = rng.standard_normal((self._size, 3)).astype(np.float32)
        y = (x @ np.array([1.0, -2.0, 0.5]) + 3).astype(np.float32)
        if self.number == self._poison:
            y[0] = np.nan
        self.number += 1
        return {"x": x, "y": y}

    def get_state(self):
        """Where the next batch is."""
        return {"number": self.number}

    def set_state(self, state):
        """Go there."""
        self.number = state["number"]


@pytest.fixture
def task():
    return LineTask()


@pytest.fixture
def batches():
    return Batches


@pytest.fixture(autouse=True)
def loose_promotion():
    """optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield
