"""Runs: schedule, snapshots, resuming, refusing, stopping, several devices."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from deepaudio import simulation
from deepaudio.simulation import Gravity, Hermite, Leapfrog, Molecular

STARS = simulation.plummer(37, 0)
SOFT = Gravity(softening=0.05)
SETTINGS = {"t_end": 0.5, "snapshot_every": 0.1, "eta": 0.02}


def contents(folder):
    """The final state and the table, as bytes."""
    return (folder / "snapshots/000005.npz").read_bytes(), (folder / "diagnostics.csv").read_bytes()


def rows_of(folder):
    with (folder / "diagnostics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: its folder and its result."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, simulation.simulate(STARS, SOFT, folder=folder, **SETTINGS)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "copy")


def test_a_run_leaves_snapshots_and_a_table(whole):
    folder, result = whole
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "diagnostics.csv",
        "snapshots",
    ]
    names = [f"{index:06d}.npz" for index in range(6)]
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == names
    times = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    np.testing.assert_allclose([row.time for row in result.diagnostics], times)
    for index, (row, found) in enumerate(zip(rows_of(folder), result.diagnostics, strict=True)):
        assert int(row["snapshot"]) == index
        assert float(row["energy"]) == found.energy and row["temperature"] == ""
    with np.load(folder / "snapshots/000005.npz") as last:
        assert float(last["time"]) == 0.5
        for name in ("positions", "velocities", "masses"):
            np.testing.assert_array_equal(last[name], getattr(result.bodies, name))
    assert json.loads((folder / "config.json").read_text())["law"]["softening"] == 0.05


def test_a_run_follows_the_bodies(whole, x64):
    """To where many small steps in float64 lead."""
    exact = simulation.Bodies(*(array.astype(float) for array in STARS[:3]))
    found = simulation.integrate(
        exact, SOFT, integrator=Hermite(), steps=4000, dt=0.5 / 4000, save_every=4000
    )
    np.testing.assert_allclose(whole[1].bodies.positions, found.positions[-1], atol=2e-5)
    last = whole[1].diagnostics[-1]
    assert abs(last.energy_error) < 1e-5 and last.steps > 20


@pytest.mark.parametrize(
    ("bodies", "law", "settings"),
    [
        (STARS, SOFT, {"dt": 0.01}),
        (STARS, SOFT, {"dt": 0.01, "integrator": Leapfrog()}),
        (STARS, SOFT, {"eta": 0.05, "integrator": Leapfrog()}),
        (simulation.lennard_jones_cluster(13, 0), Molecular(), {"eta": 0.03}),
    ],
)
def test_every_way_to_take_steps_conserves_energy(bodies, law, settings):
    result = simulation.simulate(bodies, law, t_end=0.2, snapshot_every=0.15, **settings)
    assert [row.time for row in result.diagnostics] == [0, 0.15, 0.2]
    assert 0 < abs(result.diagnostics[-1].energy_error) < 1e-3
    if "dt" in settings:
        assert result.diagnostics[-1].steps == 20


def test_a_step_is_shortened_to_fit_between_snapshots():
    result = simulation.simulate(STARS, SOFT, t_end=0.2, snapshot_every=0.1, dt=0.03)
    assert [row.steps for row in result.diagnostics] == [0, 4, 8]


def test_progress_is_told(tmp_path):
    told = []
    simulation.simulate(STARS, SOFT, progress=told.append, **SETTINGS)
    assert told == sorted(told) and told[-1] == pytest.approx(0.5) and len(told) > 5


@pytest.mark.parametrize("stop", [0.0, 0.25, 0.45])
def test_a_run_that_is_stopped_goes_on_to_the_same_end(whole, tmp_path, stop):
    def progress(now):
        if now > stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulation.simulate(STARS, SOFT, folder=tmp_path, progress=progress, **SETTINGS)
    assert not (tmp_path / "snapshots/000005.npz").exists()
    resumed = simulation.simulate(STARS, SOFT, folder=tmp_path, **SETTINGS)
    assert contents(tmp_path) == contents(whole[0])
    assert repr(resumed.diagnostics) == repr(whole[1].diagnostics)
    np.testing.assert_array_equal(resumed.bodies.positions, whole[1].bodies.positions)


def test_a_killed_process_leaves_a_run_that_can_go_on(whole, tmp_path, repository):
    program = (
        "import os, signal\n"
        "from deepaudio import simulation\n"
        "def progress(now):\n"
        "    if now > 0.3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "simulation.simulate(simulation.plummer(37, 0), simulation.Gravity(softening=0.05),\n"
        f"    folder={str(tmp_path)!r}, progress=progress, **{SETTINGS!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    simulation.simulate(STARS, SOFT, folder=tmp_path, **SETTINGS)
    assert contents(tmp_path) == contents(whole[0])


def test_a_finished_run_is_not_run_again(whole, copy):
    def progress(now):
        assert now == 0.5

    result = simulation.simulate(STARS, SOFT, folder=copy, progress=progress, **SETTINGS)
    assert repr(result.diagnostics) == repr(whole[1].diagnostics)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_snapshots_are_told_and_passed_over(whole, copy, damage):
    for name in ("000005.npz", "000004.npz"):
        path = copy / "snapshots" / name
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[len(content) // 2] ^= 0xFF
        path.write_bytes(
            {"cut": content[:-100], "empty": b"", "other": b"PK?"}.get(damage, content)
        )
    (copy / "snapshots/.000006.99.npz").write_bytes(b"what a killed process was writing")
    said = []
    simulation.simulate(STARS, SOFT, folder=copy, say=said.append, **SETTINGS)
    assert ["000005" in said[0], "000004" in said[1], len(said)] == [True, True, 2]
    assert contents(copy) == contents(whole[0])


def test_damage_warns_by_default(copy):
    (copy / "snapshots/000002.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="000002.npz is no whole snapshot"):
        result = simulation.simulate(STARS, SOFT, folder=copy, **SETTINGS)
    assert [row.time for row in result.diagnostics] == [0, 0.1, 0.30000000000000004, 0.4, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta": 0.01}, "eta 0.02, not 0.01"),
        ({"t_end": 0.6}, "t_end 0.5, not 0.6"),
        ({"law": Gravity(softening=0.06)}, "law .* 0.05, .* 0.06"),
        ({"bodies": simulation.plummer(37, 1)}, "start"),
        ({"about": {"seed": 3}}, "seed None, not 3"),
    ],
)
def test_a_folder_of_another_run_is_refused(copy, changes, message):
    arguments = {"bodies": STARS, "law": SOFT, **SETTINGS, **changes}
    bodies, law = arguments.pop("bodies"), arguments.pop("law")
    before = contents(copy)
    with pytest.raises(ValueError, match=message) as caught:
        simulation.simulate(bodies, law, folder=copy, **arguments)
    assert "\n" not in str(caught.value)
    assert contents(copy) == before


def test_a_damaged_configuration_is_refused(copy):
    (copy / "config.json").write_text('{"law":')
    with pytest.raises(ValueError, match="config.json is damaged"):
        simulation.simulate(STARS, SOFT, folder=copy, **SETTINGS)


def test_a_run_whose_energy_runs_away_stops_and_keeps_its_snapshots(tmp_path):
    pair = simulation.kepler(0.9)
    settings = {"t_end": 12.0, "snapshot_every": 1.0, "dt": 0.2, "integrator": Leapfrog()}
    with pytest.raises(simulation.RunawayError, match=r"t = 3, beyond 0.1.*up to t = 2") as caught:
        simulation.simulate(pair, Gravity(), folder=tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert [row["snapshot"] for row in rows_of(tmp_path)] == ["0", "1", "2"]
    assert len(list((tmp_path / "snapshots").iterdir())) == 3
    last = simulation.read_snapshot(tmp_path / "snapshots/000002.npz")
    assert last.diagnostics.time == 2 and np.isfinite(last.state.bodies.positions).all()
    # A greater limit lets it go on.
    simulation.simulate(pair, Gravity(), folder=tmp_path, energy_limit=1e9, **settings)


def test_a_run_stops_where_positions_are_no_numbers():
    hot = simulation.lennard_jones_cluster(13, 0, temperature=1.0)
    with pytest.raises(
        simulation.RunawayError, match="not finite at t = |energy error is"
    ) as caught:
        simulation.simulate(hot, Molecular(), t_end=100.0, snapshot_every=50.0, dt=5.0)
    assert "snapshots" not in str(caught.value)


def test_a_collision_without_softening_stops_the_run():
    places = np.array([[-0.5, 0, 0], [0.5, 0, 0]], np.float32)
    bodies = simulation.Bodies(places, 0 * places, np.full(2, 0.5, np.float32))
    # They fall onto each other after pi / (2 sqrt(2)), about 1.11.
    with pytest.raises(simulation.RunawayError, match=r"at t = 1\.[12]"):
        simulation.simulate(bodies, Gravity(), t_end=2.0, snapshot_every=0.1, eta=0.02)


def test_a_run_whose_steps_become_too_short_stops():
    with pytest.raises(simulation.RunawayError, match="steps are shorter than 0.931"):
        simulation.simulate(
            simulation.kepler(0.5), Gravity(), t_end=1e9, snapshot_every=1e9, eta=1e-3
        )


@pytest.mark.parametrize(
    ("bodies", "law", "integrator"),
    [
        (STARS, SOFT, Hermite()),
        (STARS, SOFT, Leapfrog()),
        (simulation.ionic_cluster(3, 0), Molecular(), Leapfrog()),
    ],
)
def test_several_devices_come_to_what_one_comes_to(bodies, law, integrator, tmp_path):
    settings = {"t_end": 0.2, "snapshot_every": 0.1, "eta": 0.02, "integrator": integrator}
    alone = simulation.simulate(bodies, law, **settings)
    devices = jax.devices()[:4]  # 37 and 27 bodies do not divide by 4
    four = simulation.simulate(bodies, law, devices=devices, folder=tmp_path, **settings)
    assert four.bodies.positions.shape == bodies.positions.shape
    np.testing.assert_allclose(four.bodies.positions, alone.bodies.positions, atol=1e-5)
    np.testing.assert_allclose(four.bodies.velocities, alone.bodies.velocities, atol=1e-4)
    np.testing.assert_allclose(four.diagnostics[-1][2:6], alone.diagnostics[-1][2:6], atol=1e-4)
    assert four.diagnostics[-1].steps == alone.diagnostics[-1].steps
    # And they go on to the same end, bit for bit.
    os.remove(tmp_path / "snapshots/000002.npz")
    again = simulation.simulate(bodies, law, devices=devices, folder=tmp_path, **settings)
    np.testing.assert_array_equal(again.bodies.positions, four.bodies.positions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t_end": 0.0}, "t_end must be above 0, not 0.0"),
        ({"t_end": -1.0}, "not -1.0"),
        ({"t_end": math.nan}, "t_end must be above 0, not nan"),
        ({"snapshot_every": 0.0}, "snapshot_every must be above 0, not 0.0"),
        ({"energy_limit": 0.0}, "energy_limit must be above 0, not 0.0"),
        ({"dt": 0.1}, "either dt or eta"),
        ({"eta": 0.0}, "eta must be above 0, not 0.0"),
        ({"bodies": simulation.plummer(2, 0)._replace(masses=np.ones(3))}, "shape"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, message):
    arguments = {"bodies": STARS, "law": SOFT, **SETTINGS, **changes}
    bodies, law = arguments.pop("bodies"), arguments.pop("law")
    with pytest.raises(ValueError, match=message):
        simulation.simulate(bodies, law, folder=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()
