import numpy as np
import pytest

from deepaudio.data import recording_chain

RATE = 16000


@pytest.mark.parametrize("wanted", [0.3, 0.8, 1.6])
def test_a_room_decays_in_its_reverberation_time(wanted):
    rng = np.random.default_rng(0)
    response = recording_chain.room_response(rng, reverberation_time=wanted, wet_db=-6.0)
    tail = response[1:].astype(np.float64) ** 2
    # Schroeder's backward integration; the slope between -5 and -25 dB.
    decay = 10.0 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())
    start, stop = np.argmax(decay < -5.0), np.argmax(decay < -25.0)
    assert 3.0 * (stop - start) / RATE == pytest.approx(wanted, rel=0.3)
    assert 10.0 * np.log10(tail.sum()) == pytest.approx(-6.0, abs=0.1)
    assert response[0] == 1.0


def test_pink_noise_falls_3_db_an_octave():
    noise = recording_chain.pink_noise(np.random.default_rng(0), 1 << 18)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].sum() for k in range(10, 17)]
    np.testing.assert_allclose(10.0 * np.log10(octaves / np.mean(octaves)), 0.0, atol=0.6)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("gentle", [False, True])
def test_nothing_is_delayed_and_the_level_is_in_range(gentle):
    click = np.zeros(RATE, np.float32)
    click[5000] = 1.0
    noises, peaks = [], []
    for seed in range(60):
        samples = recording_chain.record(click, np.random.default_rng(seed), gentle=gentle)
        assert samples.shape == click.shape and samples.dtype == np.float32
        assert abs(int(np.abs(samples).argmax()) - 5000) <= 2
        peak = np.abs(samples).max()
        peaks.append(20.0 * np.log10(peak))
        noises.append(20.0 * np.log10(np.std(samples[:4900]) / peak))
    assert -24.01 <= min(peaks) and max(peaks) <= -0.49
    assert min(noises) > -82.0 and max(noises) < -40.0
    assert (max(noises) < -56.0) == gentle
    assert (min(peaks) > -12.01) == gentle


def test_training_recordings_differ_more_than_gentle_ones():
    rng = np.random.default_rng(1)
    sound = (rng.normal(size=RATE) * np.hanning(RATE)).astype(np.float32)

    def spread(gentle):
        spectra = []
        for seed in range(40):
            samples = recording_chain.record(sound, np.random.default_rng(seed), gentle=gentle)
            power = np.abs(np.fft.rfft(samples)) ** 2
            spectra.append(10.0 * np.log10([band.sum() for band in np.array_split(power, 12)]))
        spectra = np.array(spectra)
        return (spectra - spectra.mean(axis=1, keepdims=True)).std(axis=0).mean()

    assert 0.3 < spread(True) < 0.7 * spread(False)
