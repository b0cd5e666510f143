"""The loop: it learns, resumes bit for bit, stops where it should, and writes what is looked at."""

import csv
import signal
import threading
import time

import jax
import numpy as np
import optax
import pytest

from deepaudio import training
from tests.training.conftest import Batches, LineTask

_ANSWER_SECONDS = 10.0


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state after 20 steps that nothing interrupted."""
    with jax.numpy_dtype_promotion("standard"):
        return _train(LineTask(), Batches(), tmp_path_factory.mktemp("whole"), _config(20))


def test_resuming_is_bit_for_bit(task, batches, tmp_path, whole):
    _train(task, batches(), tmp_path / "parts", _config(10))
    resumed = _train(task, batches(), tmp_path / "parts", _config(20))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [s for s, _ in _rows(tmp_path / "parts", "loss/total")] == [5, 10, 15, 20]


def test_resuming_needs_the_data_position(task, batches, tmp_path, whole):
    class Forgetful(batches):
        def set_state(self, state):
            del state

    _train(task, batches(), tmp_path / "parts", _config(10))
    resumed = _train(task, Forgetful(), tmp_path / "parts", _config(20))
    assert not np.array_equal(whole.params["w"], resumed.params["w"])


def _with_ids(batches):
    class Named(batches):
        def __next__(self):
            first = 100 * self.number
            return {**super().__next__(), "ids": np.arange(first, first + 16)}

    return Named


def test_nan_names_the_step_the_examples_and_the_last_good_checkpoint(task, batches, tmp_path):
    # Batch 12 makes step 13; the loop looks at the metrics at step 15 only.
    message = (
        r"loss/total is nan at step 13 \(batch ids 1200, 1201, .*, 1215\): training stopped; "
        r"last good checkpoint: 10\."
    )
    with pytest.raises(training.NotFiniteError, match=message):
        _train(task, _with_ids(batches)(poison=12), tmp_path, _config(40))
    with training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 10
        state, data_state = checkpoints.restore(training.init_state(task, optax.adam(0.1), 0))
    assert data_state == {"number": 10}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_nan_before_the_first_checkpoint_says_so(task, batches, tmp_path):
    with pytest.raises(training.NotFiniteError, match="step 1: .* there is no checkpoint yet"):
        _train(task, batches(poison=0), tmp_path, _config(40))


def test_ids_do_not_reach_the_task(task, batches, tmp_path):
    class Strict(type(task)):
        def loss(self, params, model_state, batch, key):
            assert set(batch) == {"x", "y"}
            return super().loss(params, model_state, batch, key)

    assert int(_train(Strict(), _with_ids(batches)(), tmp_path, _config(1)).step) == 1


def test_divergence_stops_and_names_where_it_began(task, batches, tmp_path):
    class Rising(_with_ids(batches)):
        def __next__(self):
            batch = super().__next__()
            # One outlier, which is forgiven, and from batch 40 on everything.
            return batch if self.number != 30 and self.number <= 40 else {**batch, "y": _far(batch)}

    def _far(batch):
        return batch["y"] + 1e4

    config = _config(80, log_every=4, checkpoint_every=20)
    message = r"has diverged: .* at step 41 \(batch ids 4000, .* last good checkpoint: 40"
    with pytest.raises(training.DivergedError, match=message):
        training.train(task, optax.sgd(0.0), Rising(), config, tmp_path, show_progress=False)


class Interrupting:
    """Mixed into batches: sends a signal to this process while a batch is made."""

    signals = {}

    def __next__(self):
        for number in self.signals.get(self.number, ()):
            handler = signal.getsignal(number)
            signal.raise_signal(number)
            # A second signal before Python has answered the first would become one with it.
            deadline = time.monotonic() + _ANSWER_SECONDS
            while signal.getsignal(number) is handler and time.monotonic() < deadline:
                time.sleep(0.001)
        return super().__next__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_it_came_in_and_resumes_bit_for_bit(
    task, batches, tmp_path, capfd, whole, number
):
    class Stopped(Interrupting, batches):
        signals = {6: [number]}

    before = signal.getsignal(number)
    stopped = _train(task, Stopped(), tmp_path, _config(20))
    assert int(stopped.step) == 7
    told = f"stopped by {number.name} at step 7; run the same command to go on"
    assert capfd.readouterr().err.splitlines() == [told]
    assert signal.getsignal(number) is before
    with training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 7
    resumed = _train(task, batches(), tmp_path, _config(20))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_interrupt_ends_at_once(task, batches, tmp_path):
    class Impatient(Interrupting, batches):
        signals = {6: [signal.SIGINT, signal.SIGINT]}

    # Whatever a test before has left there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            _train(task, Impatient(), tmp_path, _config(12))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_outside_the_main_thread_leaves_signals_alone(task, batches, tmp_path):
    states = []

    def run():
        states.append(
            training.train(
                task, optax.sgd(0.1), batches(), _config(5), tmp_path, show_progress=False
            )
        )

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert int(states[0].step) == 5


@pytest.mark.parametrize(
    "changes", [{"log_every": 0}, {"max_skipped": 0}, {"num_steps": -1}, {"divergence_factor": 0.5}]
)
def test_settings_that_could_not_run_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}={changes[name]}"):
        training.TrainConfig(**{"num_steps": 10, **changes})


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
