"""Vocoder teachers of the claims: what is trained at each scale, and how it is scored."""

import functools
from pathlib import Path
from typing import Any

import jax

from experiments import _vocoding, restore
from experiments.claims._claim import Setting
from experiments.claims._corpora import corpus
from experiments.claims._runs import Run
from experiments.configs import wavenet

_STEPS = {"smoke": 2, "small": 250, "paper": 1_000_000}
_TINY = {
    "model.layers": 2,
    "model.cycle": 2,
    "batch_size": 2,
    "num_frames": 4,
    "num_threads": 0,
    "optimizer.schedule.warmup_steps": 1,
}
_SMALL = {
    "model.layers": 8,
    "model.cycle": 8,
    "model.residual": 16,
    "model.gate": 16,
    "model.skip": 32,
    "batch_size": 4,
    "checkpoint_every": 500,
    "evaluate_utterances": 32,
    "optimizer.schedule.warmup_steps": 50,
}
_BASES = {"smoke": ("smoke", _TINY), "small": ("small", _SMALL), "paper": ("paper", {})}


def runs(setting: Setting, arm: str, changes: dict[str, Any]) -> list[Run]:
    """An arm's teachers, one for each seed.

    Args:
        setting: Of the claims.
        arm: Its name, and its folder's.
        changes: Settings that differ from the scale's base, by dotted name.
    """
    data_dir = corpus(setting, "voice")
    variant, base = _BASES[setting.scale]
    found = []
    for seed in setting.seeds:
        config = wavenet.get_config(variant)
        config.update_from_flattened_dict({**base, **changes})
        config.data_dir, config.seed = str(data_dir), seed
        config.num_steps = config.evaluate_every = _STEPS[setting.scale]
        measure = functools.partial(score, data_dir=str(data_dir))
        found.append(Run(arm, folder(setting, arm, seed), config, measure))
    return found


def folder(setting: Setting, arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return setting.workdir / setting.scale / "voice" / arm.replace(" ", "_") / str(seed)


def score(folder: Path, *, data_dir: str) -> dict[str, Any]:
    """Bits a sample of a teacher, on crops of held-out utterances."""
    task, variables = restore.restore(folder)
    config = restore.read_config(folder)
    config.data_dir = data_dir
    found = dict(_vocoding.make_evaluator(config, task)(jax.device_put(variables)))
    return {"bits": float(found["validation/metric/bits"])}
