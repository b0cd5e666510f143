"""Piano models of the claims: what is trained at each scale, and how it is scored."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from deepaudio import evaluation
from deepaudio.tasks.transcriber import make_transcriber
from experiments import _transcription, compare_training, restore
from experiments.claims._claim import Setting
from experiments.claims._corpora import corpus, thinned
from experiments.claims._runs import Run
from experiments.evaluate import score_recordings

_STEPS = {"smoke": 2, "small": 400, "paper": 50_000}
_TINY = {
    "model.channels": (2, 2, 4),
    "model.dense_units": 16,
    "model.lstm_units": 4,
    "model.key_lstm_units": 2,
    "num_frames": 20,
    "num_threads": 0,
    "optimizer.schedule.warmup_steps": 1,
}
_BASES = {
    "smoke": ("smoke", _TINY),
    "small": ("mini", {"batch_size": 4, "checkpoint_every": 500}),
    "paper": ("paper", {}),
}


class _Room(NamedTuple):
    """What a group of runs is trained on.

    Attributes:
        changes: Settings that differ from the scale's base, by scale.
        every: One of how many training recordings is heard, by scale.
        steps: By what the number of steps is multiplied, by scale.
    """

    changes: Mapping[str, dict[str, Any]]
    every: Mapping[str, int]
    steps: Mapping[str, float]


_ALL = {"smoke": 1, "small": 1, "paper": 1}
_NO_CHANGES = {"smoke": {}, "small": {}, "paper": {}}
_WINDOWS = {"batch_size": 8, "num_frames": 640, "optimizer.schedule.warmup_steps": 20}
_ROOMS = {
    "piano": _Room(_NO_CHANGES, _ALL, _ALL),
    # The paper's batch: eight windows of 20 s, thirteen times the sound of a step.
    "piano_windows": _Room({**_NO_CHANGES, "small": _WINDOWS}, _ALL, {**_ALL, "small": 0.25}),
    # So few recordings that a short run hears each many times.
    "piano_few": _Room(_NO_CHANGES, {**_ALL, "small": 40}, _ALL),
}
# Recordings to choose the decoding on, and to score.
_LIMITS = {"smoke": (1, 1), "small": (3, 12), "paper": (0, None)}


def runs(
    setting: Setting,
    arm: str,
    changes: dict[str, Any],
    *,
    after: str | None = None,
    room: str = "piano",
    steps: float = 1.0,
    rate: float = 1.0,
) -> list[Run]:
    """An arm's runs, one for each seed; the same arm of two claims is the same run.

    Args:
        setting: Of the claims.
        arm: Its name, and its folder's.
        changes: Settings that differ from the scale's base, by dotted name.
        after: The arm whose run of the same seed it begins from; None for none.
        room: What it is trained on: "piano", "piano_windows" (every batch is eight windows of
            20 s), or "piano_few" (at scale small 18 recordings).
        steps: Of a run, in units of the room's.
        rate: What learning rates are multiplied by.
    """
    heard = _ROOMS[room]
    whole = corpus(setting, "piano")
    every = heard.every[setting.scale]
    data_dir = thinned(setting, "piano", every) if every > 1 else whole
    num_steps = round(steps * heard.steps[setting.scale] * _STEPS[setting.scale])
    variant, base = _BASES[setting.scale]
    base = {**base, **heard.changes[setting.scale], **changes}
    choose_from, limit = _LIMITS[setting.scale]
    found = []
    for seed in setting.seeds:
        init_from = str(folder(setting, after, seed, room)) if after else None
        config = compare_training.configure(base, str(data_dir), num_steps, init_from, variant)
        config.seed = seed
        config.optimizer.schedule.peak *= rate
        measure = functools.partial(
            score, data_dir=str(whole), choose_from=choose_from, limit=limit
        )
        found.append(Run(arm, folder(setting, arm, seed, room), config, measure))
    return found


def folder(setting: Setting, arm: str, seed: int, room: str = "piano") -> Path:
    """Where a run is kept."""
    return setting.workdir / setting.scale / room / arm.replace(" ", "_") / str(seed)


def score(folder: Path, *, data_dir: str, choose_from: int, limit: int | None) -> dict[str, Any]:
    """F1 of a run on the test split.

    Args:
        folder: The run's.
        data_dir: Of the corpus.
        choose_from: Validation recordings that the decoding is chosen on; with none it is the
            paper's.
        limit: The most recordings to score.
    """
    task, variables = restore.restore(folder)
    predict = functools.partial(jax.jit(task.predict), variables)
    config = restore.read_config(folder)
    config.data_dir = data_dir
    decoding = _transcription.PAPERS_DECODING
    if choose_from:
        decoding = _transcription.best_decoding(
            make_transcriber(task.config, predict),
            _transcription.read_recordings(config, "validation")[:choose_from],
            ["metric/note/f1", "metric/note_with_offset/f1"],
        )
    transcriber = make_transcriber(task.config, predict, **decoding)
    recordings = _transcription.read_recordings(config, "test")[:limit]
    scores = evaluation.average_scores(score_recordings(transcriber, recordings))
    names = ("frame/f1", "note/f1", "note_with_offset/f1")
    return {
        "recordings": len(recordings),
        **{name: scores[f"metric/{name}"] for name in names},
        **restore.count_weights(variables["params"]),
    }
