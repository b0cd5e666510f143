"""Sequential generation of sound by a WaveNet, one sample after another."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from deepaudio.kernels.wavenet import _network, mosaic_gpu, reference
from deepaudio.kernels.wavenet._network import State, Weights, initial_state
from deepaudio.kernels.wavenet._outputs import Output

Implementation = Literal["xla", "mosaic_gpu"]


def generate(
    weights: Weights,
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: State | None = None,
    *,
    dilations: tuple[int, ...],
    output: Output,
    temperature: float | jax.Array = 1.0,
    implementation: Implementation | None = None,
) -> tuple[jax.Array, State]:
    """Generates samples one after another, O(layers) each.

    The same uniforms give the same samples, in one call or in pieces that hand on the state. There
    are no gradients.

    Args:
        weights: Of the network, all that the output needs.
        conditioning: (batch, time, C) vectors, one a sample.
        uniforms: (batch, time, n) from [0, 1), n as `num_uniforms` says.
        state: Where an earlier call ended; None to begin.
        dilations: Of every layer.
        output: What the network says of the next sample.
        temperature: Factor of scales, and divisor of a softmax's logits.
        implementation: "xla", a scan on any device; "mosaic_gpu", one launch for thousands of
            samples on NVIDIA GPUs of the Hopper generation, for what
            `mosaic_gpu.unsupported` does not name; None for the best that there is.

    Returns:
        (batch, time) float32 samples in [-1, 1], and the state to go on with.

    Raises:
        ValueError: Sizes disagree, the state is another model's, the implementation is unknown or
            does not do such a network.

    References:
        Oord et al., `WaveNet <https://arxiv.org/abs/1609.03499>`_, 2016
    """
    if implementation not in (None, *get_args(Implementation)):
        raise ValueError(f"{implementation=} must be 'xla', 'mosaic_gpu' or None")
    if state is None:
        state = initial_state(weights, dilations, uniforms.shape[0])
    _network.check(weights, dilations, conditioning, uniforms, state, output)
    reason = mosaic_gpu.unsupported(weights, dilations, output)
    if implementation == "mosaic_gpu" and reason:
        raise ValueError(f"the GPU kernel does not do {reason}: use implementation='xla'")
    if implementation is None:
        fits = reason is None and mosaic_gpu.is_supported()
        implementation = "mosaic_gpu" if fits else "xla"
    run = {"xla": reference.generate, "mosaic_gpu": mosaic_gpu.generate}[implementation]
    return run(
        weights,
        tuple(dilations),
        conditioning,
        uniforms,
        state,
        output=output,
        temperature=jnp.asarray(temperature, jnp.float32),
    )
