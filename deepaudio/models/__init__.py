"""Networks as pure functions of a parameter tree, and their files."""

from deepaudio.kernels.wavenet import draw, mu_law_decode, mu_law_encode, num_uniforms
from deepaudio.models._recurrent import RecurrentLayer
from deepaudio.models.deep_speech import DeepSpeech, DeepSpeechConfig
from deepaudio.models.deep_speech_2 import Convolution, DeepSpeech2, DeepSpeech2Config
from deepaudio.models.onsets_and_frames import OnsetsAndFrames, OnsetsAndFramesConfig
from deepaudio.models.packed import pack_weights, runnable_weights, unpack_weights
from deepaudio.models.parallel_wavenet import (
    ParallelWaveNet,
    ParallelWaveNetConfig,
    draw_noise,
)
from deepaudio.models.wavenet import (
    GenerationState,
    WaveNet,
    WaveNetConfig,
    generate,
    generation_weights,
    initial_state,
)
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
    "GenerationState",
    "OnsetsAndFrames",
    "OnsetsAndFramesConfig",
    "ParallelWaveNet",
    "ParallelWaveNetConfig",
    "RecurrentLayer",
    "WaveNet",
    "WaveNetConfig",
    "WeightsError",
    "draw",
    "draw_noise",
    "generate",
    "generation_weights",
    "initial_state",
    "load_weights",
    "mu_law_decode",
    "mu_law_encode",
    "num_uniforms",
    "pack_weights",
    "runnable_weights",
    "save_weights",
    "shipped_file",
    "shipped_weights",
    "unpack_weights",
]
