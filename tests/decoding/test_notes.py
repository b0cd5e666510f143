from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.decoding import decode_notes

FRAME = 0.032


class Rolls(NamedTuple):
    onsets: np.ndarray | None
    frames: np.ndarray
    offsets: np.ndarray
    velocities: np.ndarray


def empty_rolls(num_frames=20):
    return Rolls(*(np.zeros((num_frames, 88), np.float32) for _ in range(4)))


def brute_force(rolls, onset_threshold=0.5, frame_threshold=0.5):
    """The rule frame by frame: [(pitch, first frame, frame after the last, velocity)]."""
    found = []
    for key in range(88):
        sounding = None
        for frame in range(len(rolls.frames) + 1):
            inside = frame < len(rolls.frames)
            onset = inside and rolls.onsets[frame, key] > onset_threshold
            before = frame > 0 and rolls.onsets[frame - 1, key] > onset_threshold
            active = inside and rolls.frames[frame, key] > frame_threshold
            rising = onset and not before
            if sounding is not None and (rising or not (active or onset)):
                velocity = rolls.velocities[sounding, key]
                found.append((key + 21, sounding, frame, velocity))
                sounding = None
            if rising:
                sounding = frame
    return sorted(found, key=lambda note: (note[1], note[0]))


def as_frames(notes):
    """First frame and frame after the last, undoing the half frames of the times."""
    first = np.floor(notes.onsets / FRAME + 1e-6).astype(int)
    return list(zip(notes.pitches.tolist(), first.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.1, 0.4, 0.8]),
)
def test_equals_the_rule_frame_by_frame(seed, density):
    rng = np.random.default_rng(seed)
    rolls = Rolls(*(rng.random((15, 88)).astype(np.float32) * density + 0.2 for _ in range(4)))
    notes = decode_notes(rolls, frame_seconds=FRAME, refine=False)
    expected = brute_force(rolls)
    assert as_frames(notes) == [note[:2] for note in expected]
    starts = {(pitch, first) for pitch, first, _, _ in expected}
    for note, onset, offset, velocity in zip(
        expected, notes.onsets, notes.offsets, notes.velocities, strict=True
    ):
        pitch, first, end, probability = note
        assert onset == pytest.approx((first + 0.5) * FRAME)
        # A note cut by the next one lasts until that begins, in the middle of its frame.
        last = end + 0.5 if (pitch, end) in starts else max(end - 0.5, first + 1)
        assert offset == pytest.approx(last * FRAME)
        assert velocity == np.clip(np.round(127 * min(probability, 1)), 1, 127)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    weight=st.sampled_from([0.0, 0.5, 3.0]),
    threshold=st.sampled_from([0.2, 0.5]),
    has_offsets=st.booleans(),
)
def test_likely_ends_are_the_likeliest_of_all(seed, weight, threshold, has_offsets):
    """Every end tried, its probability multiplied out frame by frame."""
    rng = np.random.default_rng(seed)
    onsets, frames, offsets = (rng.uniform(0.01, 0.99, (12, 88)) for _ in range(3))
    rolls = Rolls(onsets, frames, offsets if has_offsets else None, np.full((12, 88), 0.5))
    notes = decode_notes(
        rolls, frame_seconds=1.0, frame_threshold=threshold, offset_weight=weight, refine=False
    )
    for pitch, onset, offset in zip(notes.pitches, notes.onsets, notes.offsets, strict=True):
        key, start = pitch - 21, int(onset)
        later = notes.onsets[(notes.pitches == pitch) & (notes.onsets > onset)]
        limit = int(later.min()) if len(later) else 12

        def likelihood(end, key=key, start=start, limit=limit):
            product = 1.0
            for frame in range(start, limit):
                p = frames[frame, key]
                product *= p * (1 - threshold) if frame < end else (1 - p) * threshold
            for frame in (end - 1, min(end, 11)) if has_offsets else ():
                product *= (offsets[frame, key] / (1 - offsets[frame, key])) ** weight
            return product

        end = max(range(start + 1, limit + 1), key=likelihood)
        assert offset == (later.min() if end == limit < 12 else max(end - 0.5, start + 1))


def _held_note():
    """A key struck in frame 2 whose frames are sure until 12, but for a doubtful one at 6."""
    rolls = empty_rolls()
    rolls.onsets[2:4, 5] = 0.9
    rolls.frames[2:12, 5] = 0.9
    rolls.frames[6, 5] = 0.4
    return rolls


