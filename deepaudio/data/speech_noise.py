"""Noise to train speech recognizers against: short clips, checked, and summed to tracks.

Deep Speech (arXiv 1412.5567, section 4.1) makes long noise tracks of many short clips, so that few
recordings do not repeat audibly, and rejects clips whose power in some frequency band is unlike
that of real noisy recordings.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from deepaudio import audio

# Edges of the octave bands from 125 Hz to 8 kHz, the last cut off at half of 16 kHz.
_BAND_EDGES = (88.0, 177.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 8000.0)
# The long-term spectrum of real rooms as Hoth measured it (J. Acoust. Soc. Am. 12, 1941; ITU-T
# P.800 simulates room noise by it): its third-octave levels summed to those bands, in decibels
# relative to their sum.
ROOM_LEVELS_DB = (-4.2, -6.0, -7.9, -9.8, -11.7, -14.6, -23.3)
_CLIP_SECONDS = 6.0
_SOUND_FILES = (".wav", ".flac", ".ogg", ".mp3")
# Candidates looked at for each clip wanted, before giving up.
_CANDIDATES = 20


def band_levels_db(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Measure the average power of a sound in octave bands.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.

    Returns:
        (bands,) float64 levels of the bands of 125 Hz to 8 kHz, of those that lie below half the
        sample rate, in decibels relative to their sum.
    """
    import scipy.fft

    spectrum = np.abs(scipy.fft.rfft(samples.astype(np.float64))) ** 2
    edges = [edge for edge in _BAND_EDGES if edge <= sample_rate / 2]
    frequencies = np.arange(len(spectrum)) * sample_rate / len(samples)
    sums = np.concatenate([[0.0], np.cumsum(spectrum)])
    power = np.diff(sums[np.searchsorted(frequencies, edges)])
    return _relative_db(power + 1e-12 * sums[-1] + 1e-30)


def is_like_real_noise(samples: np.ndarray, sample_rate: int, tolerance_db: float) -> bool:
    """Tell whether a sound's power in every band is near that of real rooms.

    Args:
        samples: (n,) float32.
        sample_rate: Hz, at least 8000.
        tolerance_db: largest difference from `ROOM_LEVELS_DB` in any band.

    Returns:
        Whether it is.
    """
    levels = band_levels_db(samples, sample_rate)
    reference = _relative_db(10.0 ** (np.array(ROOM_LEVELS_DB[: len(levels)]) / 10.0))
    return bool(np.abs(levels - reference).max() <= tolerance_db)


