"""Scores of a vocoder's sound against the recording it was made from."""

import dataclasses
import importlib
import math
import warnings
from types import ModuleType

import numpy as np
import scipy.fft
import scipy.signal
import soxr

from deepaudio import audio

# Lengths are rounded up to this many samples before the mel, so that it is compiled seldom.
_PIECE = 1 << 14
# Frame, hop and window in samples (arXiv 1910.11480).
_RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
_LEAST_MAGNITUDE = 10**-3.5
_FRAME_MILLISECONDS = 5.0
_CEPSTRUM_ORDER = 24
# Evenly spaced points on the mel scale that the envelope is taken at.
_CEPSTRUM_POINTS = 256
_PESQ_RATE = 16000


def score_voice(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    convention: audio.MelConvention | None = None,
) -> dict[str, float]:
    """All scores of a vocoder's sound.

    Args:
        reference: (n,) float, the recording, -1 to 1.
        estimate: (m,) float, the vocoder's, beginning together with it; the longer is cut.
        sample_rate: Hz of both.
        convention: of the mel distance; None for HiFi-GAN's figures at this rate.

    Returns:
        - `metric/mel_distance`: `log_mel_distance`.
        - `metric/stft/spectral_convergence` and `metric/stft/log_magnitude`: `stft_distance`.
        - `metric/mcd`: `mel_cepstral_distortion`.
        - `metric/f0/rmse_cents`, `metric/f0/rmse_hz`, `metric/f0/voicing_error`: `pitch_errors`.
        - `metric/pesq`: `pesq_wide_band`; `metric/stoi`: `stoi`.

        Those that a pair leaves undefined are NaN.

    Raises:
        ImportError: if the extra `voice` is not installed.
        ValueError: if a sound is empty, not of one channel, or holds NaN or infinite values.
    """
    reference, estimate = _pair(reference, estimate)
    convergence, magnitude = stft_distance(reference, estimate)
    heard = _analyse(reference, sample_rate), _analyse(estimate, sample_rate)
    cents, hertz, voicing = _pitch_errors(*heard)
    return {
        "metric/mel_distance": log_mel_distance(reference, estimate, sample_rate, convention),
        "metric/stft/spectral_convergence": convergence,
        "metric/stft/log_magnitude": magnitude,
        "metric/mcd": _distortion(*heard),
        "metric/f0/rmse_cents": cents,
        "metric/f0/rmse_hz": hertz,
        "metric/f0/voicing_error": voicing,
        "metric/pesq": pesq_wide_band(reference, estimate, sample_rate),
        "metric/stoi": stoi(reference, estimate, sample_rate),
    }


def log_mel_distance(
    reference: np.ndarray,
    estimate: np.ndarray,
    sample_rate: int,
    convention: audio.MelConvention | None = None,
) -> float:
    """Mean absolute difference of the natural logarithms of two mel spectrograms.

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.
        sample_rate: Hz of both.
        convention: how the mel is made; None for HiFi-GAN's figures at this rate.

    Returns:
        Nepers, over all whole frames and bands; silence follows both sounds.

    Raises:
        ValueError: as for `score_voice`, or if the convention is of another rate, or the sounds
            are shorter than a frame.
    """
    if convention is None:
        convention = dataclasses.replace(
            audio.mel_convention("hifigan"),
            sample_rate=sample_rate,
            f_max=min(8000.0, sample_rate / 2),
        )
    if convention.sample_rate != sample_rate:
        raise ValueError(
            f"sounds at {sample_rate} Hz, but a mel at {convention.sample_rate} Hz"
            f" ({convention.name})"
        )
    reference, estimate = _pair(reference, estimate)
    frames = len(reference) // convention.hop_length
    if not frames:
        raise ValueError(f"{len(reference)} samples are less than a frame of {convention.name}")
    padded = np.pad(np.stack([reference, estimate]), ((0, 0), (0, -len(reference) % _PIECE)))
    mels = audio.convention_mel(padded.astype(np.float32), convention)
    true, made = np.asarray(mels, np.float64)[:, :frames]
    unit = 1.0 if convention.logarithm == "natural" else math.log(10.0)
    return float(np.mean(np.abs(true - made)) * unit)


