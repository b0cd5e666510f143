"""A room, microphones and a recorder: what lies between a piano and a sound file."""

import numpy as np
import scipy.signal


def room_response(
    rng: np.random.Generator, *, reverberation_time: float, wet_db: float, sample_rate: int = 16000
) -> np.ndarray:
    """Makes an impulse response: direct sound, early reflections, noise that darkens as it dies.

    Args:
        rng: random generator.
        reverberation_time: seconds to fall by 60 dB.
        wet_db: energy of all that follows the direct sound, dB relative to it.
        sample_rate: Hz.

    Returns:
        (samples,) float32; the direct sound is sample 0, of level 1.
    """
    length = max(int(1.1 * reverberation_time * sample_rate), 64)
    time = np.arange(length) / sample_rate
    noise = rng.normal(size=length) * np.exp(-6.91 * time / reverberation_time)
    dark = scipy.signal.lfilter([0.25], [1.0, -0.75], noise)
    blend = np.exp(-3.0 * time / reverberation_time)
    late = (blend * noise + (1.0 - blend) * 1.5 * dark) * (1.0 - np.exp(-time / 0.01))
    for _ in range(int(rng.integers(3, 10))):
        delay = rng.uniform(0.002, 0.05)
        if delay * sample_rate < length:
            late[int(delay * sample_rate)] += rng.normal() * 3.0 * np.exp(-delay / 0.02)
    late[0] = 0.0
    late *= 10.0 ** (wet_db / 20.0) / np.sqrt((late**2).sum() + 1e-12)
    late[0] = 1.0
    return late.astype(np.float32)


def pink_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Makes noise of power density 1/f.

    Args:
        rng: random generator.
        samples: how many.

    Returns:
        (samples,) float32 of unit root mean square.
    """
    size = scipy.fft.next_fast_len(max(samples, 16), real=True)
    spectrum = rng.normal(size=size // 2 + 1) + 1j * rng.normal(size=size // 2 + 1)
    spectrum /= np.sqrt(np.maximum(np.arange(size // 2 + 1), 1.0))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, size)[:samples]
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _peaking(frequency: float, gain_db: float, q: float, sample_rate: int) -> np.ndarray:
    """Peaking equalizer of R. Bristow-Johnson's Audio EQ Cookbook, one second-order section."""
    amplitude = 10.0 ** (gain_db / 40.0)
    omega = 2.0 * np.pi * frequency / sample_rate
    alpha = np.sin(omega) / (2.0 * q)
    b = np.array([1.0 + alpha * amplitude, -2.0 * np.cos(omega), 1.0 - alpha * amplitude])
    a = np.array([1.0 + alpha / amplitude, -2.0 * np.cos(omega), 1.0 - alpha / amplitude])
    return np.concatenate([b, a]) / a[0]


def _equalize(samples, rng, gentle, sample_rate) -> np.ndarray:
    size = 1.5 if gentle else 4.0
    sections = [
        _peaking(
            float(np.exp(rng.uniform(np.log(60.0), np.log(6000.0)))),
            float(np.clip(rng.normal(0.0, size), -12.0, 12.0)),
            float(rng.uniform(0.4, 1.5)),
            sample_rate,
        )
        for _ in range(int(rng.integers(1, 5)))
    ]
    if not gentle and rng.random() < 0.15:
        corner = float(np.exp(rng.uniform(np.log(2500.0), np.log(7000.0))))
        sections.extend(scipy.signal.butter(2, corner, fs=sample_rate, output="sos"))
    return scipy.signal.sosfilt(np.array(sections), samples).astype(np.float32)


def record(
    samples: np.ndarray,
    rng: np.random.Generator,
    *,
    gentle: bool = False,
    sample_rate: int = 16000,
) -> np.ndarray:
    """Records a dry sound: equalizer, room, sometimes compression, noise, level.

    Args:
        samples: (samples,) float32.
        rng: random generator; it decides what happens.
        gentle: an ordinary clean recording (small room, little noise, no clipping).
        sample_rate: Hz.

    Returns:
        (samples,) float32 of peak between -24 and -0.5 dB of full scale; nothing is delayed.
    """
    sound = _equalize(samples, rng, gentle, sample_rate)
    if rng.random() < (0.6 if gentle else 0.75):
        longest, wettest = (0.6, -12.0) if gentle else (1.8, -3.0)
        response = room_response(
            rng,
            reverberation_time=float(np.exp(rng.uniform(np.log(0.1), np.log(longest)))),
            wet_db=float(rng.uniform(-30.0, wettest)),
            sample_rate=sample_rate,
        )
        sound = scipy.signal.oaconvolve(sound, response)[: len(samples)].astype(np.float32)
    sound /= max(float(np.abs(sound).max()), 1e-9)
    if not gentle and rng.random() < 0.2:
        drive = np.float32(np.exp(rng.uniform(np.log(0.7), np.log(3.0))))
        sound = np.tanh(drive * sound) / np.tanh(drive)
    quiet, loud = (-75.0, -60.0) if gentle else (-75.0, -45.0)
    level = 10.0 ** (float(rng.uniform(quiet, loud)) / 20.0)
    sound = sound + np.float32(level) * pink_noise(rng, len(sound))
    peak_db = float(rng.uniform(-12.0, -0.5) if gentle else rng.uniform(-24.0, -0.5))
    return (sound * (10.0 ** (peak_db / 20.0) / np.abs(sound).max())).astype(np.float32)
