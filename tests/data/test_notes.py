import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaudio.data import Notes, read_midi, write_midi


def save(path, *tracks, ticks_per_beat=480, kind=1):
    """Write tracks of (tick, message), absolute ticks, in the order given."""
    midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track = mido.MidiTrack()
        now = 0
        for tick, message in events:
            track.append(message.copy(time=tick - now))
            now = tick
        midi.tracks.append(track)
    midi.save(path)
    return path


def on(pitch, velocity=80, channel=0):
    return mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(pitch, channel=0):
    return mido.Message("note_off", note=pitch, channel=channel)


def pedal(value, channel=0):
    return mido.Message("control_change", control=64, value=value, channel=channel)


def ticks(notes):
    """Return (pitch, onset, offset, velocity) with times in ticks of 480 a beat at 120 a minute."""
    times = np.rint(np.stack([notes.onsets, notes.offsets]) * 960).astype(int)
    return list(zip(notes.pitches, *times, notes.velocities, strict=True))


def test_plain_notes(tmp_path):
    path = save(tmp_path / "a.mid", [(0, on(60)), (10, on(64, 90)), (480, off(60)), (500, off(64))])
    assert ticks(read_midi(path)) == [(60, 0, 480, 80), (64, 10, 500, 90)]


def test_note_on_without_velocity_ends_a_note(tmp_path):
    path = save(tmp_path / "a.mid", [(0, on(60)), (480, on(60, 0))])
    assert ticks(read_midi(path)) == [(60, 0, 480, 80)]


@pytest.mark.parametrize(("value", "end"), [(64, 900), (127, 900), (63, 100), (0, 100)])
def test_pedal_holds_from_64_on(tmp_path, value, end):
    path = save(
        tmp_path / "a.mid",
        [
            (0, on(60)),
            (50, pedal(value)),
            (100, off(60)),
            (900, pedal(0)),
            (1000, on(61)),
            (1100, off(61)),
        ],
    )
    assert ticks(read_midi(path))[0] == (60, 0, end, 80)
    assert ticks(read_midi(path, sustain=False))[0] == (60, 0, 100, 80)


def test_pedal_released_while_the_key_is_down(tmp_path):
    path = save(tmp_path / "a.mid", [(0, pedal(127)), (10, on(60)), (20, pedal(0)), (90, off(60))])
    assert ticks(read_midi(path)) == [(60, 10, 90, 80)]


def test_held_note_ends_when_it_is_struck_again(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [
            (0, pedal(127)),
            (10, on(60)),
            (20, off(60)),
            (300, on(60, 70)),
            (320, off(60)),
            (500, pedal(0)),
        ],
    )
    assert ticks(read_midi(path)) == [(60, 10, 300, 80), (60, 300, 500, 70)]


def test_pedal_never_released_holds_to_the_end(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [(0, pedal(127)), (10, on(60)), (20, off(60)), (700, on(62)), (800, off(62))],
    )
    assert ticks(read_midi(path))[0] == (60, 10, 800, 80)


def test_pedal_is_that_of_the_channel(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [(0, pedal(127, channel=1)), (10, on(60)), (20, off(60)), (800, pedal(0, channel=1))],
    )
    assert ticks(read_midi(path)) == [(60, 10, 20, 80)]


def test_order_within_a_tick_does_not_matter(tmp_path):
    start = [(0, on(60)), (0, on(50))]
    end = [(400, off(60)), (500, off(50))]
    for middle in ([(200, on(60, 70)), (200, off(60))], [(200, off(60)), (200, on(60, 70))]):
        got = ticks(read_midi(save(tmp_path / "a.mid", start + middle + end)))
        assert got == [(50, 0, 500, 80), (60, 0, 200, 80), (60, 200, 400, 70)]


def test_tracks_are_merged_and_drums_left_out(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [(100, on(60)), (200, off(60))],
        [(0, on(70, 81, channel=3)), (300, off(70, channel=3))],
        [(0, on(40, 99, channel=9)), (300, off(40, channel=9))],
    )
    assert ticks(read_midi(path)) == [(70, 0, 300, 81), (60, 100, 200, 80)]


def test_doubled_note_is_one_and_its_longest(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [(0, on(60)), (200, off(60))],
        [(0, on(60, 50, channel=1)), (300, off(60, channel=1))],
    )
    assert ticks(read_midi(path)) == [(60, 0, 300, 50)]


