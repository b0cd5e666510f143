"""The public Python functions: what the command does, on arrays."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soxr

from deepaudio.data.notes import Notes
from deepaudio.tasks import recognizer, transcriber, vocoder

_MOST_CHANNELS = 64
_BLOCK_SECONDS = 30


def transcribe(
    samples: np.ndarray,
    sample_rate: int,
    *,
    model: str | Path | None = None,
    onset_threshold: float | None = None,
    frame_threshold: float | None = None,
) -> Notes:
    """The notes of a piano recording.

    Args:
        samples: (n,) or (n, channels), as soundfile gives them; floating point with full scale
            at 1, or signed integers with full scale at the largest.
        sample_rate: In Hz; any.
        model: Weights: a file, or the name of shipped ones; None for the best shipped.
        onset_threshold: Probability in (0, 1) above which a note begins; None for the model's.
        frame_threshold: Probability in (0, 1) above which a key sounds; None for the model's.

    Returns:
        The notes: onsets and offsets in seconds, MIDI pitches and velocities.

    Raises:
        ValueError: The samples are empty, not finite or of another shape or type, the rate is
            not positive, a threshold lies outside (0, 1), or the model cannot be used.
    """
    for name, threshold in (("onset", onset_threshold), ("frame", frame_threshold)):
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"{name}_threshold must be between 0 and 1, not {threshold!r}")
    sound = _checked(samples, sample_rate)
    loaded = _loaded(None if model is None else str(model))
    return loaded.notes(
        _blocks(sound, sample_rate, loaded.sample_rate),
        onset_threshold=onset_threshold,
        frame_threshold=frame_threshold,
    )


def recognize(
    samples: np.ndarray,
    sample_rate: int,
    *,
    model: str | Path | None = None,
    language_model: str | Path | None = None,
    use_language_model: bool = True,
    beam_width: int | None = None,
    n_best: int = 1,
    hot_words: Mapping[str, float] | None = None,
) -> "recognizer.Recognition":
    """The words of a recording of speech.

    Args:
        samples: (n,) or (n, channels), as soundfile gives them; floating point with full scale
            at 1, or signed integers with full scale at the largest.
        sample_rate: In Hz; any.
        model: Weights: a file, or the name of shipped ones; None for the best shipped.
        language_model: An n-gram model: a file; None for the one that the weights name.
        use_language_model: Whether one is used at all.
        beam_width: Candidates kept while searching; None for what the weights say.
        n_best: Alternatives for each segment.
        hot_words: Bonuses, about 5 to 15, by word or phrase to listen for.

    Returns:
        Text, words with times in seconds and confidences, and segments with alternatives.

    Raises:
        ValueError: The samples are empty, not finite or of another shape or type, the rate is
            not positive, a setting is out of range, or a model cannot be used.
    """
    sound = _checked(samples, sample_rate)
    loaded = _loaded_recognizer(
        None if model is None else str(model),
        None if language_model is None else str(language_model),
        use_language_model,
        beam_width,
        n_best,
        tuple(sorted((hot_words or {}).items())),
    )
    return loaded.recognize(_blocks(sound, sample_rate, loaded.sample_rate))


def vocode(
    mel: np.ndarray,
    *,
    model: str | Path | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    speaker: int = 0,
) -> np.ndarray:
    """The sound of a mel spectrogram.

    Args:
        mel: (frames, bands) log-mel of the model's convention; `deepaudio.audio.convention_mel`
            makes it of sound.
        model: Weights: a file, or the name of shipped ones; None for the best shipped.
        seed: Of the noise; the same gives the same sound.
        temperature: Factor of the noise's scale; 1 is what was learned.
        speaker: Whose voice, by number, of a model of several.

    Returns:
        (frames * hop_length,) float32 in [-1, 1], at the convention's rate.

    Raises:
        ValueError: The array cannot be a log-mel of the convention, a setting is out of range, or
            the model cannot be used.
    """
    loaded = _loaded_vocoder(vocoder.DEFAULT_MODEL if model is None else str(model))
    return loaded.vocode(mel, seed=seed, temperature=temperature, speaker=speaker)


def _blocks(sound: np.ndarray, rate_in: int, rate_out: int) -> Iterator[np.ndarray]:
    if rate_in != rate_out:
        sound = soxr.resample(sound, rate_in, rate_out)
    size = _BLOCK_SECONDS * rate_out
    return (sound[first : first + size] for first in range(0, len(sound), size))


@functools.lru_cache(maxsize=2)
def _loaded_recognizer(
    model, language_model, use_language_model, beam_width, n_best, hot_words
) -> "recognizer.Recognizer":
    """The model, kept so that the next call neither reads nor compiles it again."""
    return recognizer.load_recognizer(
        model,
        language_model=language_model,
        use_language_model=use_language_model,
        beam_width=beam_width,
        n_best=n_best,
        hot_words=dict(hot_words),
    )


@functools.lru_cache(maxsize=2)
def _loaded(model: str | None) -> "transcriber.Transcriber":
    """The model, kept so that the next call neither reads nor compiles it again."""
    return transcriber.load_transcriber(model)


@functools.lru_cache(maxsize=2)
def _loaded_vocoder(model: str) -> "vocoder.Vocoder":
    """The model, kept so that the next call neither reads nor compiles it again."""
    return vocoder.load_vocoder(model)


def _checked(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """The samples as float32 mono, (n,)."""
    samples = np.asarray(samples)
    if not np.isscalar(sample_rate) or not np.isfinite(sample_rate) or sample_rate <= 0:
        raise ValueError(f"sample_rate must be a positive number of Hz, not {sample_rate!r}")
    if samples.ndim not in (1, 2):
        raise ValueError(f"samples must be (n,) or (n, channels), not {samples.shape}")
    if samples.size == 0:
        raise ValueError("samples are empty")
    if samples.ndim == 2 and samples.shape[1] > _MOST_CHANNELS:
        raise ValueError(f"samples must be (n, channels), not (channels, n) as {samples.shape}")
    if np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples.astype(np.float64) / (np.iinfo(samples.dtype).max + 1)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be floats or signed integers, not {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("samples hold NaN or infinite values")
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return samples.astype(np.float32)
