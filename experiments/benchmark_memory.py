"""Measures what half precision saves: the memory that a training step needs beside its state.

    python -m experiments.benchmark_memory                # for the device that is here
    python -m experiments.benchmark_memory --device=h200  # for an H200, with or without one

Compiles (does not run) a whole training step, loss, gradients, clipping, Adam and the parameters'
update, in float32, bfloat16, and float16 with dynamic loss scaling, of

- the piano model of the paper, `experiments/configs/onsets_and_frames.py:paper`, at its own batch;
- a net of the size that speech recognition wants: seven bidirectional recurrent layers of 1760
  units with batch norm, and CTC (Deep Speech 2, arXiv 1512.02595), 64 utterances of 500 frames;
- the vocoder's teacher of the paper, `experiments/configs/wavenet.py:paper`, at a quarter of its
  batch.

It reports the peak of the temporary buffers as XLA lays them out (`memory_analysis()`): what is
kept for the backward pass, gradients, and work space. Parameters and the optimizer's state, which
stay float32, are not in it. Processors that compute bfloat16 and float16 by way of float32, as
most CPUs do, save little. Writes the record `training_memory`.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio import optim
from experiments import _arguments, _h200, _optimizer, _transcription, _vocoding, records
from experiments.configs import onsets_and_frames, wavenet

PRECISIONS = ("float32", "bfloat16", "float16")
# What half precision may need of what float32 needs.
GOAL = 0.55
# Activations are clipped here (Deep Speech, arXiv 1412.5567, section 2).
_LARGEST = 20.0
_ALPHABET = 29


@dataclasses.dataclass(frozen=True)
class Case:
    """What to compile.

    Attributes:
        init: From a key to variables, `{"params": …, …}`.
        loss: From parameters, other collections, batch and key to the loss and (metrics, the new
            other collections).
        optimizer: From gradients to updates.
        batch: A tree of `jax.ShapeDtypeStruct`.
    """

    init: Callable[[jax.Array], dict[str, Any]]
    loss: Callable[..., Any]
    optimizer: optax.GradientTransformation
    batch: Any


class RecurrentLayer(nn.Module):
    """A bidirectional simple recurrent layer with sequence-wise batch norm.

    Forward and backward outputs are added (arXiv 1512.02595, sections 3.1 and 3.2).

    Attributes:
        units: Hidden units a direction.
        dtype: Dtype of the arithmetic; parameters are float32.
    """

    units: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, frames, n) -> (batch, frames, units)."""
        draw = nn.initializers.lecun_normal()
        kernel = self.param("recurrent_kernel", draw, (2, self.units, self.units))
        kernel = kernel.astype(self.dtype)
        projected = nn.Dense(self.units, use_bias=False, dtype=self.dtype)(inputs)
        projected = nn.BatchNorm(use_running_average=False, dtype=self.dtype)(projected)
        projected = projected.swapaxes(0, 1)
        both = jnp.stack([projected, projected[::-1]], axis=1)

        def step(hidden, projection):
            hidden = projection + jnp.einsum("dbu,duv->dbv", hidden, kernel)
            hidden = jnp.clip(hidden, 0.0, _LARGEST)
            return hidden, hidden

        _, outputs = jax.lax.scan(step, jnp.zeros_like(both[0]), both)
        return (outputs[:, 0] + outputs[::-1, 1]).swapaxes(0, 1)


