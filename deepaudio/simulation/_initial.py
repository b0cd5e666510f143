"""Self-gravitating systems to start from, in units with a gravitational constant of 1."""

import math

import numpy as np

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._laws import Gravity

# Where a Plummer sphere is cut off: this share of its mass lies within 39 scale lengths.
_PLUMMER_MASS_SHARE = 0.999
_PLUMMER_SCALE = 3 * math.pi / 16


def plummer(
    num_bodies: int,
    rng: np.random.Generator | int,
    *,
    virialize: bool = False,
    dtype: np.typing.DTypeLike = np.float32,
) -> Bodies:
    """A Plummer sphere of equal masses in Hénon's units, at rest about the origin.

    Total mass 1, energy -1/4, virial radius 1, scale length 3 pi / 16; the time to cross it is
    2 sqrt(2). Drawn as in Aarseth, Hénon and Wielen (1974, A&A 37, 183): radii by inverting the
    mass within them, speeds by rejection from q^2 (1 - q^2)^(7/2), directions at random.

    Args:
        num_bodies: At least 2.
        rng: A generator, or its seed.
        virialize: Scale positions and velocities so that, without softening, the potential energy
            is exactly -1/2 and the kinetic 1/4. Otherwise they scatter about that by chance.
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.

    Raises:
        ValueError: There are fewer than two bodies.
    """
    check_number(num_bodies)
    rng = np.random.default_rng(rng)
    within = rng.uniform(0, _PLUMMER_MASS_SHARE, num_bodies)
    radii = 1 / np.sqrt(np.maximum(within, 1e-12) ** (-2 / 3) - 1)
    escape = math.sqrt(2) * (1 + radii**2) ** -0.25
    speeds = escape * _plummer_speeds(num_bodies, rng)
    positions = _PLUMMER_SCALE * radii[:, None] * _directions(num_bodies, rng)
    velocities = speeds[:, None] * _directions(num_bodies, rng) / math.sqrt(_PLUMMER_SCALE)
    masses = np.full(num_bodies, 1 / num_bodies)
    bodies = Bodies(positions, velocities, masses)
    bodies = at_rest(bodies)
    return as_type(_virialized(bodies, dtype) if virialize else bodies, dtype)


def uniform_sphere(
    num_bodies: int,
    rng: np.random.Generator | int,
    *,
    virial_ratio: float = 0.0,
    dtype: np.typing.DTypeLike = np.float32,
) -> Bodies:
    """A sphere of uniform density, equal masses, total mass 1 and radius 1, about the origin.

    A cold one collapses within a free-fall time of pi / (2 sqrt(2)), about 1.11.

    Args:
        num_bodies: At least 2.
        rng: A generator, or its seed.
        virial_ratio: Kinetic energy over that of the potential of the smooth sphere, 3/5, not
            negative; 0 is cold, 0.5 is balanced. Velocities are normally distributed.
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.

    Raises:
        ValueError: There are fewer than two bodies, or the ratio is negative.
    """
    check_number(num_bodies)
    if not (math.isfinite(virial_ratio) and virial_ratio >= 0):
        raise ValueError(f"virial_ratio must not be negative, as {virial_ratio} is")
    rng = np.random.default_rng(rng)
    radii = rng.uniform(0, 1, num_bodies) ** (1 / 3)
    positions = radii[:, None] * _directions(num_bodies, rng)
    velocities = rng.standard_normal((num_bodies, 3))
    masses = np.full(num_bodies, 1 / num_bodies)
    bodies = at_rest(Bodies(positions, velocities, masses))
    kinetic = 0.5 * (masses @ np.square(bodies.velocities).sum(axis=1))
    scale = math.sqrt(virial_ratio * 0.6 / kinetic)
    return as_type(bodies._replace(velocities=scale * bodies.velocities), dtype)


