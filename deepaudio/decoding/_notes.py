"""Notes from the rolls of Onsets and Frames (arXiv 1710.11153, section 3.3)."""

from typing import Any, Protocol

import numpy as np

from deepaudio.data.notes import LOWEST_PITCH, Notes

NUM_KEYS = 88
_UNKNOWN_VELOCITY = 64


class RollsLike(Protocol):
    """Probabilities in [0, 1] of every key at every frame, (frames, 88), of numpy or JAX.

    Attributes:
        onsets: A note begins in this frame or the one before; None for a frame-only model.
        frames: The key sounds.
        offsets: A note has just ended; read only if an offset threshold is given.
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
    offset_threshold: float | None = None,
    refine: bool = True,
    start: float = 0.0,
) -> Notes:
    """Turns the probabilities of one recording into notes.

    A note starts only where an onset is predicted, at the first frame of a run of predicted
    onsets; on a key that already sounds this ends the old note and starts a new one. A note ends
    at the first frame where neither the frame nor an onset is predicted. Its velocity is read at
    the frame where it starts. Without onsets a note starts wherever a run of frames does.

    Frame i covers the seconds from i to i + 1 times `frame_seconds`. Labels mark a note from the
    frame its onset lies in (rounding down) to the frame its offset lies in (rounding up), so the
    unbiased guess is the middle of the first and of the last frame. A note that is cut by the
    next one on its key ends where that one begins.

    Args:
        rolls: Probabilities of one recording, (frames, 88) each; see `RollsLike`.
        frame_seconds: Length of a frame in seconds.
        onset_threshold: An onset is predicted where its probability is above this.
        frame_threshold: A frame is predicted where its probability is above this.
        offset_threshold: If given, a key without an onset stops where the probability of an
            offset is above this. The paper does without.
        refine: Places an onset within its first frame by the centroid of the onset
            probabilities around it; otherwise in the middle of the frame.
        start: Time of frame 0 in seconds.

    Returns:
        The notes, in seconds, velocities 1 to 127.

    Raises:
        ValueError: The rolls are not (frames, 88) or `frame_seconds` is not positive.
    """
    frames = _keys_first(rolls.frames, "frames")
    if not frame_seconds > 0:
        raise ValueError(f"{frame_seconds=} must be positive")
    active = frames > frame_threshold
    if offset_threshold is not None:
        active &= ~(_keys_first(rolls.offsets, "offsets") > offset_threshold)
    if rolls.onsets is None:
        struck = active
    else:
        struck = _keys_first(rolls.onsets, "onsets") > onset_threshold
        active |= struck

    keys, starts, ends, cut = _segments(struck, active)
    onsets = starts + 0.5
    if refine and rolls.onsets is not None:
        onsets = _centroids(_keys_first(rolls.onsets, "onsets"), keys, starts)
    offsets = ends - 0.5
    following = np.flatnonzero(cut)
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


def _segments(struck: np.ndarray, active: np.ndarray):
    """Splits each key's active frames at the beginnings of its runs of onsets.

    Args:
        struck: (88, frames) bool, onset predicted; a subset of `active`.
        active: (88, frames) bool, key sounding.

    Returns:
        Key, first frame, frame after the last one (each (N,) int64, by key, then frame), and
        whether the next segment is of the same key and cuts this one short, (N,) bool.
    """
    # One silent frame around every key lets all keys be searched as one line.
    struck, active = (np.pad(roll, ((0, 0), (1, 1))) for roll in (struck, active))
    width = struck.shape[1]
    struck, active = struck.ravel(), active.ravel()
    rises = np.flatnonzero(struck[1:] & ~struck[:-1]) + 1
    falls = np.flatnonzero(active[:-1] & ~active[1:]) + 1
    ends = falls[np.searchsorted(falls, rises, side="right")]
    following = np.append(rises[1:], struck.size)[: len(rises)]
    cut = following < ends
    ends = np.minimum(ends, following)
    keys = rises // width
    return keys, rises - keys * width - 1, ends - keys * width - 1, cut


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
