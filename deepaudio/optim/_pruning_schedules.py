"""When gradual pruning takes masks, and how many weights each of them drops."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from deepaudio.optim._masks import (
    Structure,
    as_float,
    check_real,
    check_sparsity,
    check_whole,
    is_concrete,
    keep_above,
    keep_largest,
)
from deepaudio.optim._selection import LayerType

# One number for all layers, or one a layer type.
PerType = float | jax.Array | Mapping[str, float]


def pruning_threshold(
    step: jax.typing.ArrayLike,
    *,
    start: int,
    ramp: int,
    end: int,
    frequency: int,
    theta: jax.typing.ArrayLike,
    phi: jax.typing.ArrayLike,
) -> jax.Array:
    r"""The threshold below which weights are pruned (arXiv 1704.05119, algorithm 1).

    .. math::
        \epsilon = \begin{cases}
            0 & t \le start \\
            \theta (t - start + 1) / f & start < t < ramp \\
            (\theta (ramp - start + 1) + \phi (t - ramp + 1)) / f & ramp \le t \le end
        \end{cases}

    and the value at `end` from there on.

    Args:
        step: Updates done, an int array of any shape.
        start: Step up to which nothing is pruned.
        ramp: Step from which the threshold grows with `phi`.
        end: Step at which it stops growing.
        frequency: Steps between masks, f.
        theta: Growth each f steps before `ramp`, in the weights' unit.
        phi: Growth each f steps after it.

    Returns:
        float32 array of the step's shape.

    >>> float(pruning_threshold(5, start=0, ramp=4, end=8, frequency=2, theta=0.25, phi=0.5))
    1.125
    """
    step = jnp.minimum(jnp.asarray(step, jnp.int32), end)

    def since(origin):
        return jnp.asarray(step - origin + 1).astype(jnp.float32) / as_float(frequency)

    steep = theta * as_float(ramp - start + 1) / as_float(frequency) + phi * since(ramp)
    grown = jnp.where(step < ramp, theta * since(start), steep)
    return jnp.where(step > start, grown, jnp.zeros_like(grown))


@dataclasses.dataclass(frozen=True)
class Steps:
    """The checked steps of a schedule: ints, or int32 arrays; `ramp` may be None."""

    start: Any
    ramp: Any
    end: Any
    frequency: Any


def check_steps(start: Any, ramp: Any, end: Any, frequency: Any) -> Steps:
    """Checks those that are Python numbers.

    Raises:
        ValueError: A step is negative or not whole, `frequency` is less than 1, `end` is not after
            `start`, or `ramp` is not between them.
    """
    frequency = check_whole("frequency", frequency, 1)
    start = check_whole("start", start, 0)
    end = check_whole("end", end, 1)
    if is_concrete(start) and is_concrete(end) and end <= start:
        raise ValueError(f"{end=} must be after {start=}")
    if ramp is not None:
        ramp = check_whole("ramp", ramp, 0)
        known = is_concrete(start) and is_concrete(ramp) and is_concrete(end)
        if known and not start <= ramp <= end:
            raise ValueError(f"{ramp=} must lie between {start=} and {end=}")
    return Steps(start, ramp, end, frequency)


@dataclasses.dataclass(frozen=True)
class ThresholdRule:
    """Keeps weights above the paper's threshold.

    Attributes:
        steps: Of the schedule.
        theta: A number, or a dictionary from layer type to number.
        phi: Likewise; a dictionary of the same keys if `theta` is one.
        layer_type: From path and leaf to the type.
        structure: Of the masks.
    """

    steps: Steps
    theta: Any
    phi: Any
    layer_type: LayerType
    structure: Structure

    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether a mask is taken at this step."""
        start, end = self.steps.start, self.steps.end
        return (step > start) & (step < end) & (step % self.steps.frequency == 0)

    def keep(
        self, step: jax.Array, path: str, param: jax.Array, magnitudes: jax.Array
    ) -> jax.Array:
        """The mask of one leaf."""
        theta, phi = self.theta, self.phi
        if isinstance(theta, dict):
            kind = self.layer_type(path, param)
            theta, phi = theta[kind], phi[kind]
        threshold = pruning_threshold(step, **vars(self.steps), theta=theta, phi=phi)
        is_last = step + self.steps.frequency >= self.steps.end
        return keep_above(magnitudes, threshold, self.structure, is_last)

    def check(self, chosen: dict[str, jax.Array]) -> None:
        """Raises a ValueError if the dictionary's layer types are not those of the leaves."""
        if not isinstance(self.theta, dict):
            return
        kinds = {path: self.layer_type(path, leaf) for path, leaf in chosen.items()}
        for path, kind in kinds.items():
            if kind not in self.theta:
                raise ValueError(f"no threshold for layer type {kind!r}, which {path!r} is of")
        for kind in self.theta:
            if kind not in kinds.values():
                raise ValueError(f"no selected leaf is of layer type {kind!r}")


