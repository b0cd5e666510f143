"""Pictures and films of runs."""

import shutil

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, PathCollection
from PIL import Image

from deepaudio import simulation


def run(bodies, law, folder, **settings):
    simulation.simulate(bodies, law, folder=folder, t_end=0.4, snapshot_every=0.1, **settings)
    return folder


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    bodies = simulation.plummer(37, 0)
    law = simulation.Gravity(softening=0.05)
    return run(bodies, law, tmp_path_factory.mktemp("stars"), dt=0.02)


@pytest.fixture(scope="module")
def ions(tmp_path_factory):
    bodies = simulation.ionic_cluster(3, 0)
    return run(bodies, simulation.Molecular(), tmp_path_factory.mktemp("ions"), dt=0.01)


def drawn(axes, kind):
    (found,) = [artist for artist in axes.collections if isinstance(artist, kind)]
    return found


def test_a_picture_shows_bodies_and_figures(stars):
    figure = simulation.run_picture(stars, "a title")
    bodies, figures = figure.axes[:3], figure.axes[3:]
    assert figure.get_suptitle() == "a title"
    for axes, index in zip(bodies, (0, 2, 4), strict=True):
        found = simulation.read_snapshot(stars / f"snapshots/{index:06d}.npz")
        places = found.state.bodies.positions
        places = places - places.mean(axis=0)
        offsets = drawn(axes, PathCollection).get_offsets()
        np.testing.assert_allclose(offsets, places[np.argsort(places[:, 2])][:, :2], atol=1e-6)
        assert axes.texts[0].get_text() == f"t = {found.diagnostics.time:.3g}"
    errors, radii, ratio = figures
    np.testing.assert_allclose(errors.lines[0].get_xdata(), [0.1, 0.2, 0.3, 0.4])
    assert [len(line.get_xdata()) for line in radii.lines] == [5, 5, 5]
    last = found.diagnostics
    assert [line.get_ydata()[-1] for line in radii.lines] == list(last[13:16])
    assert ratio.lines[0].get_ydata()[-1] == last.virial_ratio


def test_molecules_are_drawn_by_size_and_charge(ions):
    figure = simulation.run_picture(ions)
    circles = drawn(figure.axes[0], EllipseCollection)
    np.testing.assert_allclose(circles.get_widths(), 1)
    colours, counts = np.unique(circles.get_facecolors(), axis=0, return_counts=True)
    assert sorted(counts) == [13, 14]
    assert "temperature" in figure.axes[5].get_title()


def test_few_bodies_leave_trails(tmp_path):
    law = simulation.Gravity()
    folder = run(simulation.figure_eight(), law, tmp_path, dt=0.01)
    last = simulation.run_picture(folder).axes[2]
    found = simulation.read_snapshot(folder / "snapshots/000004.npz").state.bodies
    assert len(last.lines) == 3
    for line, place in zip(last.lines, found.positions, strict=True):
        assert len(line.get_xdata()) == 5
        np.testing.assert_allclose(line.get_xydata()[-1], place[:2], atol=1e-6)


def test_a_film_has_a_frame_for_each_snapshot(ions, tmp_path):
    told = []
    path = tmp_path / "film.gif"
    simulation.write_animation(path, ions, progress=lambda *done: told.append(done))
    with Image.open(path) as film:
        frames = []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB"), int))
    assert len(frames) == 5 and told[-1] == (5, 5)
    assert np.abs(frames[0] - frames[4]).max() > 50
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_film_is_thinned_out(ions, tmp_path):
    simulation.write_animation(tmp_path / "film.gif", ions, max_frames=2)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 2


def test_a_film_may_be_mp4(ions, tmp_path, require):
    require("ffmpeg")
    simulation.write_animation(tmp_path / "film.mp4", ions)
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_snapshots_are_left_out(stars, tmp_path):
    folder = shutil.copytree(stars, tmp_path / "copy")
    (folder / "snapshots/000004.npz").write_bytes(b"")
    assert simulation.run_picture(folder).axes[2].texts[0].get_text() == "t = 0.3"


def test_what_cannot_be_drawn_is_refused(stars, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="film.avi must end in .gif or .mp4"):
        simulation.write_animation(tmp_path / "film.avi", stars)
    with pytest.raises(ValueError, match="holds no run"):
        simulation.run_picture(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no whole snapshot"):
        simulation.run_picture(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="needs the program ffmpeg"):
        simulation.write_animation(tmp_path / "film.mp4", stars)
