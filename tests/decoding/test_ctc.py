"""Best path decoding, and the times of words."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data.alphabet import ENGLISH, Alphabet, english_bigrams
from deepaudio.decoding import Transcript, ctc_greedy

MANDARIN = Alphabet(("你", "好", "吗"), "")


def spikes(outputs, alphabet=ENGLISH, probability=0.9):
    """Log probabilities with one likely output a frame: a unit, or "" for a blank."""
    numbers = [alphabet.units.index(unit) + 1 if unit else 0 for unit in outputs]
    rest = (1 - probability) / (len(alphabet) - 1)
    found = np.full((len(outputs), len(alphabet)), rest)
    found[np.arange(len(numbers)), numbers] = probability
    return np.log(found)


def greedy(outputs, alphabet=ENGLISH, **options):
    return ctc_greedy(spikes(outputs, alphabet), alphabet, **{"frame_seconds": 1.0, **options})


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (["a", "a", "", "a", "b"], "aab"),
        (["", "", ""], ""),
        ([" ", "", "a", " ", " ", "", " ", "b", " "], "a b"),
        ([" ", " "], ""),
        ([], ""),
    ],
)
def test_reads_by_ctcs_rule(outputs, text):
    found = greedy(outputs)
    assert found.text == text
    assert found.score == pytest.approx(len(outputs) * np.log(0.9))
    assert "".join(word.text for word in found.words) == text.replace(" ", "")
    assert len(found.times) == len(text)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(0, 12))
def test_equals_the_rule_written_out(seed, frames):
    alphabet = Alphabet((" ", "a", "b", "ab"))
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(5), frames))
    found = ctc_greedy(log_probs, alphabet, frame_seconds=1.0)
    text, before = "", 0
    for unit in log_probs.argmax(axis=1):
        if unit and unit != before:
            text += alphabet.units[unit - 1]
        before = unit
    assert found.text == " ".join(text.split())
    assert [word.text for word in found.words] == text.split()
    assert found.score == pytest.approx(log_probs.max(axis=1).sum())


def test_times_are_the_middles_of_the_runs():
    found = greedy(["", "a", "a", "a", "", "b", " ", "c"], frame_seconds=0.5, start=10.0)
    assert found.times == pytest.approx([11.25, 12.75, 13.25, 13.75])


def test_words_have_no_bias_if_spikes_have_none():
    """Characters of 7 to 13 frames with a spike in the middle, and spaces of as much.

    Begin and end of every word are then known.
    """
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        # Silence first, or the recording's begin would cut off that of words.
        outputs, truth = [""] * 10, []
        for word in ("speech", "is", "deep"):
            begin = len(outputs)
            for char in [*word, " "]:
                length = int(rng.choice([7, 9, 11, 13]))
                shape = [""] * length
                shape[length // 2] = char
                if char == " ":
                    truth.append((begin, len(outputs)))
                outputs += shape
        found = greedy(outputs)
        assert [word.text for word in found.words] == ["speech", "is", "deep"]
        errors += [
            (word.start - begin, word.end - end)
            for word, (begin, end) in zip(found.words, truth, strict=True)
        ]
    assert np.mean(errors, axis=0) == pytest.approx([0, 0], abs=0.2)
    assert np.std(errors) < 1.5


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), english=st.booleans())
def test_words_follow_each_other_within_the_recording(seed, english):
    rng = np.random.default_rng(seed)
    alphabet = ENGLISH if english else MANDARIN
    units = [" ", "a", "b"] if english else list(alphabet.units)
    outputs = rng.choice(["", *units], 30).tolist()
    found = greedy(outputs, alphabet)
    edges = [edge for word in found.words for edge in (word.start, word.end)]
    assert all(word.start < word.end for word in found.words)
    assert edges == sorted(edges)
    assert not edges or (edges[0] >= 0 and edges[-1] <= 30)
    place = 0
    for word in found.words:
        place = found.text.index(word.text, place)
        times = found.times[place : place + len(word.text)]
        assert word.start < times[0] and times[-1] < word.end
        place += len(word.text)


def test_characters_are_words_without_a_separator():
    found = greedy(["你", "", "", "", "好", "", "", "", "吗"], MANDARIN)
    assert found.text == "你好吗"
    assert [word.text for word in found.words] == ["你", "好", "吗"]
    assert [word.start for word in found.words] == pytest.approx([0, 2.5, 6.5])
    assert [word.end for word in found.words] == pytest.approx([2.5, 6.5, 9])


def test_pairs_share_a_time():
    found = greedy(["th", "", "e"], english_bigrams())
    assert found.text == "the" and len(found.words) == 1
    assert found.times == pytest.approx([0.5, 0.5, 2.5])


def test_confidence_is_the_geometric_mean_of_the_highest_probabilities():
    log_probs = np.concatenate(
        [spikes(["a"], probability=p) for p in (0.5, 0.8, 0.6)]
        + [spikes(["b"], probability=0.45), spikes([" "]), spikes(["c"], probability=0.99)]
    )
    found = ctc_greedy(log_probs, ENGLISH, frame_seconds=1.0)
    assert [word.confidence for word in found.words] == pytest.approx([(0.8 * 0.45) ** 0.5, 0.99])


def test_takes_jax_half_precision_and_certainty():
    log_probs = jnp.where(jnp.asarray(spikes(["a", "", "b"])) > -1, 0.0, -jnp.inf)
    found = ctc_greedy(log_probs.astype(jnp.float16), ENGLISH, frame_seconds=1.0)
    assert isinstance(found, Transcript)
    assert (found.text, found.score, found.words[0].confidence) == ("ab", 0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 1:], r"log_probs must be \(frames, 29\), not \(3, 28\)"),
        (lambda x: x[0], r"not \(29,\)"),
        (lambda x: x * np.where(np.arange(3) == 1, np.nan, 1)[:, None], r"log_probs\[1, 0\]=nan"),
        (lambda x: -x, r"log_probs\[0, 0\]=5.6.* is no log probability"),
        (lambda x: np.full_like(x, -np.inf), r"log_probs\[0\] is -inf for every symbol"),
    ],
)
def test_what_are_no_log_probabilities_is_told(change, message):
    with pytest.raises(ValueError, match=message):
        ctc_greedy(change(spikes(["a", "b", "c"])), ENGLISH, frame_seconds=1.0)


def test_other_wrong_input_is_told():
    with pytest.raises(ValueError, match="frame_seconds=0"):
        greedy(["a"], frame_seconds=0)
    with pytest.raises(ValueError, match="' ' must be a unit, and in no other"):
        greedy(["a"], Alphabet(("a", "b")))
    with pytest.raises(ValueError, match="' ' must be a unit, and in no other"):
        greedy(["a"], Alphabet((" ", "a", " a")))