def stft_distance(reference: np.ndarray, estimate: np.ndarray) -> tuple[float, float]:
    """Multi-resolution STFT distance.

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.

    Returns:
        Spectral convergence, ‖|S| - |Ŝ|‖ / ‖|S|‖ (NaN if the reference is silent), and the mean
        absolute difference of the magnitudes' natural logarithms, in nepers; each the mean over
        Hann windows of 240, 600 and 1,200 samples in frames of 512, 1,024 and 2,048. Magnitudes
        below 3e-4 count as that in the logarithm.

    Raises:
        ValueError: as for `score_voice`.

    Source: Yamamoto, Song and Kim, Parallel WaveGAN, arXiv 1910.11480, section 2.2.
    """
    reference, estimate = _pair(reference, estimate)
    convergences, distances = [], []
    for frame, hop, window in _RESOLUTIONS:
        transform = scipy.signal.ShortTimeFFT(
            scipy.signal.windows.hann(window, sym=False), hop, fs=1.0, mfft=frame
        )
        true, made = (
            np.abs(transform.stft(each)) for each in _long_enough(window, reference, estimate)
        )
        norm = np.linalg.norm(true)
        convergences.append(np.linalg.norm(true - made) / norm if norm else math.nan)
        logs = (np.log(np.maximum(each, _LEAST_MAGNITUDE)) for each in (true, made))
        distances.append(np.mean(np.abs(np.subtract(*logs))))
    return float(np.mean(convergences)), float(np.mean(distances))