def test_no_length_off_the_keys_and_never_ended(tmp_path):
    path = save(
        tmp_path / "a.mid",
        [
            (0, on(60)),
            (0, off(60)),
            (0, on(20)),
            (0, on(109)),
            (5, on(108)),
            (9, off(20)),
            (9, off(109)),
        ],
    )
    # The first 60 has no end of its own tick, so it lasts to the file's end like the 108.
    assert ticks(read_midi(path)) == [(60, 0, 9, 80), (108, 5, 9, 80)]


def test_zero_length_notes_are_dropped(tmp_path):
    path = save(tmp_path / "a.mid", [(0, on(60)), (50, off(60)), (50, on(70)), (50, off(70))])
    assert ticks(read_midi(path)) == [(60, 0, 50, 80)]


def test_tempo_changes_in_another_track(tmp_path):
    tempos = [(0, 300_000), (480, 1_000_000), (700, 250_000)]
    conductor = [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in tempos]
    melody = [(100, on(60)), (600, off(60)), (690, on(62)), (1500, off(62))]
    path = save(tmp_path / "a.mid", conductor, melody)
    notes = read_midi(path)
    expected = pretty_midi.PrettyMIDI(str(path)).instruments[0].notes
    np.testing.assert_allclose(notes.onsets, [n.start for n in expected], atol=1e-9)
    np.testing.assert_allclose(notes.offsets, [n.end for n in expected], atol=1e-9)


def test_no_notes(tmp_path):
    path = save(tmp_path / "a.mid", [])
    assert len(read_midi(path)) == 0
    write_midi(tmp_path / "b.mid", read_midi(path))
    assert len(read_midi(tmp_path / "b.mid")) == 0


