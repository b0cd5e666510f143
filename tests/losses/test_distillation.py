"""Likelihoods and divergences against integrals over the line, gradients against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from deepaudio import losses

# Weights 0.3 and 0.7, means and scales of two logistics.
WEIGHTS, MEANS, SCALES = np.array([0.3, 0.7]), np.array([-0.2, 0.1]), np.array([0.05, 0.08])
MIXTURE = jnp.asarray(np.concatenate([np.log(WEIGHTS), MEANS, np.log(SCALES)]), jnp.float32)


def mixture(function, x):
    parts = function(np.asarray(x)[..., None], loc=MEANS, scale=SCALES)
    return (WEIGHTS * parts).sum(-1)


def test_bins_hold_the_mass_between_their_edges():
    x = np.linspace(-1, 1, 17)
    half = 1 / 255
    mass = mixture(stats.logistic.cdf, x + half) - mixture(stats.logistic.cdf, x - half)
    mass[0] = mixture(stats.logistic.cdf, x[0] + half)
    mass[-1] = 1 - mixture(stats.logistic.cdf, x[-1] - half)
    found = losses.mixture_of_logistics_nll(
        jnp.tile(MIXTURE, (17, 1)), jnp.asarray(x, jnp.float32), bits=8
    )
    np.testing.assert_allclose(found, -np.log(mass), rtol=2e-3, atol=2e-3)


def test_bins_add_up_to_one():
    x = jnp.linspace(-1.0, 1.0, 256)
    found = losses.mixture_of_logistics_nll(jnp.tile(MIXTURE, (256, 1)), x, bits=8)
    np.testing.assert_allclose(np.exp(-np.asarray(found, np.float64)).sum(), 1.0, rtol=1e-4)


def test_narrow_distributions_far_from_the_sample_have_finite_gradients():
    parameters = jnp.array([0.0, 0.9, -20.0])
    value, gradient = jax.value_and_grad(
        lambda p: losses.mixture_of_logistics_nll(p, jnp.float32(-0.9))
    )(parameters)
    assert np.isfinite(value) and np.isfinite(gradient).all() and value > 100


def test_log_density():
    x = np.linspace(-2, 2, 41)
    found = losses.mixture_of_logistics_log_density(
        jnp.tile(MIXTURE, (41, 1)), jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(found, np.log(mixture(stats.logistic.pdf, x)), rtol=1e-4)


def test_gaussian_likelihood():
    x = np.linspace(-1, 1, 21)
    found = losses.gaussian_nll(
        jnp.tile(jnp.array([0.2, np.log(0.3)], jnp.float32), (21, 1)), jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(found, -stats.norm.logpdf(x, 0.2, 0.3), rtol=1e-4, atol=1e-5)


def test_entropy_of_a_logistic():
    found = losses.logistic_entropy(jnp.log(jnp.float32(0.07)))
    np.testing.assert_allclose(found, stats.logistic(scale=0.07).entropy(), rtol=1e-5)


def integrated(mean, log_scale):
    """The cross-entropy and the divergence from a logistic to the mixture, by quadrature."""
    x = np.linspace(-4, 4, 400_001)
    p = stats.logistic.pdf(x, mean, np.exp(log_scale))
    cross = -np.trapezoid(p * np.log(mixture(stats.logistic.pdf, x)), x)
    return cross, cross - stats.logistic(scale=np.exp(log_scale)).entropy()


def drawn(mean, log_scale, seed, draws, copies=64):
    """The estimate's mean over copies, and its standard error."""
    values = losses.cross_entropy_by_draws(
        jnp.full(copies, mean, jnp.float32),
        jnp.full(copies, log_scale, jnp.float32),
        jnp.tile(MIXTURE, (copies, 1)),
        jax.random.key(seed),
        draws=draws,
    )
    return values.mean(), values.std() / np.sqrt(copies)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.1, np.log(0.08)), (-0.4, np.log(0.3))])
def test_the_cross_entropy_is_estimated_without_bias(mean, log_scale):
    expected, divergence = integrated(mean, log_scale)
    found, error = drawn(mean, log_scale, seed=0, draws=400)
    assert abs(found - expected) < 4 * error and error < 0.02 * abs(expected) + 0.02
    assert divergence > 0
    # One draw a step is as right on average, and far noisier.
    _, noisy = drawn(mean, log_scale, seed=0, draws=1)
    assert noisy > 5 * error


def test_the_gradient_of_the_divergence_goes_through_the_draws():
    mean, log_scale, h = 0.3, np.log(0.2), 1e-3

    def divergence(mean, log_scale):
        cross, _ = drawn(mean, log_scale, seed=3, draws=2000, copies=8)
        return cross - losses.logistic_entropy(log_scale)

    found = jax.grad(divergence, argnums=(0, 1))(jnp.float32(mean), jnp.float32(log_scale))
    by_mean = (integrated(mean + h, log_scale)[1] - integrated(mean - h, log_scale)[1]) / (2 * h)
    by_scale = (integrated(mean, log_scale + h)[1] - integrated(mean, log_scale - h)[1]) / (2 * h)
    np.testing.assert_allclose(found, [by_mean, by_scale], rtol=0.05)


