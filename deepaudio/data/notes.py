"""Notes of a piece, and MIDI files in and out."""

import dataclasses
import io
import os
import pathlib

import numpy as np

LOWEST_PITCH = 21
HIGHEST_PITCH = 108
_PEDAL_CONTROLLER = 64
_PEDAL_DOWN = 64
_DRUM_CHANNEL = 9
_DEFAULT_TEMPO = 500_000
# At 120 beats a minute a tick is 0.52 ms, so a written time is off by 0.26 ms at most.
_TICKS_PER_BEAT = 960


@dataclasses.dataclass(frozen=True, eq=False)
class Notes:
    """The notes of a piece, sorted by onset, then pitch.

    Attributes:
        onsets: (N,) float64, seconds.
        offsets: (N,) float64, seconds, each later than its onset.
        pitches: (N,) int64, MIDI pitch.
        velocities: (N,) int64, MIDI velocity 1 to 127.

    Raises:
        ValueError: if the arrays are not one-dimensional and of one length.
    """

    onsets: np.ndarray
    offsets: np.ndarray
    pitches: np.ndarray
    velocities: np.ndarray

    def __post_init__(self):
        """Bring the arrays to their types and into order."""
        onsets = np.asarray(self.onsets, np.float64)
        pitches = np.asarray(self.pitches, np.int64)
        arrays = {
            "onsets": onsets,
            "offsets": np.asarray(self.offsets, np.float64),
            "pitches": pitches,
            "velocities": np.asarray(self.velocities, np.int64),
        }
        if any(a.ndim != 1 or a.shape != onsets.shape for a in arrays.values()):
            shapes = {name: a.shape for name, a in arrays.items()}
            raise ValueError(f"a note's arrays must be one-dimensional and of one length: {shapes}")
        order = np.lexsort((pitches, onsets))
        for name, array in arrays.items():
            object.__setattr__(self, name, array[order])

    def __len__(self) -> int:
        """Return the number of notes."""
        return len(self.onsets)


def read_midi(path: str | os.PathLike, *, sustain: bool = True) -> Notes:
    """Read the piano notes of a MIDI file.

    All tracks and channels are merged, apart from the drum channel. A note that is struck again
    ends there, since a piano has one string group a key. Notes of no length and pitches off the
    piano's 88 keys are left out.

    Args:
        path: a standard MIDI file of type 0 or 1.
        sustain: whether the sustain pedal (controller 64, down from 64 on) holds notes until it is
            released, as the labels of Onsets and Frames do (arXiv 1710.11153).

    Returns:
        The notes, times in seconds from the file's start.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a whole standard MIDI file.
    """
    midi = _parse(path)
    events = _merged_events(midi)
    last_tick = max((event[0] for event in events), default=0)
    pedals: dict[int, list[tuple[int, bool]]] = {}
    open_keys: dict[tuple[int, int], list[tuple[int, int]]] = {}
    rows: list[tuple[int, int, int, int, int]] = []
    tempos = [(0, _DEFAULT_TEMPO)]

    def release(channel: int, pitch: int, tick: int) -> None:
        # A note struck on this very tick is the next one, whatever the order in the file.
        keys = open_keys.get((channel, pitch), [])
        rows.extend((on, tick, pitch, velocity, channel) for on, velocity in keys if on < tick)
        open_keys[channel, pitch] = [key for key in keys if key[0] >= tick]

    for tick, message in events:
        if message.type == "set_tempo":
            tempos.append((tick, message.tempo))
        elif message.type in ("note_on", "note_off") and message.channel != _DRUM_CHANNEL:
            release_only = message.type == "note_off" or message.velocity == 0
            if release_only:
                release(message.channel, message.note, tick)
            else:
                key = (message.channel, message.note)
                open_keys.setdefault(key, []).append((tick, message.velocity))
        elif message.type == "control_change" and message.control == _PEDAL_CONTROLLER:
            down = message.value >= _PEDAL_DOWN
            pedals.setdefault(message.channel, []).append((tick, down))
    for channel, pitch in list(open_keys):
        release(channel, pitch, last_tick)

    table = np.array(rows, np.int64).reshape(-1, 5)
    table = table[(table[:, 2] >= LOWEST_PITCH) & (table[:, 2] <= HIGHEST_PITCH)]
    if sustain:
        for channel, changes in pedals.items():
            mine = table[:, 4] == channel
            table[mine, 1] = _hold(table[mine, 1], changes, last_tick)
    table = _end_at_next_onset(table)
    seconds = _seconds(table[:, :2], tempos, midi.ticks_per_beat)
    return Notes(seconds[:, 0], seconds[:, 1], table[:, 2], table[:, 3])


