"""Loss functions."""

from deepaudio.losses._ctc import ctc_loss
from deepaudio.losses._transcription import (
    onset_velocity_loss,
    weighted_binary_cross_entropy,
)

__all__ = ["ctc_loss", "onset_velocity_loss", "weighted_binary_cross_entropy"]
