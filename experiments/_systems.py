"""Which module knows a configuration's system: its data, its task and its scores."""

from typing import Protocol

import ml_collections

from experiments import _recognition, _transcription, _vocoding

_SYSTEMS = {
    "transcription": _transcription,
    "recognition": _recognition,
    "vocoding": _vocoding,
}


class System(Protocol):
    """What the launchers ask of the module of a system."""

    def prepare(self, config: ml_collections.ConfigDict) -> None:
        """Fills in what a configuration takes from the data."""

    def make_task(self, config: ml_collections.ConfigDict):
        """The task, as `training.train` takes it."""

    def make_batches(self, config: ml_collections.ConfigDict):
        """An endless, resumable iterator of this process's batches."""

    def make_evaluator(self, config: ml_collections.ConfigDict, task):
        """What scores a run now and then; None if there is nothing to score it on."""


def of(config: ml_collections.ConfigDict) -> System:
    """The module of a configuration's system.

    Raises:
        ValueError: There is no such system.
    """
    if config.task not in _SYSTEMS:
        raise ValueError(f"task={config.task!r} must be one of {', '.join(_SYSTEMS)}")
    return _SYSTEMS[config.task]
