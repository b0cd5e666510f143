import numpy as np
import pytest

from deepaudio.data import piano_performance, piano_synthesis

RATE = 16000


def performance_of(notes, pedal=()):
    onsets, offsets, pitches, velocities = (np.array(column) for column in zip(*notes, strict=True))
    return piano_performance.Performance(
        onsets=onsets.astype(np.float64),
        offsets=offsets.astype(np.float64),
        pitches=pitches,
        velocities=velocities,
        pedal_times=np.array([time for time, _ in pedal], np.float64),
        pedal_values=np.array([value for _, value in pedal], np.int64),
    )


def acoustic_pianos(count):
    pianos = (piano_synthesis.random_piano(seed) for seed in range(1000))
    return [piano for piano in pianos if not piano.is_electric][:count]


def play(piano, notes, pedal=(), seed=0):
    rng = np.random.default_rng(seed)
    return piano_synthesis.render(performance_of(notes, pedal), piano, rng, RATE)


@pytest.mark.parametrize("pitch", [21, 50, 76, 108])
def test_block_product_is_the_sum_of_damped_sinusoids(pitch):
    piano = acoustic_pianos(1)[0]
    key = piano_synthesis._Key(piano, pitch, 20, RATE)
    velocity = 0.6
    samples = key.play(piano, velocity, 20)
    hz, rate, level, phase = piano_synthesis._mode_table(piano, pitch, RATE)
    low, high = piano.cutoff
    cutoff = low * (high / low) ** velocity * (piano.frequencies[pitch - 21] / 260.0) ** 0.45
    level = level / (1.0 + (hz / cutoff) ** 2) ** piano.slope
    level = level / np.sqrt((level**2).sum())
    level = level * 10 ** (np.interp(hz, piano.body_hz, piano.body_db) / 20)
    time = np.arange(20 * 256) / RATE
    expected = np.zeros(len(time))
    for mode in range(len(hz)):
        wave = np.cos(2.0 * np.pi * hz[mode] * time + phase[mode])
        expected += level[mode] * np.exp(-rate[mode] * time) * wave
    np.testing.assert_allclose(samples, expected, atol=2e-4 * np.abs(expected).max())


def test_a_note_sounds_at_its_time_on_any_piano():
    times = 0.5 + 1.3 * np.arange(6) + np.linspace(0.0, 0.0317, 6)
    pitches = [24, 40, 60, 75, 90, 104]
    notes = [(time, time + 0.4, pitch, 80) for time, pitch in zip(times, pitches, strict=True)]
    for seed in range(12):
        samples = np.abs(play(piano_synthesis.random_piano(seed), notes))
        for time in times:
            start = round(time * RATE)
            before = samples[start - 400 : start].max()
            peak = samples[start : start + 4000].max()
            first = np.argmax(samples[start - 400 :] > max(0.1 * peak, 2.0 * before)) - 400
            assert 0 <= first / RATE < 0.005


def test_pitch_is_that_of_the_key():
    for piano in acoustic_pianos(3):
        for pitch in (48, 60, 72, 84):
            samples = play(piano, [(0.0, 1.0, pitch, 70)])[:RATE]
            size = 1 << 19
            spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
            hz = np.arange(len(spectrum)) * RATE / size
            wanted = piano.frequencies[pitch - 21]
            near = np.abs(hz / wanted - 1.0) < 0.03
            found = hz[near][np.argmax(spectrum[near])]
            cents = 1200.0 * np.log2(found / wanted)
            assert abs(cents) < 6.0 + 4.0 * piano.string_cents
            assert abs(1200.0 * np.log2(wanted / 440.0) - 100.0 * (pitch - 69)) < 70.0


def test_partials_are_stretched_as_the_inharmonicity_says():
    piano = acoustic_pianos(1)[0]
    hz, _, _, _ = piano_synthesis._mode_table(piano, 45, RATE)
    stiffness = piano.inharmonicity[45 - 21]
    ratio = hz[9] / hz[0]
    assert ratio == pytest.approx(10 * np.sqrt((1 + 100 * stiffness) / (1 + stiffness)))
    # Realistic at the ends (Rigaud et al. 2013, fig. 4): about 1e-4 in the bass, 1e-2 at the top.
    values = np.array([piano.inharmonicity for piano in acoustic_pianos(20)])
    assert 3e-5 < np.median(values[:, 24]) < 5e-4
    assert 5e-3 < np.median(values[:, 87]) < 6e-2


