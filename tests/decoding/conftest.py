"""What several tests of transcripts need: all paths of CTC outputs, one by one."""

import itertools

import numpy as np
import pytest


def read(path, alphabet):
    """The text that a path of outputs reads as, by CTC's rule; spaces in a row are one."""
    text = "".join(alphabet.units[unit - 1] for unit, _ in itertools.groupby(path) if unit)
    return " ".join(text.split()) if alphabet.word_separator else text


@pytest.fixture(scope="session")
def all_paths():
    """`all_paths(log_probs, alphabet)` yields text, log probability and outputs of every path."""

    def paths(log_probs, alphabet):
        frames, symbols = log_probs.shape
        for path in itertools.product(range(symbols), repeat=frames):
            yield read(path, alphabet), sum(log_probs[np.arange(frames), path]), path

    return paths


@pytest.fixture(scope="session")
def random_log_probs():
    """`random_log_probs(seed, frames, symbols)` gives log probabilities."""

    def make(seed, frames, symbols, spread=2.0):
        logits = spread * np.random.default_rng(seed).standard_normal((frames, symbols))
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    return make
