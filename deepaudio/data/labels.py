"""Labels of a stretch of sound: piano rolls from notes."""

import dataclasses

import numpy as np

from deepaudio.data.notes import HIGHEST_PITCH, LOWEST_PITCH, Notes

NUM_KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1
_ONSET_WEIGHT = 5.0
# In frames: keeps a time that stands on a frame's edge from falling off it by rounding.
_EDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """How notes become frames.

    Attributes:
        sample_rate: Hz.
        hop_length: samples a frame; frame i covers samples i·hop_length to (i + 1)·hop_length.
        onset_seconds: how long an onset is labelled, at most to the note's end.
        offset_seconds: how long an offset is labelled, from the note's end on.
    """

    sample_rate: int = 16000
    hop_length: int = 512
    onset_seconds: float = 0.032
    offset_seconds: float = 0.032


def rolls(
    notes: Notes, *, start: float, num_frames: int, config: LabelConfig | None = None
) -> dict[str, np.ndarray]:
    """Return the training labels of one stretch of a recording.

    A span of time covers the frames `floor(from·fps)` up to, not including, `ceil(to·fps)`, at
    least one. A note that began before the stretch is active without an onset. Onset frames weigh
    5, the x-th frame after them 5/x to the note's end, all others 1. Velocities are divided by 127
    rather than by the file's largest one, which a listener to a stretch cannot know.
    (arXiv 1710.11153; arXiv 1810.12247 for offsets.)

    Args:
        notes: the notes of the whole recording, pitches 21 to 108.
        start: where the stretch begins, in seconds.
        num_frames: frames in the stretch.
        config: frame rate and label lengths; None is the papers' own.

    Returns:
        onsets, frames, offsets, velocities and frame_weights, each (num_frames, 88) float32;
        velocities are set on onset frames and zero elsewhere.
    """
    config = config or LabelConfig()
    rate = config.sample_rate / config.hop_length
    stop = start + num_frames / rate
    near = (notes.onsets < stop) & (notes.offsets + config.offset_seconds > start)
    onsets, offsets = notes.onsets[near], notes.offsets[near]
    keys = notes.pitches[near] - LOWEST_PITCH
    onset_stop = np.minimum(offsets, onsets + config.onset_seconds)

    begin, onset_end = _frame_span(onsets - start, onset_stop - start, rate)
    _, end = _frame_span(onsets - start, offsets - start, rate)
    offset_begin, offset_end = _frame_span(
        offsets - start, offsets + config.offset_seconds - start, rate
    )
    labels = {
        name: np.zeros((num_frames, NUM_KEYS), np.float32)
        for name in ("onsets", "frames", "offsets", "velocities")
    }
    labels["frame_weights"] = np.ones((num_frames, NUM_KEYS), np.float32)

    frame, note = _expand(begin, onset_end, num_frames)
    labels["onsets"][frame, keys[note]] = 1.0
    labels["velocities"][frame, keys[note]] = notes.velocities[near][note] / 127
    frame, note = _expand(offset_begin, offset_end, num_frames)
    labels["offsets"][frame, keys[note]] = 1.0
    # Notes are in order of onset and the last assignment stands: a repeated note has the say.
    frame, note = _expand(begin, end, num_frames)
    labels["frames"][frame, keys[note]] = 1.0
    after_onset = np.maximum(frame - onset_end[note] + 1, 1)
    labels["frame_weights"][frame, keys[note]] = _ONSET_WEIGHT / after_onset
    return labels


def _frame_span(start: np.ndarray, stop: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return first frame and one past the last frame of spans in seconds."""
    first = np.floor(start * rate + _EDGE).astype(np.int64)
    last = np.ceil(stop * rate - _EDGE).astype(np.int64)
    return first, np.maximum(last, first + 1)


def _expand(first: np.ndarray, last: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (frame, note) of every frame within 0..num_frames of every note, note by note."""
    first, last = np.clip(first, 0, num_frames), np.clip(last, 0, num_frames)
    lengths = last - first
    note = np.repeat(np.arange(len(first)), lengths)
    before = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths
    return np.arange(len(note)) - before[note] + first[note], note