def slow_sustain(events, last):
    """The rule a tick at a time: a note ends once its key and the pedal are up."""
    sounding, keys, down, notes = {}, set(), False, []
    for tick in range(last + 1):
        now = [event for at, event in events if at == tick]
        for kind, _, value in now:
            if kind == "pedal":
                down = value >= 64
        keys -= {pitch for kind, pitch, _ in now if kind == "off"}
        struck = {pitch: value for kind, pitch, value in now if kind == "on"}
        for pitch in list(sounding):
            if pitch in struck or (pitch not in keys and not down) or tick == last:
                start, velocity = sounding.pop(pitch)
                notes.append((pitch, start, tick, velocity))
        for pitch, value in struck.items():
            sounding[pitch] = (tick, value)
            keys.add(pitch)
    return sorted(notes, key=lambda n: (n[1], n[0]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sustain_equals_the_rule_step_by_step(tmp_path_factory, data):
    events = []
    for pitch in (60, 61):
        strokes = data.draw(st.lists(st.integers(1, 6), max_size=4).map(lambda x: np.cumsum(x)))
        times = [int(t) for t in strokes]
        for start, end in zip(times[::2], times[1::2], strict=False):
            events += [(start, ("on", pitch, 40 + start)), (end, ("off", pitch, 0))]
    # One pedal value a tick: the rule knows states, not what happens within an instant.
    values = st.tuples(st.integers(0, 20), st.integers(0, 127))
    changes = data.draw(st.lists(values, max_size=5, unique_by=lambda change: change[0]))
    events += [(tick, ("pedal", 0, value)) for tick, value in sorted(changes, key=lambda c: c[0])]
    events.append((30, ("pedal", 0, 0)))
    events.sort(key=lambda event: event[0])
    make = {"on": lambda p, v: on(p, v), "off": lambda p, v: off(p), "pedal": lambda p, v: pedal(v)}
    messages = [(tick, make[kind](pitch, value)) for tick, (kind, pitch, value) in events]
    path = save(tmp_path_factory.mktemp("midi") / "a.mid", messages)
    assert ticks(read_midi(path)) == slow_sustain(events, 30)


def random_notes(rng, count=300, seconds=100.0):
    """Notes of which none overlaps another of its pitch."""
    rows = []
    for pitch in rng.permutation(np.arange(21, 109))[: count // 6 + 1]:
        times = np.sort(rng.uniform(0, seconds, 12))
        times = times[np.concatenate([[True], np.diff(times) > 0.01])]
        rows += [
            (a, b, pitch, rng.integers(1, 128))
            for a, b in zip(times[::2], times[1::2], strict=False)
        ]
    return Notes(*np.array(rows).T)


def test_written_notes_come_back(tmp_path, rng):
    notes = random_notes(rng)
    write_midi(tmp_path / "a.mid", notes)
    back = read_midi(tmp_path / "a.mid")
    order = np.lexsort((back.onsets, back.pitches))
    expected = np.lexsort((notes.onsets, notes.pitches))
    np.testing.assert_array_equal(back.pitches[order], notes.pitches[expected])
    np.testing.assert_array_equal(back.velocities[order], notes.velocities[expected])
    np.testing.assert_allclose(back.onsets[order], notes.onsets[expected], atol=5e-4)
    np.testing.assert_allclose(back.offsets[order], notes.offsets[expected], atol=5e-4)


def test_another_reader_sees_the_same_times(tmp_path, rng):
    notes = random_notes(rng)
    write_midi(tmp_path / "a.mid", notes)
    other = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments[0].notes
    starts = np.sort([note.start for note in other])
    np.testing.assert_allclose(starts, np.sort(notes.onsets), atol=5e-4)


def test_repeated_note_without_a_gap_survives(tmp_path):
    notes = Notes([0.0, 0.5], [0.5, 1.0], [60, 60], [80, 81])
    write_midi(tmp_path / "a.mid", notes)
    back = read_midi(tmp_path / "a.mid")
    np.testing.assert_allclose(back.onsets, [0.0, 0.5], atol=1e-9)
    np.testing.assert_allclose(back.offsets, [0.5, 1.0], atol=1e-9)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.mid"
    path.write_bytes(b"old")

    def fail(self, *arguments, **keywords):
        keywords["file"].write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(mido.MidiFile, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_midi(path, Notes([0.0], [1.0], [60], [80]))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (([-1.0], [1.0], [60], [80]), "not negative"),
        (([np.nan], [1.0], [60], [80]), "finite"),
        (([1.0], [1.0], [60], [80]), "end after"),
        (([0.0], [1.0], [128], [80]), "pitch 128"),
        (([0.0], [1.0], [60], [0]), "velocity 0"),
    ],
)
def test_notes_that_cannot_be_written(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        write_midi(tmp_path / "a.mid", Notes(*row))
    assert not list(tmp_path.iterdir())


def test_notes_are_sorted_and_of_one_length():
    notes = Notes([1, 0, 1], [2, 2, 2], [64, 70, 60], [1, 2, 3])
    assert notes.pitches.tolist() == [70, 60, 64] and notes.velocities.tolist() == [2, 3, 1]
    assert notes.onsets.dtype == np.float64 and notes.pitches.dtype == np.int64 and len(notes) == 3
    with pytest.raises(ValueError, match="one length"):
        Notes([1, 0], [2, 2], [64], [1, 2])


def broken_files(path):
    save(path, [(0, on(60)), (480, off(60))])
    whole = path.read_bytes()
    return {
        "empty": b"",
        "text": b"no MIDI at all\n" * 20,
        "half": whole[: len(whole) // 2],
        "header": whole[:14],
        "type 2": whole[:9] + b"\x02" + whole[10:],
        "time code": whole[:12] + b"\xe7\x28" + whole[14:],
        "no division": whole[:12] + b"\0\0" + whole[14:],
    }


@pytest.mark.parametrize(
    "name", ["empty", "text", "half", "header", "type 2", "time code", "no division"]
)
def test_broken_files_are_one_line(tmp_path, name):
    path = tmp_path / "a.mid"
    path.write_bytes(broken_files(path)[name])
    with pytest.raises(ValueError, match="a.mid") as caught:
        read_midi(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_damaged_bytes_never_escape_as_another_error(tmp_path_factory, junk, at):
    path = tmp_path_factory.mktemp("midi") / "a.mid"
    save(path, [(0, on(60)), (480, off(60))])
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        assert isinstance(read_midi(path), Notes)
    except ValueError as error:
        assert "\n" not in str(error)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_midi(tmp_path / "none.mid")


def test_a_pedal_lifted_and_pressed_within_one_tick_releases(tmp_path):
    messages = [(0, pedal(100)), (1, on(60, 50)), (2, off(60)), (5, pedal(0)), (5, pedal(100))]
    messages += [(30, pedal(0))]
    notes = read_midi(save(tmp_path / "a.mid", messages))
    assert ticks(notes) == [(60, 1, 5, 50)]
