"""The laws of force: what one source does to one target.

A law is written once, over features (tuples of arrays that broadcast), and serves every
implementation: targets are vectors and sources scalars in the GPU kernel, columns and rows of a
tile elsewhere. Its derivatives are laws too, found by differentiating the pair.

What is costly in a pair (`coefficients`) stands apart from what is cheap (`combine`), because XLA
on a CPU computes the first once a pair into a small buffer and the second once for every output.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Features = tuple[jax.Array, ...]

# Padded bodies are far from everything and from each other, and weigh nothing.
_FAR = 1e18
# What sigmoidal dielectrics use (Mehler and Solmajer, Protein Engineering 4, 1991), r in angstrom:
# from about 1 in contact to 78.4, water's, far away.
_SIGMOID_LOW, _SIGMOID_RISE, _SIGMOID_SHAPE, _SIGMOID_RATE = -8.5525, 86.9525, 7.7839, 0.003627


class Maths(NamedTuple):
    """Elementary functions, as an implementation computes them.

    Attributes:
        rsqrt: 1 / sqrt(x).
        reciprocal: 1 / x.
        exp2: 2 to the power of x.
    """

    rsqrt: Callable[[jax.Array], jax.Array]
    reciprocal: Callable[[jax.Array], jax.Array]
    exp2: Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Law:
    """A sum over sources for every target.

    Attributes:
        name: For profiles.
        coefficients: From (maths, constants, targets, sources) to the costly parts of a pair.
        combine: From (coefficients, targets, sources, sums) to the sums with a pair's contribution
            added to every output; sums may be None, for the contribution alone.
        outputs: How many outputs a target has.
        target_padding: Features of targets that are only there to fill a tile.
        source_padding: Features of such sources; they contribute nothing.
        singular: Whether a body's pair with itself must be left out, as it is not zero.
    """

    name: str
    coefficients: Callable[[Maths, Features, Features, Features], Features]
    combine: Callable[[Features, Features, Features, Features | None], Features]
    outputs: int
    target_padding: tuple[float, ...]
    source_padding: tuple[float, ...]
    singular: bool

    def pair(
        self, maths: Maths, constants: Features, targets: Features, sources: Features
    ) -> Features:
        """What sources do to targets, pair by pair."""
        found = self.coefficients(maths, constants, targets, sources)
        return self.combine(found, targets, sources, None)


def differences(targets: Features, sources: Features, two_float: bool) -> Features:
    """Source minus target in x, y and z.

    Positions in two floats are high parts first, then low parts: high parts of near bodies
    subtract without error, and what is left is as small as their distance.
    """
    high = tuple(sources[axis] - targets[axis] for axis in range(3))
    if not two_float:
        return high
    return tuple(high[axis] + (sources[3 + axis] - targets[3 + axis]) for axis in range(3))


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _softened_square(d, constants):
    """r^2 + eps^2, in an order that needs three fused multiply-adds and no more."""
    return constants[0] + d[0] * d[0] + d[1] * d[1] + d[2] * d[2]


def _add(sums, *parts):
    """Products added to sums one after another, so that each is one fused multiply-add."""
    for part in parts:
        if sums is None:
            sums = part
        else:
            sums = tuple(a + b for a, b in zip(sums, part, strict=True))
    return sums


def _places(two_float):
    """Padded features of a position, in one float or two."""
    return (_FAR, _FAR, _FAR) + ((0.0, 0.0, 0.0) if two_float else ())


def _opposite(padding):
    return tuple(-value for value in padding)


@functools.cache
def gravity(two_float: bool = False) -> Law:
    """Accelerations: sum of m r / (r^2 + eps^2)^(3/2), r from target to source.

    Features of targets: position; of sources: position, mass. Constants: eps^2.
    """

    def coefficients(maths, constants, targets, sources):
        d = differences(targets, sources, two_float)
        inverse = maths.rsqrt(_softened_square(d, constants))
        return (sources[-1] * inverse * (inverse * inverse),)

    def combine(found, targets, sources, sums):
        d = differences(targets, sources, two_float)
        return _add(sums, tuple(found[0] * part for part in d))

    places = _places(two_float)
    return Law("gravity", coefficients, combine, 3, _opposite(places), (*places, 0.0), False)


@functools.cache
def gravity_potential(two_float: bool = False) -> Law:
    """Potentials: minus the sum of m / (r^2 + eps^2)^(1/2), features as in `gravity`."""

    def coefficients(maths, constants, targets, sources):
        d = differences(targets, sources, two_float)
        return (-sources[-1] * maths.rsqrt(_softened_square(d, constants)),)

    places = _places(two_float)
    return Law("gravity_potential", coefficients, _keep, 1, _opposite(places), (*places, 0.0), True)


@functools.cache
def gravity_and_jerk(two_float: bool = False) -> Law:
    """Accelerations, and their time derivatives.

    The jerk is the sum of m [v / s^3 - 3 (r.v) r / s^5], s^2 = r^2 + eps^2, v the velocity of the
    source against the target's. Features: position, velocity, and a source's mass.
    """
    start = 6 if two_float else 3

    def relative(targets, sources):
        d = differences(targets, sources, two_float)
        return d, tuple(sources[start + axis] - targets[start + axis] for axis in range(3))

    def coefficients(maths, constants, targets, sources):
        d, v = relative(targets, sources)
        inverse = maths.rsqrt(_softened_square(d, constants))
        square = inverse * inverse
        strength = sources[-1] * inverse * square
        return strength, strength * (-3.0 * (_dot(d, v) * square))

    def combine(found, targets, sources, sums):
        strength, approach = found
        d, v = relative(targets, sources)
        pull = tuple(strength * part for part in d)
        along = tuple(strength * part for part in v)
        back = tuple(approach * part for part in d)
        acceleration, jerk = (None, None) if sums is None else (sums[:3], sums[3:])
        return _add(acceleration, pull) + _add(jerk, along, back)

    places = (*_places(two_float), 0.0, 0.0, 0.0)
    return Law(
        "gravity_and_jerk", coefficients, combine, 6, _opposite(places), (*places, 0.0), False
    )


def _keep(found, targets, sources, sums):
    del targets, sources
    return _add(sums, found)


def _sixth_power(targets, sources, inverse_square):
    """(sigma / r)^6 and four times the depth, mixed by Lorentz and Berthelot."""
    sigma = targets[-2] + sources[-2]
    square = (sigma * sigma) * inverse_square
    return square * square * square, targets[-1] * sources[-1]


def _molecular_padding(two_float):
    return _places(two_float) + (0.0, 0.0, 0.0)


def _constant(maths, charge, square):
    """(1 / r^2, energy, -r dU/dr but for its factor) of Coulomb's law where D = 1."""
    inverse = maths.rsqrt(square)
    energy = charge * inverse
    return inverse * inverse, energy, energy


