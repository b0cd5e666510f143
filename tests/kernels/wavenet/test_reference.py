"""Generation by the scan, against the network's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio.kernels import wavenet
from deepaudio.kernels.wavenet import _cluster

OUTPUTS = ("mixture_of_logistics", "mu_law", "gaussian")


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("width", [2, 3])
def test_samples_are_those_that_the_definition_draws(rng, network, inputs, defined, output, width):
    weights, kinds = network(rng, output, width=width)
    conditioning, uniforms = inputs(rng, output, 2, 24)
    samples, state = wavenet.generate(weights, conditioning, uniforms, **kinds)
    parameters = jnp.asarray(defined(weights, conditioning, samples, **kinds), jnp.float32)
    np.testing.assert_allclose(samples, wavenet.draw(parameters, uniforms, output), atol=2e-4)
    assert int(state.count) == 24
    np.testing.assert_array_equal(state.sample, samples[:, -1])


def test_pieces_that_hand_on_the_state_are_the_whole(rng, network, inputs):
    weights, kinds = network(rng, dilations=(1, 2, 4, 8))
    conditioning, uniforms = inputs(rng, kinds["output"], 2, 30)
    whole, _ = wavenet.generate(weights, conditioning, uniforms, **kinds)
    state, pieces = None, []
    for piece in (slice(0, 1), slice(1, 12), slice(12, 30)):
        found, state = wavenet.generate(
            weights, conditioning[:, piece], uniforms[:, piece], state, **kinds
        )
        pieces.append(found)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)


def test_temperature_scales_what_is_drawn_about_the_mean(rng, network, inputs, defined):
    weights, kinds = network(rng, "gaussian")
    conditioning, uniforms = inputs(rng, "gaussian", 1, 8)
    samples, _ = wavenet.generate(weights, conditioning, uniforms, temperature=1e-6, **kinds)
    means = np.clip(defined(weights, conditioning, samples, **kinds)[..., 0], -1, 1)
    np.testing.assert_allclose(samples, means, atol=1e-4)


def test_dilations_matter(rng, network, inputs):
    weights, kinds = network(rng)
    conditioning, uniforms = inputs(rng, kinds["output"], 1, 16)
    samples, _ = wavenet.generate(weights, conditioning, uniforms, **kinds)
    kinds["dilations"] = (1, 1, 1)
    others, _ = wavenet.generate(weights, conditioning, uniforms, **kinds)
    assert np.abs(samples - others).max() > 1e-3


def test_bad_input_is_named(rng, network, inputs):
    weights, kinds = network(rng)
    conditioning, uniforms = inputs(rng, kinds["output"], 2, 6)
    with pytest.raises(ValueError, match="5 samples is shorter than the 6"):
        wavenet.generate(weights, conditioning[:, :5], uniforms, **kinds)
    with pytest.raises(ValueError, match=r"must agree in streams"):
        wavenet.generate(weights, conditioning[:1], uniforms, **kinds)
    with pytest.raises(ValueError, match=r"conditioning must be \(batch, time, 5\)"):
        wavenet.generate(weights, conditioning[..., :4], uniforms, **kinds)
    with pytest.raises(ValueError, match="another model"):
        state = wavenet.initial_state(weights, (1, 2, 8), 2)
        wavenet.generate(weights, conditioning, uniforms, state, **kinds)
    with pytest.raises(ValueError, match="2 dilations for 3 layers"):
        wavenet.generate(weights, conditioning, uniforms, dilations=(1, 2), output="mu_law")
    with pytest.raises(ValueError, match="implementation='cuda'"):
        wavenet.generate(weights, conditioning, uniforms, implementation="cuda", **kinds)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"output": "gaussian"}, "Gaussian outputs"),
        ({"width": 3}, "width 3, only 2"),
        ({"residual": 160}, "160 residual and 160 gate channels, only up to 128"),
        ({"skip": 320}, "320 skip and 320 head channels, only up to 256"),
        ({"dilations": (1, 1024)}, "dilations of 1024, only up to 512"),
        ({"mixtures": 22}, "mixtures of 22, only up to 21"),
        ({"dtype": "float32"}, "float32 matrices, only bfloat16 and float16"),
    ],
)
def test_the_gpu_kernel_says_what_it_does_not_do(rng, network, inputs, changes, match):
    weights, kinds = network(rng, **{"dtype": "bfloat16", **changes})
    conditioning, uniforms = inputs(rng, kinds["output"], 1, 2)
    with pytest.raises(ValueError, match=match):
        wavenet.generate(weights, conditioning, uniforms, implementation="mosaic_gpu", **kinds)


@pytest.mark.parametrize(
    "sizes", [(64, 64, 128, 256), (64, 64, 256, 256), (128, 128, 256, 256), (64, 64, 64, 64)]
)
@pytest.mark.parametrize("streams", [1, 16, 17, 8448])
def test_slots_fit_into_shared_memory_and_divide_the_head(sizes, streams):
    residual, gate, skip, head = (size // 64 for size in sizes)
    config = wavenet.KernelConfig.choose(*sizes, layers=30, streams=streams)
    tiles = config.gate_slots * 4 + config.output_slots * (residual + skip) + 2 * gate
    tiles += config.head_slots * config.head_tiles
    assert tiles * 8192 + 3584 <= 232_448
    assert skip % config.head_tiles == head % config.head_tiles == 0
    assert config.samples >= 64
    launch = -(-streams // 64) * config.samples * 30 * 2 * sizes[1] * 64 * 2
    assert launch <= 4e9 or config.samples == 64
    assert config.clusters == (streams * 8 <= 132)


@pytest.mark.parametrize(
    ("layers", "residual", "skip", "fits"),
    [
        (20, 64, 256, True),
        (21, 64, 256, False),
        (24, 64, 128, True),
        (25, 64, 64, False),
        (20, 128, 128, False),
    ],
)
def test_what_a_cluster_has_no_room_for_goes_another_way(
    rng, network, layers, residual, skip, fits
):
    dilations = (1,) * layers
    weights, _ = network(
        rng, "mu_law", dilations=dilations, residual=residual, skip=skip, head=256, dtype="bfloat16"
    )
    assert _cluster.fits(weights) == fits


def test_a_network_in_bfloat16_says_nearly_what_it_says_in_float32(rng, network, inputs):
    weights, kinds = network(rng, dtype="bfloat16")
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights)
    conditioning, uniforms = inputs(rng, kinds["output"], 2, 1)
    states = [wavenet.initial_state(w, kinds["dilations"], 2) for w in (weights, exact)]
    ours, theirs = (
        wavenet.step(w, kinds["dilations"], conditioning[:, 0], state, output=kinds["output"])[1]
        for w, state in zip((weights, exact), states, strict=True)
    )
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=5e-2)
    assert np.abs(ours - theirs).max() > 0
