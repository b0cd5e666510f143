"""Integrators against orbits in closed form, and against themselves backwards."""

import math

import jax
import numpy as np
import pytest

from deepaudio import simulation
from deepaudio.simulation import Gravity, Hermite, Leapfrog, Molecular

pytestmark = pytest.mark.usefixtures("x64")


def kepler_orbit(eccentricity, time):
    """The second body's place relative to the first, by Kepler's equation; at 0 it is farthest."""
    mean = time + math.pi
    anomaly = mean
    for _ in range(50):
        slope = 1 - eccentricity * math.cos(anomaly)
        anomaly -= (anomaly - eccentricity * math.sin(anomaly) - mean) / slope
    x = math.cos(anomaly) - eccentricity
    y = math.sqrt(1 - eccentricity**2) * math.sin(anomaly)
    return np.array([-x, -y, 0])


def molecules(positions, velocities=None):
    positions = np.asarray(positions, float)
    ones = np.ones(len(positions))
    velocities = np.zeros_like(positions) if velocities is None else velocities
    return simulation.Bodies(positions, velocities, ones, 0 * ones, ones, ones)


def kepler_errors(integrator, eccentricity=0.5, time=5.0):
    """Errors at a time that is reached in 500, 1000 and 2000 steps."""
    bodies = simulation.kepler(eccentricity, mass_ratio=0.3, dtype="float64")
    errors = []
    for place, steps in ((0, 500), (1, 1000), (3, 2000)):
        # Always 2000 steps, so that all is compiled once.
        found = simulation.integrate(
            bodies, Gravity(), integrator=integrator, steps=2000, dt=time / steps, save_every=500
        )
        assert float(found.times[place]) == pytest.approx(time)
        relative = found.positions[place, 1] - found.positions[place, 0]
        errors.append(np.abs(relative - kepler_orbit(eccentricity, time)).max())
    return errors


