"""Speech models of the claims: what is trained at each scale, and how it is scored."""

import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections

from experiments import _recognition, compare_speech, evaluate_speech, restore
from experiments.claims._claim import Setting
from experiments.claims._corpora import corpus
from experiments.claims._runs import Run

# Steps of a run; the paper's own number is its configuration's.
_STEPS = {"smoke": 2, "small": 400, "paper": 11_000}
_TINY = {
    "model.convolutions": ((2, 5, 5, 3, 8),),
    "model.units": 8,
    "model.lookahead": 2,
    "model.dropout": 0.0,
    "batch_size": 4,
    "buckets": (1.5,),
    "num_threads": 0,
    "evaluate_utterances": 2,
    "optimizer.schedule.warmup_steps": 1,
}
# Short utterances and few of them: many steps a minute. So short a run has no time for masks and
# dropout, with which it would still say nothing at its end.
_SMALL = {
    "model.units": 96,
    "model.dense_units": 96,
    "model.dropout": 0.0,
    "spec_augment.on": False,
    "optimizer.schedule.peak": 3e-3,
    "batch_size": 16,
    "buckets": (2.0, 3.0),
    "checkpoint_every": 500,
}
_BASES = {
    "smoke": ("smoke", _TINY),
    "small": ("mini", _SMALL),
    "paper": ("paper_gru", {}),
}
_ALL = {"smoke": {}, "small": {}, "paper": {}}
_PROMPTS = {"splits.train": "prompts_train"}
_HEARD = {
    "all": _ALL,
    # The shortest utterances alone, so that few steps are several epochs.
    "short": {**_ALL, "small": {"buckets": (1.5,)}},
    # A person's 237 prompts: every one is heard many times.
    "prompts": {**_ALL, "smoke": _PROMPTS, "small": _PROMPTS},
}
_LONGEST_SECONDS = {"smoke": 2.0, "small": 3.0, "paper": 60.0}
_LIMITS = {"smoke": 2, "small": 128, "paper": None}


def runs(
    setting: Setting,
    arm: str,
    changes: dict[str, Any],
    *,
    language: str = "speech",
    after: str | None = None,
    steps: float = 1.0,
    rate: float = 1.0,
    heard: str = "all",
) -> list[Run]:
    """An arm's runs, one for each seed; the same arm of two claims is the same run.

    Args:
        setting: Of the claims.
        arm: Its name, and its folder's.
        changes: Settings that differ from the scale's base, by dotted name, as
            `compare_speech.arms` has them.
        language: Which corpus: "speech" or "mandarin".
        after: The arm whose run of the same seed it begins from; None for none.
        steps: Of a run, in units of the scale's.
        rate: What learning rates are multiplied by.
        heard: What it is trained on: "all", "short" (at scale small the shortest sixth of the
            corpus, for several epochs), or "prompts" (the recorded prompts of one voice, on whose
            other prompts it is scored then; at scale paper all).
    """
    data_dir = corpus(setting, language)
    variant, base = _BASES[setting.scale]
    found = []
    for seed in setting.seeds:
        init_from = str(folder(setting, after, seed, heard)) if after else None
        config = compare_speech.configure(
            {**base, **changes, **_HEARD[heard][setting.scale]},
            str(data_dir),
            round(steps * _STEPS[setting.scale]),
            init_from,
            variant,
        )
        config.seed = seed
        config.optimizer.schedule.peak *= rate
        measure = functools.partial(
            score,
            data_dir=str(data_dir),
            split=_scored_split(config, heard),
            dataset=config.dataset,
            limit=_LIMITS[setting.scale],
            longest=_LONGEST_SECONDS[setting.scale] - (1.0 if heard == "short" else 0.0),
        )
        found.append(Run(arm, folder(setting, arm, seed, heard), config, measure))
    return found


def _scored_split(config: ml_collections.ConfigDict, heard: str) -> str:
    if config.dataset == "librispeech":
        return "test-clean"
    return "prompts_test" if heard == "prompts" else "test_speakers"


def folder(setting: Setting, arm: str, seed: int, heard: str = "all") -> Path:
    """Where a run is kept; those of one voice apart, as their arms have names of others."""
    room = "speech_prompts" if heard == "prompts" else "speech"
    return setting.workdir / setting.scale / room / arm.replace(" ", "_") / str(seed)


def base_config(setting: Setting) -> ml_collections.ConfigDict:
    """The configuration that arms differ from, without data."""
    variant, changes = _BASES[setting.scale]
    return compare_speech.configure(changes, "", _STEPS[setting.scale], None, variant)


def num_weights(changes: dict[str, Any], setting: Setting) -> int:
    """Weights in the matrices of an arm's network."""
    variant, base = _BASES[setting.scale]
    config = compare_speech.configure({**base, **changes}, "", 10, None, variant)
    shapes = jax.eval_shape(_recognition.make_task(config).init, jax.random.key(0))
    return restore.count_weights(shapes["params"])["weights"]


def score(
    folder: Path, *, data_dir: str, split: str, dataset: str, limit: int | None, longest: float
) -> dict[str, Any]:
    """Error rates of a run's likeliest path, in quiet and with noise at 5 dB.

    Args:
        folder: The run's.
        data_dir: Of the corpus.
        split: What to score on.
        dataset: The corpus's layout.
        limit: The most utterances.
        longest: Seconds of the longest one.
    """
    task, variables = restore.restore(folder)
    utterances = [
        each
        for each in evaluate_speech.read_split(data_dir, split, dataset)
        if each.duration is None or each.duration <= longest
    ][:limit]
    rows = evaluate_speech.evaluate(
        task, variables, {split: utterances}, search=None, snrs=[None, 5.0]
    )
    quiet, noisy = rows
    return {
        "utterances": quiet["utterances"],
        **{name: quiet[name] for name in ("wer", "cer")},
        **{f"{name}_5_db": noisy[name] for name in ("wer", "cer")},
        **restore.count_weights(variables["params"]),
    }
