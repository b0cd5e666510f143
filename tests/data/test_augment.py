import dataclasses

import numpy as np
import pytest
import scipy.signal

from deepaudio.data import augment as effects
from deepaudio.data.augment import AugmentConfig

RATE = 16000
OFF = AugmentConfig(None, None, None, None, reverberance=None, gain_db=None)


def tone(hertz=440.0, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32) / 2


def test_noise_is_pink_and_as_loud_as_asked(rng):
    silence = np.zeros(4 * RATE, np.float32)
    noise = effects.add_pink_noise(silence, rng, 0.03)
    np.testing.assert_allclose(np.abs(noise).max(), 0.03, rtol=1e-5)
    frequency, power = scipy.signal.welch(noise, RATE, nperseg=4096)
    keep = (frequency > 50) & (frequency < 7000)
    slope = np.polyfit(np.log(frequency[keep]), np.log(power[keep]), 1)[0]
    assert abs(slope + 1) < 0.1
    sound = tone(seconds=4)
    again = effects.add_pink_noise(sound, np.random.default_rng(1), 0.03) - sound
    np.testing.assert_allclose(np.abs(again).max(), 0.03, rtol=1e-3)


@pytest.mark.parametrize("semitones", [-0.1, 0.07, 1.0])
def test_pitch_moves_and_tempo_with_it(semitones):
    sound = tone(seconds=2)
    shifted = effects.shift_pitch(sound, semitones)
    speed = 2 ** (semitones / 12)
    assert abs(len(shifted) - len(sound) / speed) <= 1 and effects.speed(semitones) == speed
    expected = tone(440 * speed, seconds=2)[: len(shifted)]
    if len(expected) < len(shifted):
        shifted = shifted[: len(expected)]
    np.testing.assert_allclose(shifted[200:-200], expected[200:-200], atol=2e-3)


def test_contrast_is_soxs_curve():
    sound = np.linspace(-1.5, 1.5, 101).astype(np.float32)
    phase = np.pi / 2 * np.clip(sound, -1, 1)
    np.testing.assert_allclose(
        effects.contrast(sound, 75.0), np.sin(phase + 0.1 * np.sin(4 * phase)), atol=1e-6
    )


@pytest.mark.parametrize(("hertz", "decibels"), [(40.0, 5.0), (1000.0, -10.0), (4096.0, 3.0)])
def test_equalizer_has_its_gain_and_width(hertz, decibels):
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[0] = 1
    gain = np.abs(
        np.fft.rfft(effects.equalize(impulse, RATE, hertz=hertz, decibels=decibels, q=2.0))
    )
    measured = 20 * np.log10(gain)
    np.testing.assert_allclose(measured[round(2 * hertz)], decibels, atol=0.05)
    np.testing.assert_allclose(measured[[0, -1]], 0, atol=0.05)
    # Half the decibels are reached at the band's edges, of which Q is the distance's reciprocal.
    halves = np.flatnonzero(np.abs(measured) >= abs(decibels) / 2) / 2
    if hertz < 2000:  # higher up the bilinear transform narrows the band
        np.testing.assert_allclose(hertz / (halves[-1] - halves[0]), 2.0, rtol=0.05)
    with pytest.raises(ValueError, match="hertz=9000"):
        effects.equalize(impulse, RATE, hertz=9000.0, decibels=1.0, q=2.0)


def slow_freeverb(samples, reverberance):
    """Freeverb with its delay lines, a sample at a time."""
    a = -1 / np.log(1 - 0.3)
    b = 100 / (np.log(1 - 0.98) * a + 1)
    feedback = 1 - np.exp((reverberance - b) / (a * b))
    total = np.zeros(len(samples))
    for length in (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617):
        line, low, at = np.zeros(int(length * RATE / 44100 + 0.5)), 0.0, 0
        for i, sample in enumerate(samples):
            out = line[at]
            low = out + (low - out) * 0.35
            line[at] = sample + low * feedback
            at = (at + 1) % len(line)
            total[i] += out
    for length in (225, 341, 441, 556):
        line, at = np.zeros(int(length * RATE / 44100 + 0.5)), 0
        for i in range(len(total)):
            out = line[at]
            line[at] = total[i] + 0.5 * out
            total[i] = out - total[i]
            at = (at + 1) % len(line)
    return samples + 0.015 * total