def kepler(
    eccentricity: float = 0.9,
    *,
    mass_ratio: float = 1.0,
    dtype: np.typing.DTypeLike = np.float32,
) -> Bodies:
    """Two bodies on an ellipse in the xy plane, at their farthest from each other.

    Total mass 1 and semi-major axis 1, hence a period of 2 pi; the centre of mass rests at the
    origin, and the second body starts towards positive x and moves towards positive y.

    Args:
        eccentricity: In [0, 1).
        mass_ratio: Mass of the second body over that of the first, above 0.
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.

    Raises:
        ValueError: The eccentricity or the ratio is out of its range.
    """
    if not 0 <= eccentricity < 1:
        raise ValueError(f"eccentricity must be at least 0 and below 1, not {eccentricity}")
    if not (math.isfinite(mass_ratio) and mass_ratio > 0):
        raise ValueError(f"mass_ratio must be above 0, not {mass_ratio}")
    masses = np.array([1, mass_ratio]) / (1 + mass_ratio)
    distance = np.array([1 + eccentricity, 0, 0])
    speed = math.sqrt((1 - eccentricity) / (1 + eccentricity))
    of_distance = np.array([-masses[1], masses[0]])[:, None]
    velocity = np.array([0, speed, 0])
    return as_type(Bodies(of_distance * distance, of_distance * velocity, masses), dtype)


FIGURE_EIGHT_PERIOD = 6.3259


def figure_eight(*, dtype: np.typing.DTypeLike = np.float32) -> Bodies:
    """Three bodies of mass 1 that follow each other on a figure eight in the xy plane.

    The orbit of Chenciner and Montgomery (2000, Annals of Mathematics 152, 881), with Simó's
    constants; its period is `FIGURE_EIGHT_PERIOD`.

    Args:
        dtype: float32 or float64.

    Returns:
        The bodies, as numpy arrays.
    """
    place = np.array([-0.97000436, 0.24308753, 0])
    velocity = np.array([0.93240737, 0.86473146, 0]) / 2
    bodies = Bodies(
        np.stack([place, -place, 0 * place]),
        np.stack([velocity, velocity, -2 * velocity]),
        np.ones(3),
    )
    return as_type(bodies, dtype)


def check_number(num_bodies: int) -> None:
    """Raises a ValueError if these are too few bodies."""
    if num_bodies < 2:
        raise ValueError(f"a simulation needs at least 2 bodies, not {num_bodies}")


def _directions(num_bodies: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors, (N, 3)."""
    vectors = rng.standard_normal((num_bodies, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _plummer_speeds(num_bodies: int, rng: np.random.Generator) -> np.ndarray:
    """Speeds as shares of the escape speed, of density q^2 (1 - q^2)^(7/2), (N,)."""
    speeds = np.empty(0)
    while len(speeds) < num_bodies:
        q = rng.uniform(0, 1, 4 * num_bodies)
        # 0.1 is a little above the density's greatest value, 0.092.
        kept = rng.uniform(0, 0.1, len(q)) < q**2 * (1 - q**2) ** 3.5
        speeds = np.concatenate([speeds, q[kept]])
    return speeds[:num_bodies]


def at_rest(bodies: Bodies) -> Bodies:
    """The bodies with their centre of mass at rest at the origin."""
    weights = bodies.masses / bodies.masses.sum()
    return bodies._replace(
        positions=bodies.positions - weights @ bodies.positions,
        velocities=bodies.velocities - weights @ bodies.velocities,
    )


def _virialized(bodies: Bodies, dtype: np.typing.DTypeLike) -> Bodies:
    """The bodies scaled to potential energy -1/2 and kinetic energy 1/4."""
    energies = Gravity().energies(as_type(bodies, dtype))
    potential = 0.5 * float(np.asarray(energies, np.float64).sum())
    kinetic = 0.5 * float(bodies.masses @ np.square(bodies.velocities).sum(axis=1))
    return bodies._replace(
        positions=bodies.positions * (-potential / 0.5),
        velocities=bodies.velocities * math.sqrt(0.25 / kinetic),
    )


def as_type(bodies: Bodies, dtype: np.typing.DTypeLike) -> Bodies:
    """The bodies, numpy arrays, as another dtype."""
    return Bodies(*(None if array is None else array.astype(dtype) for array in bodies))
