"""Counts the machine instructions of the WaveNet kernels, and predicts their speed.

    python -m experiments.wavenet.machine_code

Compiles both designs for an NVIDIA H200 at nv-wavenet's sizes (nothing runs, no GPU is needed) and
reads what ptxas made of them. Needs the extra `gpu` for CUDA's compiler and `nvidia-cuda-nvdisasm`
for its disassembler. Writes the record `wavenet_machine_code`.

The time of a sample is predicted, not measured. For many streams it is the longest of three: the
matrices' way from the second-level cache, the matrix units' work, and what one warpgroup waits for
from layer to layer. For one stream on a cluster it is a sum along the way of the sample: steps that
wait for each other, with the latencies below. Take it as good to a third.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels import wavenet
from deepaudio.kernels.wavenet import _cluster, _streams
from experiments import _arguments, _machine_code, records
from experiments.wavenet import networks

_HERTZ = 1.98e9
# A multiprocessor's share of the second-level cache's bandwidth, bytes a cycle.
_CACHE_BYTES = 64
# Cycles of a 64 x 64 x 16 product on a multiprocessor's matrix units.
_PRODUCT = 64 * 64 * 16 / 2048
# Cycles until a result can be used: a warpgroup's product after its last; a warp's product; a value
# laid down in shared memory and picked up by others; a cluster's barrier; a read of another
# multiprocessor's shared memory; a tanh and what it takes; a sum over a block's lanes.
_WGMMA, _MMA, _EXCHANGE, _BARRIER, _REMOTE, _TANH, _SUM = 60, 33, 90, 250, 220, 70, 100


def predict_cluster(size: networks.Size) -> float:
    """Seconds of a sample for one stream on a cluster, by the latencies on its way."""
    skip, head = (-(-n // 64) for n in (size.skip, size.head))
    # Two products of four steps in two halves each, two exchanges, and the gate.
    layer = 2 * (2 * _MMA + 10) + 2 * _EXCHANGE + _TANH
    turns = 8 + 1 + 3
    rectify = 2 * _REMOTE
    dense = sum(_REMOTE + _EXCHANGE + -(-n // 2) * 4 * _MMA for n in (skip, head))
    sums = 2 + (8 if size.output == "mu_law" else 6 + 2)
    draw = _REMOTE + _EXCHANGE + sums * _SUM
    passes = turns * _BARRIER + 8 * _REMOTE
    return (size.layers * layer + passes + rectify + dense + draw) / _HERTZ


def predict_streams(size: networks.Size, instructions: int, last: int) -> dict[str, float]:
    """Seconds of a sample for 64 streams on one multiprocessor, by what may bound them.

    Args:
        size: Of the network.
        instructions: Of a layer in the warpgroup that goes from layer to layer.
        last: Of the head and the drawing.

    Returns:
        `cache`, `products` and `chain`.
    """
    residual, skip, head = (-(-n // 64) for n in (size.residual, size.skip, size.head))
    outputs = 4 if size.output == "mu_law" else 1
    chain_tiles = 4 * residual**2 + residual**2
    layer_tiles = chain_tiles + residual * skip
    head_tiles = head * (skip + outputs)
    tiles = size.layers * layer_tiles + head_tiles
    waits = residual * residual + residual
    chain = size.layers * (instructions + chain_tiles * 4 * _PRODUCT + waits * _WGMMA)
    chain += last + head_tiles * 4 * _PRODUCT
    return {
        "cache": tiles * 64 * 64 * 2 / _CACHE_BYTES / _HERTZ,
        "products": tiles * 4 * _PRODUCT / _HERTZ,
        "chain": chain / _HERTZ,
    }


def measure(size: networks.Size, design: str) -> dict[str, Any]:
    """Compiles one design at one size.

    Args:
        size: Of the network.
        design: "cluster" or "streams".

    Returns:
        A row of the record.

    Raises:
        RuntimeError: CUDA's compiler or disassembler is missing.
    """
    streams = 1 if design == "cluster" else 64
    weights = jax.eval_shape(functools.partial(networks.make_weights, size, "bfloat16"))
    state = jax.eval_shape(lambda: wavenet.initial_state(weights, size.dilations, streams))
    inputs = jax.eval_shape(lambda: networks.make_inputs(size, streams, 1024))
    launch = {"cluster": _cluster.launch, "streams": _streams.launch}[design]

    def run(weights, conditioning, uniforms, state):
        samples, state, _ = launch(
            weights,
            size.dilations,
            conditioning,
            uniforms,
            state,
            output=size.output,
            temperature=jnp.float32(1.0),
            config=_streams.choose(weights, streams),
        )
        return samples, state

    made = _machine_code.compile_kernel(run, (weights, *inputs, state))
    loops = _machine_code.innermost_loops(made.code)
    # The layers' loops are those that multiply: of the chain the one with tanh.
    multiply = "HMMA" if design == "cluster" else "HGMMA"
    chain = max(
        (mix for mix in loops if mix[multiply] and mix["MUFU"]), key=lambda mix: mix.total()
    )
    if design == "cluster":
        seconds, bound = predict_cluster(size), "latencies"
    else:
        found = predict_streams(size, chain.total(), _head_instructions(made.code))
        bound, seconds = max(found.items(), key=lambda item: item[1])
    return {
        "design": design,
        **dataclasses.asdict(size),
        "registers": made.registers,
        "spilled_bytes": made.spilled_bytes,
        "warnings": list(made.notes),
        "loop_instructions": chain.total(),
        "loop_products": chain[multiply],
        "loop_barriers": chain["BAR"],
        "predicted_bound": bound,
        "predicted_microseconds_a_sample": seconds * 1e6,
        "predicted_samples_per_second": 1 / seconds,
        "mix": dict(chain.most_common()),
    }


def _head_instructions(code):
    """Instructions of a sample that come after the layers: the head's and those that draw."""
    loops = _machine_code.loops(code)
    # The layers' loop that adds up skip connections multiplies and does nothing else.
    skips = min((x for x in loops if x[2]["HGMMA"] and not x[2]["MUFU"]), key=lambda x: x[1] - x[0])
    around = [mix for start, _, mix in loops if start <= skips[0] and mix["SHFL"]]
    return min(mix.total() for mix in around) - skips[2].total()


