"""Training of n-gram models by interpolated modified Kneser-Ney smoothing (Chen, Goodman 1999)."""

import array
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from deepaudio.decoding._ngram import BEGIN, END, SPECIAL, Grams, NgramModel

_UNKNOWN, _BEGIN, _END = range(len(SPECIAL))
# Where a corpus is too small to tell, what KenLM's lmplz --discount_fallback takes.
_USUAL_DISCOUNTS = np.array([0.0, 0.5, 1.0, 1.5])


class _Counts(NamedTuple):
    """The n-grams of one order, sorted by key as in `Grams`.

    Attributes:
        keys: (N,) int64.
        raw: (N,) int64 how often each occurs.
        adjusted: (N,) int64 what Kneser-Ney smoothing takes for its count.
        suffixes: (N,) int64 number of the last n - 1 words among the (n - 1)-grams.
    """

    keys: np.ndarray
    raw: np.ndarray
    adjusted: np.ndarray
    suffixes: np.ndarray


def train_kneser_ney(
    sentences: Iterable[Iterable[str]],
    *,
    order: int = 3,
    vocabulary: Collection[str] | None = None,
    prune: Sequence[int] = (),
) -> NgramModel:
    """Trains a backoff model by interpolated modified Kneser-Ney smoothing.

    With c the count, h the words before w and h' the same without the first,

        p(w | h) = max(c(hw) - D(c(hw)), 0) / sum_v c(hv) + gamma(h) p(w | h'),

    where gamma(h) makes the sum over w one. For orders below the highest the count of an n-gram is
    the number of different words that come before it, unless it begins with <s>. D is D1, D2 or
    D3+, for each order from its counts of counts (Chen and Goodman 1999, section 3); an order in
    which these cannot tell takes 0.5, 1 and 1.5. The 1-grams are interpolated with the uniform
    distribution over the words, </s> and <unk>, so that <unk> has a probability even if every
    word is in the vocabulary.

    Args:
        sentences: Each a list of words. A string is a list of its characters.
        order: Length of the longest n-grams, 1 or more.
        vocabulary: Words to know; all others, and "<unk>", count as <unk>. None for all words.
        prune: For each order from 1, the most occurrences with which an n-gram is left out; the
            last stands for all longer ones too. The first must be 0: choose words by `vocabulary`.

    Returns:
        The model, its vocabulary sorted.

    Raises:
        ValueError: There is no sentence, a word is <s> or </s>, is empty or holds white space, or
            `order` or `prune` cannot be used.
    """
    thresholds = _check(order, prune)
    words, tokens = _encode(sentences, vocabulary)
    size = len(SPECIAL) + len(words)
    tables = _count(tokens, size, order)
    return NgramModel([*SPECIAL, *words], _smooth(tables, size, thresholds))


def _check(order: int, prune: Sequence[int]) -> list[int]:
    """The pruning thresholds of all orders."""
    if order < 1:
        raise ValueError(f"{order=} must be at least 1")
    thresholds = [*prune] or [0]
    thresholds += [thresholds[-1]] * (order - len(thresholds))
    rising = all(a <= b for a, b in zip(thresholds[:-1], thresholds[1:], strict=True))
    if len(thresholds) > order or thresholds[0] != 0 or not rising:
        raise ValueError(f"{prune=} must begin with 0 and not fall, with one for each {order=}")
    return thresholds


def _encode(sentences, vocabulary) -> tuple[list[str], np.ndarray]:
    """Sorted words, and all sentences in numbers: <s>, words, </s>, one after the other."""
    numbers: dict[str, int] = {word: number for number, word in enumerate(SPECIAL)}
    if vocabulary is not None:
        for word in vocabulary:
            numbers.setdefault(word, len(numbers))
    tokens, count = array.array("q"), 0
    for sentence in sentences:
        count += 1
        tokens.append(_BEGIN)
        if vocabulary is None:
            tokens.extend([numbers.setdefault(word, len(numbers)) for word in sentence])
        else:
            tokens.extend([numbers.get(word, _UNKNOWN) for word in sentence])
        tokens.append(_END)
    if not count:
        raise ValueError("there is no sentence to train on")
    found = np.frombuffer(tokens, np.int64)
    if any(np.count_nonzero(found == mark) > count for mark in (_BEGIN, _END)):
        raise ValueError(f"{BEGIN} and {END} cannot be words of a sentence")
    words = list(numbers)[len(SPECIAL) :]
    for word in words:
        if word.split() != [word]:
            raise ValueError(f"{word!r} cannot be a word")
    ranks = sorted(range(len(words)), key=words.__getitem__)
    renumbered = np.arange(len(numbers))
    renumbered[np.array(ranks, np.int64) + len(SPECIAL)] = np.arange(len(SPECIAL), len(numbers))
    return [words[rank] for rank in ranks], renumbered[found]