def mel_cepstral_distortion(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Mel-cepstral distortion of sounds that run together, without warping of time.

    10 / ln 10 · √(2 Σ_d (c_d - ĉ_d)²) over coefficients 1 to 24 of the mel cepstrum, which is the
    cosine series of the log amplitude of WORLD's spectral envelope over HTK's mel scale; so the
    root mean square over mel of the envelopes' difference in dB, smoothed, loudness aside. The
    mean over frames of 5 ms. Other analyses give other figures: compare only what this gave.

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.
        sample_rate: Hz of both.

    Returns:
        dB.

    Raises:
        ImportError: if the extra `voice` is not installed.
        ValueError: as for `score_voice`.

    Source: Kubichek, "Mel-cepstral distance measure for objective speech quality assessment",
    PACRIM 1993; the envelope is CheapTrick's (Morise, Speech Communication 67, 2015).
    """
    pair = _pair(reference, estimate)
    return _distortion(*(_analyse(each, sample_rate) for each in pair))


def pitch_errors(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int
) -> tuple[float, float, float]:
    """Errors of pitch and of voicing in frames of 5 ms, by WORLD's DIO and StoneMask, 71 to 800 Hz.

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.
        sample_rate: Hz of both.

    Returns:
        Root mean square of the difference in cents and of that in Hz, over frames voiced in both
        (NaN without any), and the share of frames voiced in one alone.

    Raises:
        ImportError: if the extra `voice` is not installed.
        ValueError: as for `score_voice`.

    Source: Morise, Yokomori and Ozawa, "WORLD", IEICE Transactions E99-D(7), 2016.
    """
    pair = _pair(reference, estimate)
    return _pitch_errors(*(_analyse(each, sample_rate) for each in pair))


def pesq_wide_band(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """PESQ, wide band at 16 kHz (ITU-T P.862.2).

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.
        sample_rate: Hz of both; they are resampled to 16 kHz.

    Returns:
        1.04 to 4.64, more is better; NaN where PESQ finds no speech, or less than a quarter of a
        second of sound.

    Raises:
        ImportError: if the extra `voice` is not installed.
        ValueError: as for `score_voice`.
    """
    pesq = _import("pesq")
    pair = _pair(reference, estimate)
    true, made = (soxr.resample(each, sample_rate, _PESQ_RATE) for each in pair)
    if not (true.any() and made.any()):
        return math.nan
    try:
        return float(pesq.pesq(_PESQ_RATE, true, made, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return math.nan


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility.

    Args:
        reference: as for `score_voice`.
        estimate: as for `score_voice`.
        sample_rate: Hz of both.

    Returns:
        At most 1, more is better; NaN where less than 0.4 s of the reference is no silence.

    Raises:
        ImportError: if the extra `voice` is not installed.
        ValueError: as for `score_voice`.

    Source: Taal, Hendriks, Heusdens and Jensen, IEEE TASLP 19(7), 2011.
    """
    pystoi = _import("pystoi")
    pair = _pair(reference, estimate)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(*pair, sample_rate))
        # The second where not even one frame is left.
        except (RuntimeWarning, np.exceptions.AxisError):
            return math.nan


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this score needs the package {name}: pip install 'deepaudio[voice]' ({error})"
        ) from error


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (n,) float64, cut to the length of the shorter."""
    sounds = []
    for name, samples in (("reference", reference), ("estimate", estimate)):
        samples = np.asarray(samples)
        if samples.ndim != 1 or not len(samples):
            raise ValueError(f"the {name} has shape {samples.shape}, not that of (n,) samples")
        if samples.dtype.kind != "f":
            raise ValueError(f"the {name} holds {samples.dtype}, not floating point from -1 to 1")
        if not np.isfinite(samples).all():
            raise ValueError(f"the {name} holds samples that are NaN or infinite")
        sounds.append(samples.astype(np.float64))
    length = min(map(len, sounds))
    return sounds[0][:length], sounds[1][:length]


def _long_enough(window: int, *sounds: np.ndarray) -> list[np.ndarray]:
    """Return sounds, with silence after those shorter than a window."""
    return [np.pad(each, (0, max(0, window - len(each)))) for each in sounds]


@dataclasses.dataclass(frozen=True)
class _Analysis:
    """What WORLD hears: (frames,) pitch in Hz, 0 where unvoiced, and (frames, order) cepstrum."""

    pitch: np.ndarray
    cepstrum: np.ndarray


def _analyse(samples: np.ndarray, sample_rate: int) -> _Analysis:
    world = _import("pyworld")
    rough, times = world.dio(samples, sample_rate, frame_period=_FRAME_MILLISECONDS)
    pitch = world.stonemask(samples, rough, times, sample_rate)
    envelope = world.cheaptrick(samples, pitch, times, sample_rate)
    hertz = np.linspace(0.0, sample_rate / 2, envelope.shape[1])
    mel = 2595.0 * np.log10(1.0 + hertz / 700.0)
    # The middles of equal steps: a cosine transform of type II is then the cosine series.
    points = (np.arange(_CEPSTRUM_POINTS) + 0.5) * (mel[-1] / _CEPSTRUM_POINTS)
    amplitude = np.stack([np.interp(points, mel, 0.5 * np.log(frame)) for frame in envelope])
    cepstrum = scipy.fft.dct(amplitude, type=2, axis=1) / _CEPSTRUM_POINTS
    return _Analysis(pitch, cepstrum[:, 1 : 1 + _CEPSTRUM_ORDER])


def _distortion(true: _Analysis, made: _Analysis) -> float:
    squares = np.square(true.cepstrum - made.cepstrum).sum(axis=1)
    return float(10.0 / math.log(10.0) * np.sqrt(2.0 * squares).mean())


def _pitch_errors(true: _Analysis, made: _Analysis) -> tuple[float, float, float]:
    voiced, said = true.pitch > 0.0, made.pitch > 0.0
    both = voiced & said
    if not both.any():
        return math.nan, math.nan, float(np.mean(voiced != said))
    a, b = true.pitch[both], made.pitch[both]
    cents = np.sqrt(np.mean(np.square(1200.0 * np.log2(b / a))))
    hertz = np.sqrt(np.mean(np.square(b - a)))
    return float(cents), float(hertz), float(np.mean(voiced != said))