def _linear(maths, charge, square):
    # -r dU/dr is twice the energy: in forces, the factor is in the sources' charges already.
    inverse_square = maths.reciprocal(square)
    energy = charge * inverse_square
    return inverse_square, energy, energy


def _sigmoidal(maths, charge, square):
    inverse = maths.rsqrt(square)
    distance = square * inverse
    # D = low + rise * share, where share = 1 / (1 + shape * exp(-rate * rise * r)).
    power = -_SIGMOID_RATE * _SIGMOID_RISE * math.log2(math.e)
    falling = maths.exp2(power * distance + math.log2(_SIGMOID_SHAPE))
    share = maths.reciprocal(1.0 + falling)
    inverse_permittivity = maths.reciprocal(_SIGMOID_LOW + _SIGMOID_RISE * share)
    energy = charge * inverse * inverse_permittivity
    # r D' / D
    steep = _SIGMOID_RATE * _SIGMOID_RISE**2
    slope = steep * (share - share * share) * distance * inverse_permittivity
    return inverse * inverse, energy, energy + energy * slope


_DIELECTRICS = {"constant": _constant, "linear": _linear, "sigmoidal": _sigmoidal}
DIELECTRICS = tuple(_DIELECTRICS)
# What Coulomb's forces have beside the law's own, which saves a product a pair.
FORCE_FACTORS = {"constant": 1.0, "linear": 2.0, "sigmoidal": 1.0}


