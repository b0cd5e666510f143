"""CTC forced alignment, and cutting long recordings by it (arXiv 1512.02595, section 5)."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from deepaudio.data.alphabet import BLANK, Alphabet
from deepaudio.decoding._ctc import (
    Spans,
    Transcript,
    check_frame_seconds,
    check_log_probs,
    make_transcript,
    separator_of,
)

# Steps of the alignment, a byte each, that are kept at a time.
_MOST_STEPS = 1 << 25


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The likeliest path of CTC outputs that reads as a given text.

    Attributes:
        units: (U,) int64 numbers of the text's units.
        starts: (U,) int64 first frame of each.
        ends: (U,) int64 frame after its last.
        log_probs: (U,) float64 natural logarithm of its highest probability in these frames.
        frame_log_probs: (frames,) float64 natural logarithm of the path's output in each frame.
    """

    units: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    log_probs: np.ndarray
    frame_log_probs: np.ndarray

    @property
    def score(self) -> float:
        """Log probability of the path."""
        return float(self.frame_log_probs.sum())


@dataclasses.dataclass(frozen=True)
class Segment:
    """A piece of a recording and what is said in it.

    Attributes:
        text: Whole words.
        start: Where it begins, in seconds.
        end: Where it ends, in seconds.
        score: Log probability of the alignment within it, for each unit of its text: near 0 if
            the text is what is said, and far below if it is not.
    """

    text: str
    start: float
    end: float
    score: float


def align(log_probs: Any, text: str, alphabet: Alphabet) -> Alignment:
    """Finds the likeliest path of CTC outputs that reads as a text (the Viterbi algorithm).

    Takes time proportional to frames times units, and memory to units times the root of frames.

    Args:
        log_probs: (frames, symbols) natural logarithms of the probabilities of one recording.
        text: What is said in it, all of it, normalized.
        alphabet: What the symbols are.

    Returns:
        The alignment.

    Raises:
        ValueError: `log_probs` are no log probabilities over the alphabet, the text cannot be
            spelled, has more units than there are frames for, or has no path that is possible.
    """
    log_probs = check_log_probs(log_probs, alphabet)
    units = alphabet.encode(text).astype(np.int64)
    needed = len(units) + int(np.count_nonzero(units[1:] == units[:-1]))
    if needed > len(log_probs):
        raise ValueError(
            f"text of {len(units)} units needs {needed} frames, and there are {len(log_probs)}"
        )
    # Blanks before, between and after the units; these may be left out between different units.
    symbols = np.full(2 * len(units) + 1, BLANK)
    symbols[1::2] = units
    penalty = np.full(len(symbols), -np.inf)
    penalty[3::2][units[1:] != units[:-1]] = 0.0
    path = _likeliest_path(log_probs, symbols, penalty)
    along = log_probs[np.arange(len(path)), symbols[path]]
    if np.isneginf(along).any() or np.any(path[:1] > 1):
        raise ValueError(f"no path of log_probs that reads as text={text!r} is possible")
    odd = np.arange(1, len(symbols), 2)
    starts, ends = np.searchsorted(path, odd), np.searchsorted(path, odd + 1)
    peaks = [along[start:end].max() for start, end in zip(starts, ends, strict=True)]
    return Alignment(units, starts, ends, np.array(peaks, np.float64), along)


def align_words(
    log_probs: Any, text: str, alphabet: Alphabet, *, frame_seconds: float, start: float = 0.0
) -> Transcript:
    """Times the words of a known text.

    Args:
        log_probs: (frames, symbols) natural logarithms of the probabilities of one recording.
        text: What is said in it, all of it, normalized.
        alphabet: What the symbols are.
        frame_seconds: Length of a frame in seconds.
        start: Time of frame 0 in seconds.

    Returns:
        The text with times and confidences as of `ctc_greedy`, by its likeliest path; the score
        is that path's log probability.

    Raises:
        ValueError: As `align`, or `frame_seconds` is not positive.
    """
    check_frame_seconds(frame_seconds)
    found = align(log_probs, text, alphabet)
    return make_transcript(
        Spans(found.units, found.starts, found.ends - 1, found.log_probs),
        alphabet,
        score=found.score,
        num_frames=len(found.frame_log_probs),
        frame_seconds=frame_seconds,
        start=start,
    )


