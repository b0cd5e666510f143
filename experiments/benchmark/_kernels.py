"""The suite "kernels": the project's own computations, each beside the usual way.

Bodies are split over all devices; everything else, the baselines too, is on the first.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepaudio import audio, losses
from deepaudio.kernels import nbody as nbody_kernels
from deepaudio.kernels import sparse, wavenet
from experiments import benchmark_ctc, benchmark_recurrence
from experiments.benchmark import _device, _naive, _work
from experiments.benchmark._cases import Case, Skip, Timed, Work
from experiments.nbody import benchmark as nbody
from experiments.sparse import benchmark as sparse_benchmark
from experiments.sparse.machine_code import draw
from experiments.wavenet import benchmark as wavenet_benchmark
from experiments.wavenet import networks

# Sizes of a sweep at each scale, of which the last is the one that is otherwise timed.
_SIZES = {
    "nbody": {"smoke": (64, 128), "small": (512, 1024, 2048, 4096), "paper": (4096, 16384, 32768)},
    "wavenet": {"smoke": (1, 2), "small": (1, 2, 4, 8), "paper": (1, 16, 128, 1024)},
    "sparse": {"smoke": (64, 96), "small": (440, 880, 1760), "paper": (640, 1280, 1760, 2560)},
    "gru": {"smoke": (8, 16), "small": (96, 192, 384), "paper": (640, 1280, 2560)},
    "ctc": {"smoke": (8, 12), "small": (50, 100, 200), "paper": (125, 250, 500)},
    "log_mel": {"smoke": (1, 2), "small": (5, 10, 20), "paper": (10, 60, 300)},
}
# Samples of each stream, and the network.
_GENERATION = {
    "smoke": (8, networks.Size(8, 16, 16, 4)),
    "small": (400, networks.Size()),
    "paper": (2000, networks.Size()),
}
# Sequences and frames of each.
_SEQUENCES = {"smoke": (2, 8), "small": (16, 100), "paper": (64, 200)}
# Utterances; a label has a third as many units as there are frames.
_UTTERANCES = {"smoke": 2, "small": 16, "paper": 64}
_LETTERS, _FRAMES_A_UNIT = 29, 3
_SPARSITY, _CPU_PRODUCTS, _COLD_BYTES = 0.9, 10, 120e6
_HOPPER, _SINCE_HOPPER = "an NVIDIA GPU of the Hopper generation", "an NVIDIA GPU since Hopper"

Make = Callable[[], Timed] | Skip


def cases(scale: str, sweep: bool) -> list[Case]:
    """Every kernel at one size, or at several.

    Args:
        scale: "smoke", "small" or "paper".
        sweep: Whether each is timed at smaller sizes too.
    """
    makers = {
        "nbody": _nbody_cases,
        "wavenet": _wavenet_cases,
        "sparse": _sparse_cases,
        "gru": _gru_cases,
        "ctc": _ctc_cases,
        "log_mel": _log_mel_cases,
    }
    found = []
    for name, make in makers.items():
        sizes = _SIZES[name][scale]
        for size in sizes if sweep else sizes[-1:]:
            found += make(size, scale)
    return found


def _nbody_cases(number: int, scale: str) -> list[Case]:
    number -= number % jax.device_count()
    found = []
    without_kernel = _device.without_kernel(nbody_kernels.mosaic_gpu.is_supported, _SINCE_HOPPER)
    for law in nbody.PAPER:
        contestants = {
            "broadcasting": functools.partial(_broadcast, law, number),
            "xla": functools.partial(_bodies, law, number, "xla"),
            "mosaic_gpu": without_kernel or functools.partial(_bodies, law, number, "mosaic_gpu"),
        }
        if law == "gravity":
            contestants["numpy"] = _device.without_library("numpy") or functools.partial(
                _numpy_gravity, number
            )
        found.append(Case("kernels", f"nbody_{law}", number, "bodies", "interaction", contestants))
    return found


def _broadcast(law: str, number: int) -> Timed:
    arrays = nbody.bodies(number)
    placed = jax.device_put([arrays[name] for name in nbody.law(law)[1]])
    compiled = jax.jit(functools.partial(_naive.force, law))
    return Timed(
        lambda: jax.block_until_ready(compiled(*placed)), number**2, _body_work(law, number)
    )


def _bodies(law: str, number: int, implementation: str) -> Timed:
    run = nbody.jax_run(law, nbody.bodies(number), implementation=implementation)
    return Timed(run, number**2, _body_work(law, number))


def _numpy_gravity(number: int) -> Timed:
    run = nbody.numpy_run(nbody.bodies(number))
    return Timed(run, number**2, _body_work("gravity", number))


def _body_work(law: str, number: int) -> Work:
    """Operations as the paper counts them, and bytes that have to be moved in any case."""
    arrays = nbody.bodies(number)
    outputs = 2 if law == "gravity_and_jerk" else 1
    moved = sum(arrays[name].nbytes for name in nbody.law(law)[1]) + 12 * outputs * number
    return Work(nbody.PAPER[law][0] * number**2, moved)


def _wavenet_cases(streams: int, scale: str) -> list[Case]:
    samples, size = _GENERATION[scale]
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    # Every sample reads its conditioning and numbers; the weights stay where they are.
    given = networks.CONDITIONING + wavenet.num_uniforms(size.output) + 1
    moved = size.weights * jnp.dtype(dtype).itemsize + 4.0 * given * streams * samples
    work = Work(2.0 * size.weights * streams * samples, moved)

    def timed(make: Callable[..., Any], **options: Any) -> Timed:
        return Timed(make(size, streams, samples, **options), streams * samples, work)

    scan = functools.partial(timed, wavenet_benchmark.jax_run, dtype=dtype, implementation="xla")
    contestants = {
        "xla": scan,
        "mosaic_gpu": _device.without_kernel(wavenet.mosaic_gpu.is_supported, _HOPPER)
        or functools.partial(scan, implementation="mosaic_gpu"),
        "torch": _device.without_library("torch")
        or functools.partial(timed, wavenet_benchmark.torch_run),
    }
    return [Case("kernels", "wavenet_generate", streams, "streams", "sample", contestants)]


def _sparse_cases(units: int, scale: str) -> list[Case]:
    contestants = {
        "dense": functools.partial(_product, units, "dense"),
        "xla": functools.partial(_product, units, "xla"),
        "mosaic_gpu": _device.without_kernel(sparse.mosaic_gpu.is_supported, _SINCE_HOPPER)
        or functools.partial(_product, units, "mosaic_gpu"),
        "scipy": _device.without_library("scipy") or functools.partial(_product, units, "scipy"),
    }
    return [Case("kernels", "sparse_matvec", units, "units", "product", contestants)]


def _product(units: int, contestant: str) -> Timed:
    """Products with the recurrent matrix of a GRU, warm on a CPU and cold elsewhere."""
    matrix = draw(3 * units, units, _SPARSITY)
    vectors = np.random.default_rng(1).normal(0, 1, (1, units)).astype(np.float32)
    if contestant == "scipy":
        run = sparse_benchmark.csr_run(matrix, vectors, _CPU_PRODUCTS)
        return Timed(run, _CPU_PRODUCTS, None)
    packed = sparse.pack(matrix)
    on_cpu = jax.default_backend() == "cpu"
    if contestant == "dense":
        weights = jnp.asarray(matrix, jnp.float32 if on_cpu else jnp.bfloat16)
        vectors, multiply, nonzeros = vectors.astype(weights.dtype), sparse_benchmark.dense, None
    else:
        weights, nonzeros = packed, int(np.count_nonzero(matrix))
        multiply = functools.partial(sparse.matvec, implementation=contestant)
    # As many copies as no cache holds.
    if on_cpu:
        number = _CPU_PRODUCTS
        run = sparse_benchmark.repeated(multiply, weights, vectors, number)
    else:
        copies = -(-int(_COLD_BYTES) // packed.nbytes)
        number = copies * sparse_benchmark.GPU_ROUNDS
        run = sparse_benchmark.in_turn(
            multiply, weights, vectors, copies, sparse_benchmark.GPU_ROUNDS
        )
    work = Work(2.0 * number * (nonzeros or matrix.size), float(number * weights.nbytes))
    return Timed(run, number, work)


def _gru_cases(units: int, scale: str) -> list[Case]:
    found = []
    makers = benchmark_recurrence.contestants()
    for backward in (False, True):
        contestants = {
            name: functools.partial(_gru, makers[name], units, scale, backward)
            for name in ("flax.linen.RNN", "deepaudio")
        }
        contestants["torch.nn.GRU"] = _device.without_library("torch") or functools.partial(
            _gru, makers.get("torch.nn.GRU"), units, scale, backward
        )
        name = "gru_gradient" if backward else "gru"
        found.append(Case("kernels", name, units, "units", "frame", contestants))
    return found


def _gru(make: Callable[..., Any], units: int, scale: str, backward: bool) -> Timed:
    batch, frames = _SEQUENCES[scale]
    inputs = jnp.asarray(np.random.default_rng(0).normal(0, 1, (batch, frames, units)), "float32")
    # Both matrices, three gates; a gradient is two more products for each.
    passes = 3 if backward else 1
    flops = 2.0 * passes * batch * frames * 2 * units * 3 * units
    moved = 4.0 * passes * (2 * units * 3 * units + 2 * batch * frames * units)
    run = make(inputs, units, False, backward)
    return Timed(run, batch * frames, Work(flops, moved))


def _ctc_cases(frames: int, scale: str) -> list[Case]:
    contestants = {
        "optax": functools.partial(_ctc, optax.ctc_loss, frames, scale),
        "deepaudio": functools.partial(_ctc, losses.ctc_loss, frames, scale),
    }
    return [Case("kernels", "ctc_loss_and_gradient", frames, "frames", "frame", contestants)]


def _ctc(loss: Callable[..., Any], frames: int, scale: str) -> Timed:
    batch, rng = _UTTERANCES[scale], np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 1, (batch, frames, _LETTERS)), jnp.float32)
    labels = jnp.asarray(rng.integers(1, _LETTERS, (batch, frames // _FRAMES_A_UNIT)), jnp.int32)
    function = benchmark_ctc.loss_and_gradient(loss, labels)
    compiled, work = _work.compile_counted(function, logits)
    return Timed(lambda: jax.block_until_ready(compiled(logits)), batch * frames, work)


def _log_mel_cases(seconds: int, scale: str) -> list[Case]:
    contestants = {
        "librosa": _device.without_library("librosa") or functools.partial(_librosa, seconds),
        "deepaudio": functools.partial(_log_mel, seconds),
    }
    return [Case("kernels", "log_mel", seconds, "seconds", "second of sound", contestants)]


def _noise(seconds: int) -> np.ndarray:
    rate = audio.LogMelConfig().sample_rate
    return np.random.default_rng(0).normal(0, 0.1, seconds * rate).astype(np.float32)


def _log_mel(seconds: int) -> Timed:
    samples = jax.device_put(_noise(seconds))
    compiled, work = _work.compile_counted(audio.log_mel, samples)
    return Timed(lambda: jax.block_until_ready(compiled(samples)), seconds, work)


def _librosa(seconds: int) -> Timed:
    librosa = importlib.import_module("librosa")
    samples, config = _noise(seconds), audio.LogMelConfig()

    def run():
        power = librosa.feature.melspectrogram(
            y=samples,
            sr=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            fmin=config.f_min,
            fmax=config.f_max,
            htk=config.htk,
        )
        return librosa.power_to_db(power, amin=config.amin, top_db=None)

    return Timed(run, seconds, None)
