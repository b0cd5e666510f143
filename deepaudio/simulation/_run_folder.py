"""The folder of a run: what was asked for, snapshots, and a table of diagnostics."""

import csv
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepaudio.simulation._bodies import Bodies
from deepaudio.simulation._diagnostics import Diagnostics
from deepaudio.simulation._integrators import State

_CONFIG, _SNAPSHOTS, _TABLE = "config.json", "snapshots", "diagnostics.csv"
# What reading a damaged npz file can raise.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


class Snapshot(NamedTuple):
    """All that a run needs to go on.

    Attributes:
        state: Of the integrator, as numpy arrays.
        diagnostics: Figures of this instant, with its time and the number of steps.
    """

    state: State
    diagnostics: Diagnostics


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes an npz file, whole or not at all.

    Its arrays are named as the fields of `Bodies` and `State`; `time` is a scalar, and
    `diagnostics` has the fields of `Diagnostics` in their order, float64.
    """
    state, found = snapshot
    arrays = {**state.bodies._asdict(), **state._asdict()}
    del arrays["bodies"]
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with _replacing(path) as beside, beside.open("wb") as file:
        figures = np.array(found, np.float64)
        np.savez(file, time=np.float64(found.time), diagnostics=figures, **arrays)


def read_snapshot(path: str | Path) -> Snapshot:
    """Reads what `write_snapshot` wrote.

    Raises:
        ValueError: The file is damaged, or is no snapshot.
    """
    try:
        # Opened here, as numpy leaves a damaged file open.
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        for name in ("positions", "velocities", "masses", "accelerations"):
            if name not in arrays:
                raise ValueError(f"it has no {name}")
        bodies = Bodies(*(arrays.get(name) for name in Bodies._fields))
        rest = {name: arrays.get(name) for name in State._fields if name != "bodies"}
        return Snapshot(State(bodies, **rest), _as_diagnostics(arrays["diagnostics"]))
    except _DAMAGE as error:
        raise ValueError(f"{path} is no whole snapshot: {error}") from error


def read_diagnostics(path: Path) -> Diagnostics:
    """Reads the figures of a snapshot alone, which is quick."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return _as_diagnostics(file["diagnostics"])
    except _DAMAGE as error:
        raise ValueError(f"{path} is no whole snapshot: {error}") from error


class RunFolder:
    """A folder that a run writes to and can be resumed from.

    `config.json` is what was asked for; `snapshots/000012.npz` the state at the end of the twelfth
    interval; `diagnostics.csv` a row for each snapshot. Every file is whole or not there.
    """

    def __init__(self, folder: str | Path):
        """Names the folder, which need not exist."""
        self.path = Path(folder)
        self.snapshots = self.path / _SNAPSHOTS

    def open(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, or checks that it is of a run with the same configuration.

        Args:
            config: What JSON can hold.

        Raises:
            ValueError: The run in the folder was asked for with other settings.
            OSError: The folder cannot be written to.
        """
        config = json.loads(json.dumps(config))
        path = self.path / _CONFIG
        if path.exists():
            there = self.config()
            for name in sorted(there.keys() | config.keys()):
                if there.get(name) != config.get(name):
                    raise ValueError(
                        f"{self.path} holds a run with {name} {there.get(name)}, not "
                        f"{config.get(name)}; give the same settings or another folder"
                    )
        self.snapshots.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as beside:
            beside.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    def config(self) -> dict[str, Any]:
        """What was asked for.

        Raises:
            ValueError: The folder holds no run.
        """
        try:
            found = json.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{self.path} holds no run: it has no {_CONFIG}") from None
        except ValueError as error:
            raise ValueError(f"{self.path / _CONFIG} is damaged: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self.path / _CONFIG} is damaged: it holds no object")
        return found

    def snapshot_path(self, index: int) -> Path:
        """Where the snapshot of an interval's end stands; 0 is the start."""
        return self.snapshots / f"{index:06d}.npz"

    def indices(self) -> list[int]:
        """Numbers of the snapshots there are, ascending."""
        return sorted(int(p.stem) for p in self.snapshots.glob("*.npz") if p.stem.isdigit())

    def newest(self, say: Callable[[str], None]) -> tuple[int, Snapshot] | None:
        """The newest whole snapshot and its number; None if there is none.

        Args:
            say: Is told of damaged ones.
        """
        for index in reversed(self.indices()):
            try:
                return index, read_snapshot(self.snapshot_path(index))
            except ValueError as error:
                say(f"{error}; going back to the one before")
        return None

    def figures(self, up_to: int, say: Callable[[str], None]) -> dict[int, Diagnostics]:
        """Diagnostics by number of the snapshot, but for damaged ones.

        Args:
            up_to: The last number to read.
            say: Is told of damaged ones.
        """
        found = {}
        for index in (i for i in self.indices() if i <= up_to):
            try:
                found[index] = read_diagnostics(self.snapshot_path(index))
            except ValueError as error:
                say(f"{error}; leaving it out of {_TABLE}")
        return found

    def write_table(self, rows: Mapping[int, Diagnostics]) -> None:
        """Writes the table of diagnostics; what is not a number leaves its place empty."""
        with (
            _replacing(self.path / _TABLE) as beside,
            beside.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("snapshot", *Diagnostics._fields))
            for index, row in rows.items():
                table.writerow([index, *("" if math.isnan(value) else value for value in row)])


def _as_diagnostics(values: np.ndarray) -> Diagnostics:
    found = Diagnostics(*values.tolist())
    return found._replace(steps=int(found.steps))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Another path in the same folder to write to, which then takes the file's place."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
