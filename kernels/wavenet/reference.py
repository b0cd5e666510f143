"""Sequential generation as a scan that any device runs."""

import jax
import jax.numpy as jnp

from deepaudio.kernels.wavenet._network import State, Weights
from deepaudio.kernels.wavenet._outputs import Output, draw, mu_law_encode


def generate(
    weights: Weights,
    dilations: tuple[int, ...],
    conditioning: jax.Array,
    uniforms: jax.Array,
    state: State,
    *,
    output: Output,
    temperature: float,
) -> tuple[jax.Array, State]:
    """As `deepaudio.kernels.wavenet.generate`, whose arguments are checked."""
    layers = _by_layer(weights)

    def advance(state, inputs):
        vectors, uniform = inputs
        state, parameters = _step(weights, layers, dilations, vectors, state, output)
        sample = draw(parameters, uniform, output, temperature)
        return state._replace(sample=sample), sample

    inputs = (conditioning.swapaxes(0, 1), uniforms.swapaxes(0, 1))
    state, samples = jax.lax.scan(advance, state, inputs)
    return samples.swapaxes(0, 1), state


def step(
    weights: Weights,
    dilations: tuple[int, ...],
    conditioning: jax.Array,
    state: State,
    *,
    output: Output,
) -> tuple[State, jax.Array]:
    """What the network says of the next sample.

    Args:
        weights: Of the network.
        dilations: Of every layer.
        conditioning: (batch, C).
        state: With the sample before.
        output: Of the network.

    Returns:
        The state, with the sample before still in it, and (batch, n) float32 parameters.
    """
    return _step(weights, _by_layer(weights), dilations, conditioning, state, output)


def _by_layer(weights):
    """Every layer's matrices and biases, those that multiply what is there together as one.

    Before the scan: slices of stacked matrices would be copied at every sample. Multiplying all
    conditioning before it would take a processor longer than doing so within the filters' product.
    """
    layers = len(weights.gate)
    taps = weights.gate.reshape(layers, -1, weights.gate.shape[-1])
    filters = jnp.concatenate([taps, weights.conditioning], axis=1)
    outputs = jnp.concatenate([weights.residual, weights.skip], axis=-1)
    biases = (weights.gate_bias, weights.residual_bias)
    return [tuple(array[n] for array in (filters, outputs, *biases)) for n in range(layers)]


def _step(weights, layers, dilations, conditioning, state, output):
    hidden = _enter(weights, state.sample, output)
    skips, buffers = weights.skip_bias[None], []
    width = weights.gate.shape[1]
    given = conditioning.astype(weights.gate.dtype)
    parts = zip(layers, dilations, state.buffers, strict=True)
    for (filters, outputs, gate_bias, residual_bias), dilation, buffer in parts:
        size = buffer.shape[0]
        taps = [
            jax.lax.dynamic_index_in_dim(buffer, (state.count - back * dilation) % size, 0, False)
            for back in range(width - 1, 0, -1)
        ]
        now = hidden.astype(buffer.dtype)
        buffers.append(jax.lax.dynamic_update_index_in_dim(buffer, now, state.count % size, 0))
        seen = jnp.concatenate([*taps, now, given], axis=-1)
        wave, gate = jnp.split(_product(seen, filters) + gate_bias[None], 2, axis=-1)
        both = _product(jnp.tanh(wave) * jax.nn.sigmoid(gate), outputs)
        hidden = hidden + both[:, : hidden.shape[1]] + residual_bias[None]
        skips = skips + both[:, hidden.shape[1] :]
    x = _product(jax.nn.relu(skips), weights.head) + weights.head_bias[None]
    parameters = _product(jax.nn.relu(x), weights.parameters) + weights.parameters_bias[None]
    return state._replace(buffers=tuple(buffers), count=state.count + 1), parameters


def _enter(weights, samples, output):
    if output == "mu_law":
        return weights.first[mu_law_encode(samples)].astype(jnp.float32)
    return samples[:, None] * weights.first[0][None] + weights.first[1][None]


def _product(inputs, matrix):
    return jnp.dot(inputs.astype(matrix.dtype), matrix, preferred_element_type=jnp.float32)
