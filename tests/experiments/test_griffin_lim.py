import sys

import numpy as np
import pytest

from deepaudio import audio, evaluation
from experiments._griffin_lim import griffin_lim


def bursts(rng, rate, frames, hop):
    """Three short noises over a faint one."""
    wave = 1e-3 * rng.standard_normal(frames * hop)
    length = round(0.08 * rate)
    for share in (0.2, 0.45, 0.7):
        begin = round(share * len(wave))
        wave[begin : begin + length] += 0.2 * rng.standard_normal(length) * np.hanning(length)
    return wave.astype(np.float32)


@pytest.mark.parametrize("name", ["hifigan", "hifigan_16k", "tacotron2", "parallel_wavegan"])
def test_sound_comes_back_and_in_its_place(name, rng):
    convention = audio.mel_convention(name)
    hop = convention.hop_length
    wave = bursts(rng, convention.sample_rate, 60, hop)
    made = griffin_lim(np.asarray(audio.convention_mel(wave, convention)), convention)
    assert made.shape == wave.shape and made.dtype == np.float32
    distances = {
        lag: evaluation.log_mel_distance(
            wave, np.roll(made, lag), convention.sample_rate, convention
        )
        for lag in (-hop // 2, -hop // 4, 0, hop // 4, hop // 2)
    }
    assert min(distances, key=distances.get) == 0
    assert distances[0] < 0.25


def test_iterations_help_and_the_seed_decides(rng):
    convention = audio.mel_convention("hifigan_16k")
    wave = bursts(rng, 16000, 50, 256)
    mel = np.asarray(audio.convention_mel(wave, convention))
    few, many = (griffin_lim(mel, convention, iterations=count) for count in (1, 32))
    distances = [evaluation.log_mel_distance(wave, x, 16000, convention) for x in (few, many)]
    assert distances[1] < 0.8 * distances[0]
    np.testing.assert_array_equal(griffin_lim(mel, convention), many)
    assert not np.array_equal(griffin_lim(mel, convention, seed=1), many)


def test_a_single_frame():
    convention = audio.mel_convention("hifigan")
    samples = griffin_lim(np.full((1, 80), -5.0), convention)
    assert samples.shape == (256,) and np.isfinite(samples).all()


def test_what_is_wrong_is_told(monkeypatch):
    convention = audio.mel_convention("hifigan")
    with pytest.raises(ValueError, match="80 bands"):
        griffin_lim(np.full((5, 40), -5.0), convention)
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ImportError, match=r"needs librosa: pip install 'deepaudio\[voice\]'"):
        griffin_lim(np.full((5, 80), -5.0), convention)
