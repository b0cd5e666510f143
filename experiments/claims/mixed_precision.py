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
    "With batches of four windows of 3 s, a thirteenth of the sound, the piano model came to 65.25 "
    "± 8.52 % note F1 without scaling, 71.24 ± 3.15 with it and 70.84 ± 2.41 in float32: up to "
    "chance, no need of scaling. The recognizer and the vocoder's teacher do not need it."
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
    chance = 2.0 * pooled_spread(base, other) * (1 / len(base) + 1 / len(other)) ** 0.5
    return worse if _MODELS[model].less else -worse, chance


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
    """Whether float16 without scaling is worse than float32 by more than chance, somewhere."""
    worse = {model: _worse(model, rows, _UNSCALED) for model in _MODELS}
    lose = ", ".join(
        f"{row['model']} {100 * row['lost_unscaled']:.1f} % ({100 * row['lost_scaled']:.1f} %)"
        for row in lost
    )
    come_to = ", ".join(
        f"{model} {spread(_of(rows, model, _UNSCALED), _MODELS[model].factor, 2)}"
        for model in _MODELS
    )
    measurable = any(chance for _, chance in worse.values())
    return Check(
        "float16 without loss scaling is worse on some model",
        f"gradients lost to zero without (with) scaling: {lose}; without it {come_to}",
        any(by > chance for by, chance in worse.values()) if measurable else None,
    )


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