@pytest.mark.parametrize(("integrator", "factor"), [(Leapfrog(), 4), (Hermite(), 16)])
def test_halving_the_step_divides_the_error(integrator, factor):
    errors = kepler_errors(integrator)
    assert errors[0] / errors[1] == pytest.approx(factor, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(factor, rel=0.05)


def test_correcting_twice_is_more_accurate():
    once, twice = kepler_errors(Hermite()), kepler_errors(Hermite(iterations=2))
    assert twice[0] < 0.5 * once[0]
    assert twice[0] / twice[1] == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize(
    ("bodies", "law"),
    [
        (simulation.plummer(20, 0, dtype="float64"), Gravity(softening=0.1)),
        (simulation.ionic_cluster(2, 0, dtype="float64"), Molecular()),
        (simulation.ionic_cluster(2, 0, dtype="float64"), Molecular(dielectric="sigmoidal")),
    ],
)
def test_leapfrog_goes_back_the_way_it_came(bodies, law):
    steps = {"steps": 300, "dt": 0.005, "save_every": 300}
    there = simulation.integrate(bodies, law, **steps)
    turned = bodies._replace(positions=there.positions[-1], velocities=-there.velocities[-1])
    back = simulation.integrate(turned, law, **steps)
    assert np.abs(there.positions[-1] - bodies.positions).max() > 0.05
    np.testing.assert_allclose(back.positions[-1], bodies.positions, atol=1e-11)
    np.testing.assert_allclose(back.velocities[-1], -bodies.velocities, atol=1e-11)


def test_leapfrog_keeps_momentum_and_angular_momentum():
    bodies = simulation.plummer(20, 1, dtype="float64")
    found = simulation.integrate(bodies, Gravity(softening=0.1), steps=200, dt=0.01, save_every=200)
    end = bodies._replace(positions=found.positions[-1], velocities=found.velocities[-1])
    np.testing.assert_allclose(conserved(end), conserved(bodies), atol=1e-14)


def conserved(bodies):
    """Momentum and angular momentum."""
    momenta = np.asarray(bodies.masses)[:, None] * np.asarray(bodies.velocities)
    return np.stack([momenta.sum(axis=0), np.cross(bodies.positions, momenta).sum(axis=0)])


@pytest.mark.parametrize(("integrator", "tolerance"), [(Leapfrog(), 1e-3), (Hermite(), 1e-5)])
def test_the_figure_eight_returns_after_its_period(integrator, tolerance):
    bodies = simulation.figure_eight(dtype="float64")
    found = simulation.integrate(
        bodies,
        Gravity(),
        integrator=integrator,
        steps=4000,
        dt=simulation.FIGURE_EIGHT_PERIOD / 4000,
        save_every=2000,
    )
    # The constants are given to 8 digits, and the period to 5.
    np.testing.assert_allclose(found.positions[1], bodies.positions, atol=3e-5 + tolerance)
    assert np.abs(found.positions[0] - bodies.positions).max() > 0.5


def test_adaptive_hermite_follows_an_eccentric_orbit():
    bodies = simulation.kepler(0.9, dtype="float64")
    found = simulation.integrate(
        bodies, Gravity(), integrator=Hermite(), steps=1500, eta=0.002, save_every=1
    )
    times = np.asarray(found.times)
    assert times[-1] > math.pi
    for place in (500, 1000, -1):
        relative = found.positions[place, 1] - found.positions[place, 0]
        np.testing.assert_allclose(relative, kepler_orbit(0.9, times[place]), atol=2e-4)
    # Steps are shortest where the bodies are nearest.
    sizes = np.diff(times, prepend=0)
    distances = np.linalg.norm(found.positions[:, 1] - found.positions[:, 0], axis=1)
    assert sizes[distances.argmin()] < 0.05 * sizes[distances > 1.5].max()


def test_adaptive_leapfrog_takes_its_criterion():
    bodies = simulation.plummer(20, 2, dtype="float64")
    law = Gravity(softening=0.04)
    found = simulation.integrate(bodies, law, steps=1, eta=0.03)
    largest = np.linalg.norm(law.accelerations(bodies), axis=1).max()
    assert float(found.times[0]) == pytest.approx(0.03 * math.sqrt(0.04 / largest))

    bodies = simulation.lennard_jones_cluster(13, 2, dtype="float64")
    found = simulation.integrate(bodies, Molecular(), steps=1, eta=0.03)
    pull = np.linalg.norm(Molecular().accelerations(bodies), axis=1).max()
    speed = np.linalg.norm(bodies.velocities, axis=1).max()
    assert float(found.times[0]) == pytest.approx(0.03 * min(pull**-0.5, 1 / speed))


def test_a_lennard_jones_pair_oscillates_about_its_minimum():
    rest = 2 ** (1 / 6)
    bodies = molecules([[0, 0, 0], [rest + 1e-3, 0, 0]])
    # The curvature there is 72 / 2^(1/3), and the reduced mass is a half.
    period = 2 * math.pi / math.sqrt(2 * 72 / 2 ** (1 / 3))
    found = simulation.integrate(bodies, Molecular(), steps=4000, dt=period / 1000)
    distances = np.linalg.norm(found.positions[:, 1] - found.positions[:, 0], axis=1)
    assert distances.mean() == pytest.approx(rest, abs=3e-5)
    assert distances[499] == pytest.approx(rest - 1e-3, abs=3e-5)
    assert distances[999] == pytest.approx(rest + 1e-3, abs=3e-5)
    assert np.abs(distances - rest).max() < 1.05e-3


def test_a_small_cluster_keeps_its_energy():
    bodies = simulation.plummer(50, 3, dtype="float64")
    law = Gravity(softening=0.02)
    start = simulation.diagnose(bodies, law)
    for integrator, limit in ((Hermite(), 1e-6), (Leapfrog(), 1e-3)):
        found = simulation.integrate(
            bodies, law, integrator=integrator, steps=800, dt=1 / 800, save_every=800
        )
        end = bodies._replace(positions=found.positions[-1], velocities=found.velocities[-1])
        assert abs(simulation.diagnose(end, law, start=start).energy_error) < limit


PAIR = simulation.kepler(0.5, dtype="float64")
MOLECULAR = {"law": Molecular(), "bodies": molecules(np.eye(3))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": -0.1}, "dt must be above 0, not -0.1"),
        ({"dt": math.nan}, "dt must be above 0, not nan"),
        ({"dt": 0.1, "eta": 0.1}, "either dt or eta"),
        ({}, "either dt or eta, not dt=None"),
        ({"eta": 0.1}, "softening is 0"),
        ({"eta": -1.0, "integrator": Hermite()}, "eta must be above 0, not -1.0"),
        ({"dt": 0.1, "steps": 0}, "steps=0"),
        ({"dt": 0.1, "save_every": 3}, "save_every=3"),
        ({"dt": 0.1, "law": Molecular()}, "one is None"),
        ({"dt": 0.1, "integrator": Hermite(), **MOLECULAR}, "Hermite needs the jerk"),
        ({"dt": 0.1, "bodies": PAIR._replace(masses=PAIR.masses[:1])}, r"shape \(1,\), not \(2,\)"),
        (
            {"dt": 0.1, "bodies": PAIR._replace(masses=-PAIR.masses)},
            "must not be negative, as -0.5",
        ),
        (
            {"dt": 0.1, "bodies": PAIR._replace(velocities=PAIR.velocities.astype("float32"))},
            "velocities are float32, but positions float64",
        ),
        ({"dt": 0.1, "bodies": PAIR._replace(positions=PAIR.positions * np.nan)}, "0, 0. is nan"),
        ({"dt": 0.1, "bodies": jax.tree.map(lambda a: a[:1], PAIR)}, "at least 2 bodies, not 1"),
        ({"dt": 0.1, "bodies": jax.tree.map(lambda a: a[:0], PAIR)}, "at least 2 bodies, not 0"),
        ({"dt": 0.1, "bodies": jax.tree.map(lambda a: a.astype(int), PAIR)}, "are int64"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    arguments = {"bodies": PAIR, "law": Gravity(), "steps": 10, **changes}
    bodies, law = arguments.pop("bodies"), arguments.pop("law")
    with pytest.raises(ValueError, match=message):
        simulation.integrate(bodies, law, **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gravity(softening=-0.1), "as -0.1 is"),
        (lambda: Gravity(softening=math.nan), "as nan is"),
        (lambda: Molecular(dielectric="wet"), "'wet'"),
        (lambda: Molecular(permittivity=0.0), "not 0.0"),
        (lambda: Molecular(coulomb=math.inf), "not inf"),
        (lambda: Hermite(iterations=0), "not 0"),
    ],
)
def test_impossible_laws_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_float64_without_x64_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        simulation.integrate(PAIR, Gravity(), steps=1, dt=0.1)


def test_rounding_in_float32_does_not_shorten_steps():
    law, settings = Gravity(softening=0.02), {"eta": 0.002, "t_end": 0.1, "snapshot_every": 0.1}
    steps = []
    for dtype in ("float32", "float64"):
        result = simulation.simulate(simulation.plummer(128, 0, dtype=dtype), law, **settings)
        steps.append(result.diagnostics[-1].steps)
    assert steps[0] == pytest.approx(steps[1], rel=0.1) and steps[1] > 100