@functools.cache
def lennard_jones_coulomb(dielectric: str, two_float: bool = False) -> Law:
    """Forces: minus the gradient of 4 e [(s/r)^12 - (s/r)^6] + q q' / (D(r) r).

    D is 1, r, or the sigmoid of Mehler and Solmajer. Features: position, charge, half of sigma,
    and the root of four times epsilon; the constants of Coulomb's law stand in the source's charge,
    and so does `FORCE_FACTORS`.
    """
    coulomb = _DIELECTRICS[dielectric]

    def coefficients(maths, constants, targets, sources):
        d = differences(targets, sources, two_float)
        charge = targets[-3] * sources[-3]
        inverse_square, _, slope = coulomb(maths, charge, _dot(d, d))
        sixth, depth = _sixth_power(targets, sources, inverse_square)
        # -r dU/dr of both; forces point from source to target where it is positive.
        virial = slope + depth * sixth * (12.0 * sixth - 6.0)
        return (-(virial * inverse_square),)

    def combine(found, targets, sources, sums):
        d = differences(targets, sources, two_float)
        return _add(sums, tuple(found[0] * part for part in d))

    padding = _molecular_padding(two_float)
    name = f"lennard_jones_coulomb_{dielectric}"
    return Law(name, coefficients, combine, 3, _opposite(padding), padding, True)


@functools.cache
def lennard_jones_coulomb_energy(dielectric: str, two_float: bool = False) -> Law:
    """Energies of every target with all sources, features as in `lennard_jones_coulomb`."""
    coulomb = _DIELECTRICS[dielectric]

    def coefficients(maths, constants, targets, sources):
        d = differences(targets, sources, two_float)
        charge = targets[-3] * sources[-3]
        inverse_square, energy, _ = coulomb(maths, charge, _dot(d, d))
        sixth, depth = _sixth_power(targets, sources, inverse_square)
        return (energy + depth * sixth * (sixth - 1.0),)

    padding = _molecular_padding(two_float)
    name = f"lennard_jones_coulomb_{dielectric}_energy"
    return Law(name, coefficients, _keep, 1, _opposite(padding), padding, True)


@functools.cache
def target_gradient(law: Law) -> Law:
    """The law of a sum's gradient by its targets' features.

    Its targets have the law's features and then the outputs' cotangents; its outputs are the
    gradients by the former.
    """
    own = len(law.target_padding)

    def coefficients(maths, constants, targets, sources):
        values, cotangents = targets[:own], targets[own:]
        return _pull_back(lambda t: law.pair(maths, constants, t, sources), values, cotangents)

    padding = law.target_padding + (0.0,) * law.outputs
    name = f"{law.name}_by_targets"
    return Law(name, coefficients, _keep, own, padding, law.source_padding, True)


@functools.cache
def source_gradient(law: Law) -> Law:
    """The law of a sum's gradient by its sources' features: who acts and who is acted on change.

    Its targets are the law's sources; its sources are the law's targets with the outputs'
    cotangents after them.
    """
    own = len(law.target_padding)

    def coefficients(maths, constants, targets, sources):
        values, cotangents = sources[:own], sources[own:]
        return _pull_back(lambda s: law.pair(maths, constants, values, s), targets, cotangents)

    padding = law.target_padding + (0.0,) * law.outputs
    name = f"{law.name}_by_sources"
    outputs = len(law.source_padding)
    return Law(name, coefficients, _keep, outputs, law.source_padding, padding, True)


def _pull_back(function, values, cotangents):
    """Gradients of a function of features by `values`, one for each pair."""
    results = jax.eval_shape(function, values)
    shape = jnp.broadcast_shapes(*(leaf.shape for leaf in results))
    # In the shape of the pairs already, values broadcast along nothing, and so no gradient is
    # summed.
    _, pull = jax.vjp(function, tuple(jnp.broadcast_to(value, shape) for value in values))
    return pull(tuple(jnp.broadcast_to(leaf, shape) for leaf in cotangents))[0]
