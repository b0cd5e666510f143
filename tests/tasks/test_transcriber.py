import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.tasks.transcriber import Transcriber, windows
from deepaudio.tasks.transcription import Rolls

HOP = 4


def loudness_rolls(samples):
    """A local model: a frame's value is the mean over it and its two neighbours on each side."""
    batch = samples.shape[0]
    frames = np.abs(samples).reshape(batch, -1, HOP).mean(axis=-1)
    padded = np.pad(frames, ((0, 0), (2, 2)))
    smooth = np.mean([padded[:, i : i + frames.shape[1]] for i in range(5)], axis=0)
    roll = np.repeat(smooth[..., None], 88, axis=-1).astype(np.float32)
    return Rolls(roll, roll, roll, roll)


def make(predict=loudness_rolls, window_frames=16, margin_frames=3, batch_size=4, **more):
    return Transcriber(
        predict,
        sample_rate=16,
        hop_length=HOP,
        window_frames=window_frames,
        margin_frames=margin_frames,
        batch_size=batch_size,
        **more,
    )


def split(samples, cuts):
    return np.split(samples, sorted(cut % (len(samples) + 1) for cut in cuts))


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 700),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    seed=st.integers(0, 1000),
)
def test_result_does_not_depend_on_how_the_sound_arrives(length, cuts, seed):
    samples = np.random.default_rng(seed).random(length).astype(np.float32)
    whole = make().rolls([samples])
    parts = make().rolls(iter(split(samples, cuts)))
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == (-(-length // HOP), 88)
        np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 700), window=st.integers(5, 60), batch=st.integers(1, 5))
def test_result_does_not_depend_on_the_window(length, window, batch):
    # The model looks two frames around itself, no more than the margin.
    samples = np.random.default_rng(length).random(length).astype(np.float32)
    padded = np.pad(samples, (0, -length % HOP))
    expected = loudness_rolls(padded[None]).frames[0].astype(np.float16)
    found = make(window_frames=window, margin_frames=2, batch_size=batch).rolls([samples])
    np.testing.assert_allclose(found.frames, expected, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 300),
    window=st.integers(1, 20),
    margin=st.integers(0, 6),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_windows_are_slices_of_the_padded_sound(length, window, margin, cuts):
    window += 2 * margin
    samples = np.arange(1, length + 1, dtype=np.float32)
    found = list(windows(split(samples, cuts), window, margin, HOP))
    core = window - 2 * margin
    count = max(-(-length // (core * HOP)), 1)
    padded = np.zeros((count * core + 2 * margin) * HOP, np.float32)
    padded[margin * HOP : margin * HOP + length] = samples
    expected = [padded[k * core * HOP :][: window * HOP] for k in range(count)]
    np.testing.assert_array_equal(found, expected)


def test_only_two_batch_shapes_are_ever_asked_for():
    shapes = set()

    def predict(samples):
        shapes.add(samples.shape)
        return loudness_rolls(samples)

    for length in (1, 39, 41, 160, 161, 500):
        make(predict).rolls([np.ones(length, np.float32)])
    assert shapes == {(1, 64), (4, 64)}


def test_one_window_after_full_batches_does_not_ask_for_a_new_shape():
    shapes = set()

    def predict(samples):
        shapes.add(samples.shape)
        return loudness_rolls(samples)

    make(predict).rolls([np.ones(4 * 40 + 1, np.float32)])  # five windows
    assert shapes == {(4, 64)}


def test_progress_rises_to_the_length_of_the_sound():
    seen = []
    make().rolls([np.ones(1001, np.float32)], seen.append)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1001 / 16)


def test_notes_carry_the_thresholds_and_times():
    samples = np.zeros(400, np.float32)
    samples[200:300] = 0.8
    notes = make().notes([samples])
    assert len(notes) == 88
    assert notes.onsets[0] == pytest.approx(200 / 16, abs=1)
    assert len(make().notes([samples], onset_threshold=0.9)) == 0
    assert len(make(onset_threshold=0.9).notes([samples])) == 0
    longer = make().notes([samples], frame_threshold=0.1)
    assert longer.offsets[0] > notes.offsets[0]


@pytest.mark.parametrize("absent", [False, True])
def test_a_model_without_onsets_gives_notes_from_frames(absent):
    def predict(samples):
        rolls = loudness_rolls(samples)
        return rolls._replace(onsets=None if absent else 0 * rolls.onsets)

    samples = np.zeros(400, np.float32)
    samples[200:300] = 0.8
    assert make(predict, has_onsets=False).rolls([samples]).onsets is None
    assert len(make(predict, has_onsets=False).notes([samples])) == 88
    if not absent:
        assert len(make(predict).notes([samples])) == 0


def test_silence_and_nothing():
    assert len(make().notes([np.zeros(5000, np.float32)])) == 0
    assert make().rolls([]).frames.shape == (0, 88)


def test_margins_must_leave_something():
    with pytest.raises(ValueError, match="window_frames=6 must be more than twice margin_frames=3"):
        make(window_frames=6)
