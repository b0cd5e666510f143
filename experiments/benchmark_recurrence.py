"""Times the speech models' recurrent layer beside flax's and, where it is installed, torch's.

    python -m experiments.benchmark_recurrence
    python -m experiments.benchmark_recurrence --units=2560 --batch_size=64 --frames=200

Each is a GRU of one and the same size over the same inputs, forward alone, and forward with the
gradient of its weights and inputs. They take turns, and each ratio is the median of the ratios
within a turn: what else the machine does meets all alike. Ours is measured as the models use it,
input projection outside the scan and both directions in one scan, without batch norm. Writes the
record `recurrence`.
"""

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio.models import RecurrentLayer
from experiments import _arguments, records


def _ours(inputs, units, bidirectional, backward):
    layer = RecurrentLayer(units, "gru", bidirectional, batch_norm=False)
    paddings = jnp.zeros(inputs.shape[:2])
    variables = layer.init(jax.random.key(0), inputs, paddings)
    # Paddings are an argument, as in a model: known ones would be compiled away.
    return _compiled(
        lambda both, x: layer.apply(both[0], x, both[1])[0], (variables, paddings), inputs, backward
    )


def _flax(inputs, units, bidirectional, backward):
    layer = nn.RNN(nn.GRUCell(units))
    if bidirectional:
        back = nn.RNN(nn.GRUCell(units))
        layer = nn.Bidirectional(layer, back, merge_fn=lambda a, b: a + b)
    return _compiled(layer.apply, layer.init(jax.random.key(0), inputs), inputs, backward)


def _compiled(apply, variables, inputs, backward):
    function = apply
    if backward:
        function = jax.grad(lambda v, x: apply(v, x).sum(), argnums=(0, 1))
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(variables, inputs))


def _torch(inputs, units, bidirectional, backward):
    torch = importlib.import_module("torch")

    layer = torch.nn.GRU(
        inputs.shape[-1], units, batch_first=True, bidirectional=bidirectional
    ).requires_grad_(backward)
    tensor = torch.from_numpy(np.array(inputs)).requires_grad_(backward)

    def run():
        if not backward:
            with torch.no_grad():
                layer(tensor)
            return
        layer.zero_grad()
        tensor.grad = None
        layer(tensor)[0].sum().backward()

    return run


def contestants() -> dict[str, Callable[..., Callable[[], Any]]]:
    """What is timed, by name; the first is ours."""
    found = {"deepaudio": _ours, "flax.linen.RNN": _flax}
    # torch is no part of this project's environment; on a CPU it is the usual thing to compare to.
    if importlib.util.find_spec("torch") and jax.devices()[0].platform == "cpu":
        found["torch.nn.GRU"] = _torch
    return found


def measure(
    *, batch_size: int, frames: int, features: int, units: int, repetitions: int
) -> list[dict[str, Any]]:
    """Times all contestants, forward and with gradients, one direction and two.

    Args:
        batch_size: Sequences.
        frames: Of each.
        features: Of each frame.
        units: Of the layer.
        repetitions: Timed turns.

    Returns:
        A row for each: `layer`, `directions`, `pass`, `median_seconds`, `times_ours` (above 1:
        slower than ours), and `all_seconds`.
    """
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(0, 1, (batch_size, frames, features)), jnp.float32)
    rows = []
    cases = [(both, backward) for both in (False, True) for backward in (False, True)]
    for both, backward in track(cases, "timing", console=Console(stderr=True)):
        runs = {name: make(inputs, units, both, backward) for name, make in contestants().items()}
        seconds = {name: [] for name in runs}
        for turn in range(-1, repetitions):
            for name in list(runs)[:: 1 if turn % 2 else -1]:
                begin = time.perf_counter()
                runs[name]()
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - begin)
        ours = next(iter(seconds.values()))
        for name, times in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(times, ours, strict=True))
            rows.append(
                {
                    "layer": name,
                    "directions": 1 + both,
                    "pass": "forward and backward" if backward else "forward",
                    "median_seconds": statistics.median(times),
                    "times_ours": ratio,
                    "all_seconds": [round(value, 5) for value in times],
                }
            )
    return rows


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("batch_size", 32, "Sequences.", lower_bound=1)
    flags.DEFINE_integer("frames", 100, "Frames of each.", lower_bound=1)
    flags.DEFINE_integer("features", 384, "Features of each frame.", lower_bound=1)
    flags.DEFINE_integer("units", 384, "Hidden units.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 11, "Timed turns.", lower_bound=1)
    flags.DEFINE_string("record", "recurrence", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    sizes = {name: given[name].value for name in ("batch_size", "frames", "features", "units")}
    rows = measure(**sizes, repetitions=given.repetitions)
    for row in rows:
        print(
            f"{row['layer']:15} {row['directions']} directions, {row['pass']:20} "
            f"{row['median_seconds']:.4f} s, {row['times_ours']:.2f} times ours"
        )
    path = records.write_record(
        given.record, None, rows, description="Seconds of a GRU layer over a batch", **sizes
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
