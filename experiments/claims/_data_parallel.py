"""Training on several devices beside one: the same parameters, and how long a step takes.

Each measurement is made in a process of its own, as JAX's number of devices is fixed once it has
begun. On a processor every device is one core's worth of threads.
"""

import concurrent.futures
import multiprocessing
import os
import re
import statistics
import time
from typing import Any

import jax
import numpy as np

from deepaudio import training
from experiments import _optimizer, _recognition, benchmark_memory
from experiments.claims import _speech
from experiments.claims._claim import Setting

_SOUND_SECONDS, _LETTERS = 2.0, 10
_WARM_UP = 2
_MOMENTUM = 0.99
# Bytes of an element, by XLA's name of its type.
_BYTES = {"f64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "u8": 1}


def equality(setting: Setting) -> dict[str, Any]:
    """How far parameters after some steps on all devices are from those on one.

    By Nesterov's momentum, as the paper has it: Adam makes whole steps of gradients that are
    nothing but rounding, such as those of a bias before batch norm.

    Returns:
        `devices`, `steps`, and `difference`, the distance of the two sets of parameters, relative
        to how far they have moved.
    """
    devices, steps = _most_devices(), setting.pick(2, 10, 10)
    batch = setting.pick(4, 16, 64)
    first, one, several = (
        _apart(setting, count, batch, number, momentum=_MOMENTUM)["params"]
        for count, number in ((1, 0), (1, steps), (devices, steps))
    )
    difference = _distance(one, several) / _distance(one, first)
    return {"devices": devices, "steps": steps, "difference": difference}


def _distance(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    squares = [
        np.square(np.subtract(a, b, dtype=np.float64)) for a, b in zip(one, other, strict=True)
    ]
    return float(sum(square.sum() for square in squares) ** 0.5)


def weak_scaling(setting: Setting) -> list[dict[str, Any]]:
    """Seconds of a step on 1, 2, 4, … devices, each with as much work as one device has alone.

    Returns:
        A row for each: `devices`, `batch_size`, `seconds` (median), `efficiency` against one
        device, and `collective_bytes`, what every device gives to sums over devices in a step.
    """
    rows = []
    # A batch of 512, as in the paper, on eight devices.
    steps, batch = setting.pick(2, 12, 20), setting.pick(2, 64, 64)
    devices = 1
    while devices <= _most_devices():
        found = _apart(setting, devices, batch * devices, steps)
        row = {"devices": devices, "batch_size": batch * devices}
        row["seconds"] = statistics.median(found["seconds"])
        row["efficiency"] = (rows or [row])[0]["seconds"] / row["seconds"]
        row["collective_bytes"] = found["collective_bytes"]
        rows.append(row)
        devices *= 2
    return rows


def _most_devices() -> int:
    """Accelerators, or cores of a processor that this program may use; at least 2 of those."""
    if jax.default_backend() != "cpu":
        return jax.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, cores)


def _apart(
    setting: Setting, devices: int, batch: int, steps: int, momentum: float | None = None
) -> dict[str, Any]:
    """Runs `_steps` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_steps, setting, devices, batch, steps, momentum).result()


def _steps(
    setting: Setting, devices: int, batch_size: int, steps: int, momentum: float | None
) -> dict[str, Any]:
    """Some training steps on random sound.

    Returns:
        `seconds` of each step after two that warm up, `params` after all of them (without any
        step as they were drawn), and `collective_bytes` of a step.
    """
    if jax.config.jax_platforms in (None, "", "cpu"):
        # Each device then has a thread and a core, and devices share nothing but memory.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:devices])
        os.environ["XLA_FLAGS"] = (
            f"--xla_force_host_platform_device_count={devices} --xla_cpu_multi_thread_eigen=false"
        )
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()[:devices]).reshape(devices, 1),
        ("data", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    config = _speech.base_config(setting)
    config.optimizer.momentum = momentum
    # Dropout and masks draw by position in the batch, which does not depend on devices.
    task = _recognition.make_task(config)
    optimizer = _optimizer.make_optimizer(config, dict)
    step = training.make_train_step(task, optimizer, mesh, average_decay=0.999)
    state = training.place_state(training.init_state(task, optimizer, seed=0), mesh)
    batch = _batch(task, batch_size)
    seconds = []
    for number in range(_WARM_UP + steps if steps else 0):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - begin)
    params = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state.params))]
    program = _program(task, optimizer, batch, mesh)
    return {"seconds": seconds, "params": params, "collective_bytes": collective_bytes(program)}


def _program(task: Any, optimizer: Any, batch: dict[str, np.ndarray], mesh: Any) -> str:
    """The text of a compiled training step over a mesh."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    case = benchmark_memory.Case(task.init, task.loss, optimizer, shapes)
    step, arguments = benchmark_memory.training_step(case)
    everywhere, split = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((), (mesh.axis_names,))
    )
    shardings = (everywhere, everywhere, everywhere, split, everywhere)
    outputs = (everywhere, everywhere, everywhere)
    jitted = jax.jit(step, in_shardings=shardings, out_shardings=outputs)
    return jitted.lower(*arguments).compile().as_text()


def collective_bytes(program: str) -> int:
    """Bytes that a device gives to all-reduces in a compiled program, by its text.

    Raises:
        ValueError: One stands outside the entry, as in a loop, where the text hides how often.
    """
    total = 0
    for computation in re.split(r"^}", program, flags=re.MULTILINE):
        found = re.findall(r"^.*= (.*?) all-reduce(?:-start)?\(", computation, re.MULTILINE)
        if found and not re.search(r"^ENTRY ", computation, re.MULTILINE):
            raise ValueError(f"a sum over devices of {found[0]} outside the entry")
        for kind, shape in re.findall(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]", " ".join(found)):
            elements = np.prod([int(size) for size in shape.split(",") if size], dtype=np.int64)
            total += int(elements) * _BYTES[kind]
    return total


def _batch(task: Any, size: int) -> dict[str, np.ndarray]:
    """Noise and random letters, as the task's loss takes them."""
    rng = np.random.default_rng(0)
    samples = int(_SOUND_SECONDS * task.config.front_end.sample_rate)
    letters = len(task.config.alphabet)
    return {
        "samples": rng.normal(0, 0.1, (size, samples)).astype(np.float32),
        "num_samples": np.full(size, samples, np.int32),
        "labels": rng.integers(1, letters, (size, _LETTERS)).astype(np.int32),
        "num_labels": np.full(size, _LETTERS, np.int32),
    }