def test_a_doubtful_frame_ends_a_note_by_the_papers_rule_only():
    assert decode_notes(_held_note(), frame_seconds=1.0).offsets == pytest.approx([5.5])
    likely = decode_notes(_held_note(), frame_seconds=1.0, offset_weight=0.0)
    assert likely.offsets == pytest.approx([11.5])


def test_predicted_offsets_move_a_likely_end_by_their_weight():
    rolls = _held_note()
    rolls.frames[8:12, 5] = 0.6
    rolls.offsets[:] = 0.01
    rolls.offsets[7:9, 5] = 0.9
    ends = [
        decode_notes(rolls, frame_seconds=1.0, offset_weight=weight).offsets[0]
        for weight in (0.0, 1.0)
    ]
    assert ends == pytest.approx([11.5, 7.5])


def test_frames_decide_on_doubtful_onsets_if_they_count():
    """Equal onsets, one with sure frames after it and one with none; a sure one without frames."""
    rolls = empty_rolls()
    rolls.onsets[2:4, 5] = rolls.onsets[2:4, 9] = 0.6
    rolls.onsets[10:12, 9] = 0.998
    rolls.frames[2:12, 5] = 0.9

    def pitches(**options):
        notes = decode_notes(
            rolls, frame_seconds=1.0, onset_threshold=0.8, offset_weight=0.0, **options
        )
        return list(zip(notes.pitches.tolist(), np.floor(notes.onsets).tolist(), strict=True))

    assert pitches() == [(30, 10)]
    assert pitches(frame_support=0.1) == [(26, 2), (30, 10)]


def test_a_start_that_is_dropped_lets_the_note_before_go_on():
    """A doubtful onset within a held note: it would cut the note, if it stayed.

    Its own frames speak for it as much as for the note before it, so a low onset must lose.
    """
    rolls = empty_rolls()
    rolls.onsets[2:4, 5] = 0.99
    rolls.onsets[8:10, 5] = 0.4
    rolls.frames[2:10, 5] = 0.95
    rolls.frames[10:, 5] = 0.01
    notes = decode_notes(
        rolls, frame_seconds=1.0, onset_threshold=0.8, offset_weight=0.0, frame_support=0.1
    )
    assert np.floor(notes.onsets).tolist() == [2.0]
    assert notes.offsets == pytest.approx([9.5])


