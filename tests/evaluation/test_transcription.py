import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data.notes import Notes
from deepaudio.evaluation import average_scores, score_notes

NAMES = ("precision", "recall", "f1")


def random_notes(rng, count, seconds=6.0):
    onsets = rng.uniform(0, seconds, count)
    lengths = rng.uniform(0.02, 1.5, count)
    return Notes(
        onsets, onsets + lengths, rng.integers(55, 66, count), rng.integers(20, 120, count)
    )


def disturbed(notes, rng):
    keep = rng.random(len(notes)) > 0.2
    onsets = np.maximum(notes.onsets + rng.normal(0, 0.03, len(notes)), 0)
    offsets = onsets + np.maximum(
        notes.offsets - notes.onsets + rng.normal(0, 0.08, len(notes)), 0.01
    )
    velocities = np.clip(notes.velocities + rng.integers(-25, 25, len(notes)), 1, 127)
    return Notes(onsets[keep], offsets[keep], notes.pitches[keep], velocities[keep])


def scores_of(result, kind):
    return [result[f"metric/{kind}/{name}"] for name in NAMES]


def frames_by_hand(notes, frame_seconds=0.032):
    return {
        (frame, pitch)
        for onset, offset, pitch in zip(notes.onsets, notes.offsets, notes.pitches, strict=True)
        for frame in range(1000)
        # Frame i holds part of the note.
        if onset < (frame + 1) * frame_seconds and offset > frame * frame_seconds
    }


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_mir_eval_and_counting_frames(seed):
    rng = np.random.default_rng(seed)
    reference = random_notes(rng, 40)
    estimate = disturbed(reference, rng)
    result = score_notes(reference, estimate)

    def sides(notes):
        hertz = 440.0 * 2.0 ** ((notes.pitches - 69) / 12)
        return np.stack([notes.onsets, notes.offsets], 1), hertz

    true, found = sides(reference), sides(estimate)
    note = mir_eval.transcription.precision_recall_f1_overlap(*true, *found, offset_ratio=None)
    offset = mir_eval.transcription.precision_recall_f1_overlap(*true, *found)
    velocity = mir_eval.transcription_velocity.precision_recall_f1_overlap(
        *true, reference.velocities, *found, estimate.velocities
    )
    assert scores_of(result, "note") == pytest.approx(note[:3])
    assert scores_of(result, "note_with_offset") == pytest.approx(offset[:3])
    assert scores_of(result, "note_with_offset_and_velocity") == pytest.approx(velocity[:3])

    truth, seen = frames_by_hand(reference), frames_by_hand(estimate)
    precision, recall = len(truth & seen) / len(seen), len(truth & seen) / len(truth)
    f1 = 2 * precision * recall / (precision + recall)
    assert scores_of(result, "frame") == pytest.approx([precision, recall, f1])


def test_frames_agree_with_mir_eval_multipitch():
    rng = np.random.default_rng(3)
    reference = random_notes(rng, 30)
    estimate = disturbed(reference, rng)

    def series(notes):
        held = frames_by_hand(notes)
        hertz = [
            np.array([440.0 * 2.0 ** ((p - 69) / 12) for f, p in sorted(held) if f == frame])
            for frame in range(300)
        ]
        return np.arange(300) * 0.032, hertz

    theirs = mir_eval.multipitch.evaluate(*series(reference), *series(estimate))
    precision, recall, _ = scores_of(score_notes(reference, estimate), "frame")
    assert precision == pytest.approx(theirs["Precision"])
    assert recall == pytest.approx(theirs["Recall"])


def test_the_truth_scores_one_in_everything():
    notes = random_notes(np.random.default_rng(0), 30)
    result = score_notes(notes, notes)
    assert len(result) == 12
    assert all(value == pytest.approx(1.0) for value in result.values())


def test_each_kind_asks_for_more_than_the_one_before():
    onsets = np.arange(4.0)
    truth = Notes(onsets, onsets + 0.5, np.full(4, 60), np.array([20, 50, 80, 110]))
    late = Notes(onsets, onsets + [0.5, 0.5, 0.5, 0.8], truth.pitches, truth.velocities)
    result = score_notes(truth, late)
    assert result["metric/note/f1"] == 1
    assert result["metric/note_with_offset/f1"] == 0.75
    wrong = Notes(onsets, onsets + 0.5, truth.pitches, np.array([20, 120, 30, 110]))
    result = score_notes(truth, wrong)
    assert result["metric/note_with_offset/f1"] == 1
    assert result["metric/note_with_offset_and_velocity/f1"] < 1


def test_a_time_on_the_edge_of_a_frame_counts_for_no_neighbour():
    edge = Notes(*(np.array([value]) for value in (0.096, 0.192, 60, 64)))  # frames 3, 4, 5
    inner = Notes(*(np.array([value]) for value in (0.1, 0.18, 60, 64)))
    assert scores_of(score_notes(edge, inner), "frame") == [1, 1, 1]


@pytest.mark.parametrize(("true", "found"), [(0, 5), (5, 0), (0, 0)])
def test_without_notes_on_a_side_scores_are_zero(true, found):
    rng = np.random.default_rng(0)
    result = score_notes(random_notes(rng, true), random_notes(rng, found))
    assert set(result.values()) == {0.0}


def test_notes_without_length_are_dropped():
    notes = random_notes(np.random.default_rng(0), 5)
    more = Notes(
        np.append(notes.onsets, 1.0),
        np.append(notes.offsets, 1.0),
        np.append(notes.pitches, 60),
        np.append(notes.velocities, 64),
    )
    assert score_notes(more, notes) == score_notes(notes, notes)


def test_pieces_count_the_same_whatever_their_length():
    assert average_scores([{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}]) == {"a": 0.75, "b": 0.25}
    with pytest.raises(ValueError, match="no pieces"):
        average_scores([])
