"""Augmentation of speech: noise, rooms, speeds and levels.

Noise superposition is that of Deep Speech (arXiv 1412.5567, section 4.1), on two utterances of
five at 0 to 30 dB as in Deep Speech 2 (arXiv 1512.02595, section 5). Speeds are those of Ko et al.
(Interspeech 2015), which Kaldi uses. SpecAugment works on spectrograms and lives elsewhere.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from deepaudio.data import speech_noise
from deepaudio.data.recording_chain import room_response
from deepaudio.data.speech_noise import NoiseBank

Range = tuple[float, float]
# Below and above, speech has little power that effort of the voice could change.
_TILT_HZ = (200.0, 6000.0)


@dataclasses.dataclass(frozen=True)
class SpeechAugmentConfig:
    """What is done to utterances; None turns one technique off.

    Attributes:
        noise_snr_db: ratio of the speech's to the noise's power, drawn uniformly in decibels.
        noise_share: share of the utterances that get noise.
        noise_folder: folder of noise recordings; None to synthesize them.
        noise_clips: number of clips that noise tracks are made of.
        noise_tolerance_db: largest difference of a clip's power in any octave band from that of
            real rooms.
        lombard_db_per_octave: rise of the speech's spectrum where noise is loud, which stands for
            the Lombard effect; a speaker in noise raises high frequencies most. The paper recorded
            speakers who heard noise in headphones.
        lombard_snr_db: noise is loud below this ratio.
        reverberation_time: seconds for a room's sound to fall by 60 dB, drawn uniformly on a
            logarithmic scale.
        reverberation_db: energy of the room's sound relative to the direct sound.
        reverberation_share: share of the utterances that are put in a room.
        speeds: factors of tempo and pitch, one of which is drawn.
        gain_db: gain of the whole.
    """

    noise_snr_db: Range | None = (0.0, 30.0)
    noise_share: float = 0.4
    noise_folder: str | None = None
    noise_clips: int = 64
    noise_tolerance_db: float = 15.0
    lombard_db_per_octave: Range | None = (0.0, 3.0)
    lombard_snr_db: float = 12.0
    reverberation_time: Range | None = (0.1, 0.8)
    reverberation_db: Range = (-25.0, -5.0)
    reverberation_share: float = 0.3
    speeds: tuple[float, ...] | None = (0.9, 1.0, 1.1)
    gain_db: Range | None = (-15.0, 3.0)

    def __post_init__(self):
        """Refuses what cannot be drawn.

        Raises:
            ValueError: a share is not within 0..1, a speed not above 0, or a count not positive.
        """
        for name in ("noise_share", "reverberation_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is not within 0..1")
        if self.speeds is not None and not (self.speeds and min(self.speeds) > 0.0):
            raise ValueError(f"speeds={self.speeds} must be above 0")
        if self.noise_clips < 1:
            raise ValueError(f"noise_clips={self.noise_clips} must be at least 1")


def make_noise_bank(
    rng: np.random.Generator,
    config: SpeechAugmentConfig,
    *,
    sample_rate: int,
    speech: Sequence[np.ndarray] = (),
) -> NoiseBank | None:
    """Make or read the noise clips that a configuration asks for.

    Args:
        rng: source of randomness.
        config: the ranges.
        sample_rate: Hz.
        speech: (n,) float32 utterances for babble among synthesized noise.

    Returns:
        The bank; None if noise is off.

    Raises:
        ValueError: if the folder has no usable sound files.
    """
    if config.noise_snr_db is None:
        return None
    settings = {
        "sample_rate": sample_rate,
        "num_clips": config.noise_clips,
        "tolerance_db": config.noise_tolerance_db,
    }
    if config.noise_folder is not None:
        return speech_noise.read_bank(os.fspath(config.noise_folder), **settings)
    return speech_noise.synthesize_bank(rng, speech=speech, **settings)


def augment(
    samples: np.ndarray,
    rng: np.random.Generator,
    *,
    sample_rate: int,
    noise: NoiseBank | None,
    config: SpeechAugmentConfig,
) -> np.ndarray:
    """Apply everything that keeps the length: effort, room, noise and gain.

    Args:
        samples: (n,) float32.
        rng: source of randomness.
        sample_rate: Hz.
        noise: from `make_noise_bank`.
        config: the ranges.

    Returns:
        (n,) float32; the speech is not delayed.
    """
    snr_db = None
    if config.noise_snr_db and noise is not None and rng.random() < config.noise_share:
        snr_db = rng.uniform(*config.noise_snr_db)
        if config.lombard_db_per_octave and snr_db < config.lombard_snr_db:
            slope = rng.uniform(*config.lombard_db_per_octave)
            samples = tilt(samples, sample_rate, slope)
    if config.reverberation_time and rng.random() < config.reverberation_share:
        shortest, longest = np.log(config.reverberation_time)
        response = room_response(
            rng,
            reverberation_time=float(np.exp(rng.uniform(shortest, longest))),
            wet_db=float(rng.uniform(*config.reverberation_db)),
            sample_rate=sample_rate,
        )
        samples = reverberate(samples, response)
    if snr_db is not None:
        samples = add_noise(samples, noise.track(rng, len(samples)), snr_db)
    if config.gain_db:
        samples = samples * np.float32(10.0 ** (rng.uniform(*config.gain_db) / 20.0))
    return samples


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise at a ratio of powers, both averaged over the whole length.

    Args:
        samples: (n,) float32 speech.
        noise: (n,) float32.
        snr_db: 10·log10 of the speech's average power over that of the added noise.

    Returns:
        (n,) float32; the speech alone if either is silent.
    """
    speech_power = np.mean(np.square(samples, dtype=np.float64))
    noise_power = np.mean(np.square(noise, dtype=np.float64))
    if not speech_power > 0.0 or not noise_power > 0.0:
        return samples
    scale = np.sqrt(speech_power / noise_power * 10.0 ** (-snr_db / 10.0))
    return samples + np.float32(scale) * noise


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Resample so that tempo and pitch change by the same factor, as Kaldi does by SoX's `speed`.

    Args:
        samples: (n,) float32.
        factor: 1.1 is faster, shorter and higher.

    Returns:
        (m,) float32, m being n / factor to within a sample.
    """
    import soxr

    return soxr.resample(samples, factor, 1.0, quality="MQ") if factor != 1.0 else samples


def tilt(samples: np.ndarray, sample_rate: int, decibels_per_octave: float) -> np.ndarray:
    """Tilt the spectrum between 200 Hz and 6 kHz, keeping the power.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.
        decibels_per_octave: rise of the spectrum towards high frequencies.

    Returns:
        (n,) float32.
    """
    import scipy.fft

    # Room at the end, so that the filter does not ring around to the beginning.
    length = scipy.fft.next_fast_len(len(samples) + sample_rate // 20, real=True)
    frequencies = np.arange(length // 2 + 1) * (sample_rate / length)
    octaves = np.log2(np.clip(frequencies, *_TILT_HZ) / 1000.0)
    gain = (10.0 ** (decibels_per_octave * octaves / 20.0)).astype(np.float32)
    tilted = scipy.fft.irfft(scipy.fft.rfft(samples, length) * gain, length)[: len(samples)]
    before, after = np.mean(np.square(samples)), np.mean(np.square(tilted))
    return tilted * np.sqrt(before / after) if after > 0.0 else samples


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Play speech in a room; what sounds after the utterance's end is cut off.

    Args:
        samples: (n,) float32.
        response: (m,) float32 impulse response whose direct sound is sample 0.

    Returns:
        (n,) float32.
    """
    import scipy.signal

    return scipy.signal.oaconvolve(samples, response)[: len(samples)].astype(np.float32)
