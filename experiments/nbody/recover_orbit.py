"""Finds a planet's mass and velocity from where it was seen, by gradients through the integrator.

    python -m experiments.nbody.recover_orbit --output orbit.png
    python -m experiments.nbody.recover_orbit --unknown mass

Two planets go round a star and pull at each other. Their positions are seen a number of times, with
noise. The mass of the outer planet, its velocity at the start, or both are unknown: a first guess
is improved by following the gradient of the mismatch, which `deepaudio.simulation.integrate` lets
through all of its steps. Prints truth, first guess and what was found, and saves a picture.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from deepaudio import simulation
from experiments import _arguments

UNKNOWNS = ("mass", "velocity", "both")
_OUTER = 2  # the planet in question
_SPAN = 12.0  # time that is watched; the outer planet's year is about 18
_STEPS_A_SIGHT = 16
_GUESSED_MASS = 0.01
_GUESSED_SPEED = 0.93  # of the true one
_LAW = simulation.Gravity(softening=1e-3)


class Guess(NamedTuple):
    """What is unknown of the outer planet.

    Attributes:
        log_mass: Natural logarithm of its mass, (), so that it stays above 0.
        velocity: At the start, (3,).
    """

    log_mass: jax.Array
    velocity: jax.Array


class Found(NamedTuple):
    """What `recover` came to.

    Attributes:
        guess: The last guess.
        losses: Mismatch before each update, 1 if it is noise alone.
    """

    guess: Guess
    losses: list[float]


def make_system() -> simulation.Bodies:
    """A star of mass 1 and two planets of masses 0.01 and 0.03 on nearly circular orbits."""
    masses = np.array([1.0, 0.01, 0.03])
    radii = np.array([0.0, 1.0, 2.0])
    angles = np.array([0.0, 0.3, 1.4])
    speeds = np.array([0.0, 1.0, 1.03 * 0.5**0.5])
    nothing = np.zeros(3)
    positions = np.stack([radii * np.cos(angles), radii * np.sin(angles), nothing], axis=1)
    velocities = np.stack([-speeds * np.sin(angles), speeds * np.cos(angles), nothing], axis=1)
    return simulation.Bodies(positions, velocities, masses)


def true_guess(bodies: simulation.Bodies) -> Guess:
    """The guess that is right."""
    return Guess(jnp.log(bodies.masses[_OUTER]), jnp.asarray(bodies.velocities[_OUTER]))


def first_guess(bodies: simulation.Bodies, unknown: str) -> Guess:
    """A wrong guess of what is unknown, "mass", "velocity" or "both"; the rest is right."""
    truth = true_guess(bodies)
    mass = jnp.log(jnp.full_like(truth.log_mass, _GUESSED_MASS))
    return Guess(
        truth.log_mass if unknown == "velocity" else mass,
        truth.velocity if unknown == "mass" else _GUESSED_SPEED * truth.velocity,
    )


def paths(bodies: simulation.Bodies, guess: Guess, sights: int) -> jax.Array:
    """Where the bodies are at each sight if the guess is right, (sights, 3, 3)."""
    bodies = bodies._replace(
        masses=jnp.asarray(bodies.masses).at[_OUTER].set(jnp.exp(guess.log_mass)),
        velocities=jnp.asarray(bodies.velocities).at[_OUTER].set(guess.velocity),
    )
    steps = sights * _STEPS_A_SIGHT
    return simulation.integrate(
        bodies, _LAW, steps=steps, dt=_SPAN / steps, save_every=_STEPS_A_SIGHT, checkpoint=True
    ).positions


def observe(
    bodies: simulation.Bodies, rng: np.random.Generator, *, sights: int, noise: float
) -> np.ndarray:
    """Seen positions, (sights, 3, 3), with normal noise of that standard deviation."""
    truth = np.asarray(paths(bodies, true_guess(bodies), sights))
    return truth + noise * rng.standard_normal(truth.shape)


def recover(
    bodies: simulation.Bodies,
    seen: np.ndarray,
    *,
    unknown: str,
    noise: float,
    updates: int,
    progress: Callable = lambda updates: updates,
) -> Found:
    """Improves the first guess by Adam on the mismatch.

    Args:
        bodies: The system; what is unknown of it is not looked at but for the first guess.
        seen: What `observe` gave.
        unknown: "mass", "velocity" or "both".
        noise: Standard deviation of what was seen, above 0.
        updates: How many.
        progress: Wraps the updates, to show a bar.

    Returns:
        The guess and how it got better.
    """
    schedule = optax.cosine_decay_schedule(0.05, updates)
    optimizer = optax.adam(schedule)

    def mismatch(guess):
        distances = (paths(bodies, guess, len(seen)) - seen) / noise
        return jnp.mean(distances**2)

    @jax.jit
    def update(guess, state):
        loss, gradient = jax.value_and_grad(mismatch)(guess)
        known = Guess(unknown == "velocity", unknown == "mass")
        gradient = jax.tree.map(lambda g, k: jnp.zeros_like(g) if k else g, gradient, known)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(guess, change), state, loss

    guess = first_guess(bodies, unknown)
    state = optimizer.init(guess)
    losses = []
    for _ in progress(range(updates)):
        guess, state, loss = update(guess, state)
        losses.append(float(loss))
    return Found(guess, losses)


def draw(bodies: simulation.Bodies, seen: np.ndarray, first: Guess, found: Found) -> Figure:
    """The orbits, by the first guess and as found, over what was seen; and how the guess improved.

    Args:
        bodies: The system.
        seen: What `observe` gave.
        first: The first guess.
        found: What `recover` came to.

    Returns:
        A matplotlib figure of no window system.
    """
    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    orbits, course = figure.subplots(1, 2)
    styles = {"first guess": (first, ":"), "found": (found.guess, "-")}
    colours = ("tab:orange", "tab:green", "tab:blue")
    for name, (guess, style) in styles.items():
        places = np.asarray(paths(bodies, guess, len(seen)))
        for body, colour in enumerate(colours):
            label = name if body == _OUTER else None
            orbits.plot(*places[:, body, :2].T, style, color=colour, label=label)
    orbits.scatter(*seen[..., :2].reshape(-1, 2).T, s=6, color="0.4", label="seen", zorder=3)
    orbits.set(aspect="equal", xlabel="x", ylabel="y")
    orbits.legend(loc="upper right")
    course.semilogy(found.losses)
    course.set(xlabel="update", ylabel="squared mismatch over that of noise")
    return figure


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_enum("unknown", "both", UNKNOWNS, "What is to be found.")
    flags.DEFINE_integer("sights", 40, "Times at which positions are seen.", lower_bound=1)
    flags.DEFINE_float("noise", 0.01, "Standard deviation of a seen coordinate.", lower_bound=1e-9)
    flags.DEFINE_integer("updates", 200, "Updates of the guess.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0)
    flags.DEFINE_string("output", "recover_orbit.png", "Picture to write.")


def main(argv: list[str]) -> None:
    """Observes, recovers, prints and draws."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    output = Path(given.output)
    if not output.resolve().parent.is_dir():
        _arguments.fail(f"--output={output}: there is no folder {output.parent}")
    kinds = FigureCanvasBase.get_supported_filetypes()
    if output.suffix.removeprefix(".") not in kinds:
        _arguments.fail(f"--output={output}: the suffix is none of {', '.join(sorted(kinds))}")
    # Differences of nearly equal orbits are what is to be followed.
    with jax.enable_x64(True):
        bodies = make_system()
        rng = np.random.default_rng(given.seed)
        seen = observe(bodies, rng, sights=given.sights, noise=given.noise)
        found = recover(
            bodies,
            seen,
            unknown=given.unknown,
            noise=given.noise,
            updates=given.updates,
            progress=lambda updates: track(updates, "fitting", console=Console(stderr=True)),
        )
        first = first_guess(bodies, given.unknown)
        rows = {"truth": true_guess(bodies), "first guess": first, "found": found.guess}
        for name, guess in rows.items():
            x, y, z = (float(value) for value in guess.velocity)
            mass = float(jnp.exp(guess.log_mass))
            print(f"{name:12} mass {mass:.5f}  velocity {x:.5f} {y:.5f} {z:.5f}")
        draw(bodies, seen, first, found).savefig(output)
    print(f"squared mismatch over that of noise: {found.losses[0]:.1f} to {found.losses[-1]:.3f}")
    print(f"wrote {output}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
