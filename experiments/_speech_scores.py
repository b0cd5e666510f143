"""Error rates of a recognition model on a corpus, with and without a language model."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from deepaudio import audio, data, evaluation
from deepaudio.data.alphabet import Alphabet
from deepaudio.data.speech_augment import SpeechAugmentConfig, add_noise, make_noise_bank
from deepaudio.decoding import BeamSearch, ctc_greedy
from deepaudio.tasks.recognition import RecognitionTask

_BATCH = 16
# Other noise than any training run's, whose banks come from small seeds.
_NOISE_SEED = 10**6


def batched_sounds(
    task: RecognitionTask,
    utterances: list[data.Utterance],
    *,
    snr_db: float | None = None,
    batch_size: int = _BATCH,
) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], list[str]]]:
    """Utterances of like length together, padded, in few different shapes.

    Args:
        task: Whose sample rate, frames and alphabet count.
        utterances: What to read.
        snr_db: Noise is added at this ratio in decibels, the same to each utterance in every call;
            None for none.
        batch_size: Of every batch; the last ones are filled up with silence.

    Yields:
        (samples (batch, n) float32, num_samples (batch,) int32), and the normalized texts of those
        that are no filling.
    """
    rate = task.config.front_end.sample_rate
    rng = np.random.default_rng(_NOISE_SEED)
    settings = SpeechAugmentConfig()
    bank = None if snr_db is None else make_noise_bank(rng, settings, sample_rate=rate)
    sounds = []
    for number, utterance in enumerate(utterances):
        samples, _ = audio.read(utterance.audio_path, sample_rate=rate)
        if bank is not None:
            noise = bank.track(np.random.default_rng([_NOISE_SEED, number]), len(samples))
            samples = add_noise(samples, noise, snr_db)
        sounds.append((samples, task.config.alphabet.normalize(utterance.text)[0]))
    sounds.sort(key=lambda sound: len(sound[0]))
    for first in range(0, len(sounds), batch_size):
        some = sounds[first : first + batch_size]
        # Whole seconds, so that few shapes are compiled.
        longest = -(-len(some[-1][0]) // rate) * rate
        samples = np.zeros((batch_size, longest), np.float32)
        lengths = np.zeros(batch_size, np.int32)
        for row, (sound, _) in enumerate(some):
            samples[row, : len(sound)] = sound
            lengths[row] = len(sound)
        yield (samples, lengths), [text for _, text in some]


def log_probs_of(
    task: RecognitionTask,
    variables: Any,
    utterances: list[data.Utterance],
    *,
    snr_db: float | None = None,
) -> list[tuple[np.ndarray, str]]:
    """What the network says of every utterance, and what was said.

    Args:
        task: The model.
        variables: Its variables.
        utterances: What to listen to.
        snr_db: As `batched_sounds` takes it.

    Returns:
        ((frames, outputs) log probabilities, normalized text) of each, from short to long.
    """
    function = jax.jit(task.log_probs)
    found = []
    batches = list(batched_sounds(task, utterances, snr_db=snr_db))
    for (samples, lengths), texts in track(batches, "listening", console=Console(stderr=True)):
        values, frames = map(np.asarray, function(variables, samples, lengths))
        found += [(values[row, : frames[row]], text) for row, text in enumerate(texts)]
    return found


def greedy_texts(
    heard: list[tuple[np.ndarray, str]], alphabet: Alphabet, frame_seconds: float
) -> list[str]:
    """Texts of the likeliest outputs."""
    return [ctc_greedy(values, alphabet, frame_seconds=frame_seconds).text for values, _ in heard]


def beam_texts(
    heard: list[tuple[np.ndarray, str]], search: BeamSearch, frame_seconds: float
) -> list[str]:
    """Texts that a search finds best."""
    return [
        search.decode(values, frame_seconds=frame_seconds)[0].text
        for values, _ in track(heard, "decoding", console=Console(stderr=True))
    ]


def score(heard: list[tuple[np.ndarray, str]], texts: list[str]) -> dict[str, float]:
    """Pooled error rates of texts, as `evaluation.score_texts` names them."""
    return evaluation.score_texts([text for _, text in heard], texts)
