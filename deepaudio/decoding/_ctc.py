"""Transcripts, and the simplest way to one: the likeliest output of every frame."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepaudio.data.alphabet import BLANK, Alphabet

# Half precision may round a log probability to a little above zero; a logit is told by more.
_MOST_LOG_PROB = 0.01


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a transcript; a character, where the alphabet has no word separator.

    Attributes:
        text: Its characters.
        start: Where it begins, in seconds.
        end: Where it ends, in seconds; after `start`.
        confidence: The geometric mean, over the word's units, of the unit's highest probability
            among the frames that it was read from, in [0, 1]. It is what the network says alone:
            a word that the language model talked it into has a low one.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What was said, and when.

    Attributes:
        text: Words joined by the alphabet's word separator, none at either end.
        score: Natural logarithm; see the function that made it for what it counts.
        words: In order; they do not overlap.
        times: When each character of `text` was said, in seconds: the middle of the frames that
            its unit was read from. The two characters of a pair have the same.
    """

    text: str
    score: float
    words: tuple[Word, ...]
    times: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Spans:
    """The units of a transcript and the frames they were read from.

    Attributes:
        units: (U,) numbers of the units, no blanks; separators never first nor twice in a row.
        first: (U,) frame where each unit's run of equal outputs begins.
        last: (U,) frame where it ends, that frame included.
        peaks: (U,) natural logarithm of the unit's highest probability within the run.
    """

    units: Sequence[int]
    first: Sequence[int]
    last: Sequence[int]
    peaks: Sequence[float]


def ctc_greedy(
    log_probs: Any, alphabet: Alphabet, *, frame_seconds: float, start: float = 0.0
) -> Transcript:
    """Reads the likeliest output of every frame (best path decoding).

    Equal outputs in a row are one, blanks are left out, and separators at the ends or in a row
    are dropped.

    A network trained with CTC writes a unit as a spike of one or a few frames, anywhere in the
    sound that speaks for it; nothing in the loss says where. So the spike's middle is taken for
    the middle of the character, frame i being the time from i to i + 1 times `frame_seconds`, and
    a word begins half a character before its first spike and ends half a character after its last.
    How long a character is, the word's own spikes say by their mean distance; for a lone one, the
    median distance in the transcript. A word never reaches beyond the separator's spike, or, where
    there is no separator, the middle between its spike and the neighbour's. These times have no
    bias if the network's spikes have none; a network that sees no future is late, and
    `start` takes a constant delay away.

    Args:
        log_probs: (frames, symbols) natural logarithms of the probabilities of one recording.
        alphabet: What the symbols are.
        frame_seconds: Length of a frame in seconds.
        start: Time of frame 0 in seconds.

    Returns:
        The transcript; its score is the log probability of the path.

    Raises:
        ValueError: `log_probs` are no log probabilities over the alphabet, or `frame_seconds` is
            not positive.

    >>> from deepaudio.data.alphabet import Alphabet
    >>> letters = Alphabet((" ", "a", "b"))  # the blank is 0, so these are 1, 2 and 3
    >>> path = np.array([2, 2, 0, 2, 3, 1, 0, 3])
    >>> log_probs = np.log(np.eye(4)[path] * 0.96 + 0.01)
    >>> transcript = ctc_greedy(log_probs, letters, frame_seconds=0.5)
    >>> transcript.text, [word.text for word in transcript.words]
    ('aab b', ['aab', 'b'])
    """
    log_probs = check_log_probs(log_probs, alphabet)
    check_frame_seconds(frame_seconds)
    path = np.argmax(log_probs, axis=1)
    best = log_probs[np.arange(len(path)), path]
    begins = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.flatnonzero(np.diff(path, append=-1))
    separator = separator_of(alphabet)
    rows: list[list] = []
    for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
        unit = int(path[first])
        if unit == BLANK:
            continue
        peak = float(best[first : last + 1].max())
        if unit == separator and (not rows or rows[-1][0] == separator):
            if rows:
                rows[-1][2:] = [last, max(rows[-1][3], peak)]
            continue
        rows.append([unit, first, last, peak])
    spans = Spans(*zip(*rows, strict=True)) if rows else Spans((), (), (), ())
    return make_transcript(
        spans,
        alphabet,
        score=float(best.sum()),
        num_frames=len(path),
        frame_seconds=frame_seconds,
        start=start,
    )


