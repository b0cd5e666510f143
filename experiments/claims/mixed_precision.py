"""Mixed precision: memory, accuracy, and what loss scaling is for."""

import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _systems, benchmark_memory, restore
from experiments.claims import _piano, _speech, _voice
from experiments.claims._claim import (
    Check,
    Claim,
    Outcome,
    Panel,
    Setting,
    pooled_spread,
    spread,
    values_of,
)
from experiments.claims._runs import Run, train_all
from experiments.demo import read_losses

_HALF, _UNSCALED = "float16", "float16 unscaled"
_ARMS = {
    _HALF: {"precision": "float16"},
    _UNSCALED: {"precision": "float16", "optimizer.loss_scaling.on": False},
}
_NEARLY_HALF = 0.6


class _Model(NamedTuple):
    """What is trained.

    Attributes:
        runs: Makes the runs of an arm.
        full: The arm in float32, which other claims train too.
        room: The folder of its runs.
        key: What is measured.
        factor: What that is told in.
        less: Whether less of it is better.
    """

    runs: Callable[..., list[Run]]
    full: str
    room: str
    key: str
    factor: float
    less: bool


_MODELS = {
    # The larger the batch that a loss is the mean of, the smaller the gradients.
    "piano": _Model(
        functools.partial(_piano.runs, room="piano_windows"),
        "float32",
        "piano_windows",
        "note/f1",
        100.0,
        False,
    ),
    "speech": _Model(_speech.runs, "base", "speech", "cer", 100.0, True),
    "vocoder": _Model(_voice.runs, "teacher", "voice", "bits", 1.0, True),
}
_SCALE = 2.0**15
_TRIED = (
    "Judged by note F1 in place of the loss, no model needs scaling at this size: on windows of 20 "
    "s the piano model came out higher without it, as thresholds are chosen for each, and with "
    "batches of four windows of 3 s, a thirteenth of the sound, at 65.25 ± 8.52 % without scaling, "
    "71.24 ± 3.15 with it and 70.84 ± 2.41 in float32, up to chance."
)


