"""A WaveNet as sequential generation sees it: its weights, and what it remembers of the past."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from deepaudio.kernels.wavenet._outputs import OUTPUTS, Output, num_uniforms


class Weights(NamedTuple):
    """Matrices of a WaveNet (arXiv 1609.03499), inputs by outputs; L layers.

    The products' matrices are of one dtype, float32, bfloat16 or float16; the channels that go from
    layer to layer, sums and biases are float32 whatever it is.

    Attributes:
        first: (codes, R) vectors of mu-law codes, a matrix; or (2, R) float32, what a sample is
            multiplied by and what is added, of any other output.
        gate: (L, width, R, 2 G) dilated filters, the earliest tap first, tanh's half before the
            sigmoid's.
        gate_bias: (L, 2 G) float32.
        conditioning: (L, C, 2 G).
        residual: (L, G, R).
        residual_bias: (L, R) float32.
        skip: (L, G, S).
        skip_bias: (S,) float32, the layers' sum.
        head: (S, H).
        head_bias: (H,) float32.
        parameters: (H, n), n as the output needs.
        parameters_bias: (n,) float32.
    """

    first: jax.Array
    gate: jax.Array
    gate_bias: jax.Array
    conditioning: jax.Array
    residual: jax.Array
    residual_bias: jax.Array
    skip: jax.Array
    skip_bias: jax.Array
    head: jax.Array
    head_bias: jax.Array
    parameters: jax.Array
    parameters_bias: jax.Array


class State(NamedTuple):
    """What generation remembers of the past.

    Attributes:
        buffers: For every layer the inputs that its filter will need, (its reach, batch, R) of the
            matrices' dtype, a ring: input t lies at t modulo the reach.
        sample: (batch,) float32, the sample before the next.
        count: int32 scalar, samples generated.
    """

    buffers: tuple[jax.Array, ...]
    sample: jax.Array
    count: jax.Array


def initial_state(weights: Weights, dilations: tuple[int, ...], batch: int) -> State:
    """The state before the first sample.

    Its past is silence as the parallel network has it: every layer's input is zero there, not what
    the layers would make of zeros.
    """
    reach = weights.gate.shape[1] - 1
    channels = weights.residual.shape[2]
    buffers = tuple(
        jnp.zeros((reach * dilation, batch, channels), weights.gate.dtype) for dilation in dilations
    )
    return State(buffers, jnp.zeros((batch,)), jnp.zeros((), jnp.int32))


def check(
    weights: Weights,
    dilations: tuple[int, ...],
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: State,
    output: Output,
) -> None:
    """Checks that all belong together.

    Raises:
        ValueError: Something does not.
    """
    if output not in OUTPUTS:
        raise ValueError(f"{output=} must be one of {', '.join(OUTPUTS)}")
    layers = weights.gate.shape[0]
    if len(dilations) != layers:
        raise ValueError(f"{len(dilations)} dilations for {layers} layers")
    if conditioning.ndim != 3 or conditioning.shape[2] != weights.conditioning.shape[1]:
        expected = f"(batch, time, {weights.conditioning.shape[1]})"
        raise ValueError(f"conditioning must be {expected}, not {conditioning.shape}")
    batch, time = uniforms.shape[:2]
    expected = (batch, time, num_uniforms(output))
    if uniforms.shape != expected:
        raise ValueError(f"uniforms must be {expected}, not {uniforms.shape}")
    if conditioning.shape[1] < time:
        raise ValueError(
            f"conditioning for {conditioning.shape[1]} samples is shorter than the {time} asked for"
        )
    if conditioning.shape[:2] != (batch, time):
        raise ValueError(
            f"uniforms {uniforms.shape} and conditioning {conditioning.shape} must agree in "
            "streams and samples"
        )
    fresh = jax.eval_shape(lambda: initial_state(weights, dilations, batch))
    if jax.tree.map(lambda x: (x.shape, x.dtype), state) != jax.tree.map(
        lambda x: (x.shape, x.dtype), fresh
    ):
        raise ValueError("the state is that of another model or another number of streams")


def project(weights: Weights, conditioning: jax.Array) -> jax.Array:
    """What conditioning adds before the gates, the gates' bias included.

    Args:
        weights: Of the network.
        conditioning: (batch, time, C).

    Returns:
        (time, L, batch, 2 G) of the matrices' dtype.
    """
    projected = jnp.einsum(
        "btc,lcg->tlbg",
        conditioning.astype(weights.conditioning.dtype),
        weights.conditioning,
        preferred_element_type=jnp.float32,
    )
    return (projected + weights.gate_bias[None, :, None]).astype(weights.gate.dtype)
