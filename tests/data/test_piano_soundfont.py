import shutil

import numpy as np
import pytest

from deepaudio.data import piano_performance, soundfont

RATE = 16000
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None, reason="needs the program fluidsynth"
)


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


@pytest.fixture(scope="module")
def small():
    return soundfont.find_soundfont("TimGM6mb.sf2")


def test_a_missing_soundfont_is_named_with_what_to_do(tmp_path):
    with pytest.raises(soundfont.SoundFontError, match="'Nowhere.sf2'.*--instruments synthetic"):
        soundfont.find_soundfont("Nowhere.sf2", tmp_path)


def test_the_given_folder_comes_first(tmp_path):
    (tmp_path / "TimGM6mb.sf2").write_bytes(b"x")
    assert soundfont.find_soundfont("TimGM6mb.sf2", tmp_path) == tmp_path / "TimGM6mb.sf2"
    assert soundfont.find_soundfont("TimGM6mb.sf2").parent != tmp_path


def test_missing_fluidsynth_is_one_line_with_what_to_do(monkeypatch, small):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(soundfont.SoundFontError, match="apt-get install fluidsynth"):
        soundfont.render(performance_of([(0.0, 1.0, 60, 80)]), small)


@needs_fluidsynth
def test_a_file_that_is_no_soundfont_is_an_error(tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"not a SoundFont")
    with pytest.raises(soundfont.SoundFontError, match="bad.sf2"):
        soundfont.render(performance_of([(0.0, 1.0, 60, 80)]), tmp_path / "bad.sf2")


@needs_fluidsynth
def test_a_note_sounds_at_its_time(small):
    times = 0.7 + 1.3 * np.arange(6) + np.linspace(0.0, 0.0317, 6)
    pitches = [45, 55, 64, 75, 90, 104]
    notes = [(time, time + 0.3, pitch, 90) for time, pitch in zip(times, pitches, strict=True)]
    samples = np.abs(soundfont.render(performance_of(notes), small))
    for time in times:
        start = round(time * RATE)
        before = samples[start - 800 : start - 16].max()
        peak = samples[start : start + 4000].max()
        first = np.argmax(samples[start - 800 :] > max(0.05 * peak, 2.0 * before)) - 800
        assert -0.001 < first / RATE < 0.0065


@needs_fluidsynth
def test_tuning_preset_and_pedal_reach_the_synthesizer(small):
    note = [(0.1, 0.6, 69, 100)]
    plain = soundfont.render(performance_of(note), small)
    sharp = soundfont.render(performance_of(note), small, tuning_cents=30.0)
    other = soundfont.render(performance_of(note), small, program=4)
    held = soundfont.render(performance_of(note, [(0.3, 127), (2.0, 0)]), small)

    def peak(samples):
        size = 1 << 19
        spectrum = np.abs(np.fft.rfft(samples[2400:9600] * np.hanning(7200), size))
        hz = np.arange(len(spectrum)) * RATE / size
        near = np.abs(hz - 445.0) < 20.0
        return hz[near][np.argmax(spectrum[near])]

    assert 1200.0 * np.log2(peak(sharp) / peak(plain)) == pytest.approx(30.0, abs=3.0)
    assert not np.allclose(plain, other, atol=0.1 * np.abs(plain).max())
    assert len(held) == len(plain) + round(1.4 * RATE)
    late = slice(int(1.5 * RATE), int(1.9 * RATE))
    assert np.std(held[late]) > 10.0 * np.std(plain[late])


@needs_fluidsynth
def test_the_loudest_chords_are_not_clipped_and_the_tail_is_kept(small):
    notes = [(0.1, 1.0, pitch, 127) for pitch in range(21, 109)]
    samples = soundfont.render(performance_of(notes), small, tail=1.5)
    assert len(samples) == round(2.5 * RATE)
    loud = np.abs(samples)
    assert loud.max() > 0.2
    assert (loud > 0.999 * loud.max()).sum() < 4
    single = soundfont.render(performance_of(notes[39:40]), small, tail=1.5)
    end = round(1.0 * RATE)
    assert np.abs(single[end : end + 400]).max() > 0.0
    assert np.abs(single[-400:]).max() < 0.01 * np.abs(single).max()
