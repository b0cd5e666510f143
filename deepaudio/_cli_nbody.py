"""`deepaudio nbody`: simulations of gravity and of molecules."""

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepaudio._cli_common import Reporter, naming, replacing

if TYPE_CHECKING:
    from deepaudio.simulation import Bodies, Gravity, Hermite, Leapfrog, Molecular, Result

# Below so many bodies a device, the devices would mostly wait for each other.
_LEAST_SHARE = 512
# Of leapfrog without softening, whose step cannot be chosen.
_DEFAULT_DT = 5e-4


class ModelName(StrEnum):
    """What to start from."""

    PLUMMER = "plummer"
    UNIFORM = "uniform"
    KEPLER = "kepler"
    FIGURE_EIGHT = "figure-eight"
    LENNARD_JONES = "lennard-jones"
    IONIC = "ionic"


class IntegratorName(StrEnum):
    """How to take steps."""

    LEAPFROG = "leapfrog"
    HERMITE = "hermite"


class Dielectric(StrEnum):
    """How charges are shielded."""

    CONSTANT = "constant"
    LINEAR = "linear"
    SIGMOIDAL = "sigmoidal"


class Precision(StrEnum):
    """How numbers are kept."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


class Animation(StrEnum):
    """What film to make."""

    GIF = "gif"
    MP4 = "mp4"
    NONE = "none"


class Implementation(StrEnum):
    """What sums the forces."""

    XLA = "xla"
    MOSAIC_GPU = "mosaic_gpu"


def _positive(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"must be above 0, not {value:g}")
    return value


def _not_negative(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"must not be negative, as {value:g} is")
    return value


def _several(value: int | None) -> int | None:
    if value is not None and value < 2:
        raise typer.BadParameter(f"must be at least 2, not {value}")
    return value


def nbody(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the run.", show_default=False
        ),
    ],
    model: Annotated[ModelName, typer.Option(help="What to start from.")] = ModelName.PLUMMER,
    num_bodies: Annotated[
        int | None,
        typer.Option("--n", metavar="N", callback=_several, help="Bodies.  [default: by model]"),
    ] = None,
    t_end: Annotated[
        float | None,
        typer.Option(callback=_positive, help="When to stop.  [default: by model]"),
    ] = None,
    integrator: Annotated[
        IntegratorName | None,
        typer.Option(help="[default: hermite for gravity, leapfrog for molecules]"),
    ] = None,
    dt: Annotated[
        float | None, typer.Option(callback=_positive, help="Length of the steps, all the same.")
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            callback=_positive,
            help="Accuracy of steps of changing length; smaller is slower.  [default: 0.02, for "
            "two and three bodies 0.005]",
        ),
    ] = None,
    softening: Annotated[
        float | None,
        typer.Option(
            callback=_not_negative,
            help="Length below which gravity weakens.  [default: by model]",
        ),
    ] = None,
    dielectric: Annotated[
        Dielectric | None,
        typer.Option(help="How charges are shielded, for molecules.  [default: constant]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random start.")] = 0,
    precision: Annotated[
        Precision | None,
        typer.Option(help="[default: float32, for two and three bodies float64]"),
    ] = None,
    snapshot_every: Annotated[
        float | None,
        typer.Option(
            callback=_positive, help="Time between snapshots.  [default: 100 or 400 in all]"
        ),
    ] = None,
    energy_limit: Annotated[
        float,
        typer.Option(callback=_positive, help="Stop at a greater relative energy error."),
    ] = 0.1,
    animation: Annotated[
        Animation, typer.Option(help="Film of the bodies; mp4 needs ffmpeg.")
    ] = Animation.GIF,
    implementation: Annotated[
        Implementation | None,
        typer.Option(help="What sums the forces.  [default: the best for the device]"),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print files, diagnostics and energy error as one JSON list on stdout."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print errors with a traceback.")] = False,
) -> None:
    r"""Simulate bodies that all attract each other, summing every pair.

    Under gravity (G = 1): a Plummer star cluster in Hénon units, a cold uniform sphere that
    collapses, two bodies on an ellipse, three on a figure eight. Under molecular forces (sigma =
    epsilon = 1): a Lennard-Jones cluster, a salt crystal.

    Writes DIR/summary.png, DIR/animation.gif, DIR/diagnostics.csv (energy, momentum, radii, ...)
    and DIR/snapshots/*.npz. A run that was stopped goes on where it was when the same command is
    given again.

    \b
    Examples:
      deepaudio nbody -o cluster                             1024 stars, half a minute
      deepaudio nbody -o big --n 16384 --t-end 1             more stars, for less long
      deepaudio nbody -o fall --model uniform --softening 0.05
      deepaudio nbody -o pair --model kepler --integrator leapfrog --dt 0.001
      deepaudio nbody -o salt --model ionic --n 1000 --dielectric sigmoidal
      deepaudio nbody -o cluster --json --quiet | jq '.[0].energy_error'

    Exit status: 0 if all went well, 1 if the run failed or its energy ran away (its snapshots are
    kept), 2 on wrong usage.
    """
    if dt is not None and eta is not None:
        raise typer.BadParameter("--dt and --eta exclude each other")
    reporter = Reporter(quiet=quiet, debug=debug)
    options = {
        "num_bodies": num_bodies, "t_end": t_end, "integrator": integrator, "dt": dt, "eta": eta,
        "softening": softening, "dielectric": dielectric, "precision": precision,
        "implementation": implementation, "snapshot_every": snapshot_every,
    }  # fmt: skip
    _use_all_cores()
    given = {k: getattr(v, "value", v) for k, v in options.items() if v is not None}
    plan = _plan(model.value, seed, given)
    job = _Job(reporter, output, plan, energy_limit, animation, quiet)
    row = {"file": str(output)}
    try:
        row |= job.do()
    except Exception as error:
        row["error"] = reporter.error(output, error)
    if as_json:
        typer.echo(json.dumps([row]))
    reporter.exit()


def _use_all_cores() -> None:
    """Makes a device of every core, as JAX runs the loops of one device on one core."""
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # JAX has started, within somebody else's program
        jax.config.update("jax_num_cpu_devices", cores or 1)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What to simulate, with every default filled in."""

    name: str
    seed: int
    bodies: "Bodies"
    law: "Gravity | Molecular"
    integrator: "Hermite | Leapfrog"
    t_end: float
    snapshot_every: float
    dt: float | None
    eta: float | None

    @property
    def is_double(self) -> bool:
        return self.bodies.positions.dtype.name == "float64"


def _plan(name: str, seed: int, options: dict) -> _Plan:
    """The plan for a model and the options that were given.

    Raises:
        BadParameter: Options do not go together, or with the model.
    """
    from deepaudio import simulation

    model = simulation.MODELS[name]
    integrator = options.get("integrator", "leapfrog" if model.molecular else "hermite")
    foreign = "softening" if model.molecular else "dielectric"
    if foreign in options:
        raise typer.BadParameter(f"--{foreign} {options[foreign]} means nothing to {name}")
    law_options = {key: options[key] for key in ("dielectric", "implementation") if key in options}
    if model.molecular:
        law = simulation.Molecular(**law_options)
    else:
        law = simulation.Gravity(options.get("softening", model.softening), **law_options)
    dt, eta = options.get("dt"), options.get("eta")
    if dt is None and eta is None:
        is_fixed = integrator == "leapfrog" and not model.molecular and law.softening == 0
        dt, eta = (_DEFAULT_DT, None) if is_fixed else (None, model.eta)
    steps = simulation.Hermite() if integrator == "hermite" else simulation.Leapfrog()
    try:
        simulation.check_settings(law, steps, dt=dt, eta=eta)
        precision = options.get("precision", model.precision)
        bodies = model.make(options.get("num_bodies", model.num_bodies), seed, precision)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    t_end = options.get("t_end", model.t_end)
    every = options.get("snapshot_every", t_end / model.snapshots)
    return _Plan(name, seed, bodies, law, steps, t_end, every, dt, eta)


@dataclasses.dataclass(frozen=True)
class _Job:
    reporter: Reporter
    folder: Path
    plan: _Plan
    energy_limit: float
    animation: Animation
    quiet: bool

    def do(self) -> dict:
        """Simulates and draws; returns what `--json` prints beside the folder."""
        result = self._simulate()
        files = [self.folder / name for name in ("config.json", "diagnostics.csv")]
        files += self._draw()
        last = result.diagnostics[-1]
        self.reporter.say(
            f"{self.folder} ({len(result.bodies.masses)} bodies, {last.steps} steps to "
            f"t = {last.time:g}, relative energy error {last.energy_error:.2g})"
        )
        figures = {k: None if math.isnan(v) else v for k, v in last._asdict().items()}
        return {
            "model": self.plan.name,
            "files": [str(file) for file in files],
            "snapshots": str(self.folder / "snapshots"),
            "energy_error": figures.pop("energy_error"),
            "diagnostics": figures,
        }

    def _simulate(self) -> "Result":
        import jax

        from deepaudio import simulation

        plan = self.plan
        devices = jax.local_devices()
        used = max(min(len(devices), len(plan.bodies.masses) // _LEAST_SHARE), 1)
        with jax.enable_x64(plan.is_double), self._progress(plan.name, plan.t_end) as progress:
            try:
                return simulation.simulate(
                    plan.bodies,
                    plan.law,
                    t_end=plan.t_end,
                    integrator=plan.integrator,
                    dt=plan.dt,
                    eta=plan.eta,
                    snapshot_every=plan.snapshot_every,
                    folder=self.folder,
                    about={"model": plan.name, "seed": plan.seed},
                    energy_limit=self.energy_limit,
                    devices=devices[:used],
                    progress=progress,
                    say=lambda message: self.reporter.say(f"warning: {message}"),
                )
            except simulation.RunawayError as error:
                # Told in its own words, not as a fault of the program.
                raise ValueError(str(error)) from error

    def _draw(self) -> list[Path]:
        """Writes the picture and the film."""
        from deepaudio import simulation

        summary = self.folder / "summary.png"
        title = f"{self.plan.name}, {len(self.plan.bodies.masses)} bodies"
        with naming(summary), replacing(summary) as beside:
            figure = simulation.run_picture(self.folder, title)
            figure.savefig(beside)
        if self.animation == Animation.NONE:
            return [summary]
        film = self.folder / f"animation.{self.animation.value}"
        with naming(film), self._progress("film", None) as progress:
            simulation.write_animation(film, self.folder, progress=progress)
        return [summary, film]

    @contextlib.contextmanager
    def _progress(self, name: str, total: float | None) -> Iterator[Callable[..., None]]:
        """A progress bar on stderr, if that is a terminal.

        Yields:
            A function to call with how much is done, and of how much, if that is not known yet.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda *done: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.4g} of {task.total:.4g}" if total else ""),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total)
            yield lambda done, of=total: bar.update(task, completed=done, total=of)
