"""Records: every measured figure of this project, written by the program that measured it.

A record is one JSON file under `experiments/records/`: what was measured, by which command, at
which revision, on which device, with which library versions, and the numbers of every run.
The tables of README and docs are made from these files by `experiments.readme_tables`.
"""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDS = REPOSITORY / "experiments" / "records"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "mir_eval", "numba", "torch")
COMMON = ("name", "description", "command", "revision", "device", "versions", "date", "results")


def running_command() -> str:
    """Returns the running program's command line, as one would type it.

    Folders outside the checkout are left out of it: they differ from machine to machine.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        program = f"python -m {spec.name.removesuffix('.__main__')}"
    else:
        program = f"python {Path(sys.argv[0]).name}"
    return " ".join([program, *(shlex.quote(_portable(word)) for word in sys.argv[1:])])


def _portable(text: str) -> str:
    """Makes absolute paths in `text` relative to the checkout, or keeps their last part."""
    text = text.replace(f"{REPOSITORY}{os.sep}", "")
    return re.sub(r"(?<![\w.:/~-])/(?:[^\s/=,:]+/)*([^\s/=,:]+)/?", r"\1", text)


def revision(repository: Path = REPOSITORY) -> str:
    """Returns the checkout's git revision.

    Returns:
      The full hash, with `-dirty` appended if a tracked file has changed that is neither a record
      nor a text made of them, or "unknown" outside a git checkout.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            ":!experiments/records",
            ":!README.md",
            ":!docs",
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def device() -> str:
    """Returns the device computed on: "1 x NVIDIA H200", or the processor's model and cores."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    return f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def versions() -> dict[str, str]:
    """Returns the version of Python, of deepaudio and of the libraries the figures depend on."""
    found = {"python": platform.python_version()}
    for library in ("deepaudio", *_LIBRARIES):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_record(
    name: str,
    command: str | None,
    results: Iterable[Mapping[str, Any]],
    *,
    description: str = "",
    directory: Path | str = RECORDS,
    **fields: Any,
) -> Path:
    """Writes a record, replacing an older one of that name only when the new one is whole.

    Args:
      name: the record's name and file name, without `.json`; "claims/NAME" for a claim.
      command: the command that made the figures; None for the running one. Absolute paths in it
        lose their folders.
      results: a mapping for each run: metric and setting names to numbers or text, mappings in
        it allowed. NumPy and JAX scalars are taken as Python numbers.
      description: what was measured, in a sentence.
      directory: where records stand.
      **fields: further fields of the record, as `paper`, `claim`, `measured` and `holds` of a
        claim.

    Returns:
      The written file's path.

    Raises:
      ValueError: if the name or a field's name cannot be used, or a number is not finite.
    """
    if not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*", name):
        raise ValueError(f"a record's name is of a-z, 0-9, _ and /, not {name!r}")
    if taken := sorted(set(fields) & set(COMMON)):
        raise ValueError(f"fields {taken} of record {name!r} are written by write_record itself")
    record = {
        "name": name,
        "description": description,
        **_plain(fields, name),
        "command": _portable(command) if command is not None else running_command(),
        "revision": revision(),
        "device": device(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "results": [_plain(result, name) for result in results],
    }
    path = Path(directory) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".json.tmp")
    partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read_record(name: str, directory: Path | str = RECORDS) -> dict[str, Any] | None:
    """Returns the record `name` of a directory of records, or None if there is none."""
    path = Path(directory) / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _plain(value: Any, name: str) -> Any:
    """Returns `value` made of JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), name)
    if isinstance(value, Path):
        return _portable(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"record {name!r} holds the number {value}, which measures nothing")
    return value