def test_gaussian_divergence():
    mean, scale, teacher_mean, teacher_scale = 0.1, 0.2, -0.05, 0.3
    x = np.linspace(-5, 5, 200_001)
    p = stats.norm.pdf(x, mean, scale)
    log_ratio = stats.norm.logpdf(x, mean, scale) - stats.norm.logpdf(
        x, teacher_mean, teacher_scale
    )
    expected = np.trapezoid(p * log_ratio, x)
    arguments = (
        jnp.float32(mean),
        jnp.log(jnp.float32(scale)),
        jnp.array([teacher_mean, np.log(teacher_scale)], jnp.float32),
    )
    plain = losses.gaussian_regularized_kl(*arguments, weight=0.0)
    np.testing.assert_allclose(plain, expected, rtol=1e-4)
    regularized = losses.gaussian_regularized_kl(*arguments)
    np.testing.assert_allclose(
        regularized - plain, 4 * np.log(scale / teacher_scale) ** 2, rtol=1e-4
    )


def test_draws_must_be_some():
    zero = jnp.zeros(3)
    with pytest.raises(ValueError, match="draws=0"):
        losses.cross_entropy_by_draws(zero, zero, jnp.zeros((3, 3)), jax.random.key(0), draws=0)


class TestSpectral:
    def test_power_loss_tells_loudness_and_not_phase(self, rng):
        noise = jnp.asarray(rng.normal(0, 0.1, (2, 8192)), jnp.float32)
        other = jnp.asarray(rng.normal(0, 0.1, (2, 8192)), jnp.float32)
        louder = losses.power_loss(1.5 * noise, noise)
        assert losses.power_loss(noise, noise) == 0
        assert losses.power_loss(-noise, noise) < 1e-12
        assert losses.power_loss(other, noise) < 0.5 * louder

    def test_power_loss_is_the_squared_difference_of_mean_spectra(self, rng):
        import librosa

        a, b = rng.normal(0, 0.1, (2, 4096)).astype(np.float32)
        means = [
            (np.abs(librosa.stft(x, n_fft=512, hop_length=128, center=False)) ** 2).mean(1)
            for x in (a, b)
        ]
        # librosa's window has a maximum of 1, ours a norm of 1.
        energy = np.square(librosa.filters.get_window("hann", 512)).sum()
        expected = np.mean((means[0] - means[1]) ** 2) / energy**2
        found = losses.power_loss(
            jnp.asarray(a[None]), jnp.asarray(b[None]), sizes=(512,), magnitude=False
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3)

    def test_spectral_loss_is_convergence_and_logarithms_frame_by_frame(self, rng):
        import librosa

        a, b = rng.normal(0, 0.1, (2, 4096)).astype(np.float32)
        # librosa's window has a maximum of 1, ours a norm of 1.
        norm = np.sqrt(np.square(librosa.filters.get_window("hann", 512)).sum())
        ours, theirs = (
            np.abs(librosa.stft(x, n_fft=512, hop_length=128, center=False)) / norm for x in (a, b)
        )
        convergence = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        logarithms = np.abs(np.log(ours / theirs)).mean()
        found = losses.spectral_loss(jnp.asarray(a[None]), jnp.asarray(b[None]), sizes=(512,))
        np.testing.assert_allclose(found, convergence + logarithms, rtol=2e-2)

    def test_spectral_loss_tells_when_and_power_loss_does_not(self, rng):
        click = np.zeros((1, 8192), np.float32)
        click[:, 3000:3100] = rng.normal(0, 0.3, 100)
        early, late = jnp.asarray(click), jnp.asarray(np.roll(click, 2048, axis=1))
        near = jnp.asarray(1.05 * click)
        assert losses.power_loss(late, early) < losses.power_loss(near, early)
        assert losses.spectral_loss(late, early) > 3 * losses.spectral_loss(near, early)
        assert losses.spectral_loss(-early, early) < 1e-5

    @pytest.mark.parametrize("loss", [losses.power_loss, losses.spectral_loss])
    def test_silence_has_a_finite_gradient(self, loss):
        silence = jnp.zeros((1, 4096))
        gradient = jax.grad(loss)(silence, jnp.ones((1, 4096)))
        assert np.isfinite(gradient).all()

    def test_too_short_a_sound_is_refused(self):
        with pytest.raises(ValueError, match="1024 samples are fewer than the transform's 2048"):
            losses.power_loss(jnp.zeros((1, 1024)), jnp.zeros((1, 1024)))

    def test_style_does_not_change_with_time(self, rng):
        """A Gram matrix forgets when something was, and remembers what came together."""
        features = jnp.asarray(rng.normal(0, 1, (1, 50, 6)), jnp.float32)
        later = jnp.roll(features, 7, axis=1)
        np.testing.assert_allclose(losses.style_loss(later, features), 0.0, atol=1e-10)
        apart = features.at[:, :, 0].set(jnp.roll(features[:, :, 0], 7, axis=1))
        assert losses.style_loss(apart, features) > 1e-3