def _measure(setting: Setting) -> Outcome:
    runs, counts = [], []
    for model in _MODELS.values():
        mine = [*model.runs(setting, model.full, {})]
        for arm, changes in _ARMS.items():
            mine += model.runs(setting, arm, changes)
        runs += mine
        counts.append(len(mine))
    found = train_all(runs, setting.jobs)
    found = [
        row if "failed" in row else {**row, **_training_loss(run)}
        for run, row in zip(runs, found, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    for model, count in zip(_MODELS, counts, strict=True):
        rows += [{"model": model, **row} for row in found[:count]]
        found = found[count:]
    lost = [_lost_gradients(model, runs) for model in _MODELS]
    memory, of_memory = _memory(setting)
    checks = [of_memory]
    checks += [_kept(model, rows) for model in _MODELS]
    checks.append(_needed(rows, lost))
    panels = [_panel(model, rows) for model in _MODELS]
    panels.append(
        Panel(
            "training loss above float32's, %",
            {
                f"{model}, {arm}": [100 * value for value in _behind(rows, model, arm)]
                for model in _MODELS
                for arm in _ARMS
            },
        )
    )
    panels.append(
        Panel(
            "gradients lost to zero without scaling, %",
            {row["model"]: [100 * row["lost_unscaled"]] for row in lost},
        )
    )
    rows += [{"arm": "gradients", **row} for row in lost]
    rows += [{"arm": "memory", **row} for row in memory]
    return Outcome(rows, checks, panels, _TRIED)


def _of(rows, model, arm):
    return values_of((row for row in rows if row.get("model") == model), arm, _MODELS[model].key)


def _panel(model: str, rows: list[dict[str, Any]]) -> Panel:
    of = _MODELS[model]
    arms = {"float32": of.full, **{arm: arm for arm in _ARMS}}
    unit = "%" if of.factor == 100.0 else "a sample"
    return Panel(
        f"{model}: {of.key.replace('/', ' ')}, {unit}",
        {n: [of.factor * value for value in _of(rows, model, arm)] for n, arm in arms.items()},
    )


def _worse(model: str, rows: list[dict[str, Any]], arm: str) -> tuple[float, float]:
    """How much worse an arm is than float32, and what differs by chance (two standard errors)."""
    base, other = _of(rows, model, _MODELS[model].full), _of(rows, model, arm)
    if not other:
        return float("inf"), 0.0
    worse = statistics.fmean(other) - statistics.fmean(base)
    return worse if _MODELS[model].less else -worse, _chance(base, other)


def _kept(model: str, rows: list[dict[str, Any]]) -> Check:
    of = _MODELS[model]
    worse, chance = _worse(model, rows, _HALF)
    return Check(
        f"{model}: float16 as good as float32, up to chance",
        f"{of.key.replace('/', ' ')} {spread(_of(rows, model, _HALF), of.factor, 2)} against "
        f"{spread(_of(rows, model, of.full), of.factor, 2)}",
        worse <= chance if chance else None,
    )


def _needed(rows: list[dict[str, Any]], lost: list[dict[str, Any]]) -> Check:
    """Whether without scaling some model trains worse than with it, by more than chance.

    Judged by what training lowers, on the batches that float32 had too.
    """
    lag = {model: _lag(model, rows) for model in _MODELS}
    lose = ", ".join(
        f"{row['model']} {100 * row['lost_unscaled']:.1f} % ({100 * row['lost_scaled']:.1f} %)"
        for row in lost
    )
    losses = ", ".join(
        f"{model} {_percent(_behind(rows, model, _UNSCALED))} "
        f"({_percent(_behind(rows, model, _HALF))})"
        for model in _MODELS
    )
    come_to = ", ".join(
        f"{model} {_MODELS[model].key.replace('/', ' ')} "
        f"{spread(_of(rows, model, _UNSCALED), _MODELS[model].factor, 2)}"
        for model in _MODELS
    )
    measurable = any(chance for _, chance in lag.values())
    return Check(
        "float16 without (with) loss scaling lowers the loss less on some model",
        f"training loss beside float32's: {losses}; gradients lost to zero: {lose}; "
        f"without scaling the models come to {come_to}",
        any(by > chance for by, chance in lag.values()) if measurable else None,
    )


def _percent(values: list[float]) -> str:
    return f"{spread(values, 100, 2)} %" if values else "failed"


def _behind(rows: list[dict[str, Any]], model: str, arm: str) -> list[float]:
    """By which share an arm's training loss is above float32's of the same seed."""
    mine = [row for row in rows if row.get("model") == model and "training_loss" in row]
    full = {row["seed"]: row["training_loss"] for row in mine if row["arm"] == _MODELS[model].full}
    return [
        row["training_loss"] / full[row["seed"]] - 1.0
        for row in mine
        if row["arm"] == arm and row["seed"] in full
    ]


def _lag(model: str, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """How much more is lost without scaling than with it, and what differs by chance."""
    scaled, unscaled = (_behind(rows, model, arm) for arm in (_HALF, _UNSCALED))
    ended = [
        "failed" not in row for row in rows if (row.get("model"), row["arm"]) == (model, _UNSCALED)
    ]
    if not all(ended):
        # What comes to no end is behind by any measure.
        return float("inf"), 0.0
    if not scaled or not unscaled:
        return 0.0, 0.0
    return statistics.fmean(unscaled) - statistics.fmean(scaled), _chance(scaled, unscaled)


def _chance(one: list[float], other: list[float]) -> float:
    """Two standard errors of the difference of two means."""
    return 2.0 * pooled_spread(one, other) * (1 / len(one) + 1 / len(other)) ** 0.5


def _training_loss(run: Run) -> dict[str, float]:
    """The mean of the losses that the second half of training logged; none where it failed."""
    losses = read_losses(run.folder / "metrics.csv")
    half = run.config.num_steps / 2
    late = [loss for step, loss in losses if step > half]
    return {"training_loss": statistics.fmean(late)} if late else {}


def _lost_gradients(model: str, runs: list[Run]) -> dict[str, Any]:
    """What share of a trained model's gradients float16 makes zero, with scaling and without.

    Of the weights' gradients that are not zero in float32, on one training batch.
    """
    of = _MODELS[model]
    run = next(
        run for run in runs if run.arm == of.full and run.folder.parent.parent.name == of.room
    )
    _, variables = restore.restore(run.folder)
    params = variables.pop("params")
    config = restore.read_config(run.folder)
    config.data_dir = run.config.data_dir
    config.num_threads = 0
    system = _systems.of(config)
    batch = next(system.make_batches(config))
    batch = {name: leaf for name, leaf in batch.items() if np.asarray(leaf).dtype.kind in "fiu"}

    def zero(precision, scale):
        config.precision = precision
        task = system.make_task(config)

        @jax.jit
        def gradients(params, variables, batch):
            def loss(params):
                value, _ = task.loss(params, variables, batch, jax.random.key(0))
                return value * jnp.asarray(scale, value.dtype)

            return jax.grad(loss)(params)

        return [np.asarray(leaf) for leaf in jax.tree.leaves(gradients(params, variables, batch))]

    exact = zero("float32", 1.0)
    count = sum(int(np.count_nonzero(leaf)) for leaf in exact)
    shares = {}
    for name, scale in (("lost_unscaled", 1.0), ("lost_scaled", _SCALE)):
        half = zero("float16", scale)
        lost = sum(int(((b == 0) & (a != 0)).sum()) for a, b in zip(exact, half, strict=True))
        shares[name] = lost / count
    return {"model": model, "gradients": count, **shares}


def _memory(setting: Setting) -> tuple[list[dict[str, Any]], Check]:
    """Temporary memory of training steps, compiled for a GPU that need not be there."""
    asked = f"a training step's temporary memory in float16 is at most {_NEARLY_HALF} of float32's"
    if setting.scale == "smoke":
        return [], Check(asked, "not measured at this scale", None)
    on_gpu = jax.default_backend() == "gpu"
    try:
        rows = benchmark_memory.measure(benchmark_memory.CASES, "this" if on_gpu else "h200")
    except RuntimeError as error:
        return [], Check(asked, str(error), None)
    half = {row["model"]: row["of_float32"] for row in rows if row["precision"] == "float16"}
    told = "; ".join(f"{model}: {share:.3f}" for model, share in half.items())
    return rows, Check(asked, f"{told} ({rows[0]['device']})", max(half.values()) <= _NEARLY_HALF)


CLAIM = Claim(
    name="mixed_precision",
    paper="arXiv 1710.03740",
    sentence=(
        "Secondly, we propose scaling the loss appropriately to handle the loss of information "
        "with half-precision gradients ... Using this approach, we can reduce the memory "
        "consumption of deep learning models by nearly 2x."
    ),
    instead=(
        "A piano model, a recognizer and a vocoder's teacher trained in float32, in float16 with "
        "loss scaling and without, for the same steps, the piano model on batches of eight windows "
        "of 20 s as in its paper; the memory of training steps of the papers' sizes as compiled"
    ),
    measure=_measure,
)
