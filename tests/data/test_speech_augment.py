import numpy as np
import pytest
import soundfile

from deepaudio.data import speech_augment, speech_noise
from deepaudio.data.speech_augment import SpeechAugmentConfig

RATE = 16000
OFF = SpeechAugmentConfig(
    noise_snr_db=None,
    lombard_db_per_octave=None,
    reverberation_time=None,
    speeds=None,
    gain_db=None,
)
# Third-octave levels of Hoth's room noise, dB SPL, from 100 Hz to 5 kHz (ITU-T P.800).
HOTH = [45.9, 45.5, 44.9, 44.1, 43.6, 43.1, 42.3, 41.7, 41.2]
HOTH += [40.4, 39.7, 39.3, 38.7, 37.8, 37.2, 36.5, 34.8, 33.2]


def speech_like(rng, seconds=2.0):
    """Noise that comes in syllables."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = rng.standard_normal(len(time)) * np.maximum(0.0, np.sin(2 * np.pi * 3 * time))
    return (0.1 * wave).astype(np.float32)


def only(**changes):
    """A configuration with everything off but what is given."""
    settings = {name: getattr(OFF, name) for name in OFF.__dataclass_fields__}
    return SpeechAugmentConfig(**settings | {"noise_clips": 8} | changes)


def applied(samples, rng, config, speech=()):
    noise = speech_augment.make_noise_bank(rng, config, sample_rate=RATE, speech=speech)
    return speech_augment.augment(samples, rng, sample_rate=RATE, noise=noise, config=config)


def power(samples):
    return np.mean(np.square(samples, dtype=np.float64))


def decibels(ratio):
    return 10.0 * np.log10(ratio)


def test_everything_off_changes_nothing(rng):
    samples = speech_like(rng)
    np.testing.assert_array_equal(applied(samples, rng, OFF), samples)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 30.0])
def test_the_ratio_of_powers_is_the_one_asked_for(rng, snr_db):
    samples = speech_like(rng)
    noise = (3.0 + rng.standard_normal(len(samples))).astype(np.float32)
    noisy = speech_augment.add_noise(samples, noise, snr_db)
    added = noisy.astype(np.float64) - samples
    assert decibels(power(samples) / power(added)) == pytest.approx(snr_db, abs=0.01)
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1.0, abs=1e-4)


def test_silence_has_no_ratio_and_stays_as_it_is(rng):
    silence, noise = np.zeros(100, np.float32), rng.standard_normal(100).astype(np.float32)
    assert not speech_augment.add_noise(silence, noise, 10.0).any()
    np.testing.assert_array_equal(speech_augment.add_noise(noise, silence, 10.0), noise)


def test_two_utterances_in_five_get_noise_of_any_ratio(rng):
    samples = speech_like(rng, 0.5)
    config = only(noise_snr_db=(0.0, 30.0))
    bank = speech_augment.make_noise_bank(rng, config, sample_rate=RATE)
    ratios = []
    for _ in range(500):
        noisy = speech_augment.augment(samples, rng, sample_rate=RATE, noise=bank, config=config)
        if not np.array_equal(noisy, samples):
            ratios.append(decibels(power(samples) / power(noisy - samples)))
    assert 0.4 == pytest.approx(len(ratios) / 500, abs=0.07)
    assert min(ratios) > -0.1 and max(ratios) < 30.1
    # Uniform in decibels: the quarters hold the same.
    counts, _ = np.histogram(ratios, 4, (0.0, 30.0))
    assert counts.min() > 0.6 * len(ratios) / 4


def test_reference_levels_are_hoths(rng):
    octaves = (10 ** (np.array(HOTH) / 10)).reshape(6, 3).sum(axis=1)
    # The last band ends at 8 kHz: the third octave of 6.3 kHz, and a part of the one of 8 kHz at
    # its density of -6.6 dB.
    last = 10**3.04 + 10**-0.66 * (8000 - 7127)
    levels = np.array([*octaves, last])
    expected = decibels(levels / levels.sum())
    np.testing.assert_allclose(speech_noise.ROOM_LEVELS_DB, expected, atol=0.1)


def test_band_levels_are_those_of_the_tones_in_them():
    time = np.arange(2 * RATE) / RATE
    tones = {125: 1.0, 1000: 0.5, 7000: 0.1}
    wave = sum(a * np.sin(2 * np.pi * f * time) for f, a in tones.items()).astype(np.float32)
    levels = speech_noise.band_levels_db(wave, RATE)
    total = sum(a**2 for a in tones.values())
    np.testing.assert_allclose(
        levels[[0, 3, 6]], [decibels(a**2 / total) for a in tones.values()], atol=0.01
    )
    assert (levels[[1, 2, 4, 5]] < -60.0).all()
    # At 8 kHz there are the bands of 125 Hz to 2 kHz.
    wave = (np.sin(2 * np.pi * 125 * time) + 0.5 * np.sin(2 * np.pi * 1000 * time))[::2]
    levels = speech_noise.band_levels_db(wave.astype(np.float32), RATE // 2)
    assert levels.shape == (5,) and levels[0] - levels[3] == pytest.approx(decibels(4), abs=0.01)


def room_noise(rng, seconds=4.0):
    """White noise filtered to the reference's levels band by band."""
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    edges = [88, 177, 354, 707, 1414, 2828, 5657, 8001]
    gains = np.zeros(len(spectrum))
    for low, high, level in zip(edges, edges[1:], speech_noise.ROOM_LEVELS_DB, strict=False):
        gains[(frequencies >= low) & (frequencies < high)] = (
            10 ** (level / 20) / (high - low) ** 0.5
        )
    return np.fft.irfft(spectrum * gains, count).astype(np.float32)