@pytest.mark.parametrize("reverberance", [0.0, 30.0, 70.0])
def test_reverberation_is_freeverb(reverberance, rng):
    samples = np.zeros(6000, np.float32)
    samples[:200] = rng.standard_normal(200)
    got = effects.reverberate(samples, RATE, reverberance)
    expected = slow_freeverb(samples, reverberance)
    assert got.dtype == np.float32
    # The echoes are 4 s long, after which Freeverb's own at 70 % are still 65 dB down.
    np.testing.assert_allclose(got, expected, atol=3e-4)
    assert np.abs(expected - samples).max() > 0.03


def test_everything_off_changes_nothing(rng):
    sound = tone()
    got = effects.augment(sound, rng, sample_rate=RATE, semitones=0.0, config=OFF)
    np.testing.assert_array_equal(got, sound)
    assert effects.draw_pitch(rng, OFF) == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_volume", (0.01, 0.04)),
        ("contrast", (50.0, 100.0)),
        ("equalizer_hz", (300.0, 600.0)),
        ("reverberance", (50.0, 70.0)),
        ("gain_db", (-9.0, -3.0)),
    ],
)
def test_each_is_turned_on_alone_and_follows_the_seed(field, value):
    config = dataclasses.replace(OFF, **{field: value})
    sound = tone()

    def once(seed):
        generator = np.random.default_rng(seed)
        return effects.augment(sound, generator, sample_rate=RATE, semitones=0.0, config=config)

    first = once(0)
    assert first.dtype == np.float32 and first.shape == sound.shape
    assert np.abs(first - sound).max() > 1e-3
    np.testing.assert_array_equal(first, once(0))
    assert np.abs(first - once(1)).max() > 1e-4


def test_all_of_it_in_the_papers_order(monkeypatch, rng):
    called = []
    for name in ("add_pink_noise", "shift_pitch", "contrast", "equalize", "reverberate"):
        real = getattr(effects, name)

        def watched(*arguments, name=name, real=real, **keywords):
            called.append(name)
            return real(*arguments, **keywords)

        monkeypatch.setattr(effects, name, watched)
    got = effects.augment(tone(), rng, sample_rate=RATE, semitones=0.1, config=AugmentConfig())
    assert called == [
        "add_pink_noise",
        "shift_pitch",
        "contrast",
        "equalize",
        "equalize",
        "reverberate",
    ]
    assert np.isfinite(got).all() and abs(len(got) - RATE / effects.speed(0.1)) <= 1


def test_draws_stay_within_the_ranges(monkeypatch):
    seen = {"volume": [], "amount": [], "hertz": [], "decibels": [], "reverberance": []}
    monkeypatch.setattr(effects, "add_pink_noise", lambda x, r, v: (seen["volume"].append(v), x)[1])
    monkeypatch.setattr(effects, "contrast", lambda x, a: (seen["amount"].append(a), x)[1])
    monkeypatch.setattr(
        effects, "reverberate", lambda x, r, v: (seen["reverberance"].append(v), x)[1]
    )

    def equalize(x, rate, *, hertz, decibels, q):
        seen["hertz"].append(hertz)
        seen["decibels"].append(decibels)
        assert q == 2.0
        return x

    monkeypatch.setattr(effects, "equalize", equalize)
    generator = np.random.default_rng(0)
    pitches = []
    for _ in range(500):
        pitches.append(effects.draw_pitch(generator, AugmentConfig()))
        effects.augment(
            np.zeros(4, np.float32),
            generator,
            sample_rate=RATE,
            semitones=0.0,
            config=AugmentConfig(),
        )
    ranges = {
        "volume": (0, 0.04),
        "amount": (0, 100),
        "hertz": (32, 4096),
        "decibels": (-10, 5),
        "reverberance": (0, 70),
    }
    for name, (low, high) in ranges.items():
        drawn = np.array(seen[name])
        assert low <= drawn.min() and drawn.max() <= high
        # A uniform draw fills its range; the equalisers' is uniform in octaves.
        if name == "hertz":
            drawn, low, high = np.log2(drawn), 5, 12
        np.testing.assert_allclose(np.median(drawn), (low + high) / 2, atol=0.1 * (high - low))
    assert (
        len(seen["hertz"]) == 1000 and -0.1 <= min(pitches) < -0.09 and 0.09 < max(pitches) <= 0.1
    )
