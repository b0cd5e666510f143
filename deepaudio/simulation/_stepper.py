"""Many steps in one call, on one device or on several."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._integrators import Integrator, Leapfrog, Share, State
from deepaudio.simulation._laws import Law

_AXIS = "bodies"
# An interval has so many ticks. An adaptive step is a power of two of them and begins at a
# multiple of itself, so that times are exact and the last step ends with the interval.
TICKS = 2**30
# Bodies that only fill up a device's share stand so many times farther out than the outermost, and
# would take a million times longer than the others to fall in.
_FAR = 1e4


class Span(NamedTuple):
    """An interval of time and how it is divided.

    Attributes:
        length: Of the interval, in units of time.
        ticks: How many ticks it has: steps, if they are fixed, else `TICKS`.
        eta: Accuracy of adaptive steps; None for fixed ones.
    """

    length: float
    ticks: int
    eta: float | None = None


class Progress(NamedTuple):
    """How far an interval has been worked through.

    Attributes:
        ticks: Done of it.
        steps: Taken in the last call.
        finite: Whether all positions are finite.
        stuck: Whether the next step would be less than a tick.
    """

    ticks: int
    steps: int
    finite: bool
    stuck: bool


class Stepper:
    """Takes steps of one system with one law and one integrator on some devices."""

    def __init__(
        self,
        bodies: Bodies,
        law: Law,
        integrator: Integrator,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Prepares for bodies like these.

        Args:
            bodies: N of them; their values do not matter.
            law: The force law.
            integrator: How to take steps.
            devices: What to split the bodies over; None for the default device alone.
        """
        self._num_bodies = len(bodies.positions)
        devices = tuple(devices or jax.local_devices()[:1])
        self._mesh = jax.sharding.Mesh(np.array(devices), (_AXIS,))
        arguments = law, integrator, self._mesh, self._num_bodies
        self._start, self._advance, self._energies = _functions(*arguments)

    def start(self, bodies: Bodies, eta: float | None) -> State:
        """The state before the first step, of bodies as numpy arrays."""
        placed = self.place(State(bodies, np.zeros_like(bodies.positions)))
        return self._start(placed.bodies, None if eta is None else _scalar(eta, bodies))

    def place(self, state: State) -> State:
        """What `gather` returned, put where it is worked on."""
        state = _filled_up(state, -self._num_bodies % self._mesh.size)

        def put(array):
            split = P(_AXIS) if np.ndim(array) else P()
            return jax.device_put(array, NamedSharding(self._mesh, split))

        return jax.tree.map(put, state)

    def gather(self, state: State) -> State:
        """A state as numpy arrays, of the bodies alone."""
        return jax.tree.map(self._of_bodies, state)

    def advance(
        self, state: State, span: Span, ticks: int, max_steps: int
    ) -> tuple[State, Progress]:
        """Takes steps until the interval ends, or so many have been taken.

        Args:
            state: What `start`, `place` or this returned.
            span: The interval.
            ticks: Of it that are done.
            max_steps: When to return.

        Returns:
            The state, and how far it has come.
        """
        length = _scalar(span.length, state.bodies)
        eta = None if span.eta is None else _scalar(span.eta, state.bodies)
        counts = (np.int32(value) for value in (span.ticks, ticks, max_steps))
        state, progress = self._advance(state, length, eta, *counts)
        return state, Progress(*(value.item() for value in jax.device_get(progress)))

    def energies(self, state: State) -> np.ndarray:
        """What `law.energies` gives, (N,)."""
        return self._of_bodies(self._energies(state.bodies))

    def _of_bodies(self, array: jax.Array) -> np.ndarray:
        array = np.asarray(array)
        return array[: self._num_bodies] if array.ndim else array


