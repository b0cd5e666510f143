"""Sequential generation by a WaveNet with ring buffers (arXiv 1609.03499)."""

from deepaudio.kernels.wavenet._network import State, Weights, initial_state
from deepaudio.kernels.wavenet._outputs import (
    OUTPUTS,
    Output,
    draw,
    mu_law_decode,
    mu_law_encode,
    num_parameters,
    num_uniforms,
)
from deepaudio.kernels.wavenet.api import generate
from deepaudio.kernels.wavenet.config import KernelConfig
from deepaudio.kernels.wavenet.reference import step

__all__ = [
    "OUTPUTS",
    "KernelConfig",
    "Output",
    "State",
    "Weights",
    "draw",
    "generate",
    "initial_state",
    "mu_law_decode",
    "mu_law_encode",
    "num_parameters",
    "num_uniforms",
    "step",
]
