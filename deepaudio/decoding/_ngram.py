"""N-gram language models with backoff: queries, and a compact file that loads at once."""

import math
import zipfile
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
# The first words of every vocabulary, so that their numbers are the same in all.
SPECIAL = (UNKNOWN, BEGIN, END)
_UNKNOWN, _BEGIN, _END = range(len(SPECIAL))
# What KenLM gives an unknown word where the model has no <unk>; base 10, as in ARPA files.
MISSING_UNKNOWN = -100.0
_FORMAT = 1
# States and words remembered before all are forgotten, about 200 MB.
_MOST_REMEMBERED = 1_000_000


class LanguageModel(Protocol):
    """What a beam search asks of a language model. Logarithms are natural."""

    @property
    def words(self) -> Sequence[str]:
        """The vocabulary without <unk>, <s> and </s>; empty if the model cannot tell."""
        ...

    def start(self) -> Hashable:
        """The state at the beginning of a sentence."""
        ...

    def score(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        """Log probability of `word` (of <unk> if not in the vocabulary), and the state after it."""
        ...

    def finish(self, state: Hashable) -> float:
        """Log probability that the sentence ends here."""
        ...

    def unigrams(self) -> np.ndarray:
        """(len(words),) log probability of every word without what came before it."""
        ...

    def __contains__(self, word: str) -> bool:
        """Whether the word is in the vocabulary."""
        ...


class Grams(NamedTuple):
    """All n-grams of one order n, by key.

    Attributes:
        keys: (N,) int64, increasing: the number of the n-gram's first n - 1 words among the
            (n - 1)-grams, times the size of the vocabulary, plus the number of its last word. A
            1-gram's number is its word's.
        log_probs: (N,) float32 natural logarithm of the last word's probability after the others;
            NaN if the n-gram only stands here as a context of longer ones.
        backoffs: (N,) float32 natural logarithm of what the probability of a word after these n
            is multiplied with if there is no (n + 1)-gram for it.
    """

    keys: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray


class NgramModel:
    """A backoff n-gram model; a `LanguageModel`.

    A state is a tuple whose k-th number is that of the last k words among the k-grams, or -1.
    """

    def __init__(self, vocabulary: Sequence[str], grams: Sequence[Grams]):
        """Builds the model of its tables.

        Args:
            vocabulary: Beginning with <unk>, <s> and </s>.
            grams: For each order from 1; that of order 1 holds every word.

        Raises:
            ValueError: The tables do not fit the vocabulary or each other.
        """
        _check(vocabulary, grams)
        self.vocabulary = tuple(vocabulary)
        self.grams = tuple(grams)
        self._numbers = {word: number for number, word in enumerate(self.vocabulary)}
        # Plain views: to index one costs a fifth of what indexing an array does.
        self._keys = [memoryview(np.ascontiguousarray(table.keys, np.int64)) for table in grams]
        self._log_probs = [
            memoryview(np.ascontiguousarray(table.log_probs, np.float32)) for table in grams
        ]
        self._backoffs = [
            memoryview(np.ascontiguousarray(table.backoffs, np.float32)) for table in grams
        ]
        self._remembered: dict = {}

    def __reduce__(self):
        """As its tables, which another process builds it of again: views cannot be pickled."""
        return type(self), (self.vocabulary, self.grams)

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        return len(self.grams)

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary without <unk>, <s> and </s>."""
        return self.vocabulary[len(SPECIAL) :]

    def __contains__(self, word: str) -> bool:
        return self._numbers.get(word, _UNKNOWN) >= len(SPECIAL)

    def start(self) -> tuple[int, ...]:
        """The state at the beginning of a sentence."""
        return (_BEGIN,) if self.order > 1 else ()

    def score(self, state: tuple[int, ...], word: str) -> tuple[float, tuple[int, ...]]:
        """Scores one more word.

        Args:
            state: As `start` or this function gave it.
            word: One that is not in the vocabulary counts as <unk>.

        Returns:
            Natural logarithm of its probability, and the state after it.
        """
        number = self._numbers.get(word, _UNKNOWN)
        return self._score(state, number if number >= len(SPECIAL) else _UNKNOWN)

    def finish(self, state: tuple[int, ...]) -> float:
        """Natural logarithm of the probability that the sentence ends here."""
        return self._score(state, _END)[0]

    def unigrams(self) -> np.ndarray:
        """(len(words),) float32 log probability of every word without what came before it."""
        return np.asarray(self.grams[0].log_probs[len(SPECIAL) :])

    def _score(self, state, word):
        remembered = self._remembered
        found = remembered.get((state, word))
        if found is None:
            if len(remembered) >= _MOST_REMEMBERED:
                remembered.clear()
            found = remembered[state, word] = self._look_up(state, word)
        return found

    def _look_up(self, state, word):
        log_prob = self._log_probs[0][word]
        longer, size, order = [word], len(self.vocabulary), len(self.grams)
        for length, context in enumerate(state):
            place = -1
            if context >= 0:
                place = self._find(length + 1, context * size + word)
                longest = math.nan if place < 0 else self._log_probs[length + 1][place]
                if math.isnan(longest):
                    log_prob += self._backoffs[length][context]
                else:
                    log_prob = longest
            longer.append(place)
        del longer[order - 1 :]
        while longer and longer[-1] < 0:
            longer.pop()
        return log_prob, tuple(longer)

    def _find(self, order, key):
        keys = self._keys[order]
        place = bisect_left(keys, key)
        return place if place < len(keys) and keys[place] == key else -1

    def save(self, path: Path | str, *, half_precision: bool = False) -> None:
        """Writes a compressed .npz file that `load` reads.

        Args:
            path: The file to write; its folder must be there.
            half_precision: Keeps probabilities to three decimal digits, in two thirds of the size.
        """
        dtype = np.float16 if half_precision else np.float32
        arrays = {
            "format": np.array(_FORMAT),
            "vocabulary": np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8),
            "order": np.array(self.order),
        }
        size = len(self.vocabulary)
        for order, table in enumerate(self.grams, start=1):
            if order > 1:
                contexts, words = np.divmod(table.keys, size)
                counts = np.bincount(contexts, minlength=len(self.grams[order - 2].keys))
                arrays[f"words_{order}"] = _smallest(words)
                arrays[f"counts_{order}"] = _smallest(counts)
            arrays[f"log_probs_{order}"] = table.log_probs.astype(dtype)
            if order < self.order:
                arrays[f"backoffs_{order}"] = table.backoffs.astype(dtype)
        # By a handle, or numpy would add .npz to a name that lacks it.
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> "NgramModel":
        """Reads what `save` wrote.

        Raises:
            ValueError: The file is not such a file.
        """
        try:
            with np.load(path) as stored:
                arrays = dict(stored)
            if int(arrays["format"]) != _FORMAT:
                raise ValueError(f"its format is {arrays['format']}, not {_FORMAT}")
            vocabulary = arrays["vocabulary"].tobytes().decode().split("\n")
            grams: list[Grams] = []
            for order in range(1, int(arrays["order"]) + 1):
                grams.append(_unpack(arrays, order, len(vocabulary), grams))
            return cls(vocabulary, grams)
        except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no language model: {error}") from None


def build(vocabulary: Iterable[str], tables: Sequence[tuple]) -> NgramModel:
    """Builds a model of n-grams in any order.

    Args:
        vocabulary: Words besides <unk>, <s> and </s>, which come first.
        tables: For each order n from 1: (N, n) word numbers, (N,) natural log probabilities and
            (N,) natural log backoffs. Words without a 1-gram have no probability at all; <unk>
            has the logarithm 10 to the power of -100.

    Returns:
        The model. A context that is no n-gram itself is added as one without a probability.
    """
    vocabulary = [*SPECIAL, *vocabulary]
    size = len(vocabulary)
    log_probs = np.full(size, -np.inf)
    log_probs[_UNKNOWN] = MISSING_UNKNOWN * math.log(10)
    backoffs = np.zeros(size)
    grams, found = [], np.arange(size)
    # From the longest down: what an order needs as contexts is known when it is reached.
    needed: list[np.ndarray] = [np.zeros((0, len(tables)), np.int64)]
    for words, _, _ in reversed(tables[1:]):
        needed.append(np.unique(np.concatenate([words[:, :-1], needed[-1][:, :-1]]), axis=0))
    words, values, weights = tables[0]
    log_probs[words[:, 0]], backoffs[words[:, 0]] = values, weights
    grams.append(Grams(found, log_probs.astype(np.float32), backoffs.astype(np.float32)))
    for order, (words, values, weights) in enumerate(tables[1:], start=2):
        extra = needed[len(tables) - order]
        words = np.concatenate([words, extra])
        keys = words[:, 0]
        for n, table in enumerate(grams, start=1):
            contexts = np.searchsorted(table.keys, keys) if n > 1 else keys
            keys = contexts * size + words[:, n]
        values = np.concatenate([values, np.full(len(extra), np.nan)])
        weights = np.concatenate([weights, np.zeros(len(extra))])
        # The first of equals stays, which is never the one that was added.
        keys, chosen = np.unique(keys, return_index=True)
        grams.append(
            Grams(keys, values[chosen].astype(np.float32), weights[chosen].astype(np.float32))
        )
    return NgramModel(vocabulary, grams)


def _check(vocabulary, grams):
    if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
        raise ValueError(f"a vocabulary begins with {SPECIAL}, not {tuple(vocabulary[:3])}")
    if len(set(vocabulary)) != len(vocabulary):
        raise ValueError("a word stands twice in the vocabulary")
    if not grams or len(grams[0].keys) != len(vocabulary):
        raise ValueError(f"1-grams are needed for all {len(vocabulary)} words")
    for order, table in enumerate(grams, start=1):
        if not len(table.keys) == len(table.log_probs) == len(table.backoffs):
            raise ValueError(f"the {order}-grams' arrays are not of one length")
        bound = len(grams[order - 2].keys) * len(vocabulary) if order > 1 else len(vocabulary)
        keys = table.keys
        if len(keys) and not (keys[0] >= 0 and keys[-1] < bound and np.all(keys[1:] > keys[:-1])):
            raise ValueError(f"the {order}-grams' keys do not increase within 0 and {bound}")


def _unpack(arrays, order, size, grams) -> Grams:
    """The n-grams of an order out of a file's arrays."""
    if order == 1:
        keys = np.arange(size)
    else:
        contexts = np.repeat(np.arange(len(grams[-1].keys)), arrays[f"counts_{order}"])
        keys = contexts * size + arrays[f"words_{order}"]
    log_probs = arrays[f"log_probs_{order}"].astype(np.float32)
    backoffs = arrays.get(f"backoffs_{order}", np.zeros(len(keys))).astype(np.float32)
    return Grams(keys, log_probs, backoffs)


def _smallest(numbers: np.ndarray) -> np.ndarray:
    """The numbers, of the smallest unsigned type that holds them."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))