@functools.lru_cache(maxsize=8)
def _functions(law: Law, integrator: Integrator, mesh: jax.sharding.Mesh, num_bodies: int):
    """The compiled functions of a stepper: start, advance, energies."""
    alone = mesh.size == 1

    def share(bodies):
        if alone:
            return Share()
        here = len(bodies.positions)
        first = jax.lax.axis_index(_AXIS) * here
        return Share(_AXIS, first + jnp.arange(here, dtype=jnp.int32) < num_bodies)

    def start(bodies, eta):
        return integrator.start(bodies, law, eta=eta, share=share(bodies))

    def advance(state, length, eta, total, ticks, max_steps):
        here = share(state.bodies)
        return _advance(state, law, integrator, here, length, eta, total, ticks, max_steps)

    def energies(bodies):
        return law.energies(bodies, None if alone else _AXIS)

    if alone:
        return tuple(map(jax.jit, (start, advance, energies)))
    jerks = None if isinstance(integrator, Leapfrog) else P(_AXIS)
    state = State(P(_AXIS), P(_AXIS), jerks, P())
    split = functools.partial(jax.shard_map, mesh=mesh)
    return (
        jax.jit(split(start, in_specs=(P(_AXIS), P()), out_specs=state)),
        jax.jit(split(advance, in_specs=(state, *[P()] * 5), out_specs=(state, P()))),
        jax.jit(split(energies, in_specs=P(_AXIS), out_specs=P(_AXIS))),
    )


def _advance(state, law, integrator, share, length, eta, total, ticks, max_steps):
    """`Stepper.advance`, on arrays."""
    dtype = length.dtype
    tick = length / total.astype(dtype)

    def goes_on(carry):
        _, done, steps = carry
        return (done < total) & (steps < max_steps)

    def step(carry):
        state, done, steps = carry
        count = jnp.ones_like(done)
        if eta is not None:
            wanted = integrator.wanted_step(state, law, eta=eta, share=share)
            count = _ticks_to_take(wanted / length, done)
        dt = count.astype(dtype) * tick
        state = integrator.step(state, law, dt, eta=eta, share=share)
        return state, done + count, steps + 1

    state, ticks, steps = jax.lax.while_loop(goes_on, step, (state, ticks, jnp.zeros_like(ticks)))
    finite = jnp.all(jnp.isfinite(state.bodies.positions), axis=-1)
    finite = share.smallest(finite.astype(dtype)) == 1
    stuck = jnp.zeros((), bool)
    if eta is not None:
        wanted = integrator.wanted_step(state, law, eta=eta, share=share)
        stuck = wanted < length / total.astype(dtype)
    return state, Progress(ticks, steps, finite, stuck)


def _ticks_to_take(wanted, done):
    """The largest power of two of ticks that is no longer than wanted and divides those done.

    Args:
        wanted: Length of the step as a share of the interval; if it is not a number, the rest of
            the interval is taken at once, as nothing is left to be lost.
        done: Ticks done.
    """
    halvings = jnp.ceil(-jnp.log2(wanted))
    halvings = jnp.clip(jnp.where(jnp.isnan(halvings), 0, halvings), 0, 30).astype(jnp.int32)
    count = jnp.int32(TICKS) >> halvings
    return jnp.where(done == 0, count, jnp.minimum(count, done & -done))


def _filled_up(state: State, count: int) -> State:
    """The state with so many more bodies, at rest far away, which act on nothing."""
    if count == 0:
        return state
    bodies = state.bodies
    dtype = bodies.positions.dtype
    farthest = float(np.abs(bodies.positions).max()) or 1.0
    nowhere, nothing, ones = np.zeros((count, 3), dtype), np.zeros(count, dtype), np.ones(count)
    positions = nowhere.copy()
    positions[:, 0] = _FAR * farthest * (1 + 0.1 * np.arange(count))
    # Without mass, a molecule would be moved by an infinite acceleration.
    masses = nothing if bodies.sigmas is None else ones
    added = Bodies(positions, nowhere, masses, nothing, ones, nothing)
    pairs = zip(bodies, added, strict=True)
    bodies = Bodies(*(None if a is None else _joined(a, b) for a, b in pairs))
    jerks = None if state.jerks is None else _joined(state.jerks, nowhere)
    return State(bodies, _joined(state.accelerations, nowhere), jerks, state.next_step)


def _joined(array: np.ndarray, added: np.ndarray) -> np.ndarray:
    return np.concatenate([array, added.astype(array.dtype)])


def _scalar(value: float, bodies: Bodies) -> np.ndarray:
    return np.asarray(value, bodies.positions.dtype)