def write_midi(path: str | os.PathLike, notes: Notes) -> None:
    """Write notes as a MIDI file whose times are right in any player.

    The file holds its tempo, and ticks of 0.52 ms. It is written beside its place and then
    renamed, so that a file that stands there is replaced only by a whole one.

    Args:
        path: the file to write; its folder must exist.
        notes: the notes, times in seconds, none negative.

    Raises:
        ValueError: if a time is negative or not finite, a note's end not after its start, a pitch
            not in 0..127 or a velocity not in 1..127.
        OSError: if the file cannot be written.
    """
    import mido

    _check(notes)
    scale = _TICKS_PER_BEAT * 1e6 / _DEFAULT_TEMPO
    starts = np.rint(notes.onsets * scale).astype(np.int64)
    ends = np.maximum(np.rint(notes.offsets * scale).astype(np.int64), starts + 1)
    # Ends sort before starts of the same tick, so that a repeated note is not cut at once.
    events = [(int(t), 0, int(p), 64) for t, p in zip(ends, notes.pitches, strict=True)]
    events += [
        (int(t), 1, int(p), int(v))
        for t, p, v in zip(starts, notes.pitches, notes.velocities, strict=True)
    ]
    events.sort()
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=_DEFAULT_TEMPO))
    track.append(mido.MetaMessage("time_signature", numerator=4, denominator=4))
    track.append(mido.Message("program_change", program=0, channel=0))
    now = 0
    for tick, is_start, pitch, velocity in events:
        name = "note_on" if is_start else "note_off"
        track.append(mido.Message(name, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    midi = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_BEAT)
    midi.tracks.append(track)
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            midi.save(file=file)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _check(notes: Notes) -> None:
    times = np.concatenate([notes.onsets, notes.offsets])
    if not np.all(np.isfinite(times)) or np.any(times < 0):
        raise ValueError(f"times must be finite and not negative: {times.min()} to {times.max()}")
    if np.any(notes.offsets <= notes.onsets):
        raise ValueError("every note must end after its start")
    for name, values, low in (("pitch", notes.pitches, 0), ("velocity", notes.velocities, 1)):
        bad = values[(values < low) | (values > 127)]
        if bad.size:
            raise ValueError(f"{name} {bad[0]} is not in {low}..127")


def _parse(path):
    import mido

    data = pathlib.Path(path).read_bytes()
    try:
        # clip: some sequencers write data bytes over 127, which other players accept.
        midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:  # the parser raises many types on damaged bytes
        reason = str(error) or "it ends too early"
        raise ValueError(f"{path}: not a whole MIDI file ({reason})") from error
    if midi.type not in (0, 1):
        raise ValueError(f"{path}: MIDI files of type {midi.type} have no common time line")
    if not 0 < midi.ticks_per_beat < 0x8000:
        raise ValueError(f"{path}: MIDI time division {midi.ticks_per_beat} is not ticks per beat")
    return midi


def _merged_events(midi) -> list:
    """Return (tick, message) of all tracks by time; equal times keep the order of the file."""
    events = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, message))
    events.sort(key=lambda event: event[0])
    return events


def _hold(ends: np.ndarray, changes: list[tuple[int, bool]], last_tick: int) -> np.ndarray:
    """Return the ticks at which notes released at `ends` fall silent under one channel's pedal."""
    downs, ups = [], []
    for tick, down in changes:
        if down and len(downs) == len(ups):
            downs.append(tick)
        elif not down and len(downs) > len(ups):
            ups.append(tick)
    ups += [last_tick] * (len(downs) - len(ups))
    if not downs:
        return ends
    starts, stops = np.array(downs), np.array(ups)
    index = np.searchsorted(starts, ends, side="right") - 1
    held = (index >= 0) & (ends < stops[np.maximum(index, 0)])
    return np.where(held, stops[np.maximum(index, 0)], ends)


def _end_at_next_onset(table: np.ndarray) -> np.ndarray:
    """End every note where its pitch starts again; of notes starting together keep the longest."""
    start, end, pitch = table[:, 0], table[:, 1], table[:, 2]
    table = table[np.lexsort((-end, start, pitch))]
    start, pitch = table[:, 0], table[:, 2]
    same_key = (start[1:] == start[:-1]) & (pitch[1:] == pitch[:-1])
    table = table[np.concatenate([np.ones(min(1, len(table)), bool), ~same_key])]
    start, pitch = table[:, 0], table[:, 2]
    following = np.where(pitch[1:] == pitch[:-1], start[1:], np.iinfo(np.int64).max)
    table[:-1, 1] = np.minimum(table[:-1, 1], following)
    return table[table[:, 1] > table[:, 0]]


def _seconds(ticks: np.ndarray, tempos: list[tuple[int, int]], ticks_per_beat: int) -> np.ndarray:
    """Return the times in seconds of `ticks` under a list of (tick, microseconds a beat)."""
    at, tempo = (np.array(column, np.float64) for column in zip(*tempos, strict=True))
    second_per_tick = tempo * 1e-6 / ticks_per_beat
    reached = np.concatenate([[0.0], np.cumsum(np.diff(at) * second_per_tick[:-1])])
    index = np.searchsorted(at, ticks, side="right") - 1
    return reached[index] + (ticks - at[index]) * second_per_tick[index]
