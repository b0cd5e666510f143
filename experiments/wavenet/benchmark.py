"""Times sequential generation: samples a second of the WaveNet kernels beside others.

    python -m experiments.wavenet.benchmark
    python -m experiments.wavenet.benchmark --streams=1,16,128,1024,8448

On a CPU, the jitted scan beside torch's usual way, a ring buffer of each layer's past and one
linear product a tap, if torch is installed; both make the same samples from the same weights, which
is checked. On a GPU, the kernel beside the scan. Contestants take turns, and each ratio is the
median of the ratios within a turn. Writes the record `wavenet_speed_cpu` or `wavenet_speed_gpu`.
"""

import importlib
import importlib.util
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio.kernels import wavenet
from experiments import _arguments, records
from experiments._turns import Run, take_turns
from experiments.wavenet import networks

# First samples that must be the same by both.
_ALIKE = 100


def jax_run(
    size: networks.Size, streams: int, samples: int, *, dtype: str, implementation: str
) -> Run:
    """Compiled generation, ready to be timed; a run returns the samples."""
    weights = networks.make_weights(size, dtype)
    inputs = networks.make_inputs(size, streams, samples)

    def run(weights, conditioning, uniforms):
        return wavenet.generate(
            weights,
            conditioning,
            uniforms,
            dilations=size.dilations,
            output=size.output,
            implementation=implementation,
        )[0]

    compiled = jax.jit(run).lower(weights, *inputs).compile()
    return lambda: jax.block_until_ready(compiled(weights, *inputs))


def torch_run(size: networks.Size, streams: int, samples: int) -> Run:
    """The same by torch, on a CPU."""
    torch = importlib.import_module("torch")
    linear = torch.nn.functional.linear
    weights = networks.make_weights(size, "float32")
    conditioning, uniforms = networks.make_inputs(size, streams, samples)
    w = {
        name: torch.from_numpy(np.array(value)).contiguous()
        for name, value in weights._asdict().items()
    }
    taps = w["gate"].transpose(-1, -2).contiguous()
    outputs = torch.cat([w["residual"], w["skip"]], dim=-1).transpose(-1, -2).contiguous()
    head, parameters = w["head"].T.contiguous(), w["parameters"].T.contiguous()
    # As in the scan, what does not wait for samples is done before.
    given = torch.from_numpy(np.array(conditioning))
    projected = torch.einsum("btc,lcg->tlbg", given, w["conditioning"]) + w["gate_bias"][:, None]
    chances = torch.from_numpy(np.array(uniforms))
    half = size.residual

    def step(buffers, t, code):
        hidden = w["first"][code]
        skips = w["skip_bias"]
        for layer, dilation in enumerate(size.dilations):
            place = t % dilation
            past = buffers[layer][place]
            summed = linear(past, taps[layer, 0]) + linear(hidden, taps[layer, 1])
            buffers[layer][place] = hidden
            summed = summed + projected[t, layer]
            gated = torch.tanh(summed[:, :half]) * torch.sigmoid(summed[:, half:])
            both = linear(gated, outputs[layer])
            hidden = hidden + both[:, :half] + w["residual_bias"][layer]
            skips = skips + both[:, half:]
        x = torch.relu(linear(torch.relu(skips), head, w["head_bias"]))
        logits = linear(x, parameters, w["parameters_bias"])
        reached = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
        return (reached[:, :-1] <= chances[:, t, :1]).sum(-1)

    def run():
        buffers = [torch.zeros(d, streams, size.residual) for d in size.dilations]
        codes = [torch.full((streams,), 128)]
        with torch.inference_mode():
            for t in range(samples):
                codes.append(step(buffers, t, codes[-1]))
        return wavenet.mu_law_decode(jnp.asarray(torch.stack(codes[1:], dim=1).numpy()))

    return run


def contestants(size: networks.Size, streams: int, samples: int) -> dict[str, Run]:
    """What is timed on this device, by name; the first is ours."""
    if jax.devices()[0].platform != "cpu":
        shared = {"dtype": "bfloat16"}
        return {
            "deepaudio, kernel": jax_run(
                size, streams, samples, implementation="mosaic_gpu", **shared
            ),
            "deepaudio, scan": jax_run(size, streams, samples, implementation="xla", **shared),
        }
    ours = jax_run(size, streams, samples, dtype="float32", implementation="xla")
    found = {"deepaudio, scan": ours}
    if importlib.util.find_spec("torch"):
        found["torch, ring buffers"] = torch_run(size, streams, samples)
        pair = (np.asarray(wavenet.mu_law_encode(run())) for run in found.values())
        apart = np.flatnonzero(np.not_equal(*pair).any(axis=0))
        # Rounding turns a code at some time, and then all that follow are others.
        if len(apart) and apart[0] < _ALIKE:
            raise RuntimeError(f"torch's sample {apart[0]} is not the scan's")
    return found


def measure(
    size: networks.Size, streams: list[int], samples: int, repetitions: int
) -> list[dict[str, Any]]:
    """Times all contestants at every number of streams.

    Args:
        size: Of the network.
        streams: Sounds at a time.
        samples: Of each.
        repetitions: Timed turns.

    Returns:
        A row for each.
    """
    rows = []
    for number in track(streams, "timing", console=Console(stderr=True)):
        seconds = take_turns(contestants(size, number, samples), repetitions)
        ours = next(iter(seconds.values()))
        for name, times in seconds.items():
            median = statistics.median(times)
            rows.append(
                {
                    "contestant": name,
                    "streams": number,
                    "samples_per_second_of_each": samples / median,
                    "samples_per_second_of_all": number * samples / median,
                    "ours_is_faster_times": statistics.median(
                        theirs / mine for theirs, mine in zip(times, ours, strict=True)
                    ),
                    "all_seconds": [round(value, 5) for value in times],
                }
            )
    return rows


def _print(rows):
    table = Table(title="sequential generation, samples a second")
    for column in ("contestant", "streams", "of each", "of all", "ours is faster, times"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in rows:
        table.add_row(
            row["contestant"],
            str(row["streams"]),
            f"{row['samples_per_second_of_each']:,.0f}",
            f"{row['samples_per_second_of_all']:,.0f}",
            f"{row['ours_is_faster_times']:.2f}",
        )
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list("streams", None, "Sounds at a time; by default what suits the device.")
    flags.DEFINE_integer("residual", 64, "Channels between layers.", lower_bound=1)
    flags.DEFINE_integer("skip", 256, "Channels of the skip connections.", lower_bound=1)
    flags.DEFINE_integer("head", 256, "Channels of the layer after them.", lower_bound=1)
    flags.DEFINE_integer("layers", 20, "Dilated layers.", lower_bound=1)
    flags.DEFINE_integer("samples", 2000, "Samples of each sound.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 5, "Timed turns.", lower_bound=1)
    flags.DEFINE_string("record", None, "Name of the record; by default the device's.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    platform = jax.devices()[0].platform
    usual = [1, 8] if platform == "cpu" else [1, 16, 128, 1024]
    streams = [int(number) for number in given.streams or usual]
    size = networks.Size(given.residual, given.skip, given.head, given.layers)
    rows = measure(size, streams, given.samples, given.repetitions)
    _print(rows)
    path = records.write_record(
        given.record or f"wavenet_speed_{platform}",
        None,
        rows,
        description="Samples a second of sequential generation by a WaveNet with random weights",
        residual=size.residual,
        skip=size.skip,
        head=size.head,
        layers=size.layers,
        output=size.output,
        samples=given.samples,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
