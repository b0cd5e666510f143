"""A training run in a process of its own, for tests that end it in every way."""

import dataclasses
import os
import resource
import signal
import sys

import jax
import optax

from deepaudio import optim, training
from tests.training.conftest import Batches, LineTask


@dataclasses.dataclass(frozen=True)
class Run:
    """What is run, and how it ends.

    Attributes:
        workdir: Of the run.
        num_steps: When it ends by itself.
        checkpoint_every: Steps between checkpoints.
        die_at: (name of a Python audit event, how many of them): the process kills itself when it
            is about to do that in the folder of checkpoints.
        pause_at: The batch before which it waits for ever.
        largest_file: In bytes; writing beyond it fails, as on a full disk.
        processes: Of the run, joined on `port`; this is number `index`.
    """

    workdir: str
    num_steps: int
    checkpoint_every: int = 4
    die_at: tuple[str, int] | None = None
    pause_at: int | None = None
    largest_file: int | None = None
    processes: int = 1
    index: int = 0
    port: int = 0


class HeavyTask(LineTask):
    """A line, and parameters without use that make files of some size."""

    def init(self, key):
        """The line's variables and the ballast."""
        variables = super().init(key)
        variables["params"]["ballast"] = jax.random.normal(key, (20_000,))
        return variables


class ToldBatches(Batches):
    """Says on stdout which batch is taken."""

    def __init__(self, pause_at, **options):
        """`pause_at`: the number of a batch that does not come."""
        super().__init__(**options)
        self._pause_at = pause_at

    def __next__(self):
        """The next batch."""
        print(f"batch {self.number}", flush=True)
        if self.number == self._pause_at:
            signal.pause()
        return super().__next__()


def make_optimizer():
    """Loss scaling around Adam and pruning: all that a checkpoint has to carry."""
    inner = optax.chain(
        optax.adam(0.05),
        optim.gradual_pruning(start=2, ramp=8, end=24, frequency=2, q=0.8, where=_is_w),
    )
    return optim.dynamic_loss_scaling(inner, growth_interval=3)


def _is_w(path, leaf):
    del leaf
    return path.endswith("w")


def main(run: Run, output: str) -> None:
    """Trains in this process; stdout and stderr go to the `output`.out and .err."""
    os.mkdir(output)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT), number)
    devices = 2 // run.processes
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=1"
    )
    if run.processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{run.port}", run.processes, run.index)
    if run.die_at is not None:
        _die_at(run, *run.die_at)
    if run.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run.largest_file, run.largest_file))
    config = training.TrainConfig(
        num_steps=run.num_steps, log_every=2, checkpoint_every=run.checkpoint_every
    )
    batches = ToldBatches(run.pause_at, size=16 // run.processes)
    try:
        training.train(
            HeavyTask(), make_optimizer(), batches, config, run.workdir, show_progress=False
        )
    except (OSError, ArithmeticError) as error:
        sys.exit(f"train: {error}")


def _die_at(run, event, count):
    folder = os.path.join(run.workdir, "checkpoints")

    def hook(name, arguments):
        nonlocal count
        if name == event and any(folder in os.fsdecode(a) for a in arguments if _is_path(a)):
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _is_path(argument):
    return isinstance(argument, str | bytes | os.PathLike)
