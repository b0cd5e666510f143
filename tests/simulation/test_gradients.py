"""Gradients through the integrators, against finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio import simulation
from deepaudio.simulation import Gravity, Hermite, Leapfrog, Molecular

pytestmark = pytest.mark.usefixtures("x64")

STARS = simulation.plummer(4, 1, dtype="float64")
IONS = simulation.ionic_cluster(2, 1, dtype="float64")


def end_of(law, **settings):
    """A function from bodies to a number that depends on all positions of a trajectory."""
    weights = np.random.default_rng(0).standard_normal(3)

    def value(bodies):
        found = simulation.integrate(bodies, law, **settings)
        return jnp.sum(jnp.sin(found.positions) @ weights)

    return value


def by_differences(value, bodies, direction, step=1e-6):
    """The derivative along a direction."""

    def moved(size):
        return jax.tree.map(lambda a, d: a + size * d, bodies, direction)

    return (value(moved(step)) - value(moved(-step))) / (2 * step)


@pytest.mark.parametrize(
    ("bodies", "law", "integrator"),
    [
        (STARS, Gravity(softening=0.1), Leapfrog()),
        (STARS, Gravity(softening=0.1), Hermite()),
        (IONS, Molecular(), Leapfrog()),
    ],
)
def test_gradients_are_those_of_finite_differences(bodies, law, integrator):
    value = end_of(law, integrator=integrator, steps=20, dt=0.02, save_every=5)
    value = jax.jit(value)
    gradient = jax.jit(jax.grad(value))(bodies)
    rng = np.random.default_rng(1)
    for name in fields_of(bodies):
        zeros = jax.tree.map(np.zeros_like, bodies)
        direction = zeros._replace(**{name: rng.standard_normal(getattr(bodies, name).shape)})
        expected = by_differences(value, bodies, direction)
        found = np.vdot(getattr(gradient, name), getattr(direction, name))
        assert abs(expected) > 1e-5, name
        assert found == pytest.approx(float(expected), rel=1e-5), name


def fields_of(bodies):
    return [name for name, array in bodies._asdict().items() if array is not None]


def test_checkpoints_change_no_gradient():
    settings = {"steps": 12, "dt": 0.05, "save_every": 4}
    law = Gravity(softening=0.1)
    plain = jax.jit(jax.grad(end_of(law, **settings)))(STARS)
    saving = jax.jit(jax.grad(end_of(law, **settings, checkpoint=True)))(STARS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), plain, saving)


def test_gradients_take_adaptive_steps_as_given():
    law = Gravity(softening=0.1)
    adaptive = {"integrator": Leapfrog(), "steps": 4, "eta": 0.1}
    times = np.asarray(simulation.integrate(STARS, law, **adaptive).times)
    sizes = np.diff(times, prepend=0)
    assert len(set(sizes)) == 4
    gradient = jax.jit(jax.grad(end_of(law, **adaptive)))(STARS)

    def same_steps(bodies):
        """The same steps, with their lengths given."""

        def step(state, size):
            state = Leapfrog().step(state, law, size)
            return state, state.bodies.positions

        positions = jax.lax.scan(step, Leapfrog().start(bodies, law), sizes)[1]
        return jnp.sum(jnp.sin(positions) @ np.random.default_rng(0).standard_normal(3))

    expected = jax.jit(jax.grad(same_steps))(jax.tree.map(jnp.asarray, STARS))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), gradient, expected
    )


def test_a_step_s_length_has_a_gradient_too():
    def value(dt):
        return simulation.integrate(STARS, Gravity(0.1), steps=10, dt=dt).positions[-1, 0, 0]

    value = jax.jit(value)
    expected = (value(0.02 + 1e-6) - value(0.02 - 1e-6)) / 2e-6
    assert jax.jit(jax.grad(value))(0.02) == pytest.approx(float(expected), rel=1e-6)
