import numpy as np
import pytest

from deepaudio.data.notes import Notes
from deepaudio.evaluation.pictures import key_name, roll_picture, to_image

NONE = Notes(*(np.zeros(0) for _ in range(4)))


def one_note(onset, offset, pitch=60, velocity=100):
    return Notes(*(np.array([value]) for value in (onset, offset, pitch, velocity)))


def bright(image):
    """Pixels of a note: much red, unlike the background and the sound."""
    return image[..., 0].astype(int) > 150


def roll_area(figure):
    """The image of the first row, without labels and colour scale."""
    image = to_image(figure)
    box = figure.axes[0].get_window_extent()
    top = image.shape[0] - int(box.y1)
    return image[top : image.shape[0] - int(box.y0), int(box.x0) : int(box.x1)]


def test_a_note_stands_at_its_time_and_key():
    area = roll_area(roll_picture(one_note(2.0, 4.0, 60), duration=10.0))
    rows, columns = np.nonzero(bright(area))
    height, width = area.shape[:2]
    assert columns.min() / width == pytest.approx(0.2, abs=0.01)
    assert columns.max() / width == pytest.approx(0.4, abs=0.01)
    higher = roll_area(
        roll_picture(
            Notes(np.array([2.0, 2.0]), np.array([4.0, 4.0]), np.array([48, 72]), np.array([1, 1])),
            duration=10.0,
        )
    )
    assert higher.dtype == np.uint8 and higher.shape[2] == 3
    assert rows.max() - rows.min() < height / 20


def test_louder_is_brighter():
    soft, loud = (
        roll_area(roll_picture(one_note(0.0, 10.0, 60, velocity), duration=10.0))
        for velocity in (20, 120)
    )
    assert loud.astype(int).sum() > soft.astype(int).sum()


def test_sound_and_reference_are_drawn():
    plain = to_image(roll_picture(NONE, duration=2.0))
    log_mel = np.full((62, 229), -90.0, np.float32)
    log_mel[20:30] = 0.0
    with_sound = to_image(roll_picture(NONE, log_mel, duration=2.0))
    assert np.any(plain != with_sound)
    with_truth = to_image(roll_picture(NONE, reference=one_note(0.5, 1.0), duration=2.0))
    assert with_truth[..., :].max() > 200 and np.any(plain != with_truth)


@pytest.mark.parametrize(("seconds", "rows"), [(5, 1), (30.05, 1), (61, 3), (3600, 12)])
def test_long_sound_is_broken_into_rows_that_cover_it(seconds, rows):
    figure = roll_picture(one_note(seconds - 1.0, seconds), duration=seconds)
    spans = [ax.get_xlim() for ax in figure.axes[:-1]]
    assert len(spans) == rows
    assert spans[0][0] == 0 and spans[-1][1] >= seconds - 1e-6
    assert [end for _, end in spans[:-1]] == [begin for begin, _ in spans[1:]]


def test_no_notes_at_all():
    assert to_image(roll_picture(NONE)).ndim == 3


def test_key_names():
    assert [key_name(pitch) for pitch in (21, 54, 60, 108)] == ["A0", "F#3", "C4", "C8"]