def test_support_is_bounded():
    """However long a note's frames last, an onset of less than 3 log odds below is none."""
    rolls = empty_rolls(400)
    rolls.onsets[2:4, 5] = 0.05
    rolls.onsets[2:4, 6] = 0.2
    rolls.frames[2:300, 5:7] = 0.99
    notes = decode_notes(
        rolls, frame_seconds=1.0, onset_threshold=0.7, offset_weight=0.0, frame_support=0.2
    )
    assert notes.pitches.tolist() == [27]


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset_weight": -1.0},
        {"frame_support": -1.0},
        {"frame_threshold": 0.0},
        {"onset_threshold": 1.0},
    ],
)
def test_likely_ends_refuse_what_has_no_odds(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        decode_notes(_held_note(), frame_seconds=1.0, **{"offset_weight": 1.0, **wrong})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_notes_of_a_key_never_overlap_and_have_length(seed):
    rng = np.random.default_rng(seed)
    rolls = Rolls(*(rng.random((30, 88)) for _ in range(4)))
    notes = decode_notes(rolls, frame_seconds=FRAME)
    assert np.all(notes.offsets - notes.onsets >= 0.49 * FRAME)
    for pitch in range(21, 109):
        mine = notes.pitches == pitch
        assert np.all(notes.offsets[mine][:-1] <= notes.onsets[mine][1:] + 1e-9)


def test_frames_without_an_onset_make_no_note():
    rolls = empty_rolls()
    rolls.frames[3:9, 40] = 1
    assert len(decode_notes(rolls, frame_seconds=FRAME)) == 0


def test_onset_without_a_frame_is_a_note():
    rolls = empty_rolls()
    rolls.onsets[3:5, 40] = 1
    notes = decode_notes(rolls, frame_seconds=FRAME, refine=False)
    assert notes.onsets == pytest.approx([3.5 * FRAME])
    assert notes.offsets == pytest.approx([4.5 * FRAME])


def test_labels_of_a_note_give_the_note_back():
    rng = np.random.default_rng(0)
    for _ in range(50):
        onset = rng.uniform(2, 3)  # frames
        offset = onset + rng.uniform(2, 10)
        rolls = empty_rolls()
        rolls.onsets[int(onset) : int(onset) + 2, 0] = 1
        rolls.frames[int(onset) : int(np.ceil(offset)), 0] = 1
        rolls.velocities[int(onset), 0] = 64 / 127
        notes = decode_notes(rolls, frame_seconds=1.0)
        assert abs(notes.onsets[0] - onset) <= 0.5
        assert abs(notes.offsets[0] - offset) <= 0.5
        assert (notes.pitches[0], notes.velocities[0]) == (21, 64)


@pytest.mark.parametrize("mean", [5.0, 5.3, 5.5, 5.8, 6.0])
def test_refinement_finds_the_time_a_calibrated_model_has_in_mind(mean):
    # The model believes the onset uniform within half a frame to either side of `mean`; frame j
    # carries the label of an onset within frames j - 1 and j.
    belief = np.random.default_rng(1).uniform(mean - 0.5, mean + 0.5, 200_000)
    rolls = empty_rolls()
    for frame in range(20):
        rolls.onsets[frame, 10] = np.mean((belief >= frame - 1) & (belief < frame + 1))
    rolls.frames[:] = rolls.onsets
    plain = decode_notes(rolls, frame_seconds=1.0, refine=False).onsets[0]
    refined = decode_notes(rolls, frame_seconds=1.0).onsets[0]
    assert refined == pytest.approx(mean, abs=0.02)
    assert abs(plain - mean) >= abs(refined - mean) - 0.02


def test_refinement_keeps_to_the_first_frame_and_ignores_the_next_rise():
    rolls = empty_rolls()
    rolls.onsets[4, 7] = rolls.onsets[6, 7] = 1
    rolls.frames[4:9, 7] = 1
    notes = decode_notes(rolls, frame_seconds=1.0)
    assert np.floor(notes.onsets).tolist() == [4, 6]
    assert notes.onsets[0] == pytest.approx(4.0)
    assert notes.offsets[0] == notes.onsets[1]


def test_without_onsets_every_run_of_frames_is_a_note():
    rolls = empty_rolls()._replace(onsets=None)
    rolls.frames[2:5, 3] = rolls.frames[7:9, 3] = 0.9
    rolls.velocities[:] = 0.5
    notes = decode_notes(rolls, frame_seconds=FRAME)
    assert notes.onsets == pytest.approx(np.array([2.5, 7.5]) * FRAME)
    assert notes.offsets == pytest.approx(np.array([4.5, 8.5]) * FRAME)
    assert notes.velocities.tolist() == [64, 64]


def test_note_at_the_end_is_closed_and_start_is_added():
    rolls = empty_rolls(6)
    rolls.onsets[4:, 87] = rolls.frames[4:, 87] = 1
    notes = decode_notes(rolls, frame_seconds=1.0, start=100.0)
    assert (notes.onsets[0], notes.offsets[0]) == (104.5, 105.5)


def test_velocity_is_never_zero_nor_above_127():
    rolls = empty_rolls()
    rolls.onsets[3, :2] = 1
    rolls.velocities[3, :2] = [-0.3, 1.7]
    assert decode_notes(rolls, frame_seconds=FRAME).velocities.tolist() == [1, 127]


def test_jax_half_precision_and_nothing():
    rolls = Rolls(*(jnp.zeros((5, 88), jnp.float16).at[2, 3].set(1) for _ in range(4)))
    assert decode_notes(rolls, frame_seconds=FRAME).pitches.tolist() == [24]
    assert len(decode_notes(empty_rolls(0), frame_seconds=FRAME)) == 0


def test_wrong_shapes_are_told():
    rolls = empty_rolls()
    with pytest.raises(ValueError, match=r"frames must be \(frames, 88\), not \(20, 87\)"):
        decode_notes(rolls._replace(frames=rolls.frames[:, 1:]), frame_seconds=FRAME)
    with pytest.raises(ValueError, match="frame_seconds=0"):
        decode_notes(rolls, frame_seconds=0)


def test_without_velocities_notes_have_the_middle_one():
    rolls = empty_rolls()
    rolls.onsets[3:5, 40] = rolls.frames[3:9, 40] = 0.9
    rolls.velocities[3, 40] = 1.0
    assert decode_notes(rolls, frame_seconds=FRAME).velocities.tolist() == [127]
    silent = rolls._replace(velocities=None)
    assert decode_notes(silent, frame_seconds=FRAME).velocities.tolist() == [64]
