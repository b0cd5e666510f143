"""From the probabilities of a model to notes and words."""

from deepaudio.decoding._notes import RollsLike, decode_notes

__all__ = ["RollsLike", "decode_notes"]
