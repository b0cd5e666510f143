"""Beginnings of words and hot words, against looking through all of them."""

import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepaudio.data.alphabet import ENGLISH, Alphabet, english_bigrams
from deepaudio.decoding._automata import HotWords, Lexicon

BIGRAMS = english_bigrams()
CHARACTERS = Alphabet(tuple("abc"), "")
WORDS = st.lists(st.text("abc", max_size=5), max_size=12, unique=True)


def walk(automaton, state, text, alphabet):
    for unit in alphabet.encode(text):
        (state,) = automaton.after(np.array([state]), np.array([unit]))
    return state


@settings(max_examples=50, deadline=None)
@given(words=WORDS, text=st.text("abc ", max_size=8), alphabet=st.sampled_from([ENGLISH, BIGRAMS]))
def test_the_best_of_the_words_that_begin_so(words, text, alphabet):
    log_probs = -np.arange(1.0, len(words) + 1)
    lexicon = Lexicon(words, log_probs, alphabet)
    begun = text.rpartition(" ")[2]
    likely = [
        p for word, p in zip(words, log_probs, strict=True) if word.startswith(begun) and word
    ]
    state = walk(lexicon, Lexicon.ROOT, text, alphabet)
    assert lexicon.best[state] == max(likely, default=-np.inf)
    assert (state == Lexicon.ROOT) == (not begun)
    assert (state == Lexicon.DEAD) == bool(begun and not likely)


def test_words_that_cannot_be_written_are_left_out():
    lexicon = Lexicon(["über", "a" * 49, "a", "abé"], np.array([-1.0, -1.0, -2.0, -1.0]), ENGLISH)
    assert lexicon.best[walk(lexicon, Lexicon.ROOT, "a", ENGLISH)] == -2.0
    assert walk(lexicon, Lexicon.ROOT, "ab", ENGLISH) == Lexicon.DEAD


def test_many_states_and_threads():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(500)]
    words = sorted(set(words))
    lexicon = Lexicon(words, np.zeros(len(words)), ENGLISH)
    wrong = []

    def look_up():
        wrong.extend(word for word in words if walk(lexicon, Lexicon.ROOT, word, ENGLISH) == 0)

    threads = [threading.Thread(target=look_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


PHRASES = st.dictionaries(
    st.text("ab", min_size=1, max_size=3) | st.sampled_from(["a b", "b a b"]),
    st.floats(-3, 3),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(
    weights=PHRASES,
    words=st.lists(st.text("abc", min_size=1, max_size=4), max_size=5),
    alphabet=st.sampled_from([ENGLISH, BIGRAMS]),
)
@example(weights={"a b": 1.0, "bb": 3.0}, words=["a", "b"], alphabet=ENGLISH)
def test_hot_words_and_their_beginnings(weights, words, alphabet):
    text = " ".join(words)
    hot_words = HotWords(weights, alphabet)
    state, total = hot_words.start, 0.0
    for unit in alphabet.encode(text):
        state = walk(hot_words, state, alphabet.units[unit - 1], alphabet)
        total += hot_words.found[state]
    marked = f" {text} "
    hoped = 0.0
    for phrase, weight in weights.items():
        # How much of the phrase, from a boundary of words on, is at the end of the text.
        for written in range(1, len(phrase) + 1):
            if f" {text}".endswith(f" {phrase[:written]}"):
                hoped = max(hoped, weight * written / len(phrase))
    assert hot_words.hoped[state] == pytest.approx(hoped)
    total += hot_words.found[walk(hot_words, state, " ", alphabet)] if text else 0.0
    expected = sum(
        weight * sum(marked.startswith(f" {phrase} ", place) for place in range(len(marked)))
        for phrase, weight in weights.items()
    )
    assert total == pytest.approx(expected)


def test_hot_words_anywhere_without_a_separator():
    hot_words = HotWords({"ab": 2.0, "abc": 3.0, "b": 0.5}, CHARACTERS)
    found, hoped, state = [], [], hot_words.start
    for char in "ababc":
        state = walk(hot_words, state, char, CHARACTERS)
        found.append(float(hot_words.found[state]))
        hoped.append(float(hot_words.hoped[state]))
    assert found == [0, 2.5, 0, 2.5, 3.0]
    # What was found is no longer hoped for, but what may be longer is.
    assert hoped == [1, 2, 1, 2, 0]
