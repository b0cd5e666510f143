"""Dense-sparse-dense training beside plain training of the same length."""

import functools
from typing import Any

from experiments import compare_speech, compare_training
from experiments.claims import _piano, _speech
from experiments.claims._claim import (
    Check,
    Claim,
    Outcome,
    Panel,
    Setting,
    mean,
    spread,
    values_of,
)
from experiments.claims._runs import train_all

# A converged network's control goes on at a lower learning rate. A stricter one has the second
# round of high rates too, with which dense-sparse-dense begins: what is gained over the first and
# not over the second comes from the rates alone.
_LOWER, _SAME, _DSD = "trained on at a lower rate", "trained on", "dense-sparse-dense"
_ARMS = (_LOWER, _SAME, _DSD)
_LOWER_RATE = 0.1
# Overfitting is what dense-sparse-dense is a remedy for, so there is little data, heard often.
_TRIED = (
    "Against training on at the same rates, first of dense-sparse-dense: where 400 steps and 400 "
    "more heard every utterance less than twice and every recording less than once, 47.1 against "
    "46.1 % character errors, 74.3 against 74.3 % note F1. On a tenth of each corpus, one seed: "
    "42.4 against 41.5 % character errors, 86.8 against 86.1 % note F1; after 1,600 steps more, "
    "88.5 against 87.4 % note F1, and with 50 % sparsity 87.3. One voice's prompts after 1,600 "
    "steps more, one seed: 42.0 against 39.7 % character errors. Without augmentation, loss near "
    "zero, 50 % sparsity, one seed: 44.0 against 42.8 % character errors, 78.5 against 80.2 % note "
    "F1."
)
# Of the weights; rectified layers leave a few rows that never learn.
_DENSE_AGAIN = 0.99
_BASE = "base"


def _measure(setting: Setting) -> Outcome:
    first_steps, more_steps = setting.pick((1.0, 1.0), (2.0, 3.0), (1.0, 1.0))
    makers = {
        "speech": functools.partial(_speech.runs, setting, heard="prompts"),
        "piano": functools.partial(_piano.runs, setting, room="piano_few"),
    }
    first = [run for make in makers.values() for run in make(_BASE, {}, steps=first_steps)]
    rows = train_all(first, setting.jobs)
    sparse = {
        "speech": compare_speech.arms(setting.workdir, trained=True)["dense_sparse_dense"],
        "piano": compare_training.arms(setting.workdir, trained=True)["dense-sparse-dense"],
    }
    second = []
    for model, make in makers.items():
        second += make(_LOWER, {}, after=_BASE, steps=more_steps, rate=_LOWER_RATE)
        for arm, changes in ((_SAME, {}), (_DSD, sparse[model])):
            second += make(arm, changes, after=_BASE, steps=more_steps)
    found = train_all(second, setting.jobs)
    count = len(second) // 2
    speech, piano = found[:count], found[count:]
    checks = [
        _better("speech", "character errors", speech, "cer", less=True),
        _better("piano", "note F1", piano, "note/f1", less=False),
        _same_network(speech, piano),
    ]
    panels = [
        Panel(f"{model}: {title}, %", {arm: _percent(rows_, arm, key) for arm in _ARMS})
        for model, title, rows_, key in (
            ("speech", "character errors", speech, "cer"),
            ("piano", "note F1", piano, "note/f1"),
        )
    ]
    named = [{"model": "speech", **row} for row in speech]
    named += [{"model": "piano", **row} for row in piano]
    before = [{"model": "before", **row} for row in rows]
    return Outcome([*before, *named], checks, panels, _TRIED)


def _percent(rows: list[dict[str, Any]], arm: str, key: str) -> list[float]:
    return [100 * value for value in values_of(rows, arm, key)]


def _better(model: str, title: str, rows: list[dict[str, Any]], key: str, *, less: bool) -> Check:
    """Whether dense-sparse-dense came out better than both controls, in the mean over seeds."""
    lower, same, sparse = (values_of(rows, arm, key) for arm in _ARMS)
    # Signed, so that more is better; a control that failed from every seed is beaten by nothing.
    sign = -1 if less else 1
    better = all(sign * mean(sparse) > sign * mean(control) for control in (lower, same))
    return Check(
        f"{model}: {'fewer' if less else 'more'} {title} than by training on for as long",
        f"{spread(sparse, 100)} % against {spread(lower, 100)} % at a tenth of the learning rate "
        f"and {spread(same, 100)} % at the same rates",
        better,
    )


def _same_network(speech: list[dict[str, Any]], piano: list[dict[str, Any]]) -> Check:
    """Whether inference costs the same: as many weights, none of them zero any more."""
    shares = [
        [row["nonzero_weights"] / row["weights"] for row in rows if row["arm"] == arm]
        for rows in (speech, piano)
        for arm in _ARMS
    ]
    least = min(min(each) for each in shares)
    sizes = [{row["weights"] for row in rows} for rows in (speech, piano)]
    return Check(
        "the network is as large as before and dense again",
        f"{100 * least:.2f} % of the weights are not zero, at least",
        all(len(each) == 1 for each in sizes) and least > _DENSE_AGAIN,
    )


CLAIM = Claim(
    name="dense_sparse_dense",
    paper="arXiv 1607.04381",
    sentence=(
        "Experiments show that DSD training can improve the performance of a wide range of CNN, "
        "RNN and LSTMs on the tasks of image classification, caption generation and speech "
        "recognition ... DSD training flow produces the same model architecture and doesn't incur "
        "any inference overhead."
    ),
    instead=(
        "A recognizer of one recorded voice (237 prompts) and a piano model (18 recordings), each "
        "trained and then, one and a half times as long again, trained on at a tenth of the rate, "
        "trained on at the same rates, or made 30 % sparse and dense again; on prompts, pieces and "
        "instruments that training did not hear"
    ),
    measure=_measure,
)
