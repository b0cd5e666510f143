"""Forces between all pairs of bodies, in O(N^2) time and O(N) memory (arXiv 0706.3060).

All functions share one interface:

- **Arrays** are float32 or float64, all of one dtype; float64 needs `jax_enable_x64`.
- **`implementation`** is "mosaic_gpu" (NVIDIA GPUs since Hopper, float32), "xla" (any device), or
  None for the best that the device has. Both give the same numbers but for rounding.
- **`targets`**: by default every body feels all others. With targets given, forces act on those,
  and all bodies are sources, so a target must not be one of them unless softened.
- **`positions_low`** (and `targets_low`): what float32 positions have lost of exact ones, as
  float32 too. Near bodies far from the origin then have exact distances; forces are still
  accurate to float32's precision alone.
- **`axis_name`**: inside `jax.shard_map`, the mesh axis over which bodies are split. Every device
  passes its own part and gets the forces on it; the sources travel round the ring of devices.
- **Gradients** with respect to every array, of any order, are sums over pairs as well and need
  memory for bodies alone. The softening and the laws' scalar constants get none.
- `jax.vmap` adds batches.

Unsoftened bodies at one place: the pair's force has no direction. Gravity then counts distances
below 1e-12 (float32) or 1e-60 (float64) as softened by that much, so that the pair's force is zero;
its potential is finite and meaningless. The molecular laws give NaN.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from deepaudio.kernels.nbody import _checks, _laws
from deepaudio.kernels.nbody._pair_sum import IMPLEMENTATIONS, sum_around_ring, sum_pairs

Dielectric = Literal["constant", "linear", "sigmoidal"]
Implementation = Literal["xla", "mosaic_gpu"]
# Distances below which an unsoftened pair counts as softened: their inverse cubes are still finite.
_CLOSEST = {"float32": 1e-12, "float64": 1e-60}


def gravity(
    positions: jax.Array,
    masses: jax.Array,
    *,
    softening: float | jax.Array,
    targets: jax.Array | None = None,
    positions_low: jax.Array | None = None,
    targets_low: jax.Array | None = None,
    implementation: Implementation | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Accelerations under gravity with Plummer's softening, where G = 1.

    a_i is the sum over j of m_j r_ij / (r_ij^2 + eps^2)^(3/2), r_ij from i to j.

    Args:
        positions: (N, 3).
        masses: (N,).
        softening: eps, a length of at least 0.
        targets: (M, 3) places to find the acceleration at; None for the bodies themselves.
        positions_low: (N, 3) low parts of positions; see the module.
        targets_low: (M, 3) low parts of targets.
        implementation: See the module.
        axis_name: See the module.

    Returns:
        (N, 3), or (M, 3) for targets.

    Raises:
        ValueError: Shapes or dtypes disagree, a value is not finite, or softening is negative.

    Examples:
        >>> positions = jnp.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        >>> accelerations = gravity(positions, jnp.array([3.0, 8.0]), softening=0.0)
        >>> [round(float(x), 3) for x in accelerations[:, 0]]
        [2.0, -0.75]

    References:
        Elsen et al., `N-Body Simulations on GPUs <https://arxiv.org/abs/0706.3060>`_, 2007
    """
    places = _places(positions, targets, positions_low, targets_low, axis_name)
    _checks.check_column("masses", masses, positions)
    law = _laws.gravity(places.two_float)
    return jnp.stack(
        _sum(
            law,
            places,
            (_softening_square(softening, positions),),
            places.targets,
            (*places.sources, masses),
            implementation,
            axis_name,
        ),
        axis=-1,
    )


