"""What the launchers need to know of piano transcription."""

import functools
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import jax
import ml_collections
import numpy as np
from rich.console import Console
from rich.progress import track

from deepaudio import audio, data, evaluation
from deepaudio.data import augment, labels, piano_pipeline
from deepaudio.decoding import decode_notes
from deepaudio.evaluation import pictures
from deepaudio.models import OnsetsAndFramesConfig
from deepaudio.tasks.transcriber import Transcriber, make_transcriber
from deepaudio.tasks.transcription import TranscriptionConfig, TranscriptionTask

_READERS = {"maps": data.read_maps, "maestro": data.read_maestro}
# Seconds of a recording that a training run's evaluator listens to.
_EVALUATED_SECONDS = 60
# What decoding is chosen from: two pairs of settings that depend on each other.
_THRESHOLDS = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
_CHOICES = (
    {"offset_weight": (None, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0), "frame_threshold": _THRESHOLDS[:-4]},
    {"onset_threshold": _THRESHOLDS[2:], "frame_support": (0.0, 0.03, 0.05, 0.07, 0.1, 0.15)},
)
# The rule of arXiv 1710.11153, section 3.3.
PAPERS_DECODING = {
    "onset_threshold": 0.5,
    "frame_threshold": 0.5,
    "offset_weight": None,
    "frame_support": 0.0,
}


def prepare(config: ml_collections.ConfigDict) -> None:
    """Nothing of a configuration has to be taken from the data."""


def make_task(config: ml_collections.ConfigDict) -> TranscriptionTask:
    """The task of a configuration."""
    # From a run's JSON file tuples come back as lists.
    model = {k: tuple(v) if isinstance(v, list) else v for k, v in config.model.items()}
    return TranscriptionTask(
        TranscriptionConfig(
            front_end=audio.LogMelConfig(**config.front_end),
            model=OnsetsAndFramesConfig(num_bands=config.front_end.n_mels, **model),
            weighted_frame_loss=config.weighted_frame_loss,
            precision=config.precision,
        )
    )


def read_recordings(config: ml_collections.ConfigDict, split: str) -> list[data.Recording]:
    """The recordings of a split of the configured dataset.

    Raises:
        ValueError: No folder is given, or the split is empty.
    """
    if not config.data_dir:
        raise ValueError("no data: give --config.data_dir=FOLDER")
    recordings = _READERS[config.dataset](config.data_dir, split)
    if not recordings:
        raise ValueError(f"{config.data_dir}: no recordings in the split {split!r}")
    return recordings


def make_batches(config: ml_collections.ConfigDict) -> Any:
    """An endless, resumable iterator of training batches of this process."""
    dataset = piano_pipeline.make_dataset(
        read_recordings(config, "train"),
        batch_size=config.batch_size // jax.process_count(),
        num_frames=config.num_frames,
        seed=config.seed,
        shuffle=True,
        augment=augment.AugmentConfig(**config.augment.ranges) if config.augment.on else None,
        labels=labels.LabelConfig(),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_threads=config.num_threads,
    )
    return iter(dataset)


def make_evaluator(config: ml_collections.ConfigDict, task: TranscriptionTask) -> Any:
    """Scores the first minute of some validation recordings; None if there is no such split."""
    split = "validation" if config.dataset == "maestro" else "test"
    recordings = _READERS[config.dataset](config.data_dir, split)[: config.evaluate_recordings]
    if not recordings:
        return None
    predict = jax.jit(task.predict)
    examples = [_first_seconds(task, recording) for recording in recordings]

    def evaluate(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        transcriber = make_transcriber(task.config, functools.partial(predict, variables))
        scores = []
        for samples, reference in examples:
            estimate = transcriber.notes([samples])
            scores.append(evaluation.score_notes(reference, estimate))
        for name, value in evaluation.average_scores(scores).items():
            yield f"validation/{name}", float(value)
        figure = pictures.roll_picture(estimate, reference=reference)
        yield "validation/roll", pictures.to_image(figure)

    return evaluate


def best_decoding(
    transcriber: Transcriber, recordings: list[data.Recording], keys: Sequence[str]
) -> dict[str, float | None]:
    """The decoding with the largest scores over some recordings.

    Args:
        transcriber: Gives rolls.
        recordings: On which to choose; not those on which the choice is judged.
        keys: Which scores of `evaluation.score_notes`; their sum decides.

    Returns:
        What `decode_notes` takes besides rolls: `onset_threshold`, `frame_threshold`,
        `offset_weight` and `frame_support`.

    Raises:
        ValueError: There are no recordings.
    """
    if not recordings:
        raise ValueError("no recordings to choose thresholds on")
    heard = [
        (_rolls(transcriber, recording), data.read_midi(recording.midi_path))
        for recording in track(recordings, "transcribing", console=Console(stderr=True))
    ]

    def total(decoding):
        scores = [
            evaluation.score_notes(
                notes, decode_notes(rolls, frame_seconds=transcriber.frame_seconds, **decoding)
            )
            for rolls, notes in heard
        ]
        mean = evaluation.average_scores(scores)
        return sum(mean[key] for key in keys)

    if heard[0][0].onsets is None:
        pairs = [{"frame_threshold": _THRESHOLDS[:-4]}]
    else:
        # Twice, as the choice of one pair may change the other's; all at once would take hours.
        pairs = [*_CHOICES, *_CHOICES]
    best = dict(PAPERS_DECODING)
    for pair in track(pairs, "choosing", console=Console(stderr=True)):
        settings = [dict(zip(pair, values, strict=True)) for values in product(*pair.values())]
        best = max(({**best, **some} for some in settings), key=total)
    return best


def _rolls(transcriber, recording):
    blocks = audio.iter_blocks(
        recording.audio_path, sample_rate=transcriber.sample_rate, block_samples=1 << 18
    )
    return transcriber.rolls(blocks)


def _first_seconds(task, recording):
    samples, rate = audio.read(recording.audio_path, sample_rate=task.config.front_end.sample_rate)
    samples = samples[: _EVALUATED_SECONDS * rate]
    notes = data.read_midi(recording.midi_path)
    seconds = len(samples) / rate
    kept = notes.onsets < seconds
    reference = data.Notes(
        onsets=notes.onsets[kept],
        offsets=np.minimum(notes.offsets[kept], seconds),
        pitches=notes.pitches[kept],
        velocities=notes.velocities[kept],
    )
    return samples, reference
