"""The suite "training": a whole step of every system, beside plain float32 with clipping and Adam.

Pruning and dense-sparse-dense take their masks while they warm up; what is timed are the steps
between masks. Data parallelism has the baseline's batch on every device.
"""

import functools
from typing import Any

import jax
from jax.sharding import AxisType

from deepaudio import optim, training
from experiments import benchmark_overhead
from experiments.benchmark import _device, _systems, _work
from experiments.benchmark._cases import Case, Skip, Timed, Work

_BASELINE = "float32, clip and Adam"
# The one that compiles fastest stands for all where times do not matter.
_SMOKE = "deep_speech"
# Longer than any timing, so that no mask is taken within it.
_MASK_EVERY = 10_000
# Low enough that noise does not overflow, which would skip a step.
_LOSS_SCALE = {"initial_scale": 2.0**8}


def cases(scale: str, sweep: bool) -> list[Case]:
    """A step of each system, plain and with each technique.

    Args:
        scale: "smoke", "small" or "paper".
        sweep: Not read; only kernels are swept.
    """
    del sweep
    return [
        Case(
            "training",
            system,
            _systems.batch_size(system, scale),
            "sounds",
            "second of sound",
            _contestants(system, scale),
        )
        for system in _systems.SYSTEMS
    ]


def _contestants(system: str, scale: str) -> dict[str, Any]:
    step = functools.partial(make_step, system, scale)
    devices = jax.local_device_count()
    found = {
        _BASELINE: step,
        "bfloat16": _device.without_half("bfloat16")
        or functools.partial(step, precision="bfloat16"),
        "float16, loss scaling": _device.without_half("float16")
        or functools.partial(step, precision="float16"),
        "pruning": functools.partial(step, sparsity="pruning"),
        "dense-sparse-dense": functools.partial(step, sparsity="dense-sparse-dense"),
        "data parallel": functools.partial(step, devices=devices)
        if devices > 1
        else Skip("needs several devices, and there is one"),
    }
    if scale == "smoke" and system != _SMOKE:
        return dict.fromkeys(found, Skip(f"takes long to compile; smoke has {_SMOKE} alone"))
    return found


def make_step(
    system: str,
    scale: str,
    *,
    precision: str = "float32",
    sparsity: str | None = None,
    devices: int = 1,
) -> Timed:
    """A training step, compiled when it first runs.

    Args:
        system: One of `_systems.SYSTEMS`.
        scale: "smoke", "small" or "paper".
        precision: As `optim.Policy.parse` takes it; where that needs loss scaling, it is on.
        sparsity: "pruning", "dense-sparse-dense" or None.
        devices: Over which the batch is split; each has a batch of the scale's size.
    """
    load = _systems.workload(system, scale, precision, copies=devices)
    held, pruned = benchmark_overhead.sparsity(_MASK_EVERY)
    scaled = optim.Policy.parse(precision).needs_loss_scaling
    chain = optim.make_optimizer(
        1e-4,
        max_gradient_norm=3.0,
        sparsity={None: (), "pruning": (pruned,), "dense-sparse-dense": (held,)}[sparsity],
        loss_scaling=_LOSS_SCALE if scaled else None,
    )
    mesh = jax.make_mesh(
        (devices, 1),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.local_devices()[:devices],
    )
    step = training.make_train_step(load.task, chain, mesh, average_decay=0.999)
    state = training.place_state(training.init_state(_systems.Drawn(load.task), chain, 0), mesh)
    work = Work(_gradient_flops(load), None)

    def run():
        nonlocal state
        state, metrics = jax.block_until_ready(step(state, load.batch))
        if not metrics.get("ran", 1):
            raise RuntimeError("loss scaling skipped the step")

    return Timed(run, load.seconds, work)


def _gradient_flops(load: _systems.Workload) -> float:
    """Operations of the loss and its gradient, beside which an optimizer's do not count."""
    variables = jax.eval_shape(load.task.init, jax.random.key(0))
    model_state = {name: value for name, value in variables.items() if name != "params"}
    gradient = jax.grad(load.task.loss, has_aux=True)
    return _work.count_flops(
        gradient, variables["params"], model_state, load.batch, jax.random.key(0)
    )