def test_louder_keys_sound_louder_and_brighter():
    for piano in acoustic_pianos(4):
        energy, centre = [], []
        for velocity in (20, 60, 100, 127):
            samples = play(piano, [(0.0, 0.8, 55, velocity)])[:12000]
            power = np.abs(np.fft.rfft(samples)) ** 2
            energy.append(power.sum())
            centre.append((power * np.arange(len(power))).sum() / power.sum())
        assert (np.diff(energy) > 0).all() and (np.diff(centre) > 0).all()
        assert 8.0 < 10.0 * np.log10(energy[-1] / energy[0]) < 60.0


def _level(samples, start, stop):
    return 10.0 * np.log10(np.mean(samples[int(start * RATE) : int(stop * RATE)] ** 2) + 1e-12)


def test_the_damper_ends_a_note_and_the_pedal_keeps_it():
    note = [(0.2, 0.7, 57, 90)]
    for piano in acoustic_pianos(4):
        damped = play(piano, note)
        held = play(piano, note, pedal=[(0.5, 127), (2.0, 0)])
        release = piano.release[57 - 21]
        late = 0.7 + 5.0 * release
        assert _level(damped, late, late + 0.1) < _level(damped, 0.5, 0.7) - 25.0
        assert _level(held, late, late + 0.1) > _level(damped, late, late + 0.1) + 10.0
        assert _level(held, 2.0 + 5 * release, 2.1 + 5 * release) < _level(held, 1.8, 2.0) - 25.0


def test_the_top_rings_on_where_it_has_no_dampers():
    pianos = [piano_synthesis.random_piano(seed) for seed in range(60)]
    undamped = next(p for p in pianos if p.undamped_from < 108 and not p.is_electric)
    after = {}
    for pitch in (88, 96):
        samples = play(undamped, [(0.1, 0.2, pitch, 100)])
        start = 0.2 + 6.0 * undamped.release[pitch - 21]
        after[pitch] = _level(samples, start, start + 0.1) - _level(samples, 0.15, 0.2)
    assert after[96] > after[88] + 15.0


def test_bass_rings_longer_than_treble_and_decays_in_two_stages():
    piano = acoustic_pianos(1)[0]
    falls = []
    for pitch in (30, 60, 96):
        samples = play(piano, [(0.0, 3.0, pitch, 90)])
        falls.append(_level(samples, 0.1, 0.3) - _level(samples, 1.1, 1.3))
    assert falls[0] < falls[1] < falls[2]
    slow = []
    for piano in acoustic_pianos(12):
        samples = play(piano, [(0.0, 6.0, 60, 90)])
        early = _level(samples, 0.05, 0.35) - _level(samples, 0.55, 0.85)
        late = _level(samples, 3.0, 3.3) - _level(samples, 3.5, 3.8)
        slow.append(late < early)
    assert np.mean(slow) > 0.7


def test_pianos_differ_and_a_seed_is_a_piano():
    first, again, other = (piano_synthesis.random_piano(seed) for seed in (3, 3, 4))
    notes = [(0.0, 0.5, 60, 80), (0.2, 0.5, 67, 60)]
    np.testing.assert_array_equal(play(first, notes), play(again, notes))
    assert not np.allclose(play(first, notes), play(other, notes))
    electric = np.mean([piano_synthesis.random_piano(seed).is_electric for seed in range(400)])
    assert 0.05 < electric < 0.16
    tuning = [
        np.median(
            piano_synthesis.random_piano(seed).frequencies[39:57]
            / 440.0
            * 2.0 ** ((69 - np.arange(60, 78)) / 12.0)
        )
        for seed in range(100)
    ]
    cents = 1200.0 * np.log2(tuning)
    assert 4.0 < np.std(cents) < 20.0 and np.abs(cents).max() < 35.0


def test_no_notes_are_silence():
    empty = piano_performance.Performance(
        *(np.zeros(0),) * 2, *(np.zeros(0, int),) * 2, np.zeros(0), np.zeros(0, int)
    )
    samples = piano_synthesis.render(
        empty, piano_synthesis.random_piano(0), np.random.default_rng(0), RATE
    )
    assert samples.dtype == np.float32 and not samples.any()
