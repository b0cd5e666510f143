"""Small random networks, and the definition of what they compute, in float64."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import wavenet

CONDITIONING = 5


def make_network(
    rng, output="mixture_of_logistics", *, dilations=(1, 2, 4), residual=32, gate=None, skip=64,
    head=None, width=2, mixtures=3, dtype="float32",
):  # fmt: skip
    """Weights with spread-out outputs, and the keyword arguments that go with them."""
    gate, head, layers = gate or residual, head or skip, len(dilations)
    outputs = wavenet.num_parameters(output, mixtures)

    def vector(*shape, scale=0.1):
        return jnp.asarray(rng.normal(0, scale, shape), jnp.float32)

    def matrix(*shape, scale=1.0):
        return vector(*shape, scale=scale / np.sqrt(shape[-2])).astype(dtype)

    weights = wavenet.Weights(
        first=matrix(256, residual, scale=8.0)
        if output == "mu_law"
        else vector(2, residual, scale=1.0),
        gate=matrix(layers, width, residual, 2 * gate),
        gate_bias=vector(layers, 2 * gate),
        conditioning=matrix(layers, CONDITIONING, 2 * gate),
        residual=matrix(layers, gate, residual),
        residual_bias=vector(layers, residual),
        skip=matrix(layers, gate, skip),
        skip_bias=vector(skip),
        head=matrix(skip, head),
        head_bias=vector(head),
        parameters=matrix(head, outputs, scale=2.0),
        parameters_bias=vector(outputs),
    )
    return weights, {"dilations": dilations, "output": output}


def make_inputs(rng, output, batch, time):
    """Conditioning and uniform numbers."""
    conditioning = rng.normal(size=(batch, time, CONDITIONING))
    uniforms = rng.uniform(size=(batch, time, wavenet.num_uniforms(output)))
    return jnp.asarray(conditioning, jnp.float32), jnp.asarray(uniforms, jnp.float32)


def defined_parameters(weights, conditioning, samples, dilations, output):
    """What the network says of every sample given those before it, by its definition.

    Every layer is a sum over taps of the whole past, zero before the start.
    """
    w = types.SimpleNamespace(
        **{name: np.asarray(value, np.float64) for name, value in weights._asdict().items()}
    )
    conditioning, samples = (np.asarray(x, np.float64) for x in (conditioning, samples))
    batch, time = samples.shape
    before = np.concatenate([np.zeros((batch, 1)), samples[:, :-1]], axis=1)
    if output == "mu_law":
        hidden = w.first[np.asarray(wavenet.mu_law_encode(jnp.asarray(before, jnp.float32)))]
    else:
        hidden = before[..., None] * w.first[0] + w.first[1]
    skips = 0.0
    for layer, dilation in enumerate(dilations):
        summed = conditioning @ w.conditioning[layer] + w.gate_bias[layer]
        width = w.gate.shape[1]
        for tap in range(width):
            back = dilation * (width - 1 - tap)
            for t in range(back, time):
                summed[:, t] += hidden[:, t - back] @ w.gate[layer, tap]
        wave, gate = np.split(summed, 2, axis=-1)
        gated = np.tanh(wave) / (1.0 + np.exp(-gate))
        hidden = hidden + gated @ w.residual[layer] + w.residual_bias[layer]
        skips = skips + gated @ w.skip[layer]
    x = np.maximum(skips + w.skip_bias, 0.0) @ w.head + w.head_bias
    return np.maximum(x, 0.0) @ w.parameters + w.parameters_bias


@pytest.fixture
def network():
    """`make_network`."""
    return make_network


@pytest.fixture
def inputs():
    """`make_inputs`."""
    return make_inputs


@pytest.fixture
def defined():
    """`defined_parameters`."""
    return defined_parameters
