"""Training: the mesh, the state, the one sharded step, checkpoints, metrics and the loop."""

from deepaudio.training._checkpoints import CheckpointError, Checkpoints
from deepaudio.training._loop import TrainConfig, train
from deepaudio.training._mesh import data_mesh, place_batch, place_state, state_sharding
from deepaudio.training._metrics import MetricWriter
from deepaudio.training._schedules import ScheduleConfig, make_schedule
from deepaudio.training._step import TrainState, init_state, make_train_step, warm_start
from deepaudio.training._watch import DivergedError, NotFiniteError

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DivergedError",
    "MetricWriter",
    "NotFiniteError",
    "ScheduleConfig",
    "TrainConfig",
    "TrainState",
    "data_mesh",
    "init_state",
    "make_schedule",
    "make_train_step",
    "place_batch",
    "place_state",
    "state_sharding",
    "train",
    "warm_start",
]
