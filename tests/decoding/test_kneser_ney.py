"""Kneser-Ney smoothing, against its definition (Chen and Goodman 1999, section 3)."""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.decoding import train_kneser_ney
from deepaudio.decoding._kneser_ney import discounts_of

SENTENCES = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=12)


def probability(model, history, word):
    state = model.start()
    for earlier in history:
        _, state = model.score(state, earlier)
    log_prob = model.finish(state) if word == "</s>" else model.score(state, word)[0]
    return np.exp(log_prob)


class Definition:
    """The smoothing by dictionaries, straight from the formulas."""

    def __init__(self, sentences, order, prune):
        self.order, self.prune = order, prune
        self.vocabulary = {word for sentence in sentences for word in sentence}
        self.vocabulary |= {"</s>", "<unk>"}
        padded = [("<s>", *sentence, "</s>") for sentence in sentences]
        self.raw = Counter(
            s[i : i + n] for s in padded for n in range(1, order + 1) for i in range(len(s) - n + 1)
        )
        self.counts = {}
        for gram, count in self.raw.items():
            if len(gram) < order and gram[0] != "<s>":
                # How many different words come before it.
                count = sum(longer[1:] == gram for longer in self.raw)
            self.counts[gram] = count
        del self.counts[("<s>",)]
        self.discounts = {
            n: discounts_of(np.array([c for g, c in self.counts.items() if len(g) == n], np.int64))
            for n in range(1, order + 1)
        }

    def __call__(self, history, word):
        history = ("<s>", *history)[-(self.order - 1) :] if self.order > 1 else ()
        return self._smoothed(tuple(history), word)

    def _smoothed(self, history, word):
        n = len(history) + 1
        following = {g: c for g, c in self.counts.items() if len(g) == n and g[:-1] == history}
        total = sum(following.values())
        shorter = 1 / len(self.vocabulary) if n == 1 else None
        if not total:
            return self._smoothed(history[1:], word)
        kept, freed = 0.0, 0.0
        for gram, count in following.items():
            discount = self.discounts[n][min(count, 3)]
            if self.raw[gram] <= self.prune[n - 1]:
                discount = count
            freed += discount
            if gram[-1] == word:
                kept = count - discount
        if shorter is None:
            shorter = self._smoothed(history[1:], word)
        return kept / total + freed / total * shorter


@settings(max_examples=30, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 4), prune=st.sampled_from([(0,), (0, 0, 1)]))
def test_equals_the_definition(sentences, order, prune):
    prune = prune[:order]
    model = train_kneser_ney(sentences, order=order, prune=prune)
    thresholds = (*prune, *[prune[-1]] * 4)
    definition = Definition(sentences, order, thresholds)
    histories = [h for n in range(3) for h in itertools.product("ab", repeat=n)]
    for history in histories:
        for word in [*model.words, "</s>", "<unk>"]:
            expected = definition(history, word)
            assert probability(model, history, word) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    sentences=SENTENCES,
    order=st.integers(1, 4),
    prune=st.sampled_from([(), (0, 1), (0, 0, 2)]),
    vocabulary=st.sampled_from([None, ["a", "b"], ["a", "b", "c", "d", "e"]]),
    history=st.lists(st.sampled_from("abcde"), max_size=5),
)
def test_probabilities_after_every_history_sum_to_one(sentences, order, prune, vocabulary, history):
    model = train_kneser_ney(sentences, order=order, prune=prune[:order], vocabulary=vocabulary)
    words = [*model.words, "<unk>", "</s>"]
    found = [probability(model, history, word) for word in words]
    assert sum(found) == pytest.approx(1, abs=1e-5)
    assert min(found) > 0


