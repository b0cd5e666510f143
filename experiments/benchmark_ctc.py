"""Times `deepaudio.losses.ctc_loss` beside `optax.ctc_loss`, with gradients.

    python -m experiments.benchmark_ctc

One utterance a row of the batch, random logits and labels; for the outputs of English and of
Mandarin. They take turns, and the ratio is the median of the ratios within a turn. Memory is what
the compiled program says of its temporary buffers. Writes the record `ctc_loss`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio import losses
from experiments import _arguments, records


def measure(
    *, outputs: list[int], batch_size: int, frames: int, length: int, repetitions: int
) -> list[dict[str, Any]]:
    """Times loss and gradient.

    Args:
        outputs: Numbers of outputs to try, the blank included.
        batch_size: Utterances.
        frames: Output frames of each.
        length: Units of each label.
        repetitions: Timed turns.

    Returns:
        A row for each: `outputs`, `optax_seconds`, `seconds`, `speedup`, and megabytes of
        temporary memory of both.
    """
    rows = []
    for count in track(outputs, "timing", console=Console(stderr=True)):
        rng = np.random.default_rng(0)
        logits = jnp.asarray(rng.normal(0, 1, (batch_size, frames, count)), jnp.float32)
        labels = jnp.asarray(rng.integers(1, count, (batch_size, length)), jnp.int32)
        compiled = {
            name: jax.jit(loss_and_gradient(loss, labels)).lower(logits).compile()
            for name, loss in (("optax", optax.ctc_loss), ("ours", losses.ctc_loss))
        }
        seconds = {name: [] for name in compiled}
        for turn in range(-1, repetitions):
            for name in list(compiled)[:: 1 if turn % 2 else -1]:
                begin = time.perf_counter()
                jax.block_until_ready(compiled[name](logits))
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - begin)
        pairs = zip(seconds["optax"], seconds["ours"], strict=True)
        rows.append(
            {
                "outputs": count,
                "optax_seconds": statistics.median(seconds["optax"]),
                "seconds": statistics.median(seconds["ours"]),
                "speedup": statistics.median(a / b for a, b in pairs),
                "optax_temporary_mib": _temporary_mib(compiled["optax"]),
                "temporary_mib": _temporary_mib(compiled["ours"]),
                "all_seconds": {k: [round(s, 5) for s in v] for k, v in seconds.items()},
            }
        )
    return rows


def loss_and_gradient(loss: Callable[..., jax.Array], labels: jax.Array) -> Callable[..., Any]:
    """Value and gradient of a loss, as a function of unpadded logits."""

    def total(logits):
        paddings, label_paddings = jnp.zeros(logits.shape[:2]), jnp.zeros(labels.shape)
        return loss(logits, paddings, labels, label_paddings).sum()

    return jax.value_and_grad(total)


def _temporary_mib(compiled) -> float:
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list("outputs", ["29", "6000"], "Numbers of outputs.")
    flags.DEFINE_integer("batch_size", 16, "Utterances.", lower_bound=1)
    flags.DEFINE_integer("frames", 200, "Output frames of each.", lower_bound=1)
    flags.DEFINE_integer("length", 60, "Units of each label.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 7, "Timed turns.", lower_bound=1)
    flags.DEFINE_string("record", "ctc_loss", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    sizes = {name: given[name].value for name in ("batch_size", "frames", "length")}
    outputs = [int(text) for text in given.outputs]
    rows = measure(outputs=outputs, repetitions=given.repetitions, **sizes)
    for row in rows:
        print(
            f"{row['outputs']} outputs: {row['seconds']:.4f} s, {row['speedup']:.2f} times as fast "
            f"as optax ({row['optax_seconds']:.4f} s); {row['temporary_mib']:.0f} MiB against "
            f"{row['optax_temporary_mib']:.0f}"
        )
    path = records.write_record(
        given.record, None, rows, description="Seconds of CTC loss and gradient", **sizes
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
