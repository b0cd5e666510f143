import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data import piano_generation, piano_performance, piano_scores


def performance_of(notes, pedal=()):
    columns = list(zip(*notes, strict=True)) if notes else [(), (), (), ()]
    return piano_performance.Performance(
        onsets=np.array(columns[0], np.float64),
        offsets=np.array(columns[1], np.float64),
        pitches=np.array(columns[2], np.int64),
        velocities=np.array(columns[3], np.int64),
        pedal_times=np.array([time for time, _ in pedal], np.float64),
        pedal_values=np.array([value for _, value in pedal], np.int64),
    )


_NOTES = st.lists(
    st.tuples(
        st.floats(0.0, 6.0), st.floats(0.0, 2.0), st.integers(60, 63), st.integers(1, 127)
    ).map(lambda note: (note[0], note[0] + note[1], note[2], note[3])),
    max_size=30,
)
# One pedal value a tick: stepping through time knows states, not what happens within an instant.
_TICKS = st.integers(0, 6 * piano_performance.TICKS_PER_SECOND)
_PEDAL = st.lists(
    st.tuples(
        _TICKS.map(lambda tick: tick / piano_performance.TICKS_PER_SECOND),
        st.sampled_from([0, 63, 64, 127]),
    ),
    max_size=8,
    unique_by=lambda change: change[0],
)


@settings(max_examples=100, deadline=None)
@given(notes=_NOTES, pedal=_PEDAL)
def test_clean_leaves_a_playable_performance(notes, pedal):
    cleaned = piano_performance.clean(performance_of(notes, sorted(pedal)), seconds=5.0)
    ticks = cleaned.onsets * piano_performance.TICKS_PER_SECOND
    np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-6)
    assert (cleaned.offsets - cleaned.onsets >= 0.025 - 1e-9).all()
    assert (cleaned.offsets <= 5.0).all()
    assert (np.diff(cleaned.onsets) >= 0.0).all()
    for pitch in set(cleaned.pitches.tolist()):
        rows = np.flatnonzero(cleaned.pitches == pitch)
        gaps = cleaned.onsets[rows[1:]] - cleaned.offsets[rows[:-1]]
        assert (gaps >= 0.015 - 1e-9).all()
    if len(cleaned.pedal_values):
        assert cleaned.pedal_values[-1] < 64


@settings(max_examples=100, deadline=None)
@given(notes=_NOTES, pedal=_PEDAL)
def test_sounding_offsets_are_those_of_a_piano_stepped_through_time(notes, pedal):
    cleaned = piano_performance.clean(performance_of(notes, sorted(pedal)), seconds=5.0)
    ends = piano_performance.sounding_offsets(cleaned)
    rate = piano_performance.TICKS_PER_SECOND
    onset_ticks, offset_ticks, pedal_ticks = (
        np.round(times * rate).astype(int)
        for times in (cleaned.onsets, cleaned.offsets, cleaned.pedal_times)
    )
    for row in range(len(cleaned)):
        again = {
            onset_ticks[other]
            for other in range(len(cleaned))
            if cleaned.pitches[other] == cleaned.pitches[row] and other > row
        }
        tick = offset_ticks[row]
        while True:
            before = [
                value
                for time, value in zip(pedal_ticks, cleaned.pedal_values, strict=True)
                if time <= tick
            ]
            if tick in again or not before or before[-1] < 64:
                break
            tick += 1
        assert ends[row] * rate == pytest.approx(tick, abs=1e-6)


def test_a_written_file_gives_the_notes_and_the_pedal_back(tmp_path):
    rng = np.random.default_rng(0)
    score = piano_generation.generate_score(rng, 20.0)
    played = piano_performance.perform(score, rng, tempo=score.tempo, seconds=20.0)
    path = tmp_path / "x.midi"
    piano_performance.write_performance(path, played)
    instrument = pretty_midi.PrettyMIDI(str(path)).instruments[0]
    read = sorted((note.start, note.pitch, note.end, note.velocity) for note in instrument.notes)
    wanted = sorted(
        zip(played.onsets, played.pitches, played.offsets, played.velocities, strict=True)
    )
    np.testing.assert_allclose(np.array(read), np.array(wanted), atol=1e-3)
    changes = [(change.time, change.value) for change in instrument.control_changes]
    wanted = np.stack([played.pedal_times, played.pedal_values], axis=1)
    np.testing.assert_allclose(np.array(changes).reshape(-1, 2), wanted, atol=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["x.midi"]


def test_preset_and_tuning_come_before_the_first_note(tmp_path):
    played = performance_of([(0.0, 1.0, 60, 90)])
    path = tmp_path / "x.mid"
    piano_performance.write_performance(path, played, bank=8, program=4, tuning_cents=25.0)
    messages = [message for message in mido.MidiFile(path).tracks[0] if not message.is_meta]
    kinds = [message.type for message in messages]
    assert "note_on" not in kinds[: kinds.index("program_change") + 5]
    controls = {m.control: m.value for m in messages if m.type == "control_change"}
    assert controls[0] == 8
    cents = ((controls[6] << 7) + controls[38] - 8192) / 8192 * 100
    assert cents == pytest.approx(25.0, abs=0.02)


def _chords(count=64, spacing=1.0):
    return piano_scores.make_score(
        [
            (beat * spacing, spacing, pitch, part)
            for beat in range(count)
            for part, pitch in enumerate((72, 64, 55, 43))
        ]
    )


def test_chords_stay_together_and_the_tempo_is_kept():
    score = _chords()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        played = piano_performance.perform(score, rng, tempo=120.0, seconds=60.0, lead_in=0.5)
        assert len(played) == len(score)
        onsets = np.array([np.sort(played.onsets[played.pitches == p]) for p in (72, 64, 55, 43)])
        assert np.ptp(onsets, axis=0).max() < 0.085
        # Rubato and slowing bend the tempo, but a 32 s piece stays near 32 s.
        assert 27.0 < onsets.mean(axis=0)[-1] - 0.5 < 40.0


def test_players_differ_in_loudness_articulation_and_pedal():
    score = _chords()
    loud, held, pedalled = [], [], []
    for seed in range(120):
        played = piano_performance.perform(
            score, np.random.default_rng(seed), tempo=100.0, seconds=60.0
        )
        assert played.velocities.min() >= 12 and played.velocities.max() <= 125
        loud.append(np.median(played.velocities))
        held.append(np.median(played.offsets - played.onsets) / 0.6)
        pedalled.append(len(played.pedal_times) > 0)
        longer = piano_performance.sounding_offsets(played) > played.offsets
        assert longer.any() == pedalled[-1]
    assert min(loud) < 40 and max(loud) > 95
    assert min(held) < 0.5 and max(held) > 0.9
    assert 0.4 < np.mean(pedalled) < 0.9


def test_scores_in_long_and_short_note_values_are_played_at_the_same_pace():
    for seed in range(20):
        tempos = [
            piano_performance.choose_tempo(_chords(spacing=spacing), np.random.default_rng(seed))
            for spacing in (0.5, 1.0)
        ]
        assert tempos[1] == pytest.approx(2.0 * tempos[0])
