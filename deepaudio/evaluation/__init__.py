"""How good transcriptions, recognitions and voices are."""

from deepaudio.evaluation._recognition import score_texts
from deepaudio.evaluation._transcription import average_scores, score_notes

__all__ = ["average_scores", "score_notes", "score_texts"]
