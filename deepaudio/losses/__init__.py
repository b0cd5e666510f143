"""Loss functions."""

from deepaudio.losses._transcription import (
    onset_velocity_loss,
    weighted_binary_cross_entropy,
)

__all__ = ["onset_velocity_loss", "weighted_binary_cross_entropy"]
