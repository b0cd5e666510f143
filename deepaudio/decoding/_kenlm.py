"""KenLM's models, where the optional package `kenlm` is installed; and what opens any model."""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepaudio.decoding._arpa import arpa_words, read_arpa
from deepaudio.decoding._ngram import END, SPECIAL, UNKNOWN, LanguageModel, NgramModel

_TEN = math.log(10)
_ARPA = (".arpa", ".arpa.gz", ".lm", ".lm.gz")


class KenlmModel:
    """A model that KenLM reads; a `LanguageModel`."""

    def __init__(self, path: Path | str, *, words: Sequence[str] = (), upper_case: bool = False):
        """Opens the model.

        Args:
            path: An ARPA file, or a file of KenLM's `build_binary`.
            words: The vocabulary, which KenLM does not tell; without it a beam search cannot see
                whether the word it is writing may become one of the model's.
            upper_case: The model's words are in capitals: every word is looked up so.

        Raises:
            ImportError: The package `kenlm` is not installed.
            ValueError: KenLM cannot read the file.
            FileNotFoundError: There is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no language model {path}")
        self._kenlm = _import_kenlm()
        config = self._kenlm.Config()
        config.show_progress = False
        config.arpa_complain = self._kenlm.ARPALoadComplain.NONE
        try:
            self._model = self._kenlm.Model(str(path), config)
        except (OSError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{path} holds no language model: {reason}") from None
        self._upper_case = upper_case
        self.words = tuple(words)

    def __contains__(self, word: str) -> bool:
        word = self._spelled(word)
        return word not in SPECIAL and word in self._model

    def start(self) -> Any:
        """The state at the beginning of a sentence."""
        state = self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """Natural logarithm of the probability of one more word, and the state after it."""
        after = self._kenlm.State()
        # KenLM gives </s> and <s> the probabilities that they have as such.
        word = self._spelled(word) if word in self else UNKNOWN
        return self._model.BaseScore(state, word, after) * _TEN, after

    def finish(self, state: Any) -> float:
        """Natural logarithm of the probability that the sentence ends here."""
        return self._model.BaseScore(state, END, self._kenlm.State()) * _TEN

    def unigrams(self) -> np.ndarray:
        """(len(words),) float64 log probability of every word without what came before it."""
        nothing = self._kenlm.State()
        self._model.NullContextWrite(nothing)
        return np.array([self.score(nothing, word)[0] for word in self.words])

    def _spelled(self, word):
        return word.upper() if self._upper_case else word


def load_language_model(path: Path | str, *, upper_case: bool = False) -> LanguageModel:
    """Opens a language model of any kind.

    Args:
        path: A .npz file of `NgramModel.save`; an ARPA file, `.arpa` or `.lm`, or either with
            `.gz` after it; any other name is a binary file of KenLM's, for which the package
            `kenlm` is needed. For an ARPA file it is used if it is installed.
        upper_case: The words of the ARPA or KenLM file are in capitals, as LibriSpeech's, and
            those to look up are not.

    Returns:
        The model.

    Raises:
        ImportError: The file is a binary one and `kenlm` is not installed.
        ValueError: The file is not what its name says.
        FileNotFoundError: There is no such file.
    """
    name = str(path)
    if name.endswith(".npz"):
        return NgramModel.load(path)
    if not name.endswith(_ARPA):
        return KenlmModel(path, upper_case=upper_case)
    try:
        _import_kenlm()
    except ImportError:
        return read_arpa(path, lower_case=upper_case)
    return KenlmModel(path, words=arpa_words(path, lower_case=upper_case), upper_case=upper_case)


def _import_kenlm() -> Any:
    try:
        return importlib.import_module("kenlm")
    except ImportError:
        raise ImportError(
            "this language model needs the package kenlm: pip install kenlm"
        ) from None
