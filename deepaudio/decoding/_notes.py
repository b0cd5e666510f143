"""Notes from the rolls of Onsets and Frames (arXiv 1710.11153, section 3.3)."""

from typing import Any, Protocol

import numpy as np

from deepaudio.data.notes import LOWEST_PITCH, Notes

NUM_KEYS = 88
_UNKNOWN_VELOCITY = 64
# Log odds by which frames may raise or lower those of an onset.
_MOST_SUPPORT = 3.0


class RollsLike(Protocol):
    """Probabilities in [0, 1] of every key at every frame, (frames, 88), of numpy or JAX.

    Attributes:
        onsets: A note begins in this frame or the one before; None for a frame-only model.
        frames: The key sounds.
        offsets: A note has just ended; None if not predicted.
        velocities: MIDI velocity / 127, meaningful where a note begins; None if not predicted,
            and notes then have MIDI's middle velocity, 64.
    """

    @property
    def onsets(self) -> Any: ...  # noqa: D102
    @property
    def frames(self) -> Any: ...  # noqa: D102
    @property
    def offsets(self) -> Any: ...  # noqa: D102
    @property
    def velocities(self) -> Any: ...  # noqa: D102


def decode_notes(
    rolls: RollsLike,
    *,
    frame_seconds: float,
    onset_threshold: float = 0.5,
    frame_threshold: float = 0.5,
    offset_weight: float | None = None,
    frame_support: float = 0.0,
    refine: bool = True,
    start: float = 0.0,
) -> Notes:
    """Turns the probabilities of one recording into notes.

    A note starts only where an onset is predicted, at the first frame of a run of predicted
    onsets; on a key that already sounds this ends the old note and starts a new one. A note ends
    at the first frame where neither the frame nor an onset is predicted, as in the paper, or with
    `offset_weight` where it is likeliest to (see `_likely_ends`). Its velocity is read at the frame
    where it starts. Without onsets a note starts wherever a run of frames does.

    Frame i covers the seconds from i to i + 1 times `frame_seconds`. Labels mark a note from the
    frame its onset lies in (rounding down) to the frame its offset lies in (rounding up), so the
    unbiased guess is the middle of the first and of the last frame. A note that is cut by the
    next one on its key ends where that one begins.

    Args:
        rolls: Probabilities of one recording, (frames, 88) each; see `RollsLike`.
        frame_seconds: Length of a frame in seconds.
        onset_threshold: An onset is predicted where its probability is above this.
        frame_threshold: A frame is predicted where its probability is above this.
        offset_weight: If given, a note's end is weighed over all its frames, and this is how much
            the predicted offsets count against the frames, 0 or more. Not read without onsets.
        frame_support: How much a note's frames count in whether there is a note at all, 0 or more:
            the log odds of its onset are raised or lowered by this times the sum of its frames'
            log odds, by 3 at most, before they are held against those of `onset_threshold`. Not
            read without `offset_weight`.
        refine: Places an onset within its first frame by the centroid of the onset
            probabilities around it; otherwise in the middle of the frame.
        start: Time of frame 0 in seconds.

    Returns:
        The notes, in seconds, velocities 1 to 127.

    Raises:
        ValueError: The rolls are not (frames, 88), `frame_seconds` is not positive, or
            `offset_weight` is negative or given with thresholds outside of (0, 1) or a negative
            `frame_support`.
    """
    frames = _keys_first(rolls.frames, "frames")
    if not frame_seconds > 0:
        raise ValueError(f"{frame_seconds=} must be positive")
    if rolls.onsets is None or offset_weight is None:
        struck = None if rolls.onsets is None else _keys_first(rolls.onsets, "onsets")
        struck = frames > frame_threshold if struck is None else struck > onset_threshold
        active = (frames > frame_threshold) | struck
        keys, starts, limits = _starts(struck)
        ends = _first_inactive(active, keys, starts, limits)
    else:
        _check_odds(offset_weight, frame_support, onset_threshold, frame_threshold)
        offsets = None if rolls.offsets is None else _keys_first(rolls.offsets, "offsets")
        stay, stop = _evidence(frames, offsets, frame_threshold, offset_weight)
        keys, starts, limits, ends = _likely_notes(
            _keys_first(rolls.onsets, "onsets"), stay, stop, onset_threshold, frame_support
        )
    onsets = starts + 0.5
    if refine and rolls.onsets is not None:
        onsets = _centroids(_keys_first(rolls.onsets, "onsets"), keys, starts)
    offsets = ends - 0.5
    following = np.flatnonzero((ends == limits) & (limits < frames.shape[1]))
    offsets[following] = onsets[following + 1]
    offsets = np.maximum(offsets, onsets + 0.5)  # one-frame notes keep a length

    velocities = np.full(len(keys), _UNKNOWN_VELOCITY)
    if rolls.velocities is not None:
        heard = _keys_first(rolls.velocities, "velocities")[keys, starts].astype(np.float64)
        velocities = np.clip(np.round(127 * np.clip(heard, 0, 1)), 1, 127).astype(np.int64)
    return Notes(
        onsets=start + onsets * frame_seconds,
        offsets=start + offsets * frame_seconds,
        pitches=keys + LOWEST_PITCH,
        velocities=velocities,
    )


def _keys_first(roll, name: str) -> np.ndarray:
    """The roll as a (88, frames) view, so that a key's frames follow each other."""
    roll = np.asarray(roll)
    if roll.ndim != 2 or roll.shape[1] != NUM_KEYS:
        raise ValueError(f"{name} must be (frames, {NUM_KEYS}), not {roll.shape}")
    return roll.T


