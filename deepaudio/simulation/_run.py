"""Runs: from a start to an end, with snapshots that a run can be resumed from."""

import dataclasses
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._diagnostics import Diagnostics, diagnose
from deepaudio.simulation._integrators import (
    Hermite,
    Integrator,
    Leapfrog,
    State,
    check_settings,
)
from deepaudio.simulation._laws import Law, Molecular, check_system
from deepaudio.simulation._run_folder import RunFolder, Snapshot, write_snapshot
from deepaudio.simulation._stepper import TICKS, Span, Stepper

# Snapshots of a run that does not say how many.
_SNAPSHOTS = 100
# A call of the stepper should take about so many seconds: short enough for a progress bar, long
# enough for Python not to matter.
_CALL_SECONDS = 0.25
_MOST_STEPS = 2**20


class RunawayError(ArithmeticError):
    """A run has stopped because it can no longer be believed."""


class Result(NamedTuple):
    """What a run has come to.

    Attributes:
        bodies: At the end, as numpy arrays.
        diagnostics: Of every snapshot, the start among them, in order of time.
    """

    bodies: Bodies
    diagnostics: list[Diagnostics]


def simulate(
    bodies: Bodies,
    law: Law,
    *,
    t_end: float,
    integrator: Integrator | None = None,
    dt: float | None = None,
    eta: float | None = None,
    snapshot_every: float | None = None,
    folder: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    energy_limit: float = 0.1,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Follows bodies from time 0 to `t_end`.

    A run with a folder is resumed by the same call: it goes on from the newest whole snapshot and
    ends in the same state, bit for bit, as one that was never stopped, on as many devices of the
    same kind.

    Args:
        bodies: At the start, numpy arrays or JAX arrays.
        law: The force law.
        t_end: When to stop, above 0.
        integrator: How steps are taken; None for Hermite with gravity, leapfrog with molecules.
        dt: Length of the steps, above 0, shortened a little so that whole steps make an interval.
            Either this or `eta` is given.
        eta: Accuracy from which the integrator chooses the length of each step, above 0; about
            0.02. The step is then the next shorter power of two of an interval.
        snapshot_every: Time from one snapshot to the next, an interval; None for `t_end` / 100.
        folder: Where snapshots and diagnostics are written; None for nowhere.
        about: What else tells this run from others and is kept in `config.json`.
        energy_limit: Greatest relative energy error at a snapshot, above 0.
        devices: What the bodies are split over; None for the default device alone.
        progress: Is called with the time reached, a few times a second.
        say: Is told of damaged snapshots; None warns.

    Returns:
        The end and all diagnostics.

    Raises:
        ValueError: An argument is out of its range, or the folder holds another run.
        RunawayError: The energy's error is above the limit, a position is not finite, or steps
            have become too short to go on. Snapshots up to then are kept.
        OSError: The folder cannot be written to.
    """
    if integrator is None:
        integrator = Leapfrog() if isinstance(law, Molecular) else Hermite()
    check_system(bodies, law)
    check_settings(law, integrator, dt=dt, eta=eta)
    every = min(t_end / _SNAPSHOTS if snapshot_every is None else snapshot_every, t_end)
    named = {"t_end": t_end, "snapshot_every": every, "energy_limit": energy_limit}
    for name, value in named.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, not {value}")
    bodies = Bodies(*(None if array is None else np.asarray(array) for array in bodies))
    run = _Run(
        Stepper(bodies, law, integrator, devices),
        law,
        _Schedule(float(t_end), float(every), dt, eta),
        None if folder is None else RunFolder(folder),
        energy_limit,
        progress or (lambda now: None),
        say or (lambda message: warnings.warn(message, stacklevel=3)),
    )
    if run.folder is not None:
        run.folder.open({**_config(bodies, law, integrator, run.schedule), **(about or {})})
    return run.follow(bodies)


class _Schedule(NamedTuple):
    """When snapshots are taken, and how long steps are."""

    t_end: float
    every: float
    dt: float | None
    eta: float | None

    @property
    def intervals(self) -> int:
        # Rounding must not add an interval of no length.
        return max(math.ceil(self.t_end / self.every * (1 - 1e-12)), 1)

    def time(self, index: int) -> float:
        """When an interval ends."""
        return self.t_end if index >= self.intervals else index * self.every

    def span(self, index: int) -> Span:
        """The interval that ends with snapshot `index`."""
        length = self.time(index) - self.time(index - 1)
        if self.dt is None:
            return Span(length, TICKS, self.eta)
        return Span(length, max(math.ceil(length / self.dt * (1 - 1e-9)), 1))


@dataclasses.dataclass
class _Run:
    stepper: Stepper
    law: Law
    schedule: _Schedule
    folder: RunFolder | None
    energy_limit: float
    progress: Callable[[float], None]
    say: Callable[[str], None]
    steps_a_call: int = 1

    def follow(self, bodies: Bodies) -> Result:
        """`simulate`, with everything prepared."""
        state = self.stepper.start(bodies, self.schedule.eta)
        first = diagnose(bodies, self.law, energies=self.stepper.energies(state))
        done, state, rows = self._resume(state, first)
        for index in range(done + 1, self.schedule.intervals + 1):
            state, steps = self._interval(state, index, rows[done].time)
            state, found = self._look(state, index, rows[done].steps + steps, first)
            rows[index] = found
            self._write(index, Snapshot(state, found), rows)
            # The snapshot is what goes on, so that a resumed run does nothing else.
            state, done = self.stepper.place(state), index
        return Result(self.stepper.gather(state).bodies, list(rows.values()))

    def _resume(self, state: State, first: Diagnostics):
        """Where to go on: number of the snapshot, the state there, and the diagnostics so far."""
        newest = None if self.folder is None else self.folder.newest(self.say)
        if newest is None:
            rows = {0: first}
            self._write(0, Snapshot(self.stepper.gather(state), first), rows)
            return 0, state, rows
        index, snapshot = newest
        rows = self.folder.figures(index, self.say)
        self.folder.write_table(rows)
        self.progress(snapshot.diagnostics.time)
        return index, self.stepper.place(snapshot.state), rows

    def _interval(self, state: State, index: int, kept: float) -> tuple[State, int]:
        """Works through the interval that ends with snapshot `index`."""
        span = self.schedule.span(index)
        begin = self.schedule.time(index - 1)
        ticks, steps = 0, 0
        while ticks < span.ticks:
            before = time.perf_counter()
            state, found = self.stepper.advance(state, span, ticks, self.steps_a_call)
            quick = time.perf_counter() - before < _CALL_SECONDS
            most = 2 * self.steps_a_call if quick else self.steps_a_call // 2
            self.steps_a_call = min(max(most, 1), _MOST_STEPS)
            ticks, steps = found.ticks, steps + found.steps
            now = begin + span.length * ticks / span.ticks
            if not found.finite:
                raise self._runaway(f"a position is not finite at t = {now:g}", kept)
            if found.stuck:
                tick = span.length / span.ticks
                raise self._runaway(
                    f"steps are shorter than {tick:.3g}, 2^-30 of the time between snapshots, at "
                    f"t = {now:g}",
                    kept,
                    "more softening",
                )
            self.progress(now)
        return state, steps

    def _look(self, state: State, index: int, steps: int, first: Diagnostics):
        """The state as numpy arrays and its diagnostics, if they can be believed."""
        energies = self.stepper.energies(state)
        state = self.stepper.gather(state)
        when = {"time": self.schedule.time(index), "steps": steps}
        found = diagnose(state.bodies, self.law, energies=energies, start=first, **when)
        if not abs(found.energy_error) <= self.energy_limit:
            raise self._runaway(
                f"the relative energy error is {found.energy_error:.3g} at t = {found.time:g}, "
                f"beyond {self.energy_limit:g}",
                self.schedule.time(index - 1),
            )
        return state, found

    def _runaway(self, reason: str, kept: float, advice: str = "shorter steps") -> RunawayError:
        snapshots = "" if self.folder is None else f", keeping the snapshots up to t = {kept:g}"
        return RunawayError(f"{reason}: the run has stopped{snapshots}; try {advice}")

    def _write(self, index: int, snapshot: Snapshot, rows: dict[int, Diagnostics]) -> None:
        if self.folder is not None:
            write_snapshot(self.folder.snapshot_path(index), snapshot)
            self.folder.write_table(rows)


def _config(bodies: Bodies, law: Law, integrator: Integrator, schedule: _Schedule):
    """What tells one run from another, in what JSON can hold."""
    digest = hashlib.sha256()
    for array in bodies:
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return {
        "law": {"name": type(law).__name__.lower(), **dataclasses.asdict(law)},
        "integrator": {"name": type(integrator).__name__.lower(), **dataclasses.asdict(integrator)},
        "t_end": schedule.t_end,
        "snapshot_every": schedule.every,
        "dt": schedule.dt,
        "eta": schedule.eta,
        "num_bodies": len(bodies.positions),
        "precision": str(bodies.positions.dtype),
        "start": digest.hexdigest(),
    }
