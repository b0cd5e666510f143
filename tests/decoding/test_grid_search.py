"""The choice of the weights of a beam search."""

import numpy as np
import pytest

from deepaudio.data.alphabet import Alphabet
from deepaudio.decoding import BeamSearch, choose_weights, train_kneser_ney

LETTERS = Alphabet((" ", "a", "b"))


def share_wrong(references, texts):
    assert len(references) == len(texts)
    wrong = sum(a != b for a, b in zip(references, texts, strict=True))
    return wrong / len(references)


@pytest.fixture
def search():
    return BeamSearch(LETTERS, train_kneser_ney([["ab"]] * 9, order=1), unknown_penalty=0.0)


@pytest.fixture
def recordings():
    """One that the language model alone gets right, one that it gets wrong if it is too strong."""
    rows = np.array(
        [
            [[0.02, 0.02, 0.94, 0.02], [0.02, 0.02, 0.5, 0.46]],
            [[0.02, 0.02, 0.94, 0.02], [0.96, 0.01, 0.02, 0.01]],
        ]
    )
    return list(zip(np.log(rows), ["ab", "a"], strict=True))


def test_takes_the_pair_with_the_fewest_errors(search, recordings):
    found = choose_weights(
        search, recordings, share_wrong, alphas=[0.0, 0.5, 4.0], betas=[0.0, 0.5]
    )
    pairs = [(row["alpha"], row["beta"]) for row in found.table]
    assert pairs == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5), (4.0, 0.0), (4.0, 0.5)]
    rates = []
    for alpha, beta in pairs:
        weighted = search.with_weights(alpha=alpha, beta=beta)
        texts = [weighted.decode(x, frame_seconds=1.0)[0].text for x, _ in recordings]
        rates.append(share_wrong(["ab", "a"], texts))
    assert [row["error_rate"] for row in found.table] == rates
    assert rates[0] == 0.5 and rates[2] == 0.0 and rates[4] == 0.5
    assert (found.alpha, found.beta, found.error_rate) == (0.5, 0.0, 0.0)


def test_nothing_to_choose_from_is_told(search, recordings):
    with pytest.raises(ValueError, match="no recording"):
        choose_weights(search, [], share_wrong, alphas=[1.0], betas=[1.0])
    with pytest.raises(ValueError, match=r"alphas=\[\] and betas=\[1.0\]"):
        choose_weights(search, recordings, share_wrong, alphas=[], betas=[1.0])
    with pytest.raises(ValueError, match="alpha=-1"):
        choose_weights(search, recordings, share_wrong, alphas=[-1], betas=[1.0])
