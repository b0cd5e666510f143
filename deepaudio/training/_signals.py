"""SIGTERM and SIGINT end a run between two steps, not in the middle of one."""

import signal

import jax
import numpy as np
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Notes the first SIGTERM or SIGINT while it is entered; a second one acts as ever.

    What the signals did before is put back after the first one and at the exit, so a second
    Ctrl-C interrupts at once. Outside the main thread Python allows no handlers: there the signals
    are left alone.
    """

    def __init__(self):
        self._received = 0
        self._before = {}

    def agreed(self, synchronizes: bool) -> str | None:
        """The signal that asks to stop, by the same answer in every process of the run.

        Args:
            synchronizes: Whether the processes may be asked at this step, which waits for the
                device; the same in all of them. One process alone knows at every step.

        Returns:
            Its name, such as "SIGTERM", or None.
        """
        received = self._received
        if jax.process_count() > 1:
            if not synchronizes:
                return None
            received = int(multihost_utils.process_allgather(np.int32(received)).max())
        return signal.Signals(received).name if received else None

    def __enter__(self) -> "StopRequest":
        try:
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        except ValueError:  # Not the main thread.
            self._before.clear()
        return self

    def __exit__(self, *exception) -> None:
        self._put_back()

    def _note(self, number, frame) -> None:
        del frame
        self._received = number
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            # None: not one of Python's, such as that of JAX's preemption service.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