def make_transcript(
    spans: Spans,
    alphabet: Alphabet,
    *,
    score: float,
    num_frames: int,
    frame_seconds: float,
    start: float,
) -> Transcript:
    """The transcript of some units; a separator at its end is dropped.

    Args:
        spans: Units and their frames.
        alphabet: What the units' numbers mean.
        score: For the transcript.
        num_frames: Frames there were; no word ends after them.
        frame_seconds: Length of a frame in seconds.
        start: Time of frame 0 in seconds.

    Returns:
        The transcript, timed as `ctc_greedy` describes.
    """
    separator = separator_of(alphabet)
    units = np.asarray(spans.units, np.int64)
    if len(units) and units[-1] == separator:
        units = units[:-1]
    count = len(units)
    middles = (np.asarray(spans.first[:count]) + np.asarray(spans.last[:count]) + 1) / 2
    texts = [alphabet.units[unit - 1 - BLANK] for unit in units.tolist()]
    words = []
    for low, high, begin, end in _words(units == separator, middles, num_frames, alphabet):
        confidence = float(np.exp(np.mean(spans.peaks[low:high])))
        words.append(
            Word(
                text="".join(texts[low:high]),
                start=start + begin * frame_seconds,
                end=start + end * frame_seconds,
                confidence=min(confidence, 1.0),
            )
        )
    seconds = (start + middles * frame_seconds).tolist()
    return Transcript(
        text="".join(texts),
        score=score,
        words=tuple(words),
        times=tuple(
            time for time, text in zip(seconds, texts, strict=True) for _ in range(len(text))
        ),
    )


def _words(is_separator, middles, num_frames, alphabet):
    """First unit, unit after the last, begin and end in frames of every word."""
    count = len(middles)
    if alphabet.word_separator:
        cuts = [-1, *np.flatnonzero(is_separator).tolist(), count]
        pairs = [(a + 1, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a + 1]
        joined = ~is_separator[:-1] & ~is_separator[1:]
        # A separator's spike is the bound itself.
        share = 0.0
    else:
        pairs = [(place, place + 1) for place in range(count)]
        joined = np.ones(max(count - 1, 0), bool)
        share = 0.5
    gaps = np.diff(middles)
    usual = float(np.median(gaps[joined])) if joined.any() else 1.0
    for low, high in pairs:
        length = (middles[high - 1] - middles[low]) / (high - low - 1) if high > low + 1 else usual
        begin, end = middles[low] - length / 2, middles[high - 1] + length / 2
        before = middles[low - 1] + share * gaps[low - 1] if low else 0.0
        after = middles[high] - share * gaps[high - 1] if high < count else num_frames
        yield low, high, float(max(begin, before)), float(min(end, after))


def separator_of(alphabet: Alphabet) -> int:
    """The number of the unit between words, or -1 if nothing stands there.

    Raises:
        ValueError: The word separator is no unit, or a part of one.
    """
    separator = alphabet.word_separator
    if not separator:
        return -1
    if separator not in alphabet.units or sum(separator in u for u in alphabet.units) > 1:
        raise ValueError(f"the word separator {separator!r} must be a unit, and in no other one")
    return alphabet.units.index(separator) + 1 + BLANK


def check_log_probs(log_probs: Any, alphabet: Alphabet) -> np.ndarray:
    """The log probabilities as (frames, symbols) float64.

    Raises:
        ValueError: They have another shape, hold a NaN or what is no logarithm of a probability,
            or a frame of them allows no symbol.
    """
    array = np.asarray(log_probs)
    if array.ndim != 2 or array.shape[1] != len(alphabet):
        raise ValueError(f"log_probs must be (frames, {len(alphabet)}), not {array.shape}")
    array = array.astype(np.float64)
    # Not `> _MOST_LOG_PROB`, which is false of a NaN.
    wrong = ~(array <= _MOST_LOG_PROB)
    if wrong.any():
        frame, symbol = np.argwhere(wrong)[0].tolist()
        value = array[frame, symbol]
        raise ValueError(f"log_probs[{frame}, {symbol}]={value} is no log probability")
    empty = np.flatnonzero(np.isneginf(array).all(axis=1))
    if len(empty):
        raise ValueError(f"log_probs[{empty[0]}] is -inf for every symbol")
    return array


def check_frame_seconds(frame_seconds: float) -> None:
    """Raises ValueError unless `frame_seconds` is a positive number."""
    if not 0 < frame_seconds < np.inf:
        raise ValueError(f"{frame_seconds=} must be positive")
