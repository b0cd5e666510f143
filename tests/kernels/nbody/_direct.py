"""Sums over all pairs in numpy and float64, one formula after the other, in O(N^2) memory."""

import numpy as np


def gravity(positions, velocities, masses, softening, targets=None, target_velocities=None):
    """(accelerations, jerks, potentials); a body's pair with itself adds to none of them."""
    same = targets is None
    at = positions if same else targets
    moving = velocities if target_velocities is None else target_velocities
    r = positions[None] - at[:, None]
    v = velocities[None] - moving[:, None]
    s = np.sqrt((r**2).sum(-1) + softening**2)
    if same:
        np.fill_diagonal(s, np.inf)
    pull = masses / s**3
    acceleration = (pull[..., None] * r).sum(1)
    along = (r * v).sum(-1, keepdims=True) / s[..., None] ** 2
    jerk = (pull[..., None] * (v - 3 * along * r)).sum(1)
    return acceleration, jerk, -(masses / s).sum(1)


def permittivity(dielectric, r):
    """D(r) of the three dielectrics."""
    if dielectric == "constant":
        return np.ones_like(r)
    if dielectric == "linear":
        return r
    return -8.5525 + 86.9525 / (1 + 7.7839 * np.exp(-0.003627 * 86.9525 * r))


def pair_energy(dielectric, r, charge, sigma, epsilon):
    """Energy of a pair at distance r."""
    sixth = (sigma / r) ** 6
    return 4 * epsilon * (sixth**2 - sixth) + charge / (permittivity(dielectric, r) * r)


def molecular(positions, charges, sigmas, epsilons, dielectric):
    """(forces, energies) of every body with all others, forces by differences of the energy."""
    d = positions[None] - positions[:, None]
    r = np.sqrt((d**2).sum(-1))
    np.fill_diagonal(r, 1.0)
    charge = charges[None] * charges[:, None]
    sigma = (sigmas[None] + sigmas[:, None]) / 2
    epsilon = np.sqrt(epsilons[None] * epsilons[:, None])
    h = 1e-4
    parts = (charge, sigma, epsilon)
    # Fourth order in h.
    near = pair_energy(dielectric, r + h, *parts) - pair_energy(dielectric, r - h, *parts)
    far = pair_energy(dielectric, r + 2 * h, *parts) - pair_energy(dielectric, r - 2 * h, *parts)
    slope = (8 * near - far) / (12 * h)
    energy = pair_energy(dielectric, r, *parts)
    for array in (slope, energy):
        np.fill_diagonal(array, 0.0)
    return ((slope / r)[..., None] * d).sum(1), energy.sum(1)