def gravity_potential(
    positions: jax.Array,
    masses: jax.Array,
    *,
    softening: float | jax.Array,
    targets: jax.Array | None = None,
    positions_low: jax.Array | None = None,
    targets_low: jax.Array | None = None,
    implementation: Implementation | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Potentials of `gravity`: minus the sum of m_j / (r_ij^2 + eps^2)^(1/2), without j = i.

    Half the sum of potential times mass over all bodies is their potential energy.

    Args:
        positions: As for `gravity`, like all that follow.
        masses: (N,).
        softening: A length of at least 0.
        targets: (M, 3) or None.
        positions_low: (N, 3) or None.
        targets_low: (M, 3) or None.
        implementation: See the module.
        axis_name: See the module.

    Returns:
        (N,), or (M,) for targets, energy per mass.

    Raises:
        ValueError: As `gravity`.
    """
    places = _places(positions, targets, positions_low, targets_low, axis_name)
    _checks.check_column("masses", masses, positions)
    (potential,) = _sum(
        _laws.gravity_potential(places.two_float),
        places,
        (_softening_square(softening, positions),),
        places.targets,
        (*places.sources, masses),
        implementation,
        axis_name,
    )
    return potential


def gravity_and_jerk(
    positions: jax.Array,
    velocities: jax.Array,
    masses: jax.Array,
    *,
    softening: float | jax.Array,
    targets: jax.Array | None = None,
    target_velocities: jax.Array | None = None,
    positions_low: jax.Array | None = None,
    targets_low: jax.Array | None = None,
    implementation: Implementation | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Accelerations as by `gravity`, and their derivatives in time, as Hermite integrators need.

    The jerk is the sum of m_j [v_ij / s^3 - 3 (r_ij . v_ij) r_ij / s^5], s^2 = r_ij^2 + eps^2.

    Args:
        positions: (N, 3).
        velocities: (N, 3).
        masses: (N,).
        softening: A length of at least 0.
        targets: (M, 3) places, or None for the bodies themselves.
        target_velocities: (M, 3); needed with targets.
        positions_low: (N, 3) or None; see the module.
        targets_low: (M, 3) or None.
        implementation: See the module.
        axis_name: See the module.

    Returns:
        Accelerations and jerks, each (N, 3), or (M, 3) for targets.

    Raises:
        ValueError: As `gravity`, or only one of targets and their velocities is given.

    References:
        arXiv 0706.3060, the kernel GAJ
    """
    places = _places(positions, targets, positions_low, targets_low, axis_name)
    _checks.check_like("velocities", velocities, positions)
    _checks.check_column("masses", masses, positions)
    if (targets is None) != (target_velocities is None):
        raise ValueError("targets and target_velocities must be given together")
    moving = velocities
    if target_velocities is not None:
        _checks.check_like("target_velocities", target_velocities, targets)
        moving = target_velocities
    found = _sum(
        _laws.gravity_and_jerk(places.two_float),
        places,
        (_softening_square(softening, positions),),
        (*places.targets, *_columns(moving)),
        (*places.sources, *_columns(velocities), masses),
        implementation,
        axis_name,
    )
    return jnp.stack(found[:3], axis=-1), jnp.stack(found[3:], axis=-1)


def lennard_jones_coulomb(
    positions: jax.Array,
    charges: jax.Array,
    sigmas: jax.Array,
    epsilons: jax.Array,
    *,
    dielectric: Dielectric = "constant",
    permittivity: float = 1.0,
    coulomb: float = 1.0,
    species: jax.Array | None = None,
    positions_low: jax.Array | None = None,
    implementation: Implementation | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Forces between molecules' atoms: Lennard-Jones, and Coulomb in a dielectric.

    A pair's energy is 4 e [(s/r)^12 - (s/r)^6] + k q q' / (D(r) r), its force minus the gradient of
    that, with s the mean of the two sigmas and e the geometric mean of the two epsilons (Lorentz
    and Berthelot). D is, by `dielectric`,

    - "constant": `permittivity`;
    - "linear": `permittivity` times r;
    - "sigmoidal": `permittivity` times -8.5525 + 86.9525 / (1 + 7.7839 exp(-0.003627 x 86.9525 r)),
      from about 1 in contact to water's 78.4, r in angstrom (Mehler and Solmajer, 1991).

    Args:
        positions: (N, 3).
        charges: (N,).
        sigmas: (N,) lengths above 0, or (S,) by species.
        epsilons: (N,) energies of at least 0, or (S,) by species.
        dielectric: See above.
        permittivity: Factor of D, above 0.
        coulomb: k, the constant of Coulomb's law in the units used (332.0637 for kcal/mol,
            angstrom and elementary charges).
        species: (N,) integers, the place of every body in sigmas and epsilons; None if these have
            a value for each body.
        positions_low: (N, 3) or None; see the module.
        implementation: See the module.
        axis_name: See the module.

    Returns:
        (N, 3) forces.

    Raises:
        ValueError: Shapes or dtypes disagree, a value is not finite or out of range, or there is
            no such dielectric.

    References:
        arXiv 0706.3060, the kernels LJC
    """
    law = _molecular(_laws.lennard_jones_coulomb, dielectric, positions_low)
    found = _sum_molecular(
        law, _laws.FORCE_FACTORS[dielectric], positions, charges, sigmas, epsilons, permittivity,
        coulomb, species, positions_low, implementation, axis_name,
    )  # fmt: skip
    return jnp.stack(found, axis=-1)


def lennard_jones_coulomb_energy(
    positions: jax.Array,
    charges: jax.Array,
    sigmas: jax.Array,
    epsilons: jax.Array,
    *,
    dielectric: Dielectric = "constant",
    permittivity: float = 1.0,
    coulomb: float = 1.0,
    species: jax.Array | None = None,
    positions_low: jax.Array | None = None,
    implementation: Implementation | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Energies of every body with all others, of the law of `lennard_jones_coulomb`.

    Half their sum is the potential energy of all.

    Args:
        positions: As for `lennard_jones_coulomb`, like all that follow.
        charges: (N,).
        sigmas: (N,), or (S,) by species.
        epsilons: (N,), or (S,) by species.
        dielectric: "constant", "linear" or "sigmoidal".
        permittivity: Above 0.
        coulomb: The constant of Coulomb's law.
        species: (N,) integers or None.
        positions_low: (N, 3) or None.
        implementation: See the module.
        axis_name: See the module.

    Returns:
        (N,).

    Raises:
        ValueError: As `lennard_jones_coulomb`.
    """
    law = _molecular(_laws.lennard_jones_coulomb_energy, dielectric, positions_low)
    (found,) = _sum_molecular(
        law, 1.0, positions, charges, sigmas, epsilons, permittivity,
        coulomb, species, positions_low, implementation, axis_name,
    )  # fmt: skip
    return found


class _Places(NamedTuple):
    """Checked positions of targets and sources as features, and whether they are the same."""

    targets: _laws.Features
    sources: _laws.Features
    two_float: bool
    same: bool


def _places(positions, targets, positions_low, targets_low, axis_name):
    # A body alone feels nothing; a device may hold one of many.
    alone = 1 if targets is not None or axis_name is not None else 2
    _checks.check_places("positions", positions, alone)
    if positions_low is not None:
        _checks.check_like("positions_low", positions_low, positions)
    if targets is not None:
        _checks.check_places("targets", targets, 1)
        if targets.dtype != positions.dtype:
            raise ValueError(f"{targets.dtype=} must be that of positions, {positions.dtype}")
        if (positions_low is None) != (targets_low is None):
            raise ValueError("positions_low and targets_low must be given together")
        if targets_low is not None:
            _checks.check_like("targets_low", targets_low, targets)
    elif targets_low is not None:
        raise ValueError("targets_low needs targets")
    sources = _columns(positions)
    if positions_low is not None:
        sources += _columns(positions_low)
    if targets is None:
        return _Places(sources, sources, positions_low is not None, True)
    mine = _columns(targets)
    if targets_low is not None:
        mine += _columns(targets_low)
    return _Places(mine, sources, positions_low is not None, False)


def _columns(array):
    return tuple(array[:, axis] for axis in range(3))


def _softening_square(softening, positions):
    if not _checks.is_traced(softening) and not (np.isfinite(softening) and softening >= 0):
        raise ValueError(f"{softening=} must be a number of at least 0")
    closest = _CLOSEST[positions.dtype.name]
    square = jnp.square(jnp.asarray(softening, positions.dtype))
    return jax.lax.stop_gradient(jnp.maximum(square, closest**2))


def _molecular(law, dielectric, positions_low):
    if dielectric not in get_args(Dielectric):
        known = ", ".join(get_args(Dielectric))
        raise ValueError(f"{dielectric=} must be one of {known}")
    return law(dielectric, positions_low is not None)


def _sum_molecular(
    law, factor, positions, charges, sigmas, epsilons, permittivity, coulomb, species,
    positions_low, implementation, axis_name,
):  # fmt: skip
    places = _places(positions, None, positions_low, None, axis_name)
    _checks.check_column("charges", charges, positions)
    _checks.check_values("sigmas", sigmas, lambda value: value > 0, "above 0")
    _checks.check_values("epsilons", epsilons, lambda value: value >= 0, "at least 0")
    for name, value in (("permittivity", permittivity), ("coulomb", coulomb)):
        if not _checks.is_traced(value) and not np.isfinite(value):
            raise ValueError(f"{name}={value} must be a number")
    if not _checks.is_traced(permittivity) and permittivity <= 0:
        raise ValueError(f"{permittivity=} must be above 0")
    if species is not None:
        _checks.check_species(species, sigmas, epsilons, positions)
        sigmas, epsilons = sigmas[species], epsilons[species]
    _checks.check_column("sigmas", sigmas, positions)
    _checks.check_column("epsilons", epsilons, positions)
    # What does not depend on the pair is done before: halves that add to a mean, roots that
    # multiply to a geometric mean, and Coulomb's constant.
    shape = (0.5 * sigmas, _root(4.0 * epsilons))
    scale = jnp.asarray(factor * coulomb / permittivity, positions.dtype)
    return _sum(
        law,
        places,
        (),
        (*places.targets, charges, *shape),
        (*places.sources, charges * scale, *shape),
        implementation,
        axis_name,
    )


def _root(x):
    """Square root with a derivative of zero at zero, where a body has no Lennard-Jones force."""
    positive = x > 0
    return jnp.where(
        positive, jnp.sqrt(jnp.where(positive, x, jnp.ones_like(x))), jnp.zeros_like(x)
    )


def _sum(law, places, constants, targets, sources, implementation, axis_name):
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"{implementation=} must be one of {', '.join(IMPLEMENTATIONS)}")
    if axis_name is not None:
        return sum_around_ring(
            law, implementation, constants, targets, sources, same=places.same, axis_name=axis_name
        )
    offset = jnp.int32(0) if places.same else None
    return sum_pairs(law, implementation, constants, targets, sources, offset)