class RecurrentNet(nn.Module):
    """A stack of recurrent layers, and logits of characters.

    Attributes:
        layers: How many.
        units: Hidden units a direction.
        dtype: Dtype of the arithmetic; parameters and logits are float32.
    """

    layers: int
    units: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, frames, n) -> (batch, frames, 29) float32."""
        x = inputs.astype(self.dtype)
        for _ in range(self.layers):
            x = RecurrentLayer(self.units, self.dtype)(x)
        return nn.Dense(_ALPHABET, dtype=self.dtype)(x).astype(jnp.float32)


def piano_case(precision: str, variant: str = "paper") -> Case:
    """A variant of the piano model, with its own batch and optimizer."""
    config = onsets_and_frames.get_config(variant)
    config.precision = precision
    task = _transcription.make_task(config)
    batch, frames = config.batch_size, config.num_frames
    rolls = ("onsets", "frames", "offsets", "velocities", "frame_weights")
    shapes = {name: _floats(batch, frames, 88) for name in rolls}
    shapes["samples"] = _floats(batch, frames * config.front_end.get("hop_length", 512))
    shapes["paddings"] = _floats(batch, frames)
    optimizer = _optimizer.make_optimizer(config, thresholds=dict)
    return Case(task.init, task.loss, optimizer, shapes)


def speech_case(
    precision: str,
    *,
    layers: int = 7,
    units: int = 1760,
    batch: int = 64,
    frames: int = 500,
    features: int = 1312,
    characters: int = 200,
) -> Case:
    """The recurrent net under CTC, with clipping and Adam.

    Args:
        precision: As `optim.Policy.parse` takes it.
        layers: Recurrent layers.
        units: Hidden units a direction.
        batch: Utterances.
        frames: Of an utterance; 500 are 10 s after convolutions of stride 2 over 10 ms.
        features: Of a frame; Deep Speech 2's two convolutions give 41 bands of 32 channels.
        characters: Of a transcript.
    """
    policy = optim.Policy.parse(precision)
    net = RecurrentNet(layers, units, policy.compute_dtype)
    shapes = {
        "inputs": _floats(batch, frames, features),
        "paddings": _floats(batch, frames),
        "labels": jax.ShapeDtypeStruct((batch, characters), jnp.int32),
        "label_paddings": _floats(batch, characters),
    }

    def loss(params, model_state, batch, key):
        del key
        logits, model_state = net.apply(
            {"params": params, **model_state}, batch["inputs"], mutable=["batch_stats"]
        )
        losses = optax.ctc_loss(logits, batch["paddings"], batch["labels"], batch["label_paddings"])
        return losses.mean(), ({}, model_state)

    optimizer = optim.make_optimizer(
        3e-4, max_gradient_norm=400.0, loss_scaling={} if policy.needs_loss_scaling else None
    )
    return Case(lambda key: net.init(key, jnp.zeros((1, 2, features))), loss, optimizer, shapes)


def vocoder_case(precision: str, variant: str = "paper", batch: int = 8) -> Case:
    """A variant of WaveNet with its own crops and optimizer, so many at a time."""
    config = wavenet.get_config(variant)
    config.precision = precision
    task = _vocoding.make_task(config)
    convention, frames = task.convention, config.num_frames
    shapes = {
        "samples": _floats(batch, (frames + 2 * task.margin) * convention.hop_length),
        "speakers": jax.ShapeDtypeStruct((batch,), jnp.int32),
    }
    optimizer = _optimizer.make_optimizer(config, thresholds=dict)
    return Case(task.init, task.loss, optimizer, shapes)


def training_step(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A whole training step and the shapes of its arguments.

    Returns:
        The step, from parameters, other collections, optimizer state, batch and key to new ones of
        the first three; and its arguments.
    """
    variables = dict(jax.eval_shape(case.init, jax.random.key(0)))
    params = variables.pop("params")
    opt_state = jax.eval_shape(case.optimizer.init, params)
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))

    def step(params, model_state, opt_state, batch, key):
        def scaled_loss(params):
            loss, (_, state) = case.loss(params, model_state, batch, jax.random.wrap_key_data(key))
            return optim.scale_loss(loss, opt_state), state

        grads, model_state = jax.grad(scaled_loss, has_aux=True)(params)
        updates, opt_state = case.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), model_state, opt_state

    return step, (params, variables, opt_state, case.batch, key)


CASES = (
    ("piano: Onsets and Frames, 8 x 20 s", piano_case),
    ("speech: 7 recurrent layers of 1760, 64 x 10 s", speech_case),
    ("vocoder: WaveNet, 30 layers of 512, 8 x 0.3 s", vocoder_case),
)


def measure(cases: Iterable[tuple[str, Callable[[str], Case]]], device: str) -> list[dict]:
    """Compiles every case in every precision.

    Args:
        cases: Names, and functions from a precision to a case.
        device: "this" or "h200".

    Returns:
        A row a program: `model`, `precision`, `device`, `temporary_mib` (peak of the temporary
        buffers), `of_float32` (its share of float32's), and `state_mib` (parameters, optimizer
        state and batch).
    """
    rows = []
    programs = [(name, build, precision) for name, build in cases for precision in PRECISIONS]
    for name, build, precision in track(programs, "compiling", console=Console(stderr=True)):
        step, arguments = training_step(build(precision))
        if device == "h200":
            compiled = _h200.compile_for_h200(step, arguments, donate_argnums=(0, 1, 2))
            where = f"compiled for {_h200.KIND} (not run)"
        else:
            compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*arguments).compile()
            where = records.device()
        sizes = compiled.memory_analysis()
        temporary = sizes.temp_size_in_bytes
        if precision == "float32":
            whole = temporary
        rows.append(
            {
                "model": name,
                "precision": precision,
                "device": where,
                "temporary_mib": round(temporary / 2**20, 3),
                "of_float32": round(temporary / whole, 4),
                "state_mib": round(sizes.argument_size_in_bytes / 2**20, 3),
            }
        )
    return rows


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _print_table(rows: list[dict]) -> None:
    table = Table(title=f"Temporary memory of a training step, {rows[0]['device']}")
    for column in ("model", "precision", "MiB", "of float32"):
        table.add_column(column, justify="left" if column in ("model", "precision") else "right")
    for row in rows:
        table.add_row(
            row["model"],
            row["precision"],
            f"{row['temporary_mib']:,.0f}",
            f"{row['of_float32']:.3f}",
            end_section=row["precision"] == PRECISIONS[-1],
        )
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_enum(
        "device", "this", ["this", "h200"], "Compile for the device here, or for an NVIDIA H200."
    )
    flags.DEFINE_string("record", "training_memory", "Name of the record.")


def main(argv: list[str]) -> None:
    """Compiles, prints a table and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if flags.FLAGS.device == "h200":
        _h200.prepare()
    try:
        rows = measure(CASES, flags.FLAGS.device)
    except RuntimeError as error:
        sys.exit(f"benchmark_memory: {error}")
    _print_table(rows)
    path = records.write_record(
        flags.FLAGS.record,
        None,
        rows,
        description="Peak temporary memory of a training step as compiled; nothing was run",
        goal=GOAL,
        reached=all(row["of_float32"] <= GOAL for row in rows if row["precision"] != "float32"),
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
