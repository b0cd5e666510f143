"""What the loop looks for in the metrics, against the rules written out."""

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.training import DivergedError, NotFiniteError
from deepaudio.training._watch import Watch


def _feed(losses, *, every=1, ran=None, factor=20.0, max_skipped=50):
    watch = Watch(divergence_factor=factor, max_skipped=max_skipped)
    for step, loss in enumerate(losses, 1):
        metrics = {"a_norm": np.float32(1), "loss/total": np.float32(loss)}
        if ran is not None:
            metrics |= {"ran": np.float32(ran[step - 1]), "loss_scale": np.float32(8)}
        watch.add(step, metrics, np.array([step * 10, step * 10 + 1]))
        if step % every == 0 or step == len(losses):
            numbers = watch.read()
    return numbers


def test_the_last_steps_metrics_are_returned():
    assert _feed([3.0, 2.0, 1.0], every=3) == {"a_norm": 1.0, "loss/total": 1.0}


@given(bad=st.integers(1, 30), every=st.integers(1, 30), value=st.sampled_from(["nan", "inf"]))
def test_the_first_bad_step_is_named_whenever_it_is_looked_at(bad, every, value):
    losses = [1.0] * (bad - 1) + [float(value)] * (31 - bad)
    message = rf"loss/total is {value} at step {bad} \(batch ids {bad * 10}, {bad * 10 + 1}\)"
    with pytest.raises(NotFiniteError, match=message):
        _feed(losses, every=every)


def test_a_skipped_step_may_have_any_loss():
    _feed([1.0, np.inf, np.nan, 1.0], ran=[1, 0, 0, 1])
    with pytest.raises(NotFiniteError, match="step 4"):
        _feed([1.0, np.inf, np.nan, np.nan], ran=[1, 0, 0, 1])


@given(ran=st.lists(st.booleans(), min_size=1, max_size=40), allowed=st.integers(1, 6))
@settings(deadline=None)
def test_too_many_skipped_in_a_row_are_an_error(ran, allowed):
    run_lengths = np.zeros(len(ran) + 1, int)
    for step, did in enumerate(ran, 1):
        run_lengths[step] = 0 if did else run_lengths[step - 1] + 1
    if run_lengths.max() < allowed:
        _feed([1.0] * len(ran), ran=ran, every=7, max_skipped=allowed)
        return
    step = int(np.argmax(run_lengths == allowed))
    with pytest.raises(NotFiniteError, match=rf"skipped {allowed} steps .* up to step {step} "):
        _feed([1.0] * len(ran), ran=ran, every=7, max_skipped=allowed)


def _diverges_at(losses, factor):
    """The rule as it is documented, step by step."""
    usual, high = [], []
    for step, loss in enumerate(losses, 1):
        recent = usual[-200:]
        limit = np.inf
        if len(recent) >= 20:
            median = statistics.median(recent)
            deviation = statistics.median(abs(value - median) for value in recent)
            limit = median + factor * max(abs(median), deviation)
        if loss <= limit:
            usual.append(loss)
            high = []
        else:
            high.append(step)
            if len(high) == 10:
                return high[0]
    return None


@given(
    offset=st.sampled_from([-4.0, 0.0, 2.0]),
    jump=st.sampled_from([1.0, 10.0, 1000.0]),
    start=st.integers(0, 60),
    length=st.integers(5, 15),
    factor=st.sampled_from([2.0, 20.0]),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_divergence_is_the_rule_written_out(offset, jump, start, length, factor, seed):
    losses = np.float32(offset + np.random.default_rng(seed).random(80))
    losses[start : start + length] += jump
    losses = [float(loss) for loss in losses]
    step = _diverges_at(losses, factor)
    if step is None:
        _feed(losses, factor=factor)
    else:
        with pytest.raises(DivergedError, match=rf"at step {step} \(batch ids {step * 10}, "):
            _feed(losses, factor=factor)


def test_divergence_can_be_turned_off():
    losses = [1.0] * 30 + [1e6] * 30
    _feed(losses, factor=None)
    with pytest.raises(DivergedError, match="step 31"):
        _feed(losses)
