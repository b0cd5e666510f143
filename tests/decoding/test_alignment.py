"""Forced alignment, against all paths of outputs; and cutting by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data.alphabet import ENGLISH, Alphabet
from deepaudio.decoding import (
    Segment,
    align,
    align_words,
    ctc_greedy,
    good_segments,
    split_at_pauses,
)

LETTERS = Alphabet((" ", "a", "b"))
TEXTS = ["", "a", "ab", "aa", "aab", "a b", "b b", "bab"]


def runs(path):
    """First frame and frame after the last of every unit of a path."""
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
    return [(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if path[a]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), text=st.sampled_from(TEXTS), blocks=st.booleans())
def test_is_the_likeliest_of_all_paths(all_paths, random_log_probs, seed, text, blocks):
    log_probs = random_log_probs(seed, 5, len(LETTERS))
    paths = [(p, path) for read, p, path in all_paths(log_probs, LETTERS) if read == text]
    # A space at an end or after another would read the same, but it is not in the text.
    paths = [(p, path) for p, path in paths if len(runs(path)) == len(text)]
    best, path = max(paths)
    with pytest.MonkeyPatch.context() as patch:
        if blocks:
            patch.setattr("deepaudio.decoding._alignment._MOST_STEPS", 1)
        found = align(log_probs, text, LETTERS)
    assert found.score == pytest.approx(best)
    assert list(zip(found.starts, found.ends, strict=True)) == runs(path)
    assert found.frame_log_probs == pytest.approx(log_probs[np.arange(5), path])
    for unit, start, end, log_prob in zip(
        found.units, found.starts, found.ends, found.log_probs, strict=True
    ):
        assert log_prob == log_probs[start:end, unit].max()


def test_blocks_make_no_difference(random_log_probs, monkeypatch):
    log_probs = random_log_probs(0, 500, len(ENGLISH))
    text = "the quick brown fox jumps over the lazy dog"
    whole = align(log_probs, text, ENGLISH)
    monkeypatch.setattr("deepaudio.decoding._alignment._MOST_STEPS", 1)
    blocks = align(log_probs, text, ENGLISH)
    assert whole.starts.tolist() == blocks.starts.tolist()
    assert whole.ends.tolist() == blocks.ends.tolist()


def test_what_best_path_decoding_reads_aligns_to_its_path(random_log_probs):
    log_probs = random_log_probs(1, 60, len(LETTERS))
    # Without spaces, as reading drops some, and then the path is not that of the text.
    log_probs[:, 1] = -20.0
    read = ctc_greedy(log_probs, LETTERS, frame_seconds=0.5, start=3.0)
    assert align_words(log_probs, read.text, LETTERS, frame_seconds=0.5, start=3.0) == read


@pytest.mark.parametrize(
    ("text", "frames", "message"),
    [
        ("abab", 3, "text of 4 units needs 4 frames, and there are 3"),
        ("aab", 3, "text of 3 units needs 4 frames, and there are 3"),
        ("a", 0, "text of 1 units needs 1 frames, and there are 0"),
        ("c", 3, "'c' of 'c' is not in the alphabet"),
    ],
)
def test_texts_that_do_not_fit_are_told(random_log_probs, text, frames, message):
    with pytest.raises(ValueError, match=message):
        align(random_log_probs(0, frames, len(LETTERS)), text, LETTERS)


@pytest.mark.parametrize("text", ["a", "b", "ab", ""])
def test_a_text_that_cannot_be_is_told(text):
    # Only a space is possible in frame 1, and no a at all.
    log_probs = np.full((3, len(LETTERS)), np.log(1 / 3))
    log_probs[:, 2] = log_probs[1] = -np.inf
    log_probs[1, 1] = 0.0
    with pytest.raises(ValueError, match=f"reads as text='{text}' is possible"):
        align(log_probs, text, LETTERS)
    assert align(log_probs, "b b", LETTERS).score == pytest.approx(2 * np.log(1 / 3))


def test_other_wrong_input_is_told(random_log_probs):
    log_probs = random_log_probs(0, 5, len(LETTERS))
    with pytest.raises(ValueError, match="log_probs must be"):
        align(log_probs[:, 1:], "a", LETTERS)
    with pytest.raises(ValueError, match="frame_seconds=0"):
        align_words(log_probs, "a", LETTERS, frame_seconds=0)
    found = align(log_probs, "a", LETTERS)
    for options, message in (
        ({"frame_seconds": -1}, "frame_seconds=-1"),
        ({"frame_seconds": 1, "pause": 0}, "pause=0"),
        ({"frame_seconds": 1, "longest": 0}, "longest=0"),
        ({"frame_seconds": 1, "margin": -1}, "margin=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            split_at_pauses(found, LETTERS, **options)


def aligned(outputs, alphabet, probability=0.9):
    """The alignment of what the outputs, one a frame and "" for blanks, say themselves."""
    numbers = [alphabet.units.index(unit) + 1 if unit else 0 for unit in outputs]
    rest = (1 - probability) / (len(alphabet) - 1)
    rows = np.where(np.arange(len(alphabet)) == np.array(numbers)[:, None], probability, rest)
    return align(np.log(rows), "".join(outputs), alphabet)


def pieces(outputs, alphabet=LETTERS, **options):
    options = {"frame_seconds": 0.1, "pause": 0.5, "margin": 0.2, **options}
    return split_at_pauses(aligned(outputs, alphabet), alphabet, **options)


def test_cuts_in_the_middle_of_pauses_between_words():
    # Pauses of 3, 6 and 6 frames; there is no space in the second.
    outputs = ["a", "b", "", " ", "", "a", *[""] * 6, "b", "", "", "", " ", "", "", "a", ""]
    found = pieces(outputs)
    assert [piece.text for piece in found] == ["ab ab", "a"]
    edges = [(piece.start, piece.end) for piece in found]
    assert edges == [pytest.approx((0.0, 1.5)), pytest.approx((1.7, 2.1))]
    assert [piece.text for piece in pieces(outputs, pause=0.3)] == ["ab", "ab", "a"]
    assert [piece.text for piece in pieces(outputs, pause=0.7)] == ["ab ab a"]


def test_pieces_meet_in_pauses_shorter_than_their_margins():
    found = pieces(["a", "", "", " ", "", "", "b"], margin=9.0)
    assert [(p.start, p.end) for p in found] == [pytest.approx((0, 0.3)), pytest.approx((0.3, 0.7))]


def test_long_pieces_are_cut_at_their_longest_pause():
    outputs = list("ab ab") + ["", " ", ""] + list("ba ba") + ["", " "] + list("aba")
    assert [p.text for p in pieces(outputs, longest=1.0)] == ["ab ab", "ba ba aba"]
    assert [p.text for p in pieces(outputs, longest=0.5)] == ["ab ab", "ba ba", "aba"]
    assert [p.text for p in pieces(outputs, longest=0.1)] == "ab ab ba ba aba".split()


def test_every_character_may_end_a_piece_without_a_separator():
    characters = Alphabet(("a", "b"), "")
    outputs = ["a", "b", *[""] * 6, "b", "a"]
    assert [p.text for p in pieces(outputs, characters)] == ["ab", "ba"]
    assert pieces(["", ""], characters) == []


def test_scores_are_for_each_unit_and_tell_bad_pairs():
    outputs = ["a", "b", *[""] * 3, " ", *[""] * 3, "b", "a", "", ""]
    alignment = aligned(outputs, LETTERS)
    found = split_at_pauses(alignment, LETTERS, frame_seconds=0.1, pause=0.5)
    # The middle of the pause is after frame 5, the space's: 5 frames and 8.
    scores = [np.log(0.9) * 5 / 2, np.log(0.9) * 8 / 2]
    assert [piece.score for piece in found] == pytest.approx(scores)
    good = Segment("a b", 0.0, 3.0, -0.1)
    bad = Segment("a b", 0.0, 3.0, -2.0)
    short, long = Segment("a", 0.0, 0.3, -0.1), Segment("a", 5.0, 25.0, -0.1)
    limits = {"lowest_score": -1.0, "shortest": 1.0, "longest": 15.0}
    assert good_segments([good, bad, short, long], **limits) == [good]
