"""Piano models of the claims: what is trained at each scale, and how it is scored."""

import functools
from pathlib import Path
from typing import Any

import jax

from deepaudio import evaluation
from deepaudio.tasks.transcriber import make_transcriber
from experiments import _transcription, compare_training, restore
from experiments.claims._claim import Setting
from experiments.claims._corpora import corpus
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
# The paper's batch, with a quarter of the steps: each is of thirteen times the sound.
_WINDOWS = {
    "smoke": {},
    "small": {"batch_size": 8, "num_frames": 640, "optimizer.schedule.warmup_steps": 20},
    "paper": {},
}
_WINDOW_STEPS = {"smoke": 1.0, "small": 0.25, "paper": 1.0}
# Recordings to choose the decoding on, and to score.
_LIMITS = {"smoke": (1, 1), "small": (3, 12), "paper": (0, None)}


def runs(
    setting: Setting,
    arm: str,
    changes: dict[str, Any],
    *,
    after: str | None = None,
    windows: bool = False,
) -> list[Run]:
    """An arm's runs, one for each seed; the same arm of two claims is the same run.

    Args:
        setting: Of the claims.
        arm: Its name, and its folder's.
        changes: Settings that differ from the scale's base, by dotted name.
        after: The arm whose run of the same seed it begins from; None for none.
        windows: Whether every batch is the paper's: eight windows of 20 s. Such runs are in the
            room `piano_windows`.
    """
    data_dir = corpus(setting, "piano")
    variant, base = _BASES[setting.scale]
    num_steps, room = _STEPS[setting.scale], "piano"
    if windows:
        base = {**base, **_WINDOWS[setting.scale]}
        num_steps = round(_WINDOW_STEPS[setting.scale] * num_steps)
        room = "piano_windows"
    choose_from, limit = _LIMITS[setting.scale]
    found = []
    for seed in setting.seeds:
        init_from = str(folder(setting, after, seed)) if after else None
        config = compare_training.configure(
            {**base, **changes}, str(data_dir), num_steps, init_from, variant
        )
        config.seed = seed
        measure = functools.partial(
            score, data_dir=str(data_dir), choose_from=choose_from, limit=limit
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