def cases() -> list[tuple[networks.Size, str]]:
    """Sizes and designs: mu-law at all sizes, the mixture at the one of the aims."""
    mixture = dataclasses.replace(networks.Size(), output="mixture_of_logistics")
    sizes = [*networks.SIZES, mixture]
    few = [(size, "cluster") for size in sizes if size.residual <= 64]
    return few + [(size, "streams") for size in sizes]


def _print(rows):
    table = Table(title="WaveNet kernels compiled for an H200; speeds are predictions")
    columns = ("design", "R", "S", "output", "registers", "spilled", "us a sample", "samples/s")
    for column in columns:
        table.add_column(column, justify="left" if column in ("design", "output") else "right")
    for row in rows:
        table.add_row(
            row["design"],
            str(row["residual"]),
            str(row["skip"]),
            row["output"],
            str(row["registers"]),
            str(row["spilled_bytes"]),
            f"{row['predicted_microseconds_a_sample']:.1f}",
            f"{row['predicted_samples_per_second']:,.0f}",
        )
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("record", "wavenet_machine_code", "Name of the record.")


def main(argv: list[str]) -> None:
    """Counts and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    _machine_code.prepare()
    try:
        rows = [
            measure(*case) for case in track(cases(), "compiling", console=Console(stderr=True))
        ]
    except RuntimeError as error:
        sys.exit(f"machine_code: {error}")
    _print(rows)
    path = records.write_record(
        flags.FLAGS.record,
        None,
        rows,
        description="WaveNet generation kernels compiled for an H200; times are predictions",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
