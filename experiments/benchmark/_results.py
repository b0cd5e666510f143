"""The folder of results: JSON to go on from, and the same rows as CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import records
from experiments.benchmark._cases import Case, Skip

# What a row is replaced by, and what must be the same for it to count as measured already.
_KEY = ("suite", "case", "size", "contestant", "scale", "device", "devices")
_MADE_BY = ("revision", "versions")
_COLUMNS = (
    "suite", "case", "size", "size_of", "contestant", "baseline", "ratio", "least_ratio",
    "most_ratio", "median_seconds", "least_seconds", "most_seconds", "rate", "unit", "flops",
    "bytes", "flops_per_second", "flops_per_byte", "skipped", "error", "scale", "platform",
    "device", "devices", "revision", "versions",
)  # fmt: skip


def about(scale: str) -> dict[str, Any]:
    """What every row of a run says of where it was measured."""
    return {
        "scale": scale,
        "platform": jax.default_backend(),
        "device": records.device(),
        "devices": jax.device_count(),
        "revision": records.revision(),
        "versions": ", ".join(f"{name} {number}" for name, number in records.versions().items()),
    }


class Results:
    """Rows in a folder, kept after every case, so that a run that was stopped goes on."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        """Reads what an earlier run has left.

        Args:
            folder: Made if need be.
            about: What this run adds to each of its rows.

        Raises:
            ValueError: `results.json` is there and is no file of results.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "results.json"
        self._about = about
        self._rows = {}
        if self._path.exists():
            try:
                rows = json.loads(self._path.read_text(encoding="utf-8"))["rows"]
                self._rows = {_key(row): row for row in rows}
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{self._path}: holds no results of this program") from error

    def measured(self, case: Case) -> bool:
        """Whether every contestant has figures of this scale, device, revision and libraries."""
        wanted = [name for name, make in case.contestants.items() if not isinstance(make, Skip)]
        rows = [self._rows.get(self._key_of(case, name)) for name in wanted]
        return bool(rows) and all(
            row is not None
            and "rate" in row
            and all(row[name] == self._about[name] for name in _MADE_BY)
            for row in rows
        )

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Keeps the rows of a case, in place of older ones."""
        for row in rows:
            row = {**row, **self._about}
            self._rows[_key(row)] = row
        self._write()

    def rows(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """The rows of some cases at this scale on this device, in the cases' order."""
        keys = [self._key_of(case, name) for case in cases for name in case.contestants]
        return [self._rows[key] for key in keys if key in self._rows]

    def _key_of(self, case, contestant):
        named = {"suite": case.suite, "case": case.name, "size": case.size}
        return _key({**self._about, **named, "contestant": contestant})

    def _write(self):
        rows = list(self._rows.values())
        partial = self._path.with_suffix(".json.tmp")
        text = json.dumps({"rows": rows}, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self._path)
        with self._path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)
