"""How good transcriptions, recognitions and voices are."""

from deepaudio.evaluation._transcription import average_scores, score_notes

__all__ = ["average_scores", "score_notes"]
