"""Loss functions."""

from deepaudio.losses._ctc import ctc_loss
from deepaudio.losses._distillation import (
    cross_entropy_by_draws,
    gaussian_regularized_kl,
    logistic_entropy,
)
from deepaudio.losses._logistic import (
    gaussian_nll,
    mixture_of_logistics_log_density,
    mixture_of_logistics_nll,
)
from deepaudio.losses._spectral import power_loss, spectral_loss, style_loss
from deepaudio.losses._transcription import (
    onset_velocity_loss,
    weighted_binary_cross_entropy,
)

__all__ = [
    "cross_entropy_by_draws",
    "ctc_loss",
    "gaussian_nll",
    "gaussian_regularized_kl",
    "logistic_entropy",
    "mixture_of_logistics_log_density",
    "mixture_of_logistics_nll",
    "onset_velocity_loss",
    "power_loss",
    "spectral_loss",
    "style_loss",
    "weighted_binary_cross_entropy",
]
