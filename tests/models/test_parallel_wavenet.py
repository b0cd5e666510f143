"""The student: flows that compose, see only the past, and begin where the paper says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepaudio import models

SMALL = models.ParallelWaveNetConfig(
    flows=(3, 2),
    cycle=3,
    filter_width=3,
    residual=8,
    gate=6,
    mels=5,
    conditioning=4,
    upsample=(2, 3),
    context=1,
)
FRAMES = 12
SOURCE = {"source": 6, "source_layers": 1, "periods": (4.0, 9.0)}
BY_SOURCE = pytest.mark.parametrize("changes", [{}, SOURCE, {**SOURCE, "flows": ()}])


def made(rng, trained=True, **changes):
    """A network, its variables (random ones if trained), noise and mel frames."""
    config = dataclasses.replace(SMALL, **changes)
    network = models.ParallelWaveNet(config)
    noise = models.draw_noise(jax.random.key(1), (2, FRAMES * config.hop_length), config.noise)
    mel = rng.normal(0, 1, (2, FRAMES + 2 * config.margin, config.mels))
    mel = jnp.asarray(mel, jnp.float32)
    speakers = jnp.arange(2) if config.speakers else None
    variables = network.init(jax.random.key(0), noise, mel, speakers)
    if trained:
        leaves, tree = jax.tree.flatten(variables)
        leaves = [jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for leaf in leaves]
        variables = jax.tree.unflatten(tree, leaves)
    return network, variables, noise, mel, speakers


@BY_SOURCE
def test_samples_are_the_noise_scaled_and_shifted(rng, changes):
    """x_t = mu_tot + s_tot z_t, with the composition of all flows (equation 6)."""
    network, variables, noise, mel, speakers = made(
        rng, speakers=3 if changes.get("flows", SMALL.flows) else 0, **changes
    )
    samples, mean, log_scale = network.apply(variables, noise, mel, speakers)
    np.testing.assert_allclose(samples, mean + jnp.exp(log_scale) * noise, rtol=1e-4, atol=1e-4)


def test_mean_and_scale_come_from_earlier_noise_alone(rng):
    network, variables, noise, mel, _ = made(rng)
    field, at = network.config.receptive_field, 60
    assert field == (1 + 2 * 7) + (1 + 2 * 3)

    def total(noise):
        _, mean, log_scale = network.apply(variables, noise, mel)
        return mean[0, at] + log_scale[0, at]

    reach = np.flatnonzero(np.asarray(jax.grad(total)(noise))[0])
    assert reach.max() == at - 1 and reach.min() >= at - field


def test_a_source_shifts_by_earlier_noise_and_scales_by_none(rng):
    network, variables, noise, mel, _ = made(rng, **{**SOURCE, "flows": ()})

    def parts(noise):
        _, mean, log_scale = network.apply(variables, noise, mel)
        return mean[0, 60], log_scale[0, 60]

    of_mean, of_scale = (np.asarray(x)[0] for x in jax.jacobian(parts)(noise))
    # A sum over transforms leaves rounding where there is nothing.
    assert np.abs(of_mean[60:]).max() < 1e-5 * np.abs(of_mean).max()
    assert np.abs(of_mean[40:60]).min() > 1e-3 * np.abs(of_mean).max()
    np.testing.assert_array_equal(of_scale, 0.0)


def test_without_noise_a_source_s_sound_is_a_tone_of_its_frequency(rng):
    changes = {**SOURCE, "flows": (), "upsample": (16, 16), "periods": (20.0, 40.0)}
    network, variables, noise, mel, _ = made(rng, **changes)
    mel = jnp.broadcast_to(mel[:1, :1], mel.shape)  # One frame for ever has one pitch.
    frequency = network.apply(variables, mel, method="frequency")
    phase = jnp.array([0.0, 256.0 * frequency[0, 0]])
    samples, *_ = network.apply(variables, 0.0 * noise, mel, None, phase)
    spectrum = np.fft.rfft(np.asarray(samples[0]) * np.hanning(samples.shape[1]), 1 << 16)
    lowest = int((1 << 16) * float(frequency[0, 0]))
    harmonics = np.abs(spectrum[lowest * 2 // 3 : lowest * 4 // 3])
    found = (lowest * 2 // 3 + harmonics.argmax()) / (1 << 16)
    np.testing.assert_allclose(found, frequency[0, 0], rtol=0.02)
    # A phase that is a frame's further is the sound of a frame later.
    scale = np.abs(samples).max()
    np.testing.assert_allclose(
        samples[1, 1000:1500] / scale, samples[0, 1256:1756] / scale, atol=0.02
    )


@BY_SOURCE
def test_the_log_scale_is_the_jacobian_s_logarithm(rng, changes):
    """The transformation is triangular: its determinant is the product of the scales."""
    network, variables, noise, mel, _ = made(rng, **changes)
    short = noise[:1, : 3 * network.config.hop_length]
    mel = mel[:1, : 3 + 2 * network.config.margin]
    jacobian = jax.jacobian(lambda z: network.apply(variables, z[None], mel)[0][0])(short[0])
    np.testing.assert_allclose(np.triu(jacobian, 1), 0.0, atol=1e-5)
    _, _, log_scale = network.apply(variables, short, mel)
    _, determinant = np.linalg.slogdet(np.asarray(jacobian, np.float64))
    np.testing.assert_allclose(determinant, log_scale.sum(), rtol=1e-4)


def test_a_student_begins_as_faint_noise(rng):
    network, variables, noise, mel, _ = made(rng, trained=False)
    samples, mean, log_scale = network.apply(variables, noise, mel)
    np.testing.assert_allclose(mean, 0.0, atol=1e-6)
    np.testing.assert_allclose(jnp.exp(log_scale), 0.05, rtol=1e-4)
    np.testing.assert_allclose(samples, 0.05 * noise, rtol=1e-4)


@BY_SOURCE
def test_pieces_with_their_past_are_those_of_the_whole(rng, changes):
    changes = {**changes, "upsample": (4, 40)}
    network, variables, noise, mel, _ = made(rng, **changes)
    whole, *_ = network.apply(variables, noise, mel)
    hop = network.config.hop_length
    past = -(-network.config.receptive_field // hop)
    begin, phase = 4, None
    if network.config.source:
        phase = network.apply(variables, mel, jnp.zeros(2), begin, method="phase_after")
    piece, *_ = network.apply(variables, noise[:, begin * hop :], mel[:, begin:], None, phase)
    expected = whole[:, (begin + past) * hop :]
    assert 0 < expected.shape[1] < piece.shape[1]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(piece[:, past * hop :] / scale, expected / scale, atol=1e-3)


def test_noise_is_standard():
    for noise, variance in (("logistic", np.pi**2 / 3), ("gaussian", 1.0)):
        z = np.asarray(models.draw_noise(jax.random.key(0), (50_000,), noise))
        np.testing.assert_allclose([z.mean(), z.var()], [0.0, variance], atol=0.08)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"flows": ()}, "flows"),
        ({"flows": (3, 0)}, r"flows=\(3, 0\)"),
        ({"noise": "uniform"}, "noise='uniform'"),
        ({"initial_scale": 0.0}, "initial_scale=0.0"),
        ({"gate": 0}, "gate=0"),
        ({"filter_width": 1}, "filter_width=1"),
        ({"source": -1}, "source=-1"),
        ({**SOURCE, "flows": (), "speakers": 2}, "self.speakers=2"),
        ({**SOURCE, "periods": (9.0, 4.0)}, r"periods=\(9.0, 4.0\)"),
        ({**SOURCE, "upsample": (3, 3)}, "even number of samples"),
    ],
)
def test_sizes_out_of_range_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(SMALL, **changes)


def test_paper_sizes():
    config = models.ParallelWaveNetConfig()
    assert config.flows == (10, 10, 10, 30) and config.residual == 64 and config.hop_length == 300
    # Six cycles of 1 to 512, width 3, one more sample a flow.
    assert config.receptive_field == 6 * 2 * 1023 + 4
    assert models.WaveNetConfig().receptive_field == 3 * 2 * 1023 + 1
