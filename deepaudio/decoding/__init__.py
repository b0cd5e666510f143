"""From the probabilities of a model to notes and words."""

from deepaudio.decoding._alignment import (
    Alignment,
    Segment,
    align,
    align_words,
    good_segments,
    split_at_pauses,
)
from deepaudio.decoding._arpa import read_arpa, write_arpa
from deepaudio.decoding._beam_search import BeamSearch
from deepaudio.decoding._beam_stream import BeamStream
from deepaudio.decoding._ctc import Transcript, Word, ctc_greedy
from deepaudio.decoding._grid_search import WeightChoice, choose_weights
from deepaudio.decoding._kenlm import KenlmModel, load_language_model
from deepaudio.decoding._kneser_ney import train_kneser_ney
from deepaudio.decoding._ngram import LanguageModel, NgramModel
from deepaudio.decoding._notes import RollsLike, decode_notes

__all__ = [
    "Alignment",
    "BeamSearch",
    "BeamStream",
    "KenlmModel",
    "LanguageModel",
    "NgramModel",
    "RollsLike",
    "Segment",
    "Transcript",
    "WeightChoice",
    "Word",
    "align",
    "align_words",
    "choose_weights",
    "ctc_greedy",
    "decode_notes",
    "good_segments",
    "load_language_model",
    "read_arpa",
    "split_at_pauses",
    "train_kneser_ney",
    "write_arpa",
]