def _check_odds(offset_weight, frame_support, onset_threshold, frame_threshold):
    if not (offset_weight >= 0 and frame_support >= 0):
        raise ValueError(f"{offset_weight=} and {frame_support=} must not be negative")
    if not (0 < onset_threshold < 1 and 0 < frame_threshold < 1):
        raise ValueError(f"{onset_threshold=} and {frame_threshold=} must be within (0, 1)")


def _starts(struck: np.ndarray):
    """Finds where each key's runs of onsets begin.

    Args:
        struck: (88, frames) bool, onset predicted.

    Returns:
        Key, first frame, and frame of the key's next start (the number of frames if there is
        none), each (N,) int64, by key, then frame.
    """
    before = np.pad(struck, ((0, 0), (1, 0)))[:, :-1]
    keys, starts = np.nonzero(struck & ~before)
    return keys, starts, _limits(keys, starts, struck.shape[1])


def _limits(keys, starts, num_frames):
    following = np.append(starts[1:], 0)[: len(starts)]
    last = np.append(keys[1:] != keys[:-1], True)[: len(starts)]
    return np.where(last, num_frames, following)


def _likely_notes(onsets, stay, stop, onset_threshold, frame_support):
    """Keys, starts, limits and likely ends of the notes that onsets and frames speak for."""
    needed = _log_odds(onset_threshold)
    if not frame_support:
        keys, starts, limits = _starts(onsets > onset_threshold)
        return keys, starts, limits, _likely_ends(stay, stop, keys, starts, limits)
    # What frames could raise to the threshold; then what they do raise to it. Twice, because a
    # start that is dropped lets the note before it go on.
    keys, starts, limits = _starts(onsets > 1.0 / (1.0 + np.exp(_MOST_SUPPORT - needed)))
    total = np.cumsum(np.pad(stay, ((0, 0), (1, 0))), axis=1)
    near = np.pad(onsets, ((0, 0), (0, 2)))
    for _ in range(2):
        ends = _likely_ends(stay, stop, keys, starts, limits)
        strongest = np.max([near[keys, starts + step] for step in range(3)], axis=0, initial=0.0)
        support = frame_support * (total[keys, ends] - total[keys, starts])
        odds = _logits(strongest) + np.clip(support, -_MOST_SUPPORT, _MOST_SUPPORT)
        keys, starts = keys[odds > needed], starts[odds > needed]
        limits = _limits(keys, starts, stay.shape[1])
    return keys, starts, limits, _likely_ends(stay, stop, keys, starts, limits)


def _first_inactive(active, keys, starts, limits) -> np.ndarray:
    """The paper's ends: the frame after each note's last, (N,) int64, no later than its limit."""
    # One silent frame after every key lets all keys be searched as one line.
    line = np.pad(active, ((0, 0), (0, 1)))
    width = line.shape[1]
    silent = np.flatnonzero(~line)
    ends = silent[np.searchsorted(silent, keys * width + starts)] - keys * width
    return np.minimum(ends, limits)


def _evidence(frames, offsets, frame_threshold, offset_weight):
    """What speaks for sounding in each frame, and for ending at each edge between frames.

    Args:
        frames: (88, frames) probabilities.
        offsets: (88, frames) probabilities, or None.
        frame_threshold: Where a frame speaks neither for nor against sounding.
        offset_weight: Of the logits of the offsets.

    Returns:
        (88, frames) float64 log odds of sounding in frame i, and (88, frames) float64 of ending
        after frame i, up to a constant. A note's end is labelled in the frame it lies in and in
        the next one.
    """
    stay = _logits(frames) - _log_odds(frame_threshold)
    if offsets is None:
        return stay, np.zeros_like(stay)
    logits = np.pad(_logits(offsets), ((0, 0), (0, 1)), mode="edge")
    return stay, offset_weight * (logits[:, :-1] + logits[:, 1:])


def _likely_ends(stay, stop, keys, starts, limits) -> np.ndarray:
    """The likeliest end of each note, (N,) int64 frame after its last.

    A note that starts at frame s is taken to sound in every frame before its end e and in none from
    e to the key's next start. Were frames independent, the likeliest e would have the largest sum
    of log odds over s to e - 1. So one doubtful frame within a held note does not end it. The
    evidence for an end at e adds to the sum.
    """
    total = np.cumsum(stay, axis=1) + stop
    ends = [
        start + 1 + int(np.argmax(total[key, start:limit]))
        for key, start, limit in zip(keys, starts, limits, strict=True)
    ]
    return np.array(ends, np.int64)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    # Half precision knows nothing between 0.9995 and 1; the same bound holds at 0.
    return _log_odds(np.clip(probabilities.astype(np.float64), 5e-4, 1.0 - 5e-4))


def _log_odds(probability):
    return np.log(probability / (1.0 - probability))


def _centroids(onsets: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Onset times in frames, from the onset probabilities around the first predicted frame.

    A note that begins within frame i is labelled in frames i and i + 1. So the expected label of
    frame j is q(j) + q(j - 1), q(j) being the chance that the note begins within frame j, and the
    centroid of these labels over j is the mean of q plus one half: the expected time itself. Two
    full frames give the middle of the first one, as without refinement.
    """
    padded = np.pad(onsets, ((0, 0), (1, 2)))
    around = np.stack([padded[keys, starts + step] for step in range(4)]).astype(np.float64)
    # A second rise within the four frames belongs to the next note of the key.
    around[3] = np.minimum(around[3], around[2])
    places = np.arange(-1.0, 3.0)
    centroid = starts + places @ around / np.maximum(around.sum(axis=0), 1e-9)
    return np.clip(centroid, starts, starts + 0.99)
