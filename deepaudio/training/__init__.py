"""Training: the state, the one sharded step, checkpoints, metrics and the loop."""

from deepaudio.training._checkpoints import Checkpoints
from deepaudio.training._loop import NotFiniteError, TrainConfig, train
from deepaudio.training._metrics import MetricWriter
from deepaudio.training._schedules import ScheduleConfig, make_optimizer, make_schedule
from deepaudio.training._step import (
    TrainState,
    data_mesh,
    init_state,
    make_train_step,
    warm_start,
)

__all__ = [
    "Checkpoints",
    "MetricWriter",
    "NotFiniteError",
    "ScheduleConfig",
    "TrainConfig",
    "TrainState",
    "data_mesh",
    "init_state",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "train",
    "warm_start",
]
