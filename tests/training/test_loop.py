"""The loop: it learns, resumes bit for bit, stops at NaN, and writes what people look at."""

import csv

import jax
import numpy as np
import optax
import pytest

from deepaudio import training


def _config(num_steps, **changes):
    return training.TrainConfig(
        num_steps=num_steps,
        **{"log_every": 5, "checkpoint_every": 5, "evaluate_every": 10, **changes},
    )


def _train(task, source, workdir, config, evaluator=None):
    return training.train(
        task, optax.adam(0.1), source, config, workdir, evaluator=evaluator, show_progress=False
    )


def _rows(workdir, name):
    with (workdir / "metrics.csv").open() as file:
        return [
            (int(r["step"]), float(r["value"])) for r in csv.DictReader(file) if r["name"] == name
        ]


def test_the_loss_falls(task, batches, tmp_path):
    _train(task, batches(), tmp_path, _config(40))
    losses = _rows(tmp_path, "loss/total")
    assert [step for step, _ in losses] == list(range(5, 41, 5))
    assert losses[-1][1] < 0.2 * losses[0][1]
    assert list(tmp_path.glob("events.*"))


def test_resuming_is_bit_for_bit(task, batches, tmp_path):
    whole = _train(task, batches(), tmp_path / "whole", _config(20))
    _train(task, batches(), tmp_path / "parts", _config(10))
    resumed = _train(task, batches(), tmp_path / "parts", _config(20))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [s for s, _ in _rows(tmp_path / "parts", "loss/total")] == [5, 10, 15, 20]


def test_resuming_needs_the_data_position(task, batches, tmp_path):
    class Forgetful(batches):
        def set_state(self, state):
            del state

    whole = _train(task, batches(), tmp_path / "whole", _config(20))
    _train(task, batches(), tmp_path / "parts", _config(10))
    resumed = _train(task, Forgetful(), tmp_path / "parts", _config(20))
    assert not np.array_equal(whole.params["w"], resumed.params["w"])


def test_nan_stops_with_a_message_and_keeps_the_checkpoint_before(task, batches, tmp_path):
    with pytest.raises(training.NotFiniteError, match="at step 15: training stopped"):
        _train(task, batches(poison=12), tmp_path, _config(40))
    checkpoints = training.Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest_step() == 10
    state, data_state = checkpoints.restore(training.init_state(task, optax.adam(0.1), 0))
    checkpoints.close()
    assert data_state == {"number": 10}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_evaluator_hears_the_average_and_its_picture_is_written(task, batches, tmp_path):
    heard = []

    def evaluator(variables):
        heard.append(float(variables["params"]["b"]))
        yield "validation/b", heard[-1]
        yield "validation/picture", np.zeros((4, 6, 3), np.uint8)

    state = _train(task, batches(), tmp_path, _config(15), evaluator)
    assert [step for step, _ in _rows(tmp_path, "validation/b")] == [10, 15]
    assert heard[-1] == float(state.average["params"]["b"]) != float(state.params["b"])
    events = b"".join(path.read_bytes() for path in tmp_path.glob("events.*"))
    assert b"validation/picture" in events


def test_a_failing_evaluator_loses_no_steps(task, batches, tmp_path):
    def evaluator(variables):
        raise ValueError("no validation today")
        yield

    with pytest.raises(ValueError, match="no validation today"):
        _train(task, batches(), tmp_path, _config(10), evaluator)
    with training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 10


def test_restoring_what_is_not_there_is_said(task, tmp_path):
    checkpoints = training.Checkpoints(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoints.restore(training.init_state(task, optax.sgd(0.1), 0))
    checkpoints.close()
