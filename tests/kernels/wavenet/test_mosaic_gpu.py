"""The GPU kernels in the interpreter, with races looked for, against the scan."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import wavenet
from deepaudio.kernels.wavenet import _cluster, _streams, mosaic_gpu

try:
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:  # JAX 0.11
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams


DESIGNS = {"streams": _streams.launch, "cluster": _cluster.launch}


def launch(design, weights, conditioning, uniforms, state, *, races=True, temperature=1.0, **kinds):
    """One launch in the interpreter, with every sample's parameters."""
    return DESIGNS[design](
        weights,
        conditioning=conditioning,
        uniforms=uniforms,
        state=state,
        temperature=jnp.float32(temperature),
        config=_streams.choose(weights, len(uniforms)),
        debug=True,
        interpret=InterpretGPUParams(detect_races=races),
        **kinds,
    )


def assert_states_close(ours, theirs):
    for a, b in zip((*ours.buffers, ours.sample), (*theirs.buffers, theirs.sample), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert int(ours.count) == int(theirs.count)


TEN = tuple(2 ** (layer % 3) for layer in range(10))


@pytest.mark.parametrize(
    ("design", "output", "batch", "sizes"),
    [
        ("streams", "mixture_of_logistics", 1, {"residual": 32, "skip": 128}),
        ("streams", "mixture_of_logistics", 3, {"residual": 128, "skip": 64, "dilations": (1, 2)}),
        ("streams", "mu_law", 1, {"residual": 128, "skip": 128, "head": 64, "dilations": (2, 1)}),
        ("streams", "mu_law", 2, {"residual": 64, "gate": 32, "skip": 256, "dilations": (1, 4)}),
        ("cluster", "mixture_of_logistics", 1, {"residual": 32, "skip": 64}),
        ("cluster", "mu_law", 2, {"residual": 64, "gate": 32, "skip": 128, "dilations": TEN}),
    ],
)
def test_the_kernel_s_samples_and_state_are_the_scan_s(
    rng, network, inputs, design, output, batch, sizes
):
    weights, kinds = network(rng, output, **sizes)
    conditioning, uniforms = inputs(rng, output, batch, 6)
    state = wavenet.initial_state(weights, kinds["dilations"], batch)
    expected, after = wavenet.generate(weights, conditioning, uniforms, state, **kinds)
    found, found_after, _ = launch(design, weights, conditioning, uniforms, state, **kinds)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert_states_close(found_after, after)


def test_the_first_256_samples_in_float32_are_the_scan_s(rng, network, inputs):
    weights, kinds = network(rng, "mu_law", dilations=(1, 32), residual=32, skip=64)
    conditioning, uniforms = inputs(rng, "mu_law", 1, 256)
    state = wavenet.initial_state(weights, kinds["dilations"], 1)
    expected, _ = wavenet.generate(weights, conditioning, uniforms, state, **kinds)
    found, _, _ = launch("streams", weights, conditioning, uniforms, state, races=False, **kinds)
    np.testing.assert_array_equal(wavenet.mu_law_encode(found), wavenet.mu_law_encode(expected))
    assert len(np.unique(expected)) > 50


@pytest.mark.parametrize(
    ("design", "dtype"), [("streams", "bfloat16"), ("streams", "float16"), ("cluster", "bfloat16")]
)
def test_half_precision_says_the_same_of_the_samples_it_drew(rng, network, inputs, design, dtype):
    weights, kinds = network(rng, dtype=dtype)
    conditioning, uniforms = inputs(rng, kinds["output"], 2, 8)
    state = wavenet.initial_state(weights, kinds["dilations"], 2)
    samples, _, found = launch(design, weights, conditioning, uniforms, state, **kinds)
    for t in range(8):
        state, expected = wavenet.step(
            weights, kinds["dilations"], conditioning[:, t], state, output=kinds["output"]
        )
        np.testing.assert_allclose(found[:, t], expected, atol=2e-2)
        state = state._replace(sample=samples[:, t])


def test_more_streams_than_a_block_takes_and_a_temperature(rng, network, inputs):
    weights, kinds = network(rng, "mu_law", dilations=(2,), skip=64)
    conditioning, uniforms = inputs(rng, "mu_law", 65, 3)
    state = wavenet.initial_state(weights, kinds["dilations"], 65)
    expected, _ = wavenet.generate(weights, conditioning, uniforms, state, temperature=0.5, **kinds)
    found, _, _ = launch(
        "streams", weights, conditioning, uniforms, state, temperature=0.5, **kinds
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    plain, _ = wavenet.generate(weights, conditioning, uniforms, state, **kinds)
    assert np.abs(plain - expected).max() > 1e-2


@pytest.mark.parametrize("clusters", [False, True])
def test_launches_hand_on_the_state(rng, network, inputs, clusters):
    weights, kinds = network(rng, dilations=(1, 4))
    conditioning, uniforms = inputs(rng, kinds["output"], 2, 7)
    state = wavenet.initial_state(weights, kinds["dilations"], 2)
    expected, after = wavenet.generate(weights, conditioning, uniforms, state, **kinds)
    run = functools.partial(
        mosaic_gpu.generate,
        weights,
        temperature=jnp.float32(1.0),
        interpret=InterpretGPUParams(),
        **kinds,
    )
    config = dataclasses.replace(_streams.choose(weights, 2), samples=3, clusters=clusters)
    found, found_after = run(
        conditioning=conditioning, uniforms=uniforms, state=state, config=config
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert_states_close(found_after, after)
