"""A run may begin from another model's weights where names and shapes fit."""

import jax
import numpy as np
import optax
import pytest

from deepaudio import training


def test_what_fits_is_taken_and_the_rest_is_drawn(task):
    state = training.init_state(task, optax.sgd(0.1), 0)
    given = {
        "params": {"w": np.full(3, 7.0, np.float64), "b": np.zeros((2,)), "other": np.ones(3)},
        "batch_stats": {"seen": np.array(5.0)},
    }
    started = training.warm_start(state, given)
    np.testing.assert_array_equal(started.params["w"], np.full(3, 7.0, np.float32))
    assert started.params["w"].dtype == state.params["w"].dtype
    assert started.params["b"].shape == ()
    assert float(started.model_state["batch_stats"]["seen"]) == 5.0
    np.testing.assert_array_equal(started.average["params"]["w"], started.params["w"])
    assert int(started.step) == 0
    assert jax.tree.structure(started) == jax.tree.structure(state)


def test_nothing_that_fits_is_an_error(task):
    state = training.init_state(task, optax.sgd(0.1), 0)
    with pytest.raises(ValueError, match="no tensor"):
        training.warm_start(state, {"params": {"v": np.zeros(3)}})
