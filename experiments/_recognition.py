"""What the launchers need to know of speech recognition."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from deepaudio import data, evaluation
from deepaudio.data import speech_augment, speech_pipeline
from deepaudio.data.alphabet import ENGLISH, Alphabet, alphabet_of, english_bigrams
from deepaudio.data.spec_augment import SpecAugmentConfig
from deepaudio.decoding import ctc_greedy
from deepaudio.tasks.recognition import (
    RecognitionConfig,
    RecognitionTask,
    make_front_end,
    make_model_config,
)
from experiments import _speech_scores


def prepare(config: ml_collections.ConfigDict) -> None:
    """Fills in what follows from the data: the characters of an alphabet that is taken from them.

    Raises:
        ValueError: There are no data.
    """
    if config.alphabet.kind == "characters" and not config.alphabet.characters:
        texts = [utterance.text for utterance in read_utterances(config, "train")]
        units = alphabet_of(texts, limit=config.alphabet.limit).units
        config.alphabet.characters = "".join(units)


def make_alphabet(config: ml_collections.ConfigDict) -> Alphabet:
    """The alphabet of a configuration that has been prepared.

    Raises:
        ValueError: The kind is unknown, or the configuration was not prepared.
    """
    kind, characters = config.alphabet.kind, config.alphabet.characters
    if kind == "english":
        return ENGLISH
    if kind == "english_bigrams":
        return english_bigrams()
    if kind != "characters":
        raise ValueError(f"{kind=} must be 'english', 'english_bigrams' or 'characters'")
    return Alphabet(tuple(characters or ""), word_separator="")


def make_task(config: ml_collections.ConfigDict) -> RecognitionTask:
    """The task of a configuration."""
    alphabet = make_alphabet(config)
    front_end = make_front_end(**config.front_end)
    masks = config.spec_augment
    return RecognitionTask(
        RecognitionConfig(
            front_end=front_end,
            model=make_model_config(
                num_outputs=len(alphabet), num_bands=front_end.num_bands, **config.model
            ),
            alphabet=alphabet,
            spec_augment=SpecAugmentConfig(**masks.policy) if masks.on else None,
            precision=config.precision,
        )
    )


def read_utterances(config: ml_collections.ConfigDict, split: str) -> list[data.Utterance]:
    """The utterances of a split of the configured dataset: "train", "validation" or another.

    For manifests that is SPLIT.jsonl in the data folder; several may be joined by "+".

    Raises:
        ValueError: No folder is given, or the split is empty.
    """
    if not config.data_dir:
        raise ValueError("no data: give --config.data_dir=FOLDER")
    names = config.splits.get(split, split)
    found = []
    for name in names.split("+"):
        if config.dataset == "librispeech":
            found += data.read_librispeech(config.data_dir, name)
        elif config.dataset == "common_voice":
            found += data.read_common_voice(config.data_dir, name)
        else:
            found += data.read_manifest(Path(config.data_dir) / f"{name}.jsonl")
    if not found:
        raise ValueError(f"{config.data_dir}: no utterances in the split {names!r}")
    return found


def make_batches(config: ml_collections.ConfigDict) -> Any:
    """An endless, resumable iterator of training batches of this process."""
    task = make_task(config)
    augment = speech_augment.SpeechAugmentConfig(**config.augment.ranges)
    dataset = speech_pipeline.make_dataset(
        read_utterances(config, "train"),
        task.config.alphabet,
        sample_rate=task.config.front_end.sample_rate,
        batch_size=config.batch_size // jax.process_count(),
        seed=config.seed,
        buckets=tuple(config.buckets),
        sorta_grad=config.sorta_grad,
        augment=augment if config.augment.on else None,
        frame_stride_samples=task.config.frame_samples,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_threads=config.num_threads,
        num_workers=config.num_workers,
    )
    if jax.process_index() == 0:
        print(dataset.report, file=sys.stderr)
    return iter(dataset)


def make_evaluator(config: ml_collections.ConfigDict, task: RecognitionTask) -> Any:
    """Error rates of greedy decoding on some validation utterances; None if there are none."""
    try:
        utterances = read_utterances(config, "validation")[: config.evaluate_utterances]
    except (ValueError, OSError):
        return None
    batches = list(_speech_scores.batched_sounds(task, utterances))
    references = [text for _, texts in batches for text in texts]
    log_probs = jax.jit(task.log_probs)

    def evaluate(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        heard = []
        for (samples, lengths), texts in batches:
            values, frames = map(np.asarray, log_probs(variables, samples, lengths))
            for each, count in list(zip(values, frames, strict=True))[: len(texts)]:
                greedy = ctc_greedy(
                    each[:count],
                    task.config.alphabet,
                    frame_seconds=task.config.frame_seconds,
                )
                heard.append(greedy.text)
        scores = evaluation.score_texts(references, heard)
        for name in ("metric/wer", "metric/cer"):
            yield f"validation/{name}", scores[name]

    return evaluate