def threshold_rule(
    steps: Steps,
    q: PerType | None,
    theta: PerType | None,
    phi: PerType | None,
    layer_type: LayerType,
    structure: Structure,
) -> ThresholdRule:
    """Checks the arguments of schedule="threshold", and derives theta and phi where not given."""
    if steps.ramp is None:
        raise ValueError("ramp=None must be a step with schedule='threshold'")
    if (q is None) == (theta is None):
        raise ValueError(f"exactly one of {q=} and {theta=} must be given")
    if phi is not None and theta is None:
        raise ValueError(f"{phi=} goes with theta; q gives its own")
    start, end, frequency = steps.start, steps.end, steps.frequency
    if is_concrete(start) and is_concrete(end) and is_concrete(frequency):
        if (start // frequency + 1) * frequency >= end:
            raise ValueError(f"{frequency=} has no multiple between {start=} and {end=}")
    if theta is None:
        span = as_float(2 * (steps.ramp - start) + 3 * (end - steps.ramp))
        growth = 2 * as_float(frequency) / span
        theta = _each(lambda number: number * growth, _checked("q", q))
    else:
        theta = _checked("theta", theta)
    phi = _each(lambda number: 1.5 * number, theta) if phi is None else _checked("phi", phi)
    if isinstance(theta, dict) and isinstance(phi, dict) and set(theta) != set(phi):
        raise ValueError(f"phi has the layer types {sorted(phi)}, and theta {sorted(theta)}")
    kinds = [*theta] if isinstance(theta, dict) else [*phi] if isinstance(phi, dict) else None
    if kinds is not None:
        theta, phi = (
            number if isinstance(number, dict) else dict.fromkeys(kinds, number)
            for number in (theta, phi)
        )
    return ThresholdRule(steps, theta, phi, layer_type, structure)


def _checked(name: str, value: PerType) -> Any:
    """A hyperparameter that may be a mapping, as a float or a dictionary of floats."""
    if isinstance(value, Mapping):
        return {key: check_real(f"{name}[{key!r}]", number) for key, number in value.items()}
    return check_real(name, value)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Applies a function to a number, or to each number of a dictionary."""
    if isinstance(value, dict):
        return {key: function(number) for key, number in value.items()}
    return function(value)


@dataclasses.dataclass(frozen=True)
class CubicRule:
    """Drops the smallest share of each leaf, a share that grows with the cubic schedule.

    Attributes:
        steps: Of the schedule; `ramp` is not read.
        sparsity: The final share.
        structure: Of the masks.
    """

    steps: Steps
    sparsity: Any
    structure: Structure

    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether a mask is taken at this step."""
        start, end = self.steps.start, self.steps.end
        regular = (step - start) % self.steps.frequency == 0
        return (step > start) & (step <= end) & (regular | (step == end))

    def keep(
        self, step: jax.Array, path: str, param: jax.Array, magnitudes: jax.Array
    ) -> jax.Array:
        """The mask of one leaf."""
        del path, param
        start, end = self.steps.start, self.steps.end
        left = (end - step).astype(jnp.float32) / as_float(end - start)
        return keep_largest(magnitudes, self.sparsity, 1 - left**3, self.structure)

    def check(self, chosen: dict[str, jax.Array]) -> None:
        """Any leaves will do."""


def cubic_rule(steps: Steps, sparsity: Any, structure: Structure) -> CubicRule:
    """Checks the arguments of schedule="cubic"."""
    if sparsity is None:
        raise ValueError(f"{sparsity=} must be given with schedule='cubic'")
    return CubicRule(steps, check_sparsity(sparsity, structure), structure)
