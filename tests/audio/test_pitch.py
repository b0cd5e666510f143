"""YIN: tones have their period, noise and silence have none, and librosa agrees."""

import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from deepaudio import audio

RATE, HOP, PERIODS = 16000, 256, (32.0, 230.0)


@pytest.mark.parametrize("frequency", [75.0, 133.3, 221.7, 480.0])
def test_a_tone_has_its_period(frequency):
    time = np.arange(RATE) / RATE
    harmonics = [np.sin(2 * np.pi * k * frequency * time) / k for k in range(1, 9)]
    period, aperiodicity = audio.yin(jnp.asarray(sum(harmonics))[None], HOP, PERIODS)
    assert period.shape == aperiodicity.shape == (1, RATE // HOP)
    inside = slice(2, -2)
    np.testing.assert_allclose(period[0, inside], RATE / frequency, rtol=3e-3)
    assert aperiodicity[0, inside].max() < 0.02


def test_noise_and_silence_have_none(rng):
    sounds = jnp.asarray([rng.normal(0, 1, RATE), np.zeros(RATE)], jnp.float32)
    _, aperiodicity = audio.yin(sounds, HOP, PERIODS)
    assert np.median(aperiodicity[0]) > 0.5
    np.testing.assert_array_equal(aperiodicity[1], 1.0)


def test_a_glide_is_followed_as_by_librosa():
    time = np.arange(2 * RATE) / RATE
    frequency = 100.0 * 3.0 ** (time / 2.0)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    sound = np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.3 * np.sin(3 * phase)
    period, _ = audio.yin(jnp.asarray(sound)[None], HOP, PERIODS)
    middles = HOP // 2 + HOP * np.arange(period.shape[1])
    np.testing.assert_allclose(RATE / period[0, 2:-2], frequency[middles][2:-2], rtol=0.015)
    theirs = librosa.yin(
        sound.astype(np.float64), fmin=70, fmax=500, sr=RATE, frame_length=512, hop_length=HOP
    )
    # Their frames begin with sample 256 k less half of the frame.
    near = np.interp(middles, HOP * np.arange(len(theirs)), theirs)
    np.testing.assert_allclose(RATE / period[0, 4:-4], near[4:-4], rtol=0.03)
