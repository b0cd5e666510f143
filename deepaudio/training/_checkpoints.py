"""Checkpoints: everything that a run needs to go on, in one orbax step."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

_log = logging.getLogger(__name__)
# Digests of a checkpoint's files, as `sha256sum --check` reads them.
_DIGESTS = "SHA256SUMS"


class CheckpointError(OSError):
    """A checkpoint could not be written, or none that was written is intact."""


class Checkpoints:
    """The checkpoints of one run: state and data position together, so neither runs ahead.

    A checkpoint is written in the background beside its final place and renamed when all of it is
    there, so a run that is killed leaves whole checkpoints only. Before the rename the first
    process writes SHA-256 digests of the files; `restore` compares them first, because the array
    files carry no checksum of their own and a flipped bit in them would otherwise be read as a
    number. Older checkpoints are deleted after that rename only.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int = 2,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        """Opens the folder, making it if need be, and clears away half-written checkpoints.

        Args:
            directory: Of this run's checkpoints.
            keep: How many of the newest are kept.
            keep_every: Steps at multiples of this are kept for good.
            read_only: Changes nothing in the folder, which a running training may be using.

        Raises:
            BlockingIOError: Another run is using the folder; not if `read_only`.
        """
        self._directory = Path(directory).absolute()
        self._read_only = read_only
        self._saving = 0
        self._lock = None if read_only else _lock(self._directory)
        if read_only:
            options = ocp.CheckpointManagerOptions(create=False)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                keep_period=keep_every,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_digests),
            )
        logging.getLogger("absl").addFilter(_is_news)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "data": ocp.JsonCheckpointHandler(),
            },
        )

    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, data_state: dict[str, Any]) -> None:
        """Saves in the background; a half-written checkpoint is never seen by `restore`.

        Args:
            step: Steps done.
            state: A tree of arrays.
            data_state: What the data iterator's `get_state` gave in this process; JSON types only.

        Raises:
            CheckpointError: This checkpoint or the one before could not be written, or the disk
                has less space left than the state takes.
        """
        positions = {"processes": _gather(data_state)}
        self.wait()
        self._saving = step
        with self._naming_failures():
            _check_space(self._directory, state)
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(positions)
                ),
            )
        if not saved:
            raise CheckpointError(
                f"{self._directory}: step {step} is not after step {self.latest_step()}"
            )

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint.

        If the files of the newest are not what was written, the one before it is read instead: a
        warning says so, and the corrupt one is renamed `STEP.corrupt` (not if read-only). One
        without digests is taken for older than they are and read with a warning, unless a step
        before it has them.

        Args:
            template: A state of the same shapes, dtypes and shardings.
            step: Which; None for the newest.

        Returns:
            The state, and the data position of this process.

        Raises:
            FileNotFoundError: There is none.
            CheckpointError: The one asked for, or each of them, is corrupt.
            ValueError: It is intact, but not of such a state or of so many processes.
        """
        steps = self._manager.all_steps()
        if not steps or step is not None and step not in steps:
            raise FileNotFoundError(f"{self._directory}: no checkpoint of step {step}")
        step = self._newest_intact(sorted(steps, reverse=True) if step is None else [step])
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        try:
            # Orbax would cast, and leave threads behind that fail later.
            _check_fits(abstract, self._manager.item_metadata(step)["state"])
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                ),
            )
        except Exception as error:
            raise ValueError(
                f"{self._directory / str(step)}: does not fit this run's state: {_line(error)}"
            ) from error
        return restored["state"], self._position(step, restored["data"])

    def check(self) -> None:
        """Raises CheckpointError if the last save has failed; does not wait for it."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
            CheckpointError: It could not be written.
        """
        with self._naming_failures():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written, and lets other runs use the folder.

        Raises:
            CheckpointError: It could not be written.
        """
        try:
            self.wait()
        finally:
            self._manager.close()
            logging.getLogger("absl").removeFilter(_is_news)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            _log.error("%s", failure)

    @contextlib.contextmanager
    def _naming_failures(self):
        try:
            yield
        except Exception as error:
            raise CheckpointError(
                f"{self._directory}: the checkpoint of step {self._saving} could not be written: "
                f"{_line(error)}; those before it are as they were"
            ) from error

    def _write_digests(self) -> None:
        """Orbax calls this in the first process, when all files are there, before the rename."""
        (folder,) = self._directory.glob(f"{self._saving}.*tmp*")
        files = sorted(path for path in folder.glob("*/**/*") if path.is_file())
        lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
        (folder / _DIGESTS).write_text("".join(lines))

    def _newest_intact(self, steps: list[int]) -> int:
        """The first intact one of some steps, newest first; the first process looks for all."""
        chosen, faults = -1, {}
        if jax.process_index() == 0:
            for step in steps:
                fault = self._fault(step)
                if fault is None:
                    chosen = step
                    break
                faults[step] = fault
            if faults and chosen >= 0:
                self._pass_over(faults, chosen)
        if jax.process_count() > 1:
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        if chosen < 0:
            raise CheckpointError(f"{self._directory}: no checkpoint is intact: {_list(faults)}")
        self._manager.reload()
        return chosen

    def _pass_over(self, faults: dict[int, str], chosen: int) -> None:
        """Says which are corrupt, and moves them aside so that their steps can be saved again."""
        kept = ""
        if not self._read_only:
            names = [self._move_aside(step) for step in faults]
            kept = f"; the corrupt is kept as {', '.join(names)}"
        _log.warning(
            "%s: corrupt checkpoint of step %s; going back to step %d%s",
            self._directory,
            _list(faults),
            chosen,
            kept,
        )

    def _move_aside(self, step: int) -> str:
        name, count = f"{step}.corrupt", 1
        while (self._directory / name).exists():
            count += 1
            name = f"{step}.corrupt{count}"
        (self._directory / str(step)).rename(self._directory / name)
        return name

    def _fault(self, step: int) -> str | None:
        """What is wrong with a checkpoint's files, or None."""
        folder = self._directory / str(step)
        try:
            lines = (folder / _DIGESTS).read_text().splitlines()
        except FileNotFoundError:
            older = [other for other in self._manager.all_steps() if other < step]
            if any((self._directory / str(other) / _DIGESTS).exists() for other in older):
                return f"{_DIGESTS} is missing"
            _log.warning("%s: has no %s, so it is read as it is", folder, _DIGESTS)
            return None
        except ValueError:
            return f"{_DIGESTS} is not text"
        for line in lines:
            digest, _, name = line.partition("  ")
            path = folder / name
            if not name or not path.is_file():
                return f"{name or _DIGESTS} is {'missing' if name else 'garbled'}"
            if _digest(path) != digest:
                return f"{name} has changed"
        return None if lines else f"{_DIGESTS} is empty"

    def _position(self, step: int, data: dict[str, Any]) -> dict[str, Any]:
        # A run of one process once wrote its position as it is.
        positions = data.get("processes", [data])
        if self._read_only:
            return positions[0]
        if len(positions) != jax.process_count():
            raise ValueError(
                f"{self._directory / str(step)}: was written by {len(positions)} processes, and "
                f"{jax.process_count()} cannot go on at their places in the data"
            )
        return positions[jax.process_index()]


