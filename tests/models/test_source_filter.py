"""Pulses and changing filters, against sums, scipy and what minimum phase means."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from deepaudio.models import _source_filter


def test_pulses_are_the_sum_of_all_harmonics():
    frequency = np.array([0.0041, 0.0123, 0.051, 0.13, 0.3])[:, None]
    phase = np.concatenate([np.linspace(-3, 3, 200), [0.0, 1e-6, 1.0, 0.5]])
    expected = []
    for f in frequency[:, 0]:
        count = int(np.floor(0.5 / f))
        cosines = [np.cos(2 * np.pi * k * phase) for k in range(1, count + 1)]
        expected.append(np.sum(cosines, axis=0) * np.sqrt(2 / count))
    found = _source_filter.pulses(
        jnp.asarray(np.broadcast_to(frequency, (5, len(phase)))), jnp.asarray(phase)[None]
    )
    np.testing.assert_allclose(found, expected, atol=2e-2)
    tone = _source_filter.pulses(jnp.full(10_000, 0.0101), jnp.arange(10_000.0) * 0.0101)
    np.testing.assert_allclose(np.mean(np.square(tone)), 1.0, rtol=5e-3)


def test_filters_have_the_magnitudes_and_the_least_delay(rng):
    """The magnitude asked for; and no zero outside of the unit circle."""
    log_magnitude = scipy.ndimage.gaussian_filter1d(rng.normal(0, 3, 257), 12)
    taps = np.asarray(_source_filter.minimum_phase(jnp.asarray(log_magnitude, jnp.float32), 512))
    found = np.log(np.abs(np.fft.rfft(taps, 512)))
    np.testing.assert_allclose(found, log_magnitude, atol=1e-3)
    assert taps[0] > 0
    # Of all filters with this magnitude it has the most energy in its first taps.
    other = np.fft.irfft(np.exp(log_magnitude))
    least, linear = (np.cumsum(np.square(x)) for x in (taps, np.roll(other, 256)))
    assert (least >= linear - 1e-4 * least[-1]).all() and least[20] > 2 * linear[20]
    np.testing.assert_allclose(taps[0], np.exp(np.fft.irfft(log_magnitude)[0]), rtol=1e-4)


def test_a_filter_that_stays_is_a_plain_filter(rng):
    signal = rng.normal(0, 1, (2, 640)).astype(np.float32)
    taps = rng.normal(0, 1, (2, 1, 385)).astype(np.float32)
    found = _source_filter.filter_in_time(signal, jnp.repeat(taps, 6, axis=1), 128)
    expected = [scipy.signal.lfilter(t[0], 1.0, x) for t, x in zip(taps, signal, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("hop", [3, 64])
def test_a_filter_that_changes_fades_from_one_to_the_next(rng, hop):
    stretches, count = 5, 40
    signal = rng.normal(0, 1, stretches * hop)
    taps = rng.normal(0, 1, (stretches + 1, count))
    expected = np.zeros_like(signal)
    for t in range(len(signal)):
        stretch, share = t // hop, (t % hop) / hop
        filter_now = (1 - share) * taps[stretch] + share * taps[stretch + 1]
        past = np.array([signal[t - k] if t >= k else 0.0 for k in range(count)])
        expected[t] = filter_now @ past
    found = _source_filter.filter_in_time(jnp.asarray(signal)[None], jnp.asarray(taps)[None], hop)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
