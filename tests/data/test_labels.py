import math

import numpy as np
import pytest

from deepaudio.data import Notes
from deepaudio.data.labels import LabelConfig, rolls

RATE = 16000 / 512


def slow_rolls(notes, start, num_frames):
    """The paper's rules, a note and a frame at a time."""
    names = ("onsets", "frames", "offsets", "velocities", "frame_weights")
    labels = {name: np.zeros((num_frames, 88)) for name in names}
    labels["frame_weights"][:] = 1

    def span(begin, end):
        first = math.floor((begin - start) * RATE + 1e-6)
        return first, max(first + 1, math.ceil((end - start) * RATE - 1e-6))

    for onset, offset, pitch, velocity in zip(
        notes.onsets, notes.offsets, notes.pitches, notes.velocities, strict=True
    ):
        key = pitch - 21
        first, onset_end = span(onset, min(offset, onset + 0.032))
        _, end = span(onset, offset)
        for frame in range(max(first, 0), min(end, num_frames)):
            labels["frames"][frame, key] = 1
            past = frame - onset_end + 1
            labels["frame_weights"][frame, key] = 5 if past < 1 else 5 / past
            if frame < onset_end:
                labels["onsets"][frame, key] = 1
                labels["velocities"][frame, key] = velocity / 127
        for frame in range(*span(offset, offset + 0.032)):
            if 0 <= frame < num_frames:
                labels["offsets"][frame, key] = 1
    return labels


def one(onset, offset, pitch=60, velocity=127):
    return Notes([onset], [offset], [pitch], [velocity])


@pytest.mark.parametrize("start", [0.0, 3.2, 7.777])
def test_equals_the_rules_note_by_note(start, rng):
    onsets = rng.uniform(0, 20, 400)
    notes = Notes(
        onsets,
        onsets + rng.exponential(0.5, 400) + 0.001,
        rng.integers(21, 109, 400),
        rng.integers(1, 128, 400),
    )
    got = rolls(notes, start=start, num_frames=200, config=LabelConfig())
    expected = slow_rolls(notes, start, 200)
    assert got.keys() == expected.keys()
    for name, roll in got.items():
        assert roll.dtype == np.float32 and roll.shape == (200, 88)
        np.testing.assert_allclose(roll, expected[name], atol=1e-6, err_msg=name)


def test_one_note_by_hand():
    # 0.1 s is frame 3.125 and 0.3 s frame 9.375; the onset ends in frame 4.125.
    labels = rolls(one(0.1, 0.3, velocity=64), start=0.0, num_frames=20)
    key = 60 - 21
    assert np.flatnonzero(labels["onsets"][:, key]).tolist() == [3, 4]
    assert np.flatnonzero(labels["frames"][:, key]).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert np.flatnonzero(labels["offsets"][:, key]).tolist() == [9, 10]
    np.testing.assert_allclose(labels["velocities"][3:5, key], 64 / 127)
    np.testing.assert_allclose(
        labels["frame_weights"][3:11, key], [5, 5, 5, 5 / 2, 5 / 3, 5 / 4, 5 / 5, 1]
    )
    for name in ("onsets", "frames", "offsets", "velocities"):
        assert labels[name][:, np.arange(88) != key].sum() == 0


def test_weights_fall_below_one_for_long_notes():
    weights = rolls(one(0.0, 10.0), start=0.0, num_frames=40)["frame_weights"][:, 39]
    np.testing.assert_allclose(weights[1:], 5 / np.arange(1, 40), rtol=1e-6)


def test_note_begun_before_the_stretch_has_no_onset_in_it():
    labels = rolls(one(0.0, 3.0), start=1.0, num_frames=100)
    assert labels["onsets"].sum() == 0 and labels["velocities"].sum() == 0
    assert labels["frames"][:, 39].sum() == math.ceil(2.0 * RATE)
    np.testing.assert_allclose(labels["frame_weights"][0, 39], 5 / (1.0 * RATE - 0.25), rtol=0.02)


def test_short_note_has_one_frame_at_least():
    labels = rolls(one(0.1, 0.1001), start=0.0, num_frames=20)
    assert labels["onsets"].sum() == 1 and labels["frames"].sum() == 1


def test_times_on_a_frame_edge_do_not_spill():
    # 0.32 s is frame 10, whether or not the stretch starts at a number that rounds badly.
    for start in (0.0, 0.1, 0.3, 123.456):
        labels = rolls(one(start + 0.32, start + 0.64), start=start, num_frames=30)
        assert np.flatnonzero(labels["frames"][:, 39]).tolist() == list(range(10, 20))
        assert np.flatnonzero(labels["onsets"][:, 39]).tolist() == [10]
        assert np.flatnonzero(labels["offsets"][:, 39]).tolist() == [20]


def test_repeated_note_takes_over():
    notes = Notes([0.1, 0.29], [0.29, 0.5], [60, 60], [100, 50])
    labels = rolls(notes, start=0.0, num_frames=20)
    np.testing.assert_allclose(labels["frame_weights"][9, 39], 5)
    np.testing.assert_allclose(labels["velocities"][9, 39], 50 / 127)


def test_neighbouring_stretches_join():
    notes = Notes([0.5, 1.9, 3.3], [2.5, 2.0, 3.9], [60, 21, 108], [1, 64, 127])
    whole = rolls(notes, start=0.0, num_frames=100)
    parts = [rolls(notes, start=i * 50 / RATE, num_frames=50) for i in range(2)]
    for name, roll in whole.items():
        np.testing.assert_allclose(np.concatenate([p[name] for p in parts]), roll, err_msg=name)


def test_label_lengths_and_rate_are_settings():
    config = LabelConfig(sample_rate=8000, hop_length=80, onset_seconds=0.05, offset_seconds=0.02)
    labels = rolls(one(0.1, 0.3), start=0.0, num_frames=50, config=config)
    assert [int(labels[n].sum()) for n in ("onsets", "frames", "offsets")] == [5, 20, 2]


def test_no_notes():
    labels = rolls(Notes([], [], [], []), start=0.0, num_frames=5)
    assert labels["frames"].sum() == 0 and (labels["frame_weights"] == 1).all()
