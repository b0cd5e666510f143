"""How good transcriptions, recognitions and voices are."""

from deepaudio.evaluation._recognition import score_texts
from deepaudio.evaluation._transcription import average_scores, score_notes
from deepaudio.evaluation._vocoding import (
    log_mel_distance,
    mel_cepstral_distortion,
    pesq_wide_band,
    pitch_errors,
    score_voice,
    stft_distance,
    stoi,
)

__all__ = [
    "average_scores",
    "log_mel_distance",
    "mel_cepstral_distortion",
    "pesq_wide_band",
    "pitch_errors",
    "score_notes",
    "score_texts",
    "score_voice",
    "stft_distance",
    "stoi",
]
