"""Scores of a piano transcription, thin over mir_eval."""

from collections.abc import Sequence

import numpy as np

from deepaudio.data.notes import Notes

NUM_PITCHES = 128


def score_notes(
    reference: Notes, estimate: Notes, *, frame_seconds: float = 0.032
) -> dict[str, float]:
    """Precision, recall and F1 of one piece, as the literature on piano transcription counts.

    - `metric/frame`: keys sounding in frames, both sides rasterised from their notes.
    - `metric/note`: pitch right, onset within 50 ms.
    - `metric/note_with_offset`: also the offset, within the larger of 50 ms and a fifth of the
      reference note's length.
    - `metric/note_with_offset_and_velocity`: also the velocity, within 0.1 of the reference's
      range after the best linear fit of the matched ones.

    As in mir_eval every score is 0 if one side, or both, have no notes.

    Args:
        reference: The true notes of the whole piece. Notes without length are dropped.
        estimate: The notes found. Notes without length are dropped.
        frame_seconds: Length in seconds of the frames of `metric/frame`.

    Returns:
        `metric/KIND/precision`, `/recall` and `/f1` of the four kinds, each in [0, 1].

    Source: mir_eval.transcription and mir_eval.transcription_velocity (MIREX note tracking);
    Hawthorne et al., arXiv 1710.11153, section 5, for frames taken from decoded notes.
    """
    reference, estimate = _with_length(reference), _with_length(estimate)
    scores = {"frame": _frame_scores(reference, estimate, frame_seconds)}
    if len(reference.onsets) == 0 or len(estimate.onsets) == 0:
        note = offset = velocity = (0.0, 0.0, 0.0)
    else:
        note, offset, velocity = _note_scores(reference, estimate)
    scores["note"] = note
    scores["note_with_offset"] = offset
    scores["note_with_offset_and_velocity"] = velocity
    return {
        f"metric/{kind}/{name}": float(value)
        for kind, values in scores.items()
        for name, value in zip(("precision", "recall", "f1"), values, strict=True)
    }


def average_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each score over pieces, every piece counting the same.

    Args:
        scores: Results of `score_notes`, one a piece.

    Returns:
        The mean of each score.

    Raises:
        ValueError: There are no pieces.
    """
    if not scores:
        raise ValueError("no pieces to average over")
    return {name: float(np.mean([piece[name] for piece in scores])) for name in scores[0]}


def _with_length(notes: Notes) -> Notes:
    keep = notes.offsets > notes.onsets
    if keep.all():
        return notes
    return Notes(
        notes.onsets[keep], notes.offsets[keep], notes.pitches[keep], notes.velocities[keep]
    )


def _note_scores(reference: Notes, estimate: Notes) -> list[tuple[float, float, float]]:
    # mir_eval takes about a second to import, which only scoring should pay.
    import mir_eval

    true, found = (
        (
            np.stack([notes.onsets, notes.offsets], axis=1),
            mir_eval.util.midi_to_hz(notes.pitches),
            notes.velocities,
        )
        for notes in (reference, estimate)
    )
    count = mir_eval.transcription.precision_recall_f1_overlap
    count_velocity = mir_eval.transcription_velocity.precision_recall_f1_overlap
    return [
        count(*true[:2], *found[:2], offset_ratio=None)[:3],
        count(*true[:2], *found[:2])[:3],
        count_velocity(*true, *found, velocity_tolerance=0.1)[:3],
    ]


def _frame_scores(
    reference: Notes, estimate: Notes, frame_seconds: float
) -> tuple[float, float, float]:
    length = max(notes.offsets.max(initial=0.0) for notes in (reference, estimate))
    num_frames = int(np.ceil(length / frame_seconds)) + 1
    true = _rasterise(reference, num_frames, frame_seconds)
    found = _rasterise(estimate, num_frames, frame_seconds)
    hits = np.count_nonzero(true & found)
    precision = hits / max(np.count_nonzero(found), 1)
    recall = hits / max(np.count_nonzero(true), 1)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return precision, recall, f1


def _rasterise(notes: Notes, num_frames: int, frame_seconds: float) -> np.ndarray:
    """(num_frames, 128) bool: from the frame of the onset to the frame of the offset."""
    # The margin keeps a time on a frame's edge, as 0.096 / 0.032, from falling on either side.
    first = np.floor(notes.onsets / frame_seconds + 1e-6).astype(np.int64)
    last = np.ceil(notes.offsets / frame_seconds - 1e-6).astype(np.int64)
    changes = np.zeros((num_frames + 1, NUM_PITCHES), np.int32)
    np.add.at(changes, (first, notes.pitches), 1)
    np.add.at(changes, (np.maximum(last, first + 1), notes.pitches), -1)
    return np.cumsum(changes, axis=0)[:num_frames] > 0
