import dataclasses
import re

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from deepaudio import audio

NAMES = ["hifigan", "hifigan_16k", "tacotron2", "parallel_wavegan"]


def speech_like(rng, rate, seconds=0.7):
    """Harmonics of a gliding voice, swelling, over noise; (n,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(5 * time)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    wave = 0.2 * voice * np.sin(np.pi * time / seconds) ** 2
    return (wave + 2e-3 * rng.standard_normal(len(time))).astype(np.float32)


def librosa_mel(samples, convention):
    """What the published code does, with librosa in float64."""
    c = convention
    if c.padding == "reflect":
        samples = np.pad(samples, (c.n_fft - c.hop_length) // 2, mode="reflect")
    spectrum = librosa.stft(
        samples.astype(np.float64),
        n_fft=c.n_fft,
        hop_length=c.hop_length,
        win_length=c.win_length,
        center=c.padding == "centred",
        pad_mode="reflect",
    )
    bins = np.sqrt(np.abs(spectrum) ** 2 + c.bin_floor) ** c.power
    filters = librosa.filters.mel(
        sr=c.sample_rate, n_fft=c.n_fft, n_mels=c.n_mels, fmin=c.f_min, fmax=c.f_max
    )
    log = {"natural": np.log, "ten": np.log10}[c.logarithm]
    return log(np.maximum(c.floor, filters @ bins)).T


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extra", [0, 137])
def test_equals_librosa(name, extra, rng):
    convention = audio.mel_convention(name)
    samples = speech_like(rng, convention.sample_rate)
    samples = samples[: len(samples) // convention.hop_length * convention.hop_length - extra]
    got = np.asarray(audio.convention_mel(samples, convention))
    frames = len(samples) // convention.hop_length
    assert got.shape == (frames, convention.n_mels) and got.dtype == np.float32
    np.testing.assert_allclose(got, librosa_mel(samples, convention)[:frames], atol=1e-4)


def test_equals_librosa_for_powers(rng):
    convention = dataclasses.replace(audio.mel_convention("parallel_wavegan"), power=2)
    samples = speech_like(rng, convention.sample_rate)
    got = audio.convention_mel(samples, convention)
    np.testing.assert_allclose(got, librosa_mel(samples, convention)[: len(got)], atol=1e-4)


def test_the_figures_are_the_published_ones():
    hifigan = audio.mel_convention("hifigan")
    assert dataclasses.astuple(hifigan)[:11] == (
        *("hifigan", 22050, 1024, 256, 1024, 80, 0.0, 8000.0, "natural", 1e-5, 1),
    )
    shipped = audio.mel_convention("hifigan_16k")
    assert dataclasses.replace(shipped, name="hifigan", sample_rate=22050) == hifigan
    with pytest.raises(
        ValueError, match="no mel convention 'melgan'; there are hifigan, hifi.*16k"
    ):
        audio.mel_convention("melgan")
    with pytest.raises(dataclasses.FrozenInstanceError):
        hifigan.n_mels = 3


@pytest.mark.parametrize("name", NAMES)
def test_silence_is_the_floor_and_has_a_finite_gradient(name):
    convention = audio.mel_convention(name)
    log = {"natural": np.log, "ten": np.log10}[convention.logarithm]
    silence = jnp.zeros(5 * convention.hop_length)
    np.testing.assert_allclose(
        audio.convention_mel(silence, convention), log(convention.floor), rtol=1e-6
    )
    gradient = jax.grad(lambda x: audio.convention_mel(x, convention).sum())(silence)
    assert np.isfinite(np.asarray(gradient)).all()


def test_differentiates_and_maps(rng):
    small = dataclasses.replace(
        audio.mel_convention("hifigan_16k"), n_fft=64, hop_length=16, win_length=48, n_mels=6
    )
    batch = jnp.asarray(rng.standard_normal((3, 80)) / 4, jnp.float32)
    check_grads(
        lambda x: audio.convention_mel(x, small), (batch,), 1, ("rev",), 2e-2, 2e-2, eps=1e-3
    )
    whole = audio.convention_mel(batch, small)
    assert whole.shape == (3, 5, 6)
    mapped = jax.jit(jax.vmap(lambda x: audio.convention_mel(x, small)))(batch)
    np.testing.assert_allclose(mapped, whole, rtol=1e-5)


@pytest.mark.parametrize("count", [16, 17, 30])
def test_sound_shorter_than_its_padding_has_its_frames(count, rng):
    small = dataclasses.replace(
        audio.mel_convention("hifigan_16k"), n_fft=128, hop_length=16, win_length=128, n_mels=6
    )
    samples = rng.standard_normal(count).astype(np.float32)
    expected = librosa_mel(samples, small)
    np.testing.assert_allclose(audio.convention_mel(samples, small), expected, atol=1e-4)


def test_sound_that_cannot_be_described():
    convention = audio.mel_convention("hifigan")
    with pytest.raises(ValueError, match="255 samples are less than a frame of hifigan"):
        audio.convention_mel(np.zeros(255, np.float32), convention)
    with pytest.raises(TypeError, match="int16"):
        audio.convention_mel(np.zeros(512, np.int16), convention)


@pytest.mark.parametrize(
    ("n_fft", "win", "hop"), [(2048, 1200, 300), (512, 240, 50), (256, 99, 64)]
)
@pytest.mark.parametrize("centred", [True, False])
def test_stft_with_a_shorter_window_equals_librosa(n_fft, win, hop, centred, rng):
    samples = speech_like(rng, 16000)
    expected = librosa.stft(
        samples, n_fft=n_fft, win_length=win, hop_length=hop, center=centred, pad_mode="constant"
    ).T
    got = audio.stft(samples, n_fft=n_fft, win_length=win, hop_length=hop, centred=centred)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max())


def test_stft_refuses_windows_and_sounds_that_do_not_fit():
    with pytest.raises(ValueError, match="win_length=65 must be in 1 to n_fft=64"):
        audio.stft(np.zeros(100, np.float32), n_fft=64, win_length=65)
    with pytest.raises(ValueError, match="63 samples are fewer than n_fft=64"):
        audio.stft(np.zeros(63, np.float32), n_fft=64, centred=False)


@pytest.fixture(scope="module")
def real(example):
    """The mel of a recording in each convention, silence at its end."""
    mels = {}
    for name in NAMES:
        convention = audio.mel_convention(name)
        samples, _ = audio.read(example[0], sample_rate=convention.sample_rate)
        samples = np.pad(samples[: 2 * convention.sample_rate], (0, convention.sample_rate))
        mels[name] = np.asarray(audio.convention_mel(samples, convention))
    return mels


@pytest.mark.parametrize("name", NAMES)
def test_a_log_mel_passes(name, real):
    mel = real[name].astype(np.float64)
    checked = audio.check_mel(mel, audio.mel_convention(name))
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, real[name])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(["noise", "signs", "sine", "click", "constant"]),
    gain=st.floats(0.0, 1.0),
)
def test_every_sound_within_full_scale_passes(seed, name, kind, gain):
    rng = np.random.default_rng(seed)
    convention = audio.mel_convention(name)
    count = 6 * convention.hop_length
    wave = {
        "noise": rng.uniform(-1, 1, count),
        "signs": rng.choice([-1.0, 1.0], count),
        "sine": np.sin(rng.uniform(0, np.pi) * np.arange(count)),
        "click": np.arange(count) == rng.integers(count),
        "constant": np.ones(count),
    }[kind]
    samples = (gain * wave).astype(np.float32)
    audio.check_mel(np.asarray(audio.convention_mel(samples, convention)), convention)


def refused(mel, name, message):
    with pytest.raises(ValueError, match=message) as raised:
        audio.check_mel(mel, audio.mel_convention(name))
    assert "\n" not in str(raised.value)


def test_wrong_shapes_are_named():
    mel = np.full((7, 80), -5.5)
    refused(mel[:, :40], "hifigan", r"'hifigan' has 80 bands, but .* \(7, 40\) has 40$")
    refused(mel.T, "hifigan", r"\(80, 7\) has 7: it looks transposed")
    refused(mel[0], "hifigan", r"two axes, frames and 80 bands, not shape \(80,\)$")
    refused(mel[None], "hifigan", r"not shape \(1, 7, 80\); take it out of its batch")
    refused(mel[:0], "hifigan", "the mel has no frames")
    refused(mel.astype(complex), "hifigan", "real numbers, not complex128")
    refused(mel.astype(str), "hifigan", "real numbers, not <U")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_named(value):
    mel = np.full((7, 80), -5.5)
    mel[3, 9] = mel[4, 1] = value
    refused(mel, "hifigan", "2 values that are NaN or infinite, the first in frame 3, band 9")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_scales_are_told_apart(name, real):
    mel = real[name].astype(np.float64)
    base = {"natural": np.e, "ten": 10.0}[audio.mel_convention(name).logarithm]
    linear = base**mel
    unit = (mel - mel.min()) / np.ptp(mel)
    refused(linear, name, "linear|normalised to 0…1")
    refused(50 * linear, name, "linear")
    refused(unit, name, "normalised to 0…1")
    refused((mel - mel.mean()) / mel.std(), name, "louder on average .* they look normalised")
    refused(20 * np.log10(linear), name, "decibels")
    refused(20 * np.log10(linear / linear.min()), name, "linear|decibels")
    refused(np.full((5, 80), 300.0), name, re.escape("values from 300 to 300 (mean 300)"))


def test_the_other_logarithm_is_told(real):
    natural, ten = real["hifigan"], real["parallel_wavegan"]
    refused(natural / np.log(10), "hifigan", "the other logarithm")
    refused(ten * np.log(10), "parallel_wavegan", "natural logarithms")
    refused(natural, "parallel_wavegan", "natural logarithms")


def test_predicted_values_may_stray_a_little(real):
    convention = audio.mel_convention("hifigan")
    mel = real["hifigan"]
    audio.check_mel(mel - 0.9, convention)
    audio.check_mel(mel + 3.0, convention)
    refused(mel - 1.1, "hifigan", r"from -12\.61 .*floor 1e-05\): below .* -11\.51,")
