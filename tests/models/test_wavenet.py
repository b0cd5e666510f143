"""WaveNet: causality, conditioning, and generation equal to the parallel pass."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio import models
from deepaudio.kernels import wavenet

SMALL = models.WaveNetConfig(
    layers=6,
    cycle=3,
    filter_width=3,
    residual=8,
    gate=6,
    skip=10,
    mixtures=2,
    mels=5,
    conditioning=4,
    upsample=(2, 3),
    context=1,
)
FRAMES = 8


def made(rng, frames=FRAMES, batch=2, **changes):
    """A network, its variables, samples and mel frames; speakers if it has some."""
    config = dataclasses.replace(SMALL, **changes)
    network = models.WaveNet(config)
    samples = jnp.asarray(rng.uniform(-1, 1, (batch, frames * config.hop_length)), jnp.float32)
    mel = rng.normal(0, 1, (batch, frames + 2 * config.margin, config.mels))
    mel = jnp.asarray(mel, jnp.float32)
    speakers = jnp.arange(batch) % config.speakers if config.speakers else None
    variables = network.init(jax.random.key(0), samples, mel, speakers)
    return network, variables, samples, mel, speakers


def test_a_sample_depends_on_its_receptive_field_and_on_nothing_later(rng):
    network, variables, samples, mel, _ = made(rng)
    field, at = network.config.receptive_field, 40
    assert field == 1 + 2 * 2 * (1 + 2 + 4)

    def outputs(samples):
        return jnp.sum(network.apply(variables, samples, mel)[0, at])

    reach = np.flatnonzero(np.asarray(jax.grad(outputs)(samples))[0])
    assert reach.max() == at - 1 and reach.min() == at - field


def test_a_sound_may_be_shorter_than_a_dilation(rng):
    """What lies further back than the beginning is silence."""
    network, variables, samples, mel, _ = made(rng, layers=8, cycle=8)
    hop, margin = network.config.hop_length, network.config.margin
    short = network.apply(variables, samples[:, : 2 * hop], mel[:, : 2 + 2 * margin])
    np.testing.assert_allclose(
        short, network.apply(variables, samples, mel)[:, : 2 * hop], rtol=1e-4, atol=1e-5
    )


def test_conditioning_reaches_its_frame_s_context(rng):
    network, variables, samples, mel, _ = made(rng)
    hop, margin = network.config.hop_length, network.config.margin

    def vectors(mel):
        return network.apply(variables, mel, method="condition")

    changed = np.asarray(vectors(mel.at[:, margin + 4].add(1.0)) - vectors(mel))
    where = np.flatnonzero(np.abs(changed).sum((0, 2)))
    assert where.min() >= (4 - 2) * hop and where.max() < (4 + 3) * hop
    assert set(range(4 * hop, 5 * hop)) <= set(where)


def test_a_piece_has_the_conditioning_of_the_whole(rng):
    network, variables, _, mel, _ = made(rng)
    hop, margin = network.config.hop_length, network.config.margin
    whole = network.apply(variables, mel, method="condition")
    piece = network.apply(variables, mel[:, 3 : 3 + 2 + 2 * margin], method="condition")
    np.testing.assert_allclose(piece, whole[:, 3 * hop : 5 * hop], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output", ["mixture_of_logistics", "mu_law", "gaussian"])
@pytest.mark.parametrize("filter_width", [2, 3])
def test_every_step_of_generation_equals_the_parallel_pass(rng, output, filter_width):
    network, variables, samples, mel, speakers = made(
        rng, output=output, filter_width=filter_width, speakers=2
    )
    expected = network.apply(variables, samples, mel, speakers)
    conditioning = network.apply(variables, mel, speakers, method="condition")
    state = models.initial_state(network, 2)
    weights, dilations = models.generation_weights(network, variables), network.config.dilations
    step = jax.jit(
        lambda vector, state: wavenet.step(weights, dilations, vector, state, output=output)
    )
    for t in range(samples.shape[1]):
        state, found = step(conditioning[:, t], state)
        np.testing.assert_allclose(found, expected[:, t], rtol=1e-4, atol=1e-5)
        state = state._replace(sample=samples[:, t])


@pytest.mark.parametrize("output", ["mixture_of_logistics", "mu_law", "gaussian"])
def test_what_is_generated_is_what_the_parallel_pass_would_draw(rng, output):
    network, variables, _, mel, _ = made(rng, output=output)
    conditioning = network.apply(variables, mel, method="condition")
    uniforms = rng.uniform(size=(2, conditioning.shape[1], models.num_uniforms(output)))
    uniforms = jnp.asarray(uniforms, jnp.float32)
    samples, _ = jax.jit(functools.partial(models.generate, network))(
        variables, conditioning, uniforms
    )
    parameters = network.apply(variables, samples, mel)
    np.testing.assert_allclose(samples, models.draw(parameters, uniforms, output), atol=1e-4)


def test_generation_in_pieces_is_that_of_the_whole(rng):
    network, variables, _, mel, _ = made(rng)
    conditioning = network.apply(variables, mel, method="condition")
    uniforms = jnp.asarray(rng.uniform(size=(2, conditioning.shape[1], 2)), jnp.float32)
    whole, _ = models.generate(network, variables, conditioning, uniforms)
    state, pieces = None, []
    for start, end in ((0, 7), (7, 8), (8, 48)):
        piece, state = models.generate(
            network, variables, conditioning[:, start:end], uniforms[:, start:end], state
        )
        pieces.append(piece)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, rtol=1e-5, atol=1e-6)


def test_generation_refuses_what_does_not_fit(rng):
    network, variables, _, mel, _ = made(rng)
    conditioning = network.apply(variables, mel, method="condition")
    uniforms = jnp.zeros((*conditioning.shape[:2], 2))
    with pytest.raises(ValueError, match=r"uniforms must be \(2, 48, 2\)"):
        models.generate(network, variables, conditioning, uniforms[..., :1])
    with pytest.raises(ValueError, match="another model"):
        models.generate(
            network, variables, conditioning, uniforms, models.initial_state(network, 3)
        )
    with pytest.raises(ValueError, match="implementation='cuda'"):
        models.generate(network, variables, conditioning, uniforms, implementation="cuda")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"output": "softmax"}, "output='softmax'"),
        ({"layers": 0}, "layers=0"),
        ({"filter_width": 1}, "filter_width=1"),
        ({"upsample": ()}, "upsample"),
        ({"speakers": -1}, "speakers=-1"),
    ],
)
def test_sizes_out_of_range_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(SMALL, **changes)


def test_mel_frames_must_outnumber_the_margins(rng):
    network, variables, _, mel, _ = made(rng)
    with pytest.raises(ValueError, match="margins of 3"):
        network.apply(variables, mel[:, :6], method="condition")


class TestSampling:
    def test_mu_law_goes_there_and_back(self):
        codes = jnp.arange(256)
        np.testing.assert_array_equal(models.mu_law_encode(models.mu_law_decode(codes)), codes)
        np.testing.assert_array_equal(
            models.mu_law_encode(jnp.array([-2.0, 0.0, 2.0])), [0, 128, 255]
        )

    def test_mu_law_is_the_standard_s_curve(self):
        """sgn(x) ln(1 + 255 |x|) / ln 256."""
        x = np.linspace(-1, 1, 101).astype(np.float32)
        curve = np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)
        codes = models.mu_law_encode(jnp.asarray(x))
        np.testing.assert_allclose(2 * np.asarray(codes) / 255 - 1, curve, atol=1 / 255 + 1e-6)

    def test_draws_have_the_distribution_that_is_described(self, rng):
        """Two logistics apart from each other: shares, means and spreads of each."""
        parameters = jnp.log(jnp.array([0.25, 0.75]))
        parameters = jnp.concatenate(
            [parameters, jnp.array([-0.5, 0.25]), jnp.log(jnp.array([0.01, 0.02]))]
        )
        uniforms = jnp.asarray(rng.uniform(size=(40_000, 2)), jnp.float32)
        x = np.asarray(
            models.draw(jnp.tile(parameters, (40_000, 1)), uniforms, "mixture_of_logistics")
        )
        low = x < -0.1
        np.testing.assert_allclose(low.mean(), 0.25, atol=0.01)
        np.testing.assert_allclose([x[low].mean(), x[~low].mean()], [-0.5, 0.25], atol=2e-3)
        # A logistic's standard deviation is its scale times pi over the root of 3.
        spread = np.array([0.01, 0.02]) * np.pi / np.sqrt(3)
        np.testing.assert_allclose([x[low].std(), x[~low].std()], spread, rtol=0.03)

    def test_codes_are_drawn_as_often_as_their_weights_say(self, rng):
        logits = jnp.asarray(rng.normal(0, 2, 256), jnp.float32)
        uniforms = jnp.asarray(rng.uniform(size=(50_000, 1)), jnp.float32)
        x = models.draw(jnp.tile(logits, (50_000, 1)), uniforms, "mu_law")
        counts = np.bincount(np.asarray(models.mu_law_encode(x)), minlength=256)
        np.testing.assert_allclose(counts / 50_000, jax.nn.softmax(logits), atol=5e-3)

    def test_low_temperature_draws_near_the_mean(self, rng):
        parameters = jnp.tile(jnp.array([0.3, jnp.log(0.1)]), (10_000, 1))
        uniforms = jnp.asarray(rng.uniform(size=(10_000, 1)), jnp.float32)
        wide, narrow = (
            np.asarray(models.draw(parameters, uniforms, "gaussian", t)) for t in (1.0, 0.1)
        )
        np.testing.assert_allclose([wide.std(), narrow.std()], [0.1, 0.01], rtol=0.03)
        np.testing.assert_allclose(narrow.mean(), 0.3, atol=1e-3)
