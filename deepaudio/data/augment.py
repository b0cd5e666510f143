"""Augmentation of piano sound as in the MAESTRO paper (arXiv 1810.12247).

The paper runs SoX; the effects here follow SoX's definitions, in the paper's order: pink noise,
pitch, contrast, two equalisers, reverberation. A random gain comes last.
"""

import dataclasses
import functools

import numpy as np

Range = tuple[float, float]
# Freeverb's delays in samples at 44.1 kHz, and its constants as SoX sets them by default.
_COMB_DELAYS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
_ALLPASS_DELAYS = (225, 341, 441, 556)
_WET_GAIN = 0.015
_DAMPING = 0.35
_REVERB_SECONDS = 4.0


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges from which each chunk's augmentation is drawn uniformly; None turns one off.

    Attributes:
        noise_volume: peak of the pink noise, 1 being full scale.
        pitch_semitones: shift of the pitch.
        contrast: SoX's enhancement amount, 0 to 100.
        equalizer_hz: centre of each equaliser, drawn uniformly on a logarithmic scale.
        equalizer_db: gain of each equaliser.
        equalizer_q: quality of each equaliser.
        reverberance: SoX's reverberance in percent, 0 to 100.
        gain_db: gain of the whole; not in the paper, which hears one recording set-up only.
    """

    noise_volume: Range | None = (0.0, 0.04)
    pitch_semitones: Range | None = (-0.1, 0.1)
    contrast: Range | None = (0.0, 100.0)
    equalizer_hz: Range | None = (32.0, 4096.0)
    equalizer_db: Range = (-10.0, 5.0)
    equalizer_q: float = 2.0
    reverberance: Range | None = (0.0, 70.0)
    gain_db: Range | None = (-9.0, 3.0)


def draw_pitch(rng: np.random.Generator, config: AugmentConfig) -> float:
    """Draw a shift of the pitch.

    Args:
        rng: source of randomness.
        config: the ranges.

    Returns:
        Semitones; 0 if the shift is off.
    """
    return rng.uniform(*config.pitch_semitones) if config.pitch_semitones else 0.0


def speed(semitones: float) -> float:
    """Return how many seconds of the original a second of `shift_pitch`'s result holds.

    Args:
        semitones: the shift.

    Returns:
        2 ** (semitones / 12); times in the result are those of the original divided by this.
    """
    return 2.0 ** (semitones / 12.0)


def augment(
    samples: np.ndarray,
    rng: np.random.Generator,
    *,
    sample_rate: int,
    semitones: float,
    config: AugmentConfig,
) -> np.ndarray:
    """Apply all of the augmentation in its order.

    The pitch is given rather than drawn, because it changes the tempo and with it the labels.

    Args:
        samples: (n,) float32 in -1..1.
        rng: source of randomness.
        sample_rate: Hz.
        semitones: shift of the pitch, from `draw_pitch`.
        config: the ranges.

    Returns:
        (round(n / speed(semitones)),) float32.
    """
    if config.noise_volume:
        samples = add_pink_noise(samples, rng, rng.uniform(*config.noise_volume))
    if semitones:
        samples = shift_pitch(samples, semitones)
    if config.contrast:
        samples = contrast(samples, rng.uniform(*config.contrast))
    if config.equalizer_hz:
        low, high = np.log(config.equalizer_hz)
        for _ in range(2):
            hertz = np.exp(rng.uniform(low, high))
            decibels = rng.uniform(*config.equalizer_db)
            samples = equalize(
                samples, sample_rate, hertz=hertz, decibels=decibels, q=config.equalizer_q
            )
    if config.reverberance:
        samples = reverberate(samples, sample_rate, rng.uniform(*config.reverberance))
    if config.gain_db:
        samples = samples * np.float32(10.0 ** (rng.uniform(*config.gain_db) / 20.0))
    return samples


def add_pink_noise(samples: np.ndarray, rng: np.random.Generator, volume: float) -> np.ndarray:
    """Add noise whose power falls as 1/f.

    Args:
        samples: (n,) float32.
        rng: source of randomness.
        volume: the noise's highest peak, 1 being full scale.

    Returns:
        (n,) float32.
    """
    import scipy.fft

    length = scipy.fft.next_fast_len(max(len(samples), 2), real=True)
    num_bins = length // 2 + 1
    spectrum = rng.standard_normal((num_bins, 2), np.float32).view(np.complex64)[:, 0]
    spectrum *= _pink_shape(num_bins)
    noise = scipy.fft.irfft(spectrum, length)[: len(samples)]
    peak = np.abs(noise).max(initial=np.float32(1e-20))
    return samples + noise * np.float32(volume / peak)


def shift_pitch(samples: np.ndarray, semitones: float) -> np.ndarray:
    """Shift the pitch by resampling, which changes the tempo by the same factor.

    Keeping the tempo, as SoX does by cutting and overlapping, would smear the onsets that the
    labels place; at 0.1 semitone the tempo differs by 0.6 %, and labels are scaled by `speed`.

    Args:
        samples: (n,) float32.
        semitones: the shift; upwards is shorter.

    Returns:
        (m,) float32, m being n / speed(semitones) to within a sample.
    """
    import soxr

    return soxr.resample(samples, speed(semitones), 1.0, quality="MQ")


def contrast(samples: np.ndarray, amount: float) -> np.ndarray:
    """Make the sound louder by SoX's `contrast`, a sine-shaped transfer curve.

    Args:
        samples: (n,) float32; values outside -1..1 are clipped.
        amount: SoX's enhancement amount, 0 to 100.

    Returns:
        (n,) float32 in -1..1: sin(d + amount / 750 · sin(4·d)) with d = π/2 · sample.
    """
    phase = np.clip(samples, -1.0, 1.0) * np.float32(np.pi / 2)
    return np.sin(phase + np.float32(amount / 750.0) * np.sin(4.0 * phase))


def equalize(
    samples: np.ndarray, sample_rate: int, *, hertz: float, decibels: float, q: float
) -> np.ndarray:
    """Raise or lower a band by a peaking biquad (Bristow-Johnson's cookbook), SoX's `equalizer`.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.
        hertz: centre of the band, under half the sample rate.
        decibels: gain at the centre.
        q: centre over bandwidth.

    Returns:
        (n,) float32.

    Raises:
        ValueError: if the centre is not under half the sample rate.
    """
    import scipy.signal

    if not 0 < hertz < sample_rate / 2:
        raise ValueError(f"{hertz=} is not between 0 and {sample_rate / 2} Hz")
    amplitude = 10.0 ** (decibels / 40.0)
    angle = 2.0 * np.pi * hertz / sample_rate
    alpha = np.sin(angle) / (2.0 * q)
    middle = -2.0 * np.cos(angle)
    numerator = [1.0 + alpha * amplitude, middle, 1.0 - alpha * amplitude]
    denominator = [1.0 + alpha / amplitude, middle, 1.0 - alpha / amplitude]
    return scipy.signal.lfilter(numerator, denominator, samples).astype(np.float32)


def reverberate(samples: np.ndarray, sample_rate: int, reverberance: float) -> np.ndarray:
    """Add a room by Freeverb as in SoX's `reverb`: eight combs, then four all-passes.

    The filters' joint frequency response is sampled finely enough for four seconds of echoes and
    applied as one convolution, cut where the echoes have fallen by 80 dB.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.
        reverberance: percent, 0 to 100; taken to the nearest whole one.

    Returns:
        (n,) float32, the sound and its echoes.
    """
    import scipy.signal

    echoes = _impulse_response(sample_rate, round(reverberance))[: max(len(samples), 1)]
    wet = scipy.signal.oaconvolve(samples, echoes)[: len(samples)]
    return (samples + wet).astype(np.float32)


@functools.lru_cache(maxsize=101)
def _impulse_response(sample_rate: int, reverberance: int) -> np.ndarray:
    import scipy.fft

    length = scipy.fft.next_fast_len(int(_REVERB_SECONDS * sample_rate), real=True)
    step, combs, allpasses = _delays(sample_rate, length)
    # SoX's curve from 0.3 at reverberance 0 to 0.98 at 100.
    decay = np.log(0.7) + reverberance / 100.0 * (np.log(0.02) - np.log(0.7))
    feedback = np.float32(1.0 - np.exp(decay))
    low_pass = np.float32(1.0) - np.float32(_DAMPING) * step
    response = np.zeros_like(step)
    for delay in combs:
        loop = feedback * np.float32(1.0 - _DAMPING) * delay
        response += delay * low_pass / (low_pass - loop)
    response *= np.float32(_WET_GAIN)
    for delay in allpasses:
        response *= (np.float32(1.5) * delay - 1.0) / (1.0 - np.float32(0.5) * delay)
    echoes = scipy.fft.irfft(response, length)
    audible = np.flatnonzero(np.abs(echoes) > 1e-4 * np.abs(echoes).max())
    return echoes[: audible[-1] + 1].copy()


@functools.lru_cache(maxsize=2)
def _delays(sample_rate: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spectra of a delay by one sample, by each comb and by each all-pass."""
    angle = -2.0j * np.pi * np.arange(length // 2 + 1) / length

    def spectra(delays):
        samples = np.floor(np.array(delays) * sample_rate / 44100 + 0.5)
        return np.exp(angle * samples[:, None]).astype(np.complex64)

    step = np.exp(angle).astype(np.complex64)
    return step, spectra(_COMB_DELAYS), spectra(_ALLPASS_DELAYS)


@functools.lru_cache(maxsize=8)
def _pink_shape(num_bins: int) -> np.ndarray:
    return (1.0 / np.sqrt(np.maximum(np.arange(num_bins), 1))).astype(np.float32)
