import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from deepaudio import audio

RATE = 16000


def chord(seconds=2.0, seed=0):
    """Decaying, slightly inharmonic strings over faint noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = 1e-3 * rng.standard_normal(len(time))
    for start in np.linspace(0, 0.7 * seconds, 5):
        base = 27.5 * 2 ** rng.uniform(0, 5)
        local = np.maximum(time - start, 0)
        for k in range(1, 20):
            hertz = k * base * np.sqrt(1 + 3e-4 * k * k)
            if hertz < RATE / 2:
                envelope = np.exp(-local * (1 + k / 3)) * (time >= start)
                wave += 0.1 / k * envelope * np.sin(2 * np.pi * hertz * local)
    return wave.astype(np.float32)


def recorded(example):
    samples, _ = audio.read(example[0], sample_rate=RATE)
    return samples[: 5 * RATE]


def librosa_power(samples, config):
    return librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        pad_mode="constant",
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=config.htk,
    ).T


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 512), (1024, 300), (512, 512), (256, 400)])
@pytest.mark.parametrize("length", [16000, 16384, 5000])
def test_stft_equals_librosa(n_fft, hop, length):
    samples = chord()[:length]
    expected = librosa.stft(samples, n_fft=n_fft, hop_length=hop, pad_mode="constant").T
    got = np.asarray(audio.stft(samples, n_fft=n_fft, hop_length=hop))
    assert got.shape == expected.shape and got.dtype == np.complex64
    np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("htk", [False, True])
def test_mel_filters_equal_librosa(htk):
    for rate, n_fft, bands, low, high in [
        (16000, 2048, 229, 30.0, 8000.0),
        (22050, 1024, 80, 0.0, 11025.0),
    ]:
        expected = librosa.filters.mel(
            sr=rate, n_fft=n_fft, n_mels=bands, fmin=low, fmax=high, htk=htk
        )
        got = audio.mel_filters(rate, n_fft, bands, low, high, htk)
        np.testing.assert_allclose(got, expected, atol=1e-6 * expected.max())


def assert_equals_librosa(samples, config):
    expected = librosa_power(samples, config)
    got = np.asarray(audio.mel_spectrogram(samples, config))
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.max())
    # A float32 transform keeps 1e-4 of every single band down to 60 dB under the loudest.
    loud = expected > 1e-6 * expected.max()
    np.testing.assert_allclose(got[loud], expected[loud], rtol=1e-4)
    decibels = librosa.power_to_db(expected, ref=1.0, amin=config.amin, top_db=None)
    log_mel = np.asarray(audio.log_mel(samples, config))
    assert log_mel.shape == (1 + len(samples) // config.hop_length, config.n_mels)
    assert log_mel.dtype == np.float32
    np.testing.assert_allclose(log_mel[loud], decibels[loud], atol=1e-3)
    np.testing.assert_allclose(log_mel, decibels, atol=0.05)


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_log_mel_equals_librosa(htk, seed):
    assert_equals_librosa(chord(seed=seed), audio.LogMelConfig(htk=htk))


def test_log_mel_equals_librosa_on_a_recording(example):
    assert_equals_librosa(recorded(example), audio.LogMelConfig())


def test_log_mel_equals_librosa_for_other_settings():
    config = audio.LogMelConfig(hop_length=200, n_fft=1024, n_mels=80, f_min=20.0, f_max=7000.0)
    assert_equals_librosa(chord(), config)


def test_silence_is_the_floor_and_nothing_else_is_clamped():
    np.testing.assert_array_equal(np.asarray(audio.log_mel(np.zeros(4096, np.float32))), -100.0)
    quiet_then_loud = np.concatenate([1e-4 * chord(1.0), chord(1.0)])
    alone = np.asarray(audio.log_mel(1e-4 * chord(1.0)))
    both = np.asarray(audio.log_mel(quiet_then_loud))
    np.testing.assert_allclose(both[:28], alone[:28], atol=1e-3)


@pytest.mark.parametrize("length", [0, 1, 511, 512])
def test_short_sound_has_its_frames(length):
    assert audio.log_mel(np.ones(length, np.float32)).shape == (1 + length // 512, 229)


def test_batch_equals_loop_and_traces_once():
    batch = np.stack([chord(seed=seed) for seed in range(3)])
    traces = []

    @jax.jit
    def front_end(samples):
        traces.append(samples.shape)
        return audio.log_mel(samples)

    got = np.asarray(front_end(batch))
    front_end(batch * np.float32(0.5))
    assert traces == [batch.shape]
    loop = np.stack([np.asarray(audio.log_mel(samples)) for samples in batch])
    np.testing.assert_allclose(got, loop, atol=1e-2)
    loud = loop > loop.max() - 60
    np.testing.assert_allclose(got[loud], loop[loud], atol=1e-3)


@pytest.mark.parametrize("hop", [64, 50])
def test_log_mel_is_differentiable(hop):
    config = audio.LogMelConfig(
        hop_length=hop, n_fft=128, n_mels=8, f_min=100.0, f_max=7000.0, amin=1e-6
    )
    samples = jnp.asarray(chord()[4000:4400]) + 0.05 * jax.random.normal(jax.random.key(0), (400,))
    check_grads(lambda x: audio.log_mel(x, config), (samples,), 1, ("rev",), 2e-2, 2e-2, eps=1e-3)


def test_gradient_of_silence_is_finite():
    gradient = jax.grad(lambda x: audio.log_mel(x).sum())(jnp.zeros(4096))
    assert np.isfinite(np.asarray(gradient)).all()


def test_wrong_arguments():
    with pytest.raises(TypeError, match="int16"):
        audio.log_mel(np.zeros(100, np.int16))
    with pytest.raises(ValueError, match="n_fft=7"):
        audio.stft(np.zeros(100, np.float32), n_fft=7)
    with pytest.raises(ValueError, match="f_max=9000"):
        audio.log_mel(np.zeros(100, np.float32), audio.LogMelConfig(f_max=9000.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        audio.LogMelConfig().n_mels = 3


@pytest.mark.parametrize("htk", [False, True])
def test_mel_frequencies_equal_librosas(htk):
    config = audio.LogMelConfig(htk=htk)
    expected = librosa.mel_frequencies(n_mels=231, fmin=30.0, fmax=8000.0, htk=htk)[1:-1]
    np.testing.assert_allclose(audio.mel_frequencies(config), expected, rtol=1e-6)


def test_the_whole_front_end_is_one_jitted_function_of_a_batch():
    stereo = np.stack([np.stack([chord(1.0, i), chord(1.0, i + 9)], axis=-1) for i in range(2)])

    @jax.jit
    def front_end(samples):
        return audio.log_mel(audio.resample(audio.mono(samples), 44100, RATE))

    got = front_end(jnp.asarray(stereo))
    for row, sound in zip(got, stereo, strict=True):
        mono = librosa.resample(
            sound.mean(axis=1), orig_sr=44100, target_sr=RATE, res_type="polyphase"
        )
        power = librosa_power(mono, audio.LogMelConfig())
        expected = librosa.power_to_db(power, top_db=None)
        loud = expected > expected.max() - 60
        np.testing.assert_allclose(row[: len(expected)][loud], expected[loud], atol=5e-3)
    gradient = jax.grad(lambda x: front_end(x).mean())(jnp.asarray(stereo))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