def _count(tokens: np.ndarray, size: int, order: int) -> list[_Counts]:
    """Counts all n-grams within sentences.

    Args:
        tokens: As `_encode` gives them.
        size: Of the vocabulary.
        order: Length of the longest n-grams.

    Returns:
        The counts of every order from 1.
    """
    ends = np.flatnonzero(tokens == _END)
    # Words from each place to the end of its sentence.
    left = ends[np.searchsorted(ends, np.arange(len(tokens)))] - np.arange(len(tokens)) + 1
    found = [(np.arange(size), np.bincount(tokens, minlength=size), np.arange(size), None)]
    numbers = tokens
    for n in range(2, order + 1):
        places = np.flatnonzero(left >= n)
        keys, first, inverse, raw = np.unique(
            numbers[places] * size + tokens[places + n - 1],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        found.append((keys, raw, tokens[places[first]], numbers[places[first] + 1]))
        # Numbers of other places than `places` stay those of shorter n-grams; nothing reads them.
        numbers = numbers.copy()
        numbers[places] = inverse
    tables = []
    for n, (keys, raw, first_words, suffixes) in enumerate(found, start=1):
        adjusted = raw
        if n < order:
            different = np.bincount(found[n][3], minlength=len(keys))
            adjusted = np.where(first_words == _BEGIN, raw, different)
        if n == 1:
            # <s> is never predicted.
            adjusted = np.where(keys == _BEGIN, 0, adjusted)
        tables.append(_Counts(keys, raw, adjusted, suffixes))
    return tables


def _smooth(tables: list[_Counts], size: int, thresholds: list[int]) -> list[Grams]:
    """Probabilities and backoffs of all orders, without the n-grams to prune."""
    grams: list[Grams] = []
    below = np.full(size, 1 / (size - 1))  # of all but <s>
    renumbered = np.arange(size)
    for n, (table, threshold) in enumerate(zip(tables, thresholds, strict=True), start=1):
        contexts = table.keys // size if n > 1 else np.zeros(size, np.int64)
        num_contexts = len(tables[n - 2].keys) if n > 1 else 1
        discounts = discounts_of(table.adjusted)[np.minimum(table.adjusted, 3)]
        kept = table.raw > threshold if n > 1 else np.ones(size, bool)
        totals = np.bincount(contexts, table.adjusted, num_contexts)
        freed = np.where(kept, discounts, table.adjusted)
        # A context that nothing follows leaves everything to the shorter one.
        gamma = np.ones(num_contexts)
        np.divide(np.bincount(contexts, freed, num_contexts), totals, out=gamma, where=totals > 0)
        lower = below[table.suffixes] if n > 1 else below
        probs = (table.adjusted - discounts) / totals[contexts] + gamma[contexts] * lower
        if n == 1:
            log_probs = np.log(probs)
            log_probs[_BEGIN] = -np.inf
            keys = table.keys
        else:
            grams[-1] = _with_backoffs(grams[-1], gamma, renumbered)
            log_probs = np.log(probs[kept])
            keys = renumbered[contexts[kept]] * size + table.keys[kept] % size
        grams.append(Grams(keys, log_probs.astype(np.float32), np.zeros(len(keys), np.float32)))
        below = probs
        renumbered = np.where(kept, np.cumsum(kept) - 1, -1)
    return grams


def _with_backoffs(grams: Grams, gamma: np.ndarray, renumbered: np.ndarray) -> Grams:
    backoffs = np.zeros(len(grams.keys), np.float32)
    backoffs[renumbered[renumbered >= 0]] = np.log(gamma[renumbered >= 0])
    return grams._replace(backoffs=backoffs)


def discounts_of(counts: np.ndarray) -> np.ndarray:
    """The discounts of modified Kneser-Ney smoothing.

    With n_k the number of n-grams that have the count k and Y = n_1 / (n_1 + 2 n_2), that of the
    count k is k - (k + 1) Y n_{k+1} / n_k.

    Args:
        counts: (N,) counts of an order's n-grams; those of zero play no part.

    Returns:
        (4,) float64 discounts of the counts 0, 1, 2 and 3 or more. If a discount is not above 0
        and at most its count, or some n_k is zero, all three are 0.5, 1 and 1.5.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(np.float64)
    if not n[1:].all():
        return _USUAL_DISCOUNTS
    k = np.arange(1, 4)
    found = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:] / n[1:4]
    if np.any(found <= 0):
        return _USUAL_DISCOUNTS
    return np.append(0.0, found)
