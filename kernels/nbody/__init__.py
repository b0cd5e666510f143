"""The O(N^2) sum of forces between all pairs of bodies (arXiv 0706.3060)."""

from deepaudio.kernels.nbody.api import (
    gravity,
    gravity_and_jerk,
    gravity_potential,
    lennard_jones_coulomb,
    lennard_jones_coulomb_energy,
)
from deepaudio.kernels.nbody.config import KernelConfig, TileConfig

__all__ = [
    "KernelConfig",
    "TileConfig",
    "gravity",
    "gravity_and_jerk",
    "gravity_potential",
    "lennard_jones_coulomb",
    "lennard_jones_coulomb_energy",
]