def _relative_db(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(power / power.sum())


@dataclasses.dataclass(frozen=True)
class NoiseBank:
    """Noise clips to make tracks of.

    Attributes:
        clips: (n,) float32 each, of unit power.
        summed: least and most clips in a track at a time.
    """

    clips: tuple[np.ndarray, ...]
    summed: tuple[int, int] = (2, 6)

    def track(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Sum clips, each from a random place and at a random level.

        Args:
            rng: source of randomness.
            num_samples: length of the track.

        Returns:
            (num_samples,) float32; clips shorter than that are repeated.
        """
        total = np.zeros(num_samples, np.float32)
        for _ in range(int(rng.integers(self.summed[0], self.summed[1] + 1))):
            clip = self.clips[int(rng.integers(len(self.clips)))]
            level = np.float32(10.0 ** (rng.uniform(-12.0, 0.0) / 20.0))
            start = int(rng.integers(len(clip)))
            turned = np.concatenate([clip[start:], clip[:start]])
            total += level * np.resize(turned, num_samples)
        return total


def synthesize_bank(
    rng: np.random.Generator,
    *,
    sample_rate: int,
    num_clips: int,
    tolerance_db: float,
    speech: Sequence[np.ndarray] = (),
) -> NoiseBank:
    """Make noise clips of many kinds, those that are unlike real noise left out.

    Args:
        rng: source of randomness.
        sample_rate: Hz.
        num_clips: how many to make.
        tolerance_db: as `is_like_real_noise` has it.
        speech: (n,) float32 utterances for babble; without them there is none.

    Returns:
        The bank.

    Raises:
        ValueError: if the tolerance is so small that too few clips pass.
    """
    length = int(_CLIP_SECONDS * sample_rate)
    kinds = [*_KINDS, functools.partial(_babble, speech=speech)] if len(speech) else [*_KINDS]
    clips = []
    for candidate in range(_CANDIDATES * num_clips):
        if len(clips) == num_clips:
            break
        kind = kinds[candidate % len(kinds)]
        foreground = _unit(kind(rng, length, sample_rate))
        # No room is silent behind what one listens to.
        behind = np.float32(10.0 ** (rng.uniform(-15.0, -3.0) / 20.0))
        slope = rng.uniform(1.0, 1.6)
        clip = _unit(foreground + behind * _colored(rng, length, sample_rate, slope))
        if is_like_real_noise(clip, sample_rate, tolerance_db):
            clips.append(clip)
    if len(clips) < num_clips:
        raise ValueError(f"{tolerance_db=} lets only {len(clips)} of {num_clips} noise clips pass")
    return NoiseBank(tuple(clips))


def read_bank(
    folder: str | os.PathLike, *, sample_rate: int, num_clips: int, tolerance_db: float
) -> NoiseBank:
    """Read noise clips from a folder, those that are unlike real noise left out.

    Args:
        folder: of sound files, also in its subfolders.
        sample_rate: Hz.
        num_clips: the most clips to keep, evenly from all files.
        tolerance_db: as `is_like_real_noise` has it.

    Returns:
        The bank; long recordings are cut into clips of some seconds.

    Raises:
        ValueError: if there is no sound file, one cannot be read, or no clip passes; names it.
    """
    folder = pathlib.Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SOUND_FILES)
    if not paths:
        raise ValueError(f"{folder}: no sound files")
    length = int(_CLIP_SECONDS * sample_rate)
    clips = []
    for path in paths:
        try:
            for block in audio.iter_blocks(path, sample_rate=sample_rate, block_samples=length):
                # A rest of less than a second would repeat audibly.
                if len(block) >= sample_rate and is_like_real_noise(
                    block, sample_rate, tolerance_db
                ):
                    clips.append(_unit(block))
        except audio.AudioError as error:
            raise ValueError(f"{path}: {error}") from error
    if not clips:
        raise ValueError(f"{folder}: no noise like that of real rooms to {tolerance_db:g} dB")
    kept = np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).round().astype(int)
    return NoiseBank(tuple(clips[index] for index in kept))


def _unit(samples: np.ndarray) -> np.ndarray:
    """Scale to unit power."""
    return (samples / np.sqrt(np.mean(np.square(samples)) + 1e-20)).astype(np.float32)


def _colored(rng, length: int, sample_rate: int, slope: float) -> np.ndarray:
    """Noise of power density 1/f**slope above 50 Hz: 0 is white, 1 pink, 2 brown."""
    import scipy.fft

    spectrum = rng.standard_normal((length // 2 + 1, 2), np.float32).view(np.complex64)[:, 0]
    frequencies = np.maximum(np.arange(len(spectrum)) * sample_rate / length, 50.0)
    shape = frequencies ** (-slope / 2.0)
    return _unit(scipy.fft.irfft(spectrum * shape.astype(np.float32), length))


def _steady(rng, length, sample_rate):
    return _colored(rng, length, sample_rate, rng.uniform(0.8, 2.0))


def _gusts(rng, length, sample_rate):
    """Wind and passing cars: noise that swells and fades within seconds."""
    points = rng.uniform(-20.0, 0.0, int(rng.integers(4, 10)))
    swell = np.interp(np.linspace(0, len(points) - 1, length), np.arange(len(points)), points)
    return _colored(rng, length, sample_rate, rng.uniform(1.2, 2.0)) * 10.0 ** (swell / 20.0)


def _hum(rng, length, sample_rate):
    """Mains hum with its harmonics."""
    return _harmonics(rng, length, sample_rate, float(rng.choice([50.0, 60.0])), 1.0)


def _fan(rng, length, sample_rate):
    """A fan or engine: blades' tones over a wide noise."""
    tones = _harmonics(rng, length, sample_rate, rng.uniform(60.0, 250.0), 0.7)
    return _unit(tones) + rng.uniform(1.0, 3.0) * _colored(rng, length, sample_rate, 1.0)


def _harmonics(rng, length, sample_rate, hertz, decay):
    time = np.arange(length, dtype=np.float32) / np.float32(sample_rate)
    total = np.zeros(length, np.float32)
    for order in range(1, min(30, int(0.45 * sample_rate / hertz)) + 1):
        level, phase = rng.uniform(0.2, 1.0) * order**-decay, rng.uniform(0.0, 6.283)
        total += np.float32(level) * np.sin(np.float32(6.2831853 * hertz * order) * time + phase)
    return total


def _impacts(rng, length, sample_rate, count, decay):
    """Short dull bursts of noise that die away, at random places."""
    import scipy.signal

    size = int(5 * decay * sample_rate)
    envelope = np.exp(-np.arange(size) / (decay * sample_rate)).astype(np.float32)
    total = np.zeros(length + size, np.float32)
    for start in rng.integers(0, length, count):
        burst = envelope * rng.standard_normal(size, np.float32)
        total[start : start + size] += np.float32(rng.lognormal(0.0, 0.7)) * burst
    dullness = rng.uniform(0.6, 0.9)
    return scipy.signal.lfilter([1.0], [1.0, -dullness], total[:length]).astype(np.float32)


def _clicks(rng, length, sample_rate):
    """Keys, dishes and footsteps."""
    decay = float(np.exp(rng.uniform(np.log(0.002), np.log(0.03))))
    return _impacts(rng, length, sample_rate, int(rng.integers(5, 60)), decay)


def _rain(rng, length, sample_rate):
    """Drops on a roof, and the rush of those farther off."""
    drops = _unit(_impacts(rng, length, sample_rate, 2000, 0.001))
    return drops + rng.uniform(0.5, 3.0) * _colored(rng, length, sample_rate, 0.6)


def _music(rng, length, sample_rate):
    """Chords of plucked tones."""
    total = np.zeros(length, np.float32)
    beat = int(rng.uniform(0.25, 0.7) * sample_rate)
    for start in range(0, length, beat):
        count = min(2 * beat, length - start)
        fade = np.exp(-np.arange(count) / (0.6 * beat)).astype(np.float32)
        for semitone in rng.choice(36, int(rng.integers(1, 4)), replace=False):
            hertz = 110.0 * 2.0 ** (semitone / 12.0)
            total[start : start + count] += fade * _harmonics(rng, count, sample_rate, hertz, 1.2)
    return total


def _babble(rng, length, sample_rate, *, speech):
    """Several people talking at once."""
    del sample_rate
    total = np.zeros(length, np.float32)
    for _ in range(int(rng.integers(3, 9))):
        voice = []
        while sum(map(len, voice)) < length:
            voice.append(_unit(speech[int(rng.integers(len(speech)))]))
        level = np.float32(10.0 ** (rng.uniform(-10.0, 0.0) / 20.0))
        total += level * np.concatenate(voice)[:length]
    return total


_KINDS = (_steady, _gusts, _hum, _fan, _clicks, _rain, _music)
