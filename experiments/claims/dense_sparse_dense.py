"""Dense-sparse-dense training beside plain training of the same length."""

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

_DENSE, _DSD = "trained on", "dense-sparse-dense"
_TRIED = (
    "Networks so briefly trained are far from overfitting, which dense-sparse-dense is against. "
    "With 3,000 steps for each arm the piano model gained 1.0 points of note F1 (record "
    "training_techniques_continued, one seed)."
)
# Of the weights; rectified layers leave a few rows that never learn.
_DENSE_AGAIN = 0.99
_BASES = {"speech": "base", "piano": "onsets and frames"}


def _measure(setting: Setting) -> Outcome:
    first = [
        *_speech.runs(setting, _BASES["speech"], {}),
        *_piano.runs(setting, _BASES["piano"], {}),
    ]
    rows = train_all(first, setting.jobs)
    sparse = {
        "speech": compare_speech.arms(setting.workdir, trained=True)["dense_sparse_dense"],
        "piano": compare_training.arms(setting.workdir, trained=True)["dense-sparse-dense"],
    }
    second = []
    for model, make in (("speech", _speech.runs), ("piano", _piano.runs)):
        for arm, changes in ((_DENSE, {}), (_DSD, sparse[model])):
            second += make(setting, arm, changes, after=_BASES[model])
    found = train_all(second, setting.jobs)
    count = len(second) // 2
    speech, piano = found[:count], found[count:]
    checks = [
        _better("speech", "character errors", speech, "cer", less=True),
        _better("piano", "note F1", piano, "note/f1", less=False),
        _same_network(speech, piano),
    ]
    panels = [
        Panel(f"{model}: {title}, %", {arm: _percent(rows_, arm, key) for arm in (_DENSE, _DSD)})
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
    """Whether dense-sparse-dense came out better, in the mean over seeds."""
    dense, sparse = (values_of(rows, arm, key) for arm in (_DENSE, _DSD))
    gained = mean(sparse) - mean(dense)
    return Check(
        f"{model}: {'fewer' if less else 'more'} {title} than by training on for as long",
        f"{spread(sparse, 100)} % against {spread(dense, 100)} %",
        (gained < 0) if less else (gained > 0),
    )


def _same_network(speech: list[dict[str, Any]], piano: list[dict[str, Any]]) -> Check:
    """Whether inference costs the same: as many weights, none of them zero any more."""
    shares = [
        [row["nonzero_weights"] / row["weights"] for row in rows if row["arm"] == arm]
        for rows in (speech, piano)
        for arm in (_DENSE, _DSD)
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
        "A recognizer and a piano model, each trained and then, for as many steps again, trained "
        "on or made 30 % sparse and dense again; on speakers, pieces and instruments that training "
        "did not hear"
    ),
    measure=_measure,
)
