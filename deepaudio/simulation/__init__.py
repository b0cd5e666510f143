"""N-body simulations: systems to start from, integrators, diagnostics, runs and pictures.

from deepaudio import simulation

bodies = simulation.plummer(4096, 0)
result = simulation.simulate(
    bodies, simulation.Gravity(softening=0.01), t_end=1.0, eta=0.02, folder="run"
)
print(result.diagnostics[-1].energy_error)
"""

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._diagnostics import (
    Diagnostics,
    diagnose,
    energy_error,
    kinetic_energy,
    lagrangian_radii,
    temperature,
)
from deepaudio.simulation._initial import (
    FIGURE_EIGHT_PERIOD,
    figure_eight,
    kepler,
    plummer,
    uniform_sphere,
)
from deepaudio.simulation._integrators import Hermite, Leapfrog, check_settings
from deepaudio.simulation._laws import DIELECTRICS, Gravity, Molecular, potential_energy
from deepaudio.simulation._models import MODELS, Model
from deepaudio.simulation._molecules import ionic_cluster, lennard_jones_cluster
from deepaudio.simulation._pictures import run_picture, write_animation
from deepaudio.simulation._run import Result, RunawayError, simulate
from deepaudio.simulation._run_folder import RunFolder, Snapshot, read_snapshot
from deepaudio.simulation._trajectory import Trajectory, integrate

__all__ = [
    "DIELECTRICS",
    "FIGURE_EIGHT_PERIOD",
    "MODELS",
    "Bodies",
    "Diagnostics",
    "Gravity",
    "Hermite",
    "Leapfrog",
    "Model",
    "Molecular",
    "Result",
    "RunFolder",
    "RunawayError",
    "Snapshot",
    "Trajectory",
    "check_settings",
    "diagnose",
    "energy_error",
    "figure_eight",
    "integrate",
    "ionic_cluster",
    "kepler",
    "kinetic_energy",
    "lagrangian_radii",
    "lennard_jones_cluster",
    "plummer",
    "potential_energy",
    "read_snapshot",
    "run_picture",
    "simulate",
    "temperature",
    "uniform_sphere",
    "write_animation",
]
