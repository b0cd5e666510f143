import math
import sys

import librosa
import numpy as np
import pytest

from deepaudio import audio, evaluation

RATE = 16000
NEEDS_VOICE = "needs pesq, pystoi and pyworld (the extra `voice`)"


@pytest.fixture
def voice():
    for name in ("pesq", "pystoi", "pyworld"):
        pytest.importorskip(name, reason=NEEDS_VOICE)


def syllables(rng, *, seconds=2.0, pitch=120.0, rate=RATE):
    """A voice of even pitch, four syllables a second, through two resonances."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.zeros(len(time))
    for harmonic in range(1, int(0.45 * rate / pitch)):
        hertz = harmonic * pitch
        gain = 1 / harmonic + sum(np.exp(-(((hertz - f) / 200) ** 2)) for f in (500, 1500))
        wave += gain * np.sin(2 * np.pi * hertz * time + harmonic)
    wave *= 0.05 * np.sin(np.pi * 4 * time) ** 2
    return wave + 1e-4 * rng.standard_normal(len(time))


def steady(pitch, seconds=1.0, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    return 0.1 * sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 20))


def with_noise(wave, snr_db, rng):
    noise = rng.standard_normal(len(wave))
    return wave + noise * np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)


def test_the_same_sound_scores_perfectly(voice, rng):
    wave = syllables(rng)
    scores = evaluation.score_voice(wave, wave.copy(), RATE)
    assert set(scores) == {
        "metric/mel_distance",
        "metric/stft/spectral_convergence",
        "metric/stft/log_magnitude",
        "metric/mcd",
        "metric/f0/rmse_cents",
        "metric/f0/rmse_hz",
        "metric/f0/voicing_error",
        "metric/pesq",
        "metric/stoi",
    }
    assert all(isinstance(value, float) for value in scores.values())
    assert scores.pop("metric/pesq") == pytest.approx(4.644, abs=0.01)
    assert scores.pop("metric/stoi") == pytest.approx(1.0)
    assert set(scores.values()) == {0.0}


def test_more_noise_scores_worse(voice, rng):
    wave = syllables(rng)
    levels = [evaluation.score_voice(wave, with_noise(wave, snr, rng), RATE) for snr in (30, 15, 0)]
    for name in levels[0]:
        values = [scores[name] for scores in levels]
        if name in ("metric/pesq", "metric/stoi"):
            values.reverse()
        if name.startswith("metric/f0"):
            assert values[0] <= values[2]
        else:
            assert values == sorted(set(values)), name


def test_all_scores_are_those_of_the_single_functions(voice, rng):
    wave, rate = syllables(rng, rate=24000), 24000
    made = with_noise(wave, 10, rng)[:-100].astype(np.float32)
    convention = audio.mel_convention("parallel_wavegan")
    scores = evaluation.score_voice(wave, made, rate, convention)
    pair = wave, made
    assert list(scores.values()) == [
        evaluation.log_mel_distance(*pair, rate, convention),
        *evaluation.stft_distance(*pair),
        evaluation.mel_cepstral_distortion(*pair, rate),
        *evaluation.pitch_errors(*pair, rate),
        evaluation.pesq_wide_band(*pair, rate),
        evaluation.stoi(*pair, rate),
    ]


@pytest.mark.parametrize(
    ("name", "rate"),
    [(None, RATE), (None, 12000), ("hifigan_16k", RATE), ("parallel_wavegan", 24000)],
)
def test_a_gain_is_its_logarithm_in_every_band(name, rate, rng):
    noise = 0.1 * rng.standard_normal(rate)
    convention = name and audio.mel_convention(name)
    distance = evaluation.log_mel_distance(noise, 0.5 * noise, rate, convention)
    assert distance == pytest.approx(math.log(2), rel=1e-4)


def test_the_mel_distance_is_over_the_whole_frames_only(rng):
    """A difference after them is heard through the last frames' windows, and no further."""
    noise = 0.1 * rng.standard_normal(20 * 256)
    convention = audio.mel_convention("hifigan_16k")
    padded = np.pad(noise, (0, 16384 - len(noise))).astype(np.float32)
    other = np.float32(0.1) * rng.standard_normal(16384).astype(np.float32)
    other[len(noise) :] = 0
    true, made = (np.asarray(audio.convention_mel(x, convention))[:20] for x in (padded, other))
    got = evaluation.log_mel_distance(noise, other[: len(noise)], RATE, convention)
    assert got == pytest.approx(np.abs(true - made).mean(), rel=1e-4)


def test_stft_distance_of_a_gain(rng):
    noise = rng.standard_normal(RATE)
    convergence, magnitude = evaluation.stft_distance(noise, 0.7 * noise)
    assert convergence == pytest.approx(0.3)
    assert magnitude == pytest.approx(-math.log(0.7), rel=1e-3)


