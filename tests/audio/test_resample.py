import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from deepaudio import audio


@pytest.mark.parametrize(
    ("rate_in", "rate_out"),
    [
        (44100, 16000),
        (48000, 16000),
        (8000, 16000),
        (192000, 16000),
        (11025, 16000),
        (16000, 44100),
        (16000, 3000),
    ],
)
@pytest.mark.parametrize("length", [1, 50, 4001])
def test_equals_librosa(rate_in, rate_out, length, rng):
    samples = rng.standard_normal(length).astype(np.float32)
    expected = librosa.resample(samples, orig_sr=rate_in, target_sr=rate_out, res_type="polyphase")
    got = np.asarray(audio.resample(samples, rate_in, rate_out))
    assert got.shape == expected.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_tone_stays_a_tone():
    time_in, time_out = np.arange(44100) / 44100, np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 1000 * time_in).astype(np.float32)
    got = np.asarray(audio.resample(tone, 44100, 16000))
    expected = np.sin(2 * np.pi * 1000 * time_out)
    np.testing.assert_allclose(got[100:-100], expected[100:-100], atol=2e-3)


def test_batch_equals_loop(rng):
    batch = rng.standard_normal((2, 3, 500)).astype(np.float32)
    got = np.asarray(audio.resample(batch, 3, 2))
    for index in np.ndindex(2, 3):
        one = np.asarray(audio.resample(batch[index], 3, 2))
        np.testing.assert_allclose(got[index], one, atol=1e-6)


def test_same_rate_changes_nothing(rng):
    samples = rng.standard_normal(100).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(audio.resample(samples, 5, 5)), samples)


def test_is_differentiable(rng):
    samples = jnp.asarray(rng.standard_normal(60), jnp.float32)
    check_grads(lambda x: audio.resample(x, 3, 2), (samples,), 1, ("rev", "fwd"), 1e-2, 1e-2)


def test_mono_is_the_mean_of_channels(rng):
    samples = rng.standard_normal((4, 100, 2)).astype(np.float32)
    expected = (samples[..., 0] + samples[..., 1]) / 2
    np.testing.assert_allclose(np.asarray(jax.jit(audio.mono)(samples)), expected, atol=1e-6)


def test_wrong_rates():
    with pytest.raises(ValueError, match="rate_out=0"):
        audio.resample(np.zeros(10, np.float32), 16000, 0)
    with pytest.raises(ValueError, match="coefficients"):
        audio.resample(np.zeros(10, np.float32), 44101, 16001)
