"""Linear prediction by filters that follow from a mel spectrogram."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from deepaudio import audio

CONVENTION = audio.mel_convention("hifigan_16k")
HOP = CONVENTION.hop_length


def nepers_of(samples):
    """Frames of a sound, and one more at either side."""
    mel = np.asarray(audio.convention_mel(jnp.asarray(samples, jnp.float32), CONVENTION))
    return jnp.asarray(np.pad(mel, ((1, 1), (0, 0)), mode="edge"))


def test_levinson_solves_the_normal_equations(rng):
    noise = scipy.signal.lfilter([1.0], [1.0, -1.3, 0.8], rng.normal(0, 1, (3, 4000)))
    correlation = np.stack([[row[: 4000 - k] @ row[k:] for k in range(9)] for row in noise])
    found, error = audio.levinson(jnp.asarray(correlation, jnp.float32))
    for row, a, left in zip(correlation, np.asarray(found), np.asarray(error), strict=True):
        expected = scipy.linalg.solve_toeplitz(row[:-1], row[1:])
        np.testing.assert_allclose(a, expected, atol=2e-4)
        np.testing.assert_allclose(left, row[0] - expected @ row[1:], rtol=1e-3)


def test_every_filter_predicts_its_own_part(rng):
    samples, coefficients = rng.normal(0, 1, (2, 12)), rng.normal(0, 1, (2, 3, 5))
    found = audio.predict(jnp.asarray(samples), jnp.asarray(coefficients))
    for row in range(2):
        for t in range(12):
            past = [samples[row, t - k] if t >= k else 0.0 for k in range(1, 6)]
            expected = coefficients[row, t // 4] @ past
            np.testing.assert_allclose(found[row, t], expected, rtol=1e-5, atol=1e-6)


def test_synthesis_undoes_prediction_also_in_pieces(rng):
    samples = jnp.asarray(rng.normal(0, 0.1, 12 * HOP), jnp.float32)
    coefficients, _ = audio.predictor(nepers_of(samples), CONVENTION, 16)
    errors = samples - audio.predict(samples, coefficients)
    assert float(jnp.std(errors)) < 0.99 * float(jnp.std(samples))
    half, parts = len(samples) // 2, len(coefficients) // 2
    first, past = audio.synthesize(errors[:half], coefficients[:parts], jnp.zeros(16))
    second, _ = audio.synthesize(errors[half:], coefficients[parts:], past)
    np.testing.assert_allclose(jnp.concatenate([first, second]), samples, atol=1e-5)


@pytest.mark.parametrize("level", [0.001, 0.05])
def test_what_is_left_is_white_and_of_the_size_that_was_said(rng, level):
    """Of coloured noise, 30 dB louder at some frequencies than at others."""
    noise = scipy.signal.lfilter([1.0], [1.0, -1.2, 0.6], rng.normal(0, level, 100 * HOP))
    samples = jnp.asarray(noise, jnp.float32)
    coefficients, log_scale = audio.predictor(nepers_of(samples), CONVENTION, 16)
    unit = np.repeat(np.exp(np.asarray(log_scale)), len(samples) // len(log_scale))
    left = np.asarray(samples - audio.predict(samples, coefficients)) / unit
    assert 0.9 < left.std() < 1.3
    np.testing.assert_allclose(np.asarray(log_scale).mean(), np.log(level), atol=0.2)
    _, power = scipy.signal.welch(left, nperseg=256)
    _, before = scipy.signal.welch(noise, nperseg=256)
    assert np.ptp(np.log10(before[4:-4])) > 1.5 > 3 * np.ptp(np.log10(power[4:-4]))


def test_a_louder_sound_has_the_same_coefficients(rng):
    nepers = jnp.asarray(rng.normal(-2, 1, (8, 80)), jnp.float32)
    coefficients, log_scale = audio.predictor(nepers, CONVENTION, 20)
    louder, larger = audio.predictor(nepers + 1.0, CONVENTION, 20)
    np.testing.assert_allclose(louder, coefficients, atol=2e-3)
    np.testing.assert_allclose(larger, log_scale + 1.0, atol=1e-3)


def test_synthesis_is_stable_whatever_the_frames(rng):
    nepers = jnp.asarray(rng.uniform(-11.5, 2.0, (2 + 30, 80)), jnp.float32)
    coefficients, log_scale = audio.predictor(nepers, CONVENTION, 24)
    assert np.isfinite(log_scale).all()
    for a in np.asarray(coefficients, np.float64):
        assert np.abs(np.roots(np.concatenate([[1.0], -a]))).max() < 1.0


def test_gradients_of_digital_silence_are_finite():
    silence = jnp.full((4, 80), np.log(1e-5), jnp.float32)

    def total(nepers):
        coefficients, log_scale = audio.predictor(nepers, CONVENTION, 24)
        return coefficients.sum() + log_scale.sum()

    assert np.isfinite(jax.grad(total)(silence)).all()