def test_noise_unlike_that_of_rooms_is_rejected(rng):
    time = np.arange(4 * RATE) / RATE
    rooms = room_noise(rng)
    assert np.abs(speech_noise.band_levels_db(rooms, RATE) - speech_noise.ROOM_LEVELS_DB).max() < 1
    assert speech_noise.is_like_real_noise(rooms, RATE, 2.0)
    white = rng.standard_normal(4 * RATE).astype(np.float32)
    beep = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    muffled = np.fft.irfft(np.where(np.arange(2 * RATE + 1) < 2000, np.fft.rfft(white), 0))
    muffled = muffled.astype(np.float32)
    for sound in (white, beep, muffled):
        assert not speech_noise.is_like_real_noise(sound, RATE, 15.0)


def test_every_synthesized_clip_and_track_is_like_real_noise(rng):
    speech = [speech_like(rng) for _ in range(3)]
    bank = speech_noise.synthesize_bank(
        rng, sample_rate=RATE, num_clips=18, tolerance_db=15.0, speech=speech
    )
    assert len(bank.clips) == 18
    sounds = [*bank.clips, *(bank.track(rng, 3 * RATE) for _ in range(10))]
    assert all(speech_noise.is_like_real_noise(sound, RATE, 16.0) for sound in sounds)
    with pytest.raises(ValueError, match=r"tolerance_db=0\.1 lets only 0 of 2"):
        speech_noise.synthesize_bank(rng, sample_rate=RATE, num_clips=2, tolerance_db=0.1)


def test_babble_is_made_of_the_utterances(rng):
    """Of one tone's utterances, some clips hold that tone; without them none does."""
    tone = np.sin(2 * np.pi * 1234 * np.arange(2 * RATE) / RATE).astype(np.float32)

    def share(speech):
        bank = speech_noise.synthesize_bank(
            np.random.default_rng(0),
            sample_rate=RATE,
            num_clips=16,
            tolerance_db=60.0,
            speech=speech,
        )
        spectra = [np.abs(np.fft.rfft(clip)) ** 2 for clip in bank.clips]
        at = 1234 * len(bank.clips[0]) // RATE
        return max(spectrum[at - 3 : at + 4].sum() / spectrum.sum() for spectrum in spectra)

    assert share([tone]) > 0.5 > 0.1 > share([])


def test_a_track_is_the_sum_of_several_clips(rng):
    clips = tuple(
        np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
        for hertz in range(100, 2000, 100)
    )
    bank = speech_noise.NoiseBank(clips, summed=(3, 5))
    for _ in range(10):
        track = bank.track(rng, 5 * RATE)
        assert track.shape == (5 * RATE,) and track.dtype == np.float32
        spectrum = np.abs(np.fft.rfft(track))[:: 5 * 100]
        levels = spectrum[spectrum > 0.01 * spectrum.max()] / (5 * RATE / 2)
        assert 1 <= len(levels) <= 5 and levels.max() > 10 ** (-12 / 20) * 0.99


