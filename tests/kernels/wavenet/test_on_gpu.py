"""The compiled GPU kernels: what they say of the samples they drew, by the network's definition.

JAX_PLATFORMS=cuda,cpu pytest tests/kernels
"""

import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import wavenet
from deepaudio.kernels.wavenet import _cluster, _streams, mosaic_gpu

TWENTY = tuple(2 ** (layer % 10) for layer in range(20))
SAMPLES = 600


@pytest.fixture(autouse=True)
def _needs_a_gpu():
    if not mosaic_gpu.is_supported():
        pytest.skip("needs an NVIDIA GPU of the Hopper generation")


@pytest.mark.parametrize("output", ["mu_law", "mixture_of_logistics"])
@pytest.mark.parametrize(
    ("design", "batch"), [("cluster", 1), ("cluster", 16), ("streams", 1), ("streams", 65)]
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_sample_s_distribution_is_the_network_s(
    rng, network, inputs, defined, design, batch, output, dtype
):
    weights, kinds = network(
        rng, output, dilations=TWENTY, residual=64, skip=256, mixtures=10, dtype=dtype
    )
    conditioning, uniforms = inputs(rng, output, batch, SAMPLES)
    launch = {"cluster": _cluster.launch, "streams": _streams.launch}[design]
    samples, state, found = launch(
        weights,
        conditioning=conditioning,
        uniforms=uniforms,
        state=wavenet.initial_state(weights, TWENTY, batch),
        temperature=jnp.float32(1.0),
        config=_streams.choose(weights, batch),
        debug=True,
        **kinds,
    )
    samples = np.asarray(samples)
    assert samples.shape == (batch, SAMPLES) and int(state.count) == SAMPLES
    assert np.abs(samples).max() <= 1.0 and len(np.unique(samples[-1])) > 50
    # The first and the last stream stand for all.
    for stream in {0, batch - 1}:
        expected = defined(
            weights, conditioning[stream : stream + 1], samples[stream : stream + 1], **kinds
        )[0]
        away = np.abs(np.asarray(found[stream], np.float64) - expected)
        assert away.max() < (0.15 if dtype == "bfloat16" else 0.03) * np.abs(expected).std()


@pytest.mark.parametrize("design", ["cluster", "streams"])
def test_launches_hand_on_the_state(rng, network, inputs, defined, design):
    """What later launches say follows from samples of the earlier ones too."""
    weights, kinds = network(rng, dilations=TWENTY, residual=64, skip=256, dtype="float16")
    conditioning, uniforms = inputs(rng, kinds["output"], 3, SAMPLES)
    launch = {"cluster": _cluster.launch, "streams": _streams.launch}[design]
    state = wavenet.initial_state(weights, TWENTY, 3)
    pieces = []
    for piece in (slice(0, 128), slice(128, 517), slice(517, SAMPLES)):
        samples, state, found = launch(
            weights,
            conditioning=conditioning[:, piece],
            uniforms=uniforms[:, piece],
            state=state,
            temperature=jnp.float32(1.0),
            config=_streams.choose(weights, 3),
            debug=True,
            **kinds,
        )
        pieces.append((samples, found))
    samples, found = (np.concatenate(each, axis=1) for each in zip(*pieces, strict=True))
    expected = defined(weights, conditioning, samples, **kinds)
    away = np.abs(found.astype(np.float64) - expected)
    assert away.max() < 0.03 * np.abs(expected).std()