def test_a_case_done_by_hand():
    """The sentences "a b" and "a", as bigrams.

    <s> a is there twice, a b, b </s> and a </s> once. The counts of counts cannot tell, so the
    discounts are 0.5, 1 and 1.5. a comes after <s> alone, b after a alone, </s> after a and b: of
    4 different bigrams. D takes 0.5 of a and b and 1 of </s>, 2 of 4 in all, which the uniform
    distribution over a, b, </s> and <unk> has.
    """
    model = train_kneser_ney(["ab", "a"], order=2)
    half, eighth = Fraction(1, 2), Fraction(1, 8)
    unigram = {"a": half / 4 + eighth, "b": half / 4 + eighth, "<unk>": eighth}
    unigram["</s>"] = Fraction(1, 4) + eighth
    assert sum(unigram.values()) == 1
    # After a: b and </s>, once each, are discounted by 0.5 each, a half of all.
    after_a = {word: half * p for word, p in unigram.items()}
    after_a["b"] += Fraction(1, 4)
    after_a["</s>"] += Fraction(1, 4)
    # After <s>: a, twice, less 1.
    at_start = {word: half * p for word, p in unigram.items()}
    at_start["a"] += half
    for word in unigram:
        assert probability(model, "", word) == pytest.approx(float(at_start[word]), rel=1e-6)
        assert probability(model, "a", word) == pytest.approx(float(after_a[word]), rel=1e-6)
    assert np.exp(model.unigrams()) == pytest.approx([0.25, 0.25], rel=1e-6)


def test_discounts_are_those_of_the_formula():
    # n1..n4 = 10, 6, 4, 2; Y = 10 / 22.
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 10, 6, 4, 2, 3])
    y = 10 / 22
    expected = [0, 1 - 2 * y * 6 / 10, 2 - 3 * y * 4 / 6, 3 - 4 * y * 2 / 4]
    assert discounts_of(counts) == pytest.approx(expected)


@pytest.mark.parametrize("counts", [[], [1, 1, 1], [1, 2, 3, 3, 3, 3, 3, 4]])
def test_discounts_of_small_corpora_are_the_usual_ones(counts):
    assert discounts_of(np.array(counts, np.int64)).tolist() == [0, 0.5, 1, 1.5]


def test_words_out_of_the_vocabulary_count_as_unknown():
    known = train_kneser_ney([["a", "x"], ["a", "y"]], order=2, vocabulary=["a"])
    marked = train_kneser_ney([["a", "<unk>"], ["a", "<unk>"]], order=2)
    assert known.words == marked.words == ("a",)
    for history in ([], ["a"], ["x"]):
        for word in ("a", "x", "</s>"):
            assert probability(known, history, word) == probability(marked, history, word)
    assert "a" in known and "x" not in known and "<unk>" not in known


def test_pruning_leaves_out_rare_ngrams():
    sentences = [["a", "b"]] * 3 + [["b", "a"]]
    grams = train_kneser_ney(sentences, order=3).grams
    pruned = train_kneser_ney(sentences, order=3, prune=(0, 1)).grams
    assert [len(table.keys) for table in grams] == [5, 6, 4]
    # <s> a, a b and b </s>; <s> a b and a b </s>.
    assert [len(table.keys) for table in pruned] == [5, 3, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sentences": []}, "no sentence"),
        ({"order": 0}, "order=0 must be at least 1"),
        ({"prune": (1,)}, r"prune=\(1,\) must begin with 0"),
        ({"prune": (0, 2, 1)}, r"prune=\(0, 2, 1\)"),
        ({"prune": (0, 0, 0, 0)}, r"prune=\(0, 0, 0, 0\)"),
        ({"sentences": [["a", "</s>"]]}, "cannot be words of a sentence"),
        ({"sentences": [["a", "<s>", "b"]]}, "cannot be words of a sentence"),
        ({"sentences": ["a b"]}, "' ' cannot be a word"),
        ({"sentences": [["a", ""]]}, "'' cannot be a word"),
    ],
)
def test_wrong_input_is_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_kneser_ney(**{"sentences": ["ab"], **arguments})
