"""Networks as pure functions of a parameter tree, and their files."""

from deepaudio.models._recurrent import RecurrentLayer
from deepaudio.models.deep_speech import DeepSpeech, DeepSpeechConfig
from deepaudio.models.deep_speech_2 import Convolution, DeepSpeech2, DeepSpeech2Config
from deepaudio.models.onsets_and_frames import OnsetsAndFrames, OnsetsAndFramesConfig
from deepaudio.models.weights import (
    WeightsError,
    load_weights,
    save_weights,
    shipped_file,
    shipped_weights,
)

__all__ = [
    "Convolution",
    "DeepSpeech",
    "DeepSpeech2",
    "DeepSpeech2Config",
    "DeepSpeechConfig",
    "OnsetsAndFrames",
    "OnsetsAndFramesConfig",
    "RecurrentLayer",
    "WeightsError",
    "load_weights",
    "save_weights",
    "shipped_file",
    "shipped_weights",
]