def test_stft_distance_is_that_of_the_usual_resolutions(rng):
    true = syllables(rng)
    made = with_noise(true, 10, rng)
    expected = []
    for frame, hop, window in [(1024, 120, 600), (2048, 240, 1200), (512, 50, 240)]:
        a, b = (
            np.abs(librosa.stft(x, n_fft=frame, hop_length=hop, win_length=window))
            for x in (true, made)
        )
        logs = np.abs(np.log(np.maximum(a, 10**-3.5)) - np.log(np.maximum(b, 10**-3.5)))
        expected.append((np.linalg.norm(a - b) / np.linalg.norm(a), logs.mean()))
    # The frames at the very ends are others.
    np.testing.assert_allclose(
        evaluation.stft_distance(true, made), np.mean(expected, axis=0), rtol=0.01
    )


def test_silence_has_no_convergence():
    convergence, magnitude = evaluation.stft_distance(np.zeros(4000), np.zeros(4000))
    assert math.isnan(convergence) and magnitude == 0.0


def filtered(wave, log_gain):
    """With amplitudes times e^log_gain(frequency as a share of the mel scale)."""
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    mel = np.log10(1 + hertz / 700) / np.log10(1 + RATE / 2 / 700)
    return np.fft.irfft(np.fft.rfft(wave) * np.exp(log_gain(mel)), len(wave))


@pytest.mark.parametrize("order", [1, 3])
def test_distortion_of_one_cepstral_coefficient(voice, order, rng):
    wave = syllables(rng) + 0.02 * rng.standard_normal(2 * RATE)
    changed = filtered(wave, lambda mel: 0.3 * np.cos(np.pi * order * mel))
    # ln |H| = c_0 + Σ c_d cos(π d mel), so c_d differs by 0.3 and no other does.
    expected = 10 / math.log(10) * math.sqrt(2) * 0.3
    got = evaluation.mel_cepstral_distortion(wave, changed, RATE)
    assert got == pytest.approx(expected, rel=0.05)


def test_distortion_does_not_hear_loudness(voice, rng):
    wave = syllables(rng) + 0.02 * rng.standard_normal(2 * RATE)
    assert evaluation.mel_cepstral_distortion(wave, 0.5 * wave, RATE) < 0.02


@pytest.mark.parametrize("rate", [RATE, 24000])
def test_pitch_a_semitone_apart(voice, rate):
    low, high = steady(150.0, rate=rate), steady(150.0 * 2 ** (1 / 12), rate=rate)
    # The analysis strays in the first and last frames.
    cents, hertz, voicing = evaluation.pitch_errors(low, high, rate)
    assert cents == pytest.approx(100, abs=4)
    assert hertz == pytest.approx(150 * (2 ** (1 / 12) - 1), abs=0.4)
    assert voicing < 0.03


def test_voicing_errors_are_counted(voice, rng):
    noise = 0.01 * rng.standard_normal(RATE)
    whole = steady(150.0)
    half = np.where(np.arange(RATE) < RATE // 2, whole, noise)
    for pair in ((whole, half), (half, whole)):
        cents, _, voicing = evaluation.pitch_errors(*pair, RATE)
        assert voicing == pytest.approx(0.5, abs=0.05) and cents < 5
    cents, hertz, voicing = evaluation.pitch_errors(noise, whole, RATE)
    assert math.isnan(cents) and math.isnan(hertz) and voicing > 0.9


@pytest.mark.parametrize("count", [100, 1000, 4000])
def test_what_is_too_short_or_silent_is_not_a_number(voice, count, rng):
    short = 0.1 * rng.standard_normal(count)
    assert math.isnan(evaluation.stoi(short, short, RATE))
    if count < RATE // 4:
        assert math.isnan(evaluation.pesq_wide_band(short, short, RATE))
    silence = np.zeros(RATE)
    assert math.isnan(evaluation.pesq_wide_band(silence, silence, RATE))
    assert evaluation.mel_cepstral_distortion(short, short, RATE) == 0.0
    assert evaluation.pitch_errors(short, short, RATE)[2] == 0.0


@pytest.mark.parametrize("module", ["pesq", "pystoi", "pyworld"])
def test_a_missing_package_names_the_extra(module, monkeypatch, rng):
    monkeypatch.setitem(sys.modules, module, None)
    wave = 0.1 * rng.standard_normal(RATE)
    score = {
        "pesq": evaluation.pesq_wide_band,
        "pystoi": evaluation.stoi,
        "pyworld": evaluation.pitch_errors,
    }[module]
    with pytest.raises(ImportError, match=rf"package {module}: pip install 'deepaudio\[voice\]'"):
        score(wave, wave, RATE)


def test_faults_name_the_sound():
    good, rate = np.zeros(1000), RATE
    for bad, message in [
        (np.zeros((2, 1000)), r"the estimate has shape \(2, 1000\)"),
        (np.zeros(0), r"the estimate has shape \(0,\)"),
        (np.full(1000, np.nan), "the estimate holds samples that are NaN"),
        (np.zeros(1000, np.int16), "the estimate holds int16, not floating point"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluation.stft_distance(good, bad)
    with pytest.raises(ValueError, match="the reference has shape"):
        evaluation.stft_distance(np.zeros(0), good)
    with pytest.raises(ValueError, match=r"at 16000 Hz, but a mel at 22050 Hz \(hifigan\)"):
        evaluation.log_mel_distance(good, good, rate, audio.mel_convention("hifigan"))
    with pytest.raises(ValueError, match="200 samples are less than a frame of hifigan"):
        evaluation.log_mel_distance(good[:200], good, rate)
