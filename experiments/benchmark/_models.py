"""The suite "models": inference of every system, in seconds of sound a second."""

import functools

import jax

from experiments.benchmark import _device, _systems, _work
from experiments.benchmark._cases import Case, Timed


def cases(scale: str, sweep: bool) -> list[Case]:
    """A forward pass of each system in float32, and in half precision where that may gain.

    Args:
        scale: "smoke", "small" or "paper".
        sweep: Not read; only kernels are swept.
    """
    del sweep
    found = []
    for system in _systems.SYSTEMS:
        contestants = {"float32": functools.partial(_forward, system, scale, "float32")}
        for name in _device.HALVES:
            contestants[name] = _device.without_half(name) or functools.partial(
                _forward, system, scale, name
            )
        size = _systems.batch_size(system, scale)
        found.append(Case("models", system, size, "sounds", "second of sound", contestants))
    return found


def _forward(system: str, scale: str, precision: str) -> Timed:
    load = _systems.workload(system, scale, precision)
    arguments = jax.device_put((_systems.variables(load.task), load.batch))
    compiled, work = _work.compile_counted(_systems.forward(load.task), *arguments)
    return Timed(lambda: jax.block_until_ready(compiled(*arguments)), load.seconds, work)
