"""Checkpoints: everything that a run needs to go on, in one orbax step."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run: state and data position together, so neither runs ahead."""

    def __init__(self, directory: str | Path, *, keep: int = 2, keep_every: int | None = None):
        """Opens the folder, making it if need be.

        Args:
            directory: Of this run's checkpoints.
            keep: How many of the newest are kept.
            keep_every: Steps at multiples of this are kept for good.
        """
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, create=True
        )
        self._manager = ocp.CheckpointManager(Path(directory).absolute(), options=options)

    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, data_state: dict[str, Any]) -> None:
        """Saves in the background; a half-written checkpoint is never seen by `restore`.

        Args:
            step: Steps done.
            state: A tree of arrays.
            data_state: What the data iterator's `get_state` gave; JSON types only.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data_state)
            ),
        )

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint.

        Args:
            template: A state of the same shapes, dtypes and shardings.
            step: Which; None for the newest.

        Returns:
            The state, and the data position.

        Raises:
            FileNotFoundError: There is none.
        """
        step = self.latest_step() if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise FileNotFoundError(f"{self._manager.directory}: no checkpoint of step {step}")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["data"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self.close()
