"""Sound files and the front end that models listen through."""

from deepaudio.audio._files import AudioError, duration, iter_blocks, read, read_span
from deepaudio.audio._linear_prediction import levinson, predict, predictor, synthesize
from deepaudio.audio._mel import MelConvention, check_mel, convention_mel, mel_convention
from deepaudio.audio._pitch import yin
from deepaudio.audio._resample import mono, resample
from deepaudio.audio._spectrogram import (
    LogMelConfig,
    LogSpectrogramConfig,
    log_mel,
    log_spectrogram,
    mel_filters,
    mel_frequencies,
    mel_spectrogram,
    stft,
)

__all__ = [
    "AudioError",
    "LogMelConfig",
    "LogSpectrogramConfig",
    "MelConvention",
    "check_mel",
    "convention_mel",
    "duration",
    "iter_blocks",
    "levinson",
    "log_mel",
    "log_spectrogram",
    "mel_convention",
    "mel_filters",
    "mel_frequencies",
    "mel_spectrogram",
    "mono",
    "predict",
    "predictor",
    "read",
    "read_span",
    "resample",
    "stft",
    "synthesize",
    "yin",
]
