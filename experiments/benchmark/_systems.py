"""The published systems at every scale: a task, random weights, and a batch of noise."""

import dataclasses
import importlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from deepaudio.models import draw_noise
from deepaudio.tasks.recognition import RecognitionTask
from deepaudio.tasks.recognizer import load_model
from deepaudio.tasks.transcription import TranscriptionTask
from deepaudio.tasks.vocoding import StudentTask, TeacherTask
from experiments import _systems, benchmark_overhead

SYSTEMS = ("onsets_and_frames", "deep_speech", "deep_speech_2", "wavenet", "parallel_wavenet")
# Of experiments/configs; "small" is what a CPU steps through in seconds.
_SMALL = {"onsets_and_frames": "mini", "deep_speech": "smoke", "deep_speech_2": "mini"}
# Examples of a batch, and frames (mel frames, or hundredths of a second of speech) of each.
_BATCHES = {
    "onsets_and_frames": {"smoke": (2, 8), "small": (8, 100), "paper": (8, 625)},
    "deep_speech": {"smoke": (2, 48), "small": (8, 400), "paper": (64, 1000)},
    "deep_speech_2": {"smoke": (2, 48), "small": (8, 400), "paper": (32, 1000)},
    "wavenet": {"smoke": (2, 8), "small": (4, 20), "paper": (8, 26)},
    "parallel_wavenet": {"smoke": (2, 8), "small": (2, 20), "paper": (4, 26)},
}
# Frames of speech to a unit of its label.
_FRAMES_A_LABEL = 16


@dataclasses.dataclass(frozen=True)
class Workload:
    """A system with something to do.

    Attributes:
        task: Of one configuration.
        batch: As the task's loss takes it.
        seconds: Of sound in the batch, without what only surrounds it.
    """

    task: Any
    batch: dict[str, np.ndarray]
    seconds: float


class Drawn:
    """A task whose variables are drawn on the host: at once, where JAX compiles every draw.

    Attributes:
        loss: The task's own.
    """

    def __init__(self, task: Any):
        """Takes the task."""
        self.loss = task.loss
        self._task = task

    def init(self, key: jax.Array) -> dict[str, Any]:
        """What the task's own `init` gives, up to the numbers."""
        rng = np.random.default_rng(0)

        def draw(path, leaf):
            if len(leaf.shape) > 1:
                values = rng.normal(0, math.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
            else:
                values = np.full(leaf.shape, path[-1].key in ("scale", "var"))
            return jnp.asarray(values, leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(self._task.init, key))


def workload(system: str, scale: str, precision: str = "float32", copies: int = 1) -> Workload:
    """A system at a scale.

    Args:
        system: One of `SYSTEMS`.
        scale: "smoke", "small" or "paper".
        precision: As `optim.Policy.parse` takes it.
        copies: Times the scale's batch.
    """
    config = _config(system, scale, precision)
    frames = _BATCHES[system][scale][1]
    number = config.batch_size = copies * batch_size(system, scale)
    if system == "parallel_wavenet":
        task = _student(config, scale)
    else:
        task = _systems.of(config).make_task(config)
    rng = np.random.default_rng(0)
    if isinstance(task, TranscriptionTask):
        config.num_frames = frames
        front_end = task.config.front_end
        seconds = number * frames * front_end.hop_length / front_end.sample_rate
        return Workload(task, benchmark_overhead.random_batch(config), seconds)
    if isinstance(task, RecognitionTask):
        batch = _speech(rng, task, number, frames)
        rate = task.config.front_end.sample_rate
        return Workload(task, batch, batch["samples"].size / rate)
    hop, rate = task.convention.hop_length, task.convention.sample_rate
    samples = 0.1 * rng.normal(0, 1, (number, (frames + 2 * task.margin) * hop))
    seconds = number * frames * hop / rate
    return Workload(task, {"samples": samples.astype(np.float32)}, seconds)


def batch_size(system: str, scale: str) -> int:
    """Sounds in a batch of a system at a scale."""
    return _BATCHES[system][scale][0]


def _config(system: str, scale: str, precision: str) -> ml_collections.ConfigDict:
    variant = _SMALL.get(system, "small") if scale == "small" else scale
    config = importlib.import_module(f"experiments.configs.{system}").get_config(variant)
    config.precision = precision
    return config


def _student(config: ml_collections.ConfigDict, scale: str) -> StudentTask:
    """A student with a teacher that was never trained, and the package's recognizer."""
    of_teacher = _config("wavenet", scale, config.precision)
    teacher = _systems.of(of_teacher).make_task(of_teacher)
    plain = _systems.of(config).make_task(config)
    listener = load_model(config.listener)[:2] if config.distillation.style else None
    return StudentTask(plain.config, (teacher, variables(teacher)), listener)


def _speech(rng, task, number, frames):
    length = max(1, frames // _FRAMES_A_LABEL)
    samples = 0.1 * rng.normal(0, 1, (number, frames * task.config.front_end.hop_length))
    return {
        "samples": samples.astype(np.float32),
        "num_samples": np.full(number, samples.shape[1], np.int32),
        "labels": rng.integers(1, len(task.config.alphabet), (number, length), np.int32),
        "num_labels": np.full(number, length, np.int32),
    }


def variables(task: Any) -> dict[str, Any]:
    """Random variables of a task."""
    return Drawn(task).init(jax.random.key(0))


def forward(task: Any) -> Any:
    """A task's forward pass, from variables and a batch to what its network says.

    A teacher is forced: all samples are given. A student makes its samples from noise.
    """
    if isinstance(task, TranscriptionTask):
        return lambda variables, batch: task.predict(variables, batch["samples"])
    if isinstance(task, RecognitionTask):
        return lambda variables, batch: task.log_probs(
            variables, batch["samples"], batch["num_samples"]
        )

    def vocode(variables, batch):
        samples, mel, speakers = task.split(batch)
        if not isinstance(task, TeacherTask):
            samples = draw_noise(jax.random.key(1), samples.shape, task.config.model.noise)
        return task.network.apply(variables, samples, mel, speakers)

    return vocode