def split_at_pauses(
    alignment: Alignment,
    alphabet: Alphabet,
    *,
    frame_seconds: float,
    pause: float = 0.5,
    longest: float = 15.0,
    margin: float = 0.2,
) -> list[Segment]:
    """Cuts a recording between words, in the middle of long stretches of blanks.

    Args:
        alignment: Of the recording's whole text.
        alphabet: That of the alignment.
        frame_seconds: Length of a frame in seconds.
        pause: Seconds without a unit that make a pause; separators are none. Where the alphabet
            has a word separator, one must stand within the pause.
        longest: A piece of more seconds is cut at its longest pause, however short that is, unless
            it is one word.
        margin: The most seconds of a pause that a piece has before its first unit and after its
            last.

    Returns:
        The pieces, in order.

    Raises:
        ValueError: `frame_seconds`, `pause` or `longest` is not positive, or `margin` negative.
    """
    check_frame_seconds(frame_seconds)
    if not (pause > 0 and longest > 0):
        raise ValueError(f"{pause=} and {longest=} must be positive")
    if not margin >= 0:
        raise ValueError(f"{margin=} must not be negative")
    words = _word_ranges(alignment.units, separator_of(alphabet))
    if not words:
        return []
    firsts = [int(alignment.starts[low]) for low, _ in words]
    lasts = [int(alignment.ends[high - 1]) for _, high in words]
    gaps = (np.array(firsts[1:]) - np.array(lasts[:-1])) * frame_seconds
    pieces = _pieces(firsts, lasts, gaps, pause, longest / frame_seconds)
    # Frames around the pieces: a pause is shared in the middle.
    num_frames = len(alignment.frame_log_probs)
    between = [(lasts[low - 1] + firsts[low]) // 2 for low, _ in pieces[1:]]
    segments = []
    for (low, high), begin, end in zip(pieces, [0, *between], [*between, num_frames], strict=True):
        units = alignment.units[words[low][0] : words[high - 1][1]]
        segments.append(
            Segment(
                text=alphabet.decode(units),
                start=max(begin * frame_seconds, firsts[low] * frame_seconds - margin),
                end=min(end * frame_seconds, lasts[high - 1] * frame_seconds + margin),
                score=float(alignment.frame_log_probs[begin:end].sum()) / len(units),
            )
        )
    return segments


def good_segments(
    segments: Iterable[Segment], *, lowest_score: float, shortest: float, longest: float
) -> list[Segment]:
    """Leaves out pieces whose text is hardly what is said, and those of an unusual length.

    Args:
        segments: As `split_at_pauses` gives them.
        lowest_score: Log probability for each unit.
        shortest: Seconds.
        longest: Seconds.

    Returns:
        The others.
    """
    return [
        segment
        for segment in segments
        if segment.score >= lowest_score and shortest <= segment.end - segment.start <= longest
    ]


def _pieces(firsts, lasts, gaps, pause, longest) -> list[tuple[int, int]]:
    """First word and word after the last of every piece; `longest` in frames."""
    pieces = []
    cuts = [0, *(np.flatnonzero(gaps >= pause) + 1).tolist(), len(firsts)]
    waiting = list(zip(cuts[:-1], cuts[1:], strict=True))[::-1]
    while waiting:
        low, high = waiting.pop()
        if high > low + 1 and lasts[high - 1] - firsts[low] > longest:
            middle = low + 1 + int(np.argmax(gaps[low : high - 1]))
            waiting += [(middle, high), (low, middle)]
        else:
            pieces.append((low, high))
    return pieces


def _word_ranges(units: np.ndarray, separator: int) -> list[tuple[int, int]]:
    """First unit and unit after the last of every word."""
    if separator < 0:
        return [(place, place + 1) for place in range(len(units))]
    cuts = [-1, *np.flatnonzero(units == separator).tolist(), len(units)]
    return [(a + 1, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a + 1]


def _likeliest_path(log_probs: np.ndarray, symbols: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """The likeliest states of all frames.

    Steps back are kept for a block of frames only, and worked out anew from the scores before each
    block, or hours of speech would not fit in memory.

    Args:
        log_probs: (frames, symbols) float64.
        symbols: (S,) int64 number of each state's symbol.
        penalty: (S,) 0 where a state may be reached from the last but one, -inf elsewhere.

    Returns:
        (frames,) int64, never falling, from state 0 or 1 to the last or the last but one.
    """
    num_frames, size = len(log_probs), len(symbols)
    block = max(_MOST_STEPS // size, int(np.sqrt(num_frames)), 1)
    begins = list(range(0, num_frames, block))
    # Before the first frame: as if a blank had been.
    scores = np.full(size, -np.inf)
    scores[0] = 0.0
    before = []
    for begin in begins:
        before.append(scores)
        if begin != begins[-1]:
            scores, _ = _viterbi(scores, log_probs[begin : begin + block], symbols, penalty, False)
    path = np.zeros(num_frames, np.int64)
    state = -1
    for begin, scores in zip(begins[::-1], before[::-1], strict=True):
        rows = log_probs[begin : begin + block]
        scores, steps = _viterbi(scores, rows, symbols, penalty, True)
        if state < 0:
            state = size - 1 if size == 1 or scores[-1] >= scores[-2] else size - 2
        for place in range(len(rows) - 1, -1, -1):
            path[begin + place] = state
            state -= int(steps[place, state])
    return path


def _viterbi(scores, rows, symbols, penalty, remember):
    """Scores after some frames, (S,), and the steps back, (frames, S) uint8, if to remember."""
    steps = np.zeros((len(rows) if remember else 0, len(symbols)), np.uint8)
    for place, row in enumerate(rows):
        best = scores.copy()
        np.maximum(best[1:], scores[:-1], out=best[1:])
        if remember:
            steps[place, 1:] = best[1:] > scores[1:]
        skipped = scores[:-2] + penalty[2:]
        if remember:
            steps[place, 2:][skipped > best[2:]] = 2
        np.maximum(best[2:], skipped, out=best[2:])
        scores = best + row[symbols]
    return scores, steps