def _lock(directory: Path) -> int | None:
    """Locks a folder for this run, until the file is closed or the process ends, however it does.

    The first process locks for all.
    """
    descriptor, is_free = None, True
    if jax.process_index() == 0:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
    if jax.process_count() > 1:
        is_free = bool(multihost_utils.broadcast_one_to_all(np.int32(is_free)))
    if is_free:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return descriptor
    owner = (directory / "lock").read_text()
    if descriptor is not None:
        os.close(descriptor)
    raise BlockingIOError(f"{directory}: another run is using it ({owner})")


def _gather(position: dict[str, Any]) -> list[dict[str, Any]]:
    """Every process's position in the data."""
    if jax.process_count() == 1:
        return [position]
    text = np.frombuffer(json.dumps(position).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(text)))
    rows = multihost_utils.process_allgather(np.pad(text, (0, int(sizes.max()) - len(text))))
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_space(directory: Path, state: Any) -> None:
    """A disk that fills up while orbax writes is an error too, but of hundreds of lines."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if free < needed:
        reason = f"it needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are left"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {reason}")


def _check_fits(template: Any, metadata: Any) -> None:
    wanted, there = _kinds(template), _kinds(metadata)
    for path in sorted(wanted.keys() | there.keys()):
        if wanted.get(path) != there.get(path):
            absent = "nothing"
            raise ValueError(
                f"{path} is {there.get(path, absent)} there and {wanted.get(path, absent)} here"
            )


def _kinds(tree: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def _is_news(record: logging.LogRecord) -> bool:
    """Whether orbax does not print the traceback of an error that it also raises."""
    return record.levelno != logging.ERROR or f"{os.sep}orbax{os.sep}" not in record.pathname


def _list(faults: dict[int, str]) -> str:
    return ", ".join(f"{step} ({fault})" for step, fault in faults.items())


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