def test_noise_is_read_from_a_folder_and_checked(tmp_path, rng):
    (tmp_path / "street").mkdir()
    soundfile.write(tmp_path / "street" / "a.wav", 0.1 * room_noise(rng, 13.0), RATE)
    soundfile.write(tmp_path / "white.wav", 0.1 * rng.standard_normal(4 * RATE), RATE)
    config = only(noise_snr_db=(0.0, 30.0), noise_folder=str(tmp_path))
    bank = speech_augment.make_noise_bank(rng, config, sample_rate=RATE)
    # Two clips of 6 s and a rest of 1 s; the white noise is not among them.
    assert sorted(map(len, bank.clips)) == [RATE, 6 * RATE, 6 * RATE]
    assert all(speech_noise.is_like_real_noise(clip, RATE, 3.0) for clip in bank.clips)
    (tmp_path / "street" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a\.wav: not a sound file"):
        speech_augment.make_noise_bank(rng, config, sample_rate=RATE)
    (tmp_path / "street" / "a.wav").unlink()
    with pytest.raises(ValueError, match="no noise like that of real rooms to 15 dB"):
        speech_augment.make_noise_bank(rng, config, sample_rate=RATE)
    (tmp_path / "white.wav").unlink()
    with pytest.raises(ValueError, match="no sound files"):
        speech_augment.make_noise_bank(rng, config, sample_rate=RATE)


def test_speed_changes_tempo_and_pitch_alike():
    wave = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for factor in (0.9, 1.1):
        changed = speech_augment.change_speed(wave, factor)
        assert abs(len(changed) - RATE / factor) <= 1
        spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 10 * RATE))
        assert spectrum.argmax() / 10 == pytest.approx(440 * factor, abs=0.5)
    assert speech_augment.change_speed(wave, 1.0) is wave


def test_tilt_raises_high_frequencies_by_octave_and_keeps_the_power():
    time = np.arange(RATE) / RATE
    wave = sum(np.sin(2 * np.pi * hertz * time) for hertz in (500, 1000, 2000, 4000))
    tilted = speech_augment.tilt(wave.astype(np.float32), RATE, 3.0)
    before, after = (np.abs(np.fft.rfft(w))[[500, 1000, 2000, 4000]] for w in (wave, tilted))
    np.testing.assert_allclose(np.diff(2 * decibels(after / before)), [3.0, 3.0, 3.0], atol=0.1)
    assert power(tilted) == pytest.approx(power(wave), rel=1e-3)
    assert not speech_augment.tilt(np.zeros(100, np.float32), RATE, 3.0).any()


def test_effort_rises_in_loud_noise_alone(rng):
    """What the noise is added to is tilted where the ratio is below the limit."""
    samples = speech_like(rng, 0.5)
    bank = speech_noise.NoiseBank((np.ones(RATE, np.float32),))
    for ratio, is_tilted in ((5.0, True), (20.0, False)):
        config = only(
            noise_snr_db=(ratio, ratio), noise_share=1.0, lombard_db_per_octave=(3.0, 3.0)
        )
        noisy = speech_augment.augment(samples, rng, sample_rate=RATE, noise=bank, config=config)
        spectra = [np.abs(np.fft.rfft(w - w.mean())) ** 2 for w in (samples, noisy)]
        before, after = (s[2000:3000].sum() / s[150:500].sum() for s in spectra)
        assert (after > 1.5 * before) == is_tilted


def test_a_room_sounds_on_without_delay(rng):
    click = np.zeros(RATE, np.float32)
    click[4000] = 1.0
    config = only(
        reverberation_time=(0.3, 0.3), reverberation_db=(-6.0, -6.0), reverberation_share=1.0
    )
    heard = applied(click, rng, config)
    assert heard.shape == click.shape and np.abs(heard).argmax() == 4000
    assert not np.abs(heard[:4000]).max() > 1e-5
    assert decibels(power(heard[4001:]) / power(click[4000:])) == pytest.approx(-6.0, abs=0.1)


def test_a_room_is_heard_as_often_as_asked(rng):
    config = only(reverberation_time=(0.1, 0.2))
    click = np.ones(200, np.float32)
    changed = [not np.array_equal(applied(click, rng, config), click) for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_gain_scales_within_its_range(rng):
    samples = speech_like(rng, 0.1)
    config = only(gain_db=(-15.0, 3.0))
    gains = [decibels(power(applied(samples, rng, config)) / power(samples)) for _ in range(200)]
    assert -15.01 < min(gains) < -13.0 and 1.0 < max(gains) < 3.01


def test_augmentation_follows_from_its_generator(rng):
    samples = speech_like(rng)
    config = SpeechAugmentConfig(noise_clips=6)
    first, again, other = (
        applied(samples, np.random.default_rng(seed), config) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == samples.shape and first.dtype == np.float32
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_share": 1.5}, "noise_share=1.5"),
        ({"reverberation_share": -0.1}, "reverberation_share=-0.1"),
        ({"speeds": (0.0, 1.0)}, "speeds="),
        ({"speeds": ()}, "speeds="),
        ({"noise_clips": 0}, "noise_clips=0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SpeechAugmentConfig(**changes)
