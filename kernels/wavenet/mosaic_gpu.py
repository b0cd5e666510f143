"""Generation on NVIDIA GPUs of the Hopper generation, in Pallas's Mosaic GPU.

One launch makes thousands of samples. Few streams have a cluster of eight multiprocessors each, on
which the network's matrices stay (`_cluster_kernel`); many go through it 64 at a time on one, the
matrices coming from the second-level cache (`_streams_kernel`).
"""

import functools

import jax
import jax.numpy as jnp

from deepaudio.kernels.wavenet import _cluster, _streams
from deepaudio.kernels.wavenet._network import State, Weights
from deepaudio.kernels.wavenet._outputs import Output
from deepaudio.kernels.wavenet.config import TILE, KernelConfig

_DTYPES = ("bfloat16", "float16")


def is_supported() -> bool:
    """Whether the default device can run this kernel."""
    device = jax.devices()[0]
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return device.platform == "gpu" and major.isdigit() and int(major) == 9


def unsupported(weights: Weights, dilations: tuple[int, ...], output: Output) -> str | None:
    """Why the kernel does not do a network, in words that follow “does not do”; None if it does."""
    _, width, residual, gates = weights.gate.shape
    skip, head = weights.head.shape
    dtype = weights.gate.dtype
    if output == "gaussian":
        return "Gaussian outputs, only mu_law and mixture_of_logistics"
    if width != 2:
        return f"filters of width {width}, only 2"
    if max(residual, gates // 2) > 128:
        return f"{residual} residual and {gates // 2} gate channels, only up to 128 of each"
    if max(skip, head) > 256:
        return f"{skip} skip and {head} head channels, only up to 256 of each"
    if max(dilations) > 512:
        return f"dilations of {max(dilations)}, only up to 512"
    if output == "mixture_of_logistics" and weights.parameters.shape[1] > TILE:
        return f"mixtures of {weights.parameters.shape[1] // 3}, only up to {TILE // 3}"
    if dtype.name not in _DTYPES:
        return f"{dtype} matrices, only {' and '.join(_DTYPES)}"
    return None


def generate(
    weights: Weights,
    dilations: tuple[int, ...],
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: State,
    *,
    output: Output,
    temperature: jax.Array,
    config: KernelConfig | None = None,
    interpret: object = None,
) -> tuple[jax.Array, State]:
    """As `deepaudio.kernels.wavenet.generate`, whose arguments are checked."""
    batch, time = uniforms.shape[:2]
    config = config or _streams.choose(weights, batch)
    launch = _cluster.launch if config.clusters and _cluster.fits(weights) else _streams.launch
    run = functools.partial(
        launch, weights, dilations, output=output, temperature=temperature, interpret=interpret
    )
    whole = time // config.samples

    def advance(state, inputs):
        samples, state, _ = run(*inputs, state, config=config)
        return state, samples

    def pieces(array):
        cut = array[:, : whole * config.samples]
        return cut.reshape(batch, whole, config.samples, -1).swapaxes(0, 1)

    found = []
    if whole:
        state, samples = jax.lax.scan(advance, state, (pieces(conditioning), pieces(uniforms)))
        found.append(samples.swapaxes(0, 1).reshape(batch, -1))
    if time % config.samples:
        rest = (array[:, whole * config.samples :] for array in (conditioning, uniforms))
        state, samples = advance(state, tuple(rest))
        found.append(samples)
    return jnp.concatenate([jnp.zeros((batch, 0)), *found], axis=1), state
