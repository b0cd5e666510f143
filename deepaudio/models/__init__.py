"""Networks as pure functions of a parameter tree, and their files."""

from deepaudio.models.onsets_and_frames import OnsetsAndFrames, OnsetsAndFramesConfig
from deepaudio.models.weights import WeightsError, load_weights, save_weights, shipped_weights

__all__ = [
    "OnsetsAndFrames",
    "OnsetsAndFramesConfig",
    "WeightsError",
    "load_weights",
    "save_weights",
    "shipped_weights",
]
