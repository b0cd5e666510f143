"""Looks at every step's metrics, and says which step and which examples went wrong."""

import collections
import math
from typing import Any

import jax
import numpy as np

LOSS = "loss/total"
# Losses that the running median is taken over, and how many of them it needs.
_HISTORY, _ENOUGH = 200, 20
# Steps in a row whose loss must be too high: clipping and Adam get over a single bad batch.
_PATIENCE = 10


class NotFiniteError(ArithmeticError):
    """The loss, another metric, or the gradients of too many steps became NaN or infinite."""


class DivergedError(ArithmeticError):
    """The loss rose far above what it had been, and stayed there."""


class Watch:
    """Collects metrics on the device and reads them together, so that no step waits.

    A metric that is not finite is an error, except in a step that the loss scaling skipped (its
    metric `ran` is 0), of which only so many may follow each other. The loss has diverged when it
    is above m + factor · max(|m|, d) in 10 steps running, m being the median of the last 200
    losses that were not, and d their median absolute deviation from it; losses may be negative.
    At least 20 losses must have been seen.
    """

    def __init__(self, *, divergence_factor: float | None, max_skipped: int):
        """Nothing has been seen.

        Args:
            divergence_factor: Of the rule above; None never finds that the loss diverged.
            max_skipped: Steps in a row that loss scaling may skip.
        """
        self._factor = divergence_factor
        self._max_skipped = max_skipped
        self._window: list[tuple[int, dict[str, jax.Array], Any]] = []
        self._losses: collections.deque[float] = collections.deque(maxlen=_HISTORY)
        self._high: list[tuple[int, float, Any]] = []
        self._skipped = 0

    def add(self, step: int, metrics: dict[str, jax.Array], ids: np.ndarray | None) -> None:
        """Takes the metrics of a step, without reading them.

        Args:
            step: Its number.
            metrics: () floats on the device, `loss/total` among them.
            ids: (batch,), numbers or names of the examples that this process put
                into the batch; or None.
        """
        self._window.append((step, metrics, ids))

    def read(self) -> dict[str, float]:
        """Looks at all that was added since the last call.

        Returns:
            The metrics of the last step.

        Raises:
            NotFiniteError: Names the first bad step and its batch's ids.
            DivergedError: Likewise.
        """
        window, self._window = self._window, []
        read = jax.device_get([metrics for _, metrics, _ in window])
        limit = self._limit()
        for (step, _, ids), values in zip(window, read, strict=True):
            numbers = {name: float(value) for name, value in values.items()}
            if self._is_skipped(step, numbers, ids):
                continue
            # The loss first: what else is not finite follows from it.
            for name in sorted(numbers, key=lambda name: name != LOSS):
                if not math.isfinite(numbers[name]):
                    raise NotFiniteError(f"{name} is {numbers[name]} at step {step}{_of(ids)}")
            self._check_divergence(step, numbers[LOSS], limit, ids)
        return numbers

    def _is_skipped(self, step, numbers, ids):
        if numbers.get("ran", 1.0):
            self._skipped = 0
            return False
        self._skipped += 1
        if self._skipped >= self._max_skipped:
            raise NotFiniteError(
                f"loss scaling skipped {self._skipped} steps in a row up to step {step}{_of(ids)}: "
                f"the gradients are not finite at any loss scale (now {numbers['loss_scale']:g})"
            )
        return True

    def _limit(self):
        if self._factor is None or len(self._losses) < _ENOUGH:
            return math.inf
        median = float(np.median(self._losses))
        deviation = float(np.median(np.abs(np.array(self._losses) - median)))
        return median + self._factor * max(abs(median), deviation)

    def _check_divergence(self, step, loss, limit, ids):
        if loss <= limit:
            self._losses.append(loss)
            self._high.clear()
            return
        self._high.append((step, loss, ids))
        if len(self._high) == _PATIENCE:
            first, value, ids = self._high[0]
            raise DivergedError(
                f"{LOSS} has diverged: {value:g} at step {first}{_of(ids)}, and above {limit:g} "
                f"in all {_PATIENCE} steps since"
            )


def _of(ids):
    if ids is None:
        return ""
    return f" (batch ids {', '.join(str(number) for number in np.ravel(ids))})"
