"""A score played by hand: tempo, dynamics, articulation and pedal of a made performance.

Times are multiples of the MIDI tick that `write_performance` uses, so that the file says exactly
what is rendered.
"""

import dataclasses
import os
import pathlib

import mido
import numpy as np

from deepaudio.data import piano_scores

TICKS_PER_BEAT = 960
TICKS_PER_SECOND = 2 * TICKS_PER_BEAT  # at 120 beats a minute
SHORTEST_NOTE = 0.025  # seconds
SHORTEST_GAP = 0.015  # seconds between the end of a note and the next on its key
PEDAL_DOWN = 64
PEDAL_STYLES = ("none", "syncopated", "long", "half")


@dataclasses.dataclass(frozen=True, eq=False)
class Performance:
    """What the player's hands and foot do; arrays of one length N, sorted by onset then pitch.

    Attributes:
        onsets: (N,) float64, seconds, the key goes down.
        offsets: (N,) float64, seconds, the key comes up (the pedal may hold the sound longer).
        pitches: (N,) int64, MIDI pitch 21..108.
        velocities: (N,) int64, 1..127.
        pedal_times: (K,) float64, seconds, ascending.
        pedal_values: (K,) int64, 0..127, value of controller 64 from that time on.
    """

    onsets: np.ndarray
    offsets: np.ndarray
    pitches: np.ndarray
    velocities: np.ndarray
    pedal_times: np.ndarray
    pedal_values: np.ndarray

    def __len__(self) -> int:
        return len(self.onsets)


def choose_tempo(score: piano_scores.Score, rng: np.random.Generator) -> float:
    """Chooses a playable tempo.

    Args:
        score: with its own tempo, or with None to follow its note values.
        rng: random generator.

    Returns:
        Beats per minute. Without a tempo of its own, the score's median time between onsets
        becomes log-normal about 0.33 s, whatever note values its edition uses.
    """
    if score.tempo is not None:
        return float(score.tempo * np.exp(rng.normal(0.0, 0.06)))
    gaps = np.diff(np.unique(np.round(score.onsets, 4)))
    median = float(np.median(gaps)) if len(gaps) else 1.0
    quick = float(np.quantile(gaps, 0.1)) if len(gaps) else 1.0
    wished = float(np.clip(np.exp(rng.normal(np.log(0.33), 0.38)), 0.1, 0.9))
    seconds_per_beat = max(wished / median, 0.06 / max(quick, 1e-3))
    return float(np.clip(60.0 / seconds_per_beat, 20.0, 400.0))


def _smooth_walk(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Smooth noise of about unit size that changes over `width` steps."""
    noise = rng.normal(size=count + 4 * width)
    window = np.hanning(2 * width + 1)
    smooth = np.convolve(noise, window / np.sqrt((window**2).sum()), mode="same")
    return smooth[2 * width : 2 * width + count]


def _time_of_beat(score, tempo, rng) -> tuple[np.ndarray, np.ndarray]:
    """Beats on a fine grid and their times: rubato, and slowing where phrases end."""
    grid = 8  # points a beat
    count = int(np.ceil((score.onsets + score.durations).max() + 8.0)) * grid
    beats = np.arange(count) / grid
    rubato = float(rng.uniform(0.0, 0.12))
    log_tempo = np.clip(rubato * 0.6 * _smooth_walk(rng, count, 3 * grid), -0.15, 0.15)
    phrase = score.beats_per_bar * float(rng.choice([4, 4, 8]))
    slowing = float(rng.uniform(0.0, 0.25)) * float(rng.random() < 0.7)
    left = phrase - beats % phrase
    log_tempo = log_tempo - slowing * np.clip(1.0 - left / 2.0, 0.0, None)
    seconds = np.cumsum(60.0 / tempo / grid * np.exp(-log_tempo))
    return beats, np.concatenate([[0.0], seconds[:-1]])


def _velocities(score, rng) -> np.ndarray:
    """Phrase curve, metric accents, balance of the hands and unevenness."""
    kind = rng.random()
    if kind < 0.1:
        base = rng.uniform(24.0, 40.0)
    elif kind < 0.2:
        base = rng.uniform(92.0, 110.0)
    else:
        base = rng.normal(66.0, 13.0)
    phrase = score.beats_per_bar * 4.0
    curve = rng.uniform(0.0, 14.0) * np.sin(np.pi * (score.onsets % phrase) / phrase)
    steps = int(score.onsets.max()) + 2
    drift = rng.uniform(2.0, 14.0) * _smooth_walk(rng, steps, 6)
    accent = rng.uniform(0.0, 9.0) * (np.abs(score.onsets % score.beats_per_bar) < 0.02)
    highest = np.zeros(len(score), bool)
    _, groups = np.unique(np.round(score.onsets, 3), return_inverse=True)
    order = np.lexsort((score.pitches, groups))
    highest[order[np.append(np.diff(groups[order]) > 0, True)]] = True
    balance = rng.uniform(0.0, 18.0) * highest - rng.uniform(0.0, 12.0) * (score.parts > 0)
    noise = rng.normal(0.0, rng.uniform(2.0, 10.0), len(score))
    total = base + curve + np.interp(score.onsets, np.arange(steps), drift) + accent
    return np.clip(np.round(total + balance + noise), 12, 125).astype(np.int64)


def _held_fraction(score, rng) -> np.ndarray:
    """Articulation: the part of its written length that a key is held, by phrase and part."""
    styles = ((0.25, 0.5), (0.55, 0.85), (0.85, 0.98), (0.95, 1.1))
    usual = int(rng.choice(4, p=(0.15, 0.2, 0.35, 0.3)))
    phrases = (score.onsets // (score.beats_per_bar * 2.0)).astype(int)
    held = np.empty(len(score))
    for key in sorted(set(zip(phrases.tolist(), score.parts.tolist(), strict=True))):
        style = usual if rng.random() < 0.75 else int(rng.integers(4))
        chosen = (phrases == key[0]) & (score.parts == key[1])
        held[chosen] = rng.uniform(*styles[style])
    return np.clip(held + rng.normal(0.0, 0.05, len(score)), 0.2, 1.15)


def _pedal(score, end_beat, beats, seconds, rng) -> tuple[np.ndarray, np.ndarray]:
    """Controller 64 in one of the styles of `PEDAL_STYLES`."""
    style = str(rng.choice(PEDAL_STYLES, p=(0.35, 0.35, 0.1, 0.2)))
    if style == "none":
        return np.zeros(0), np.zeros(0, np.int64)
    bar = score.beats_per_bar
    spacing = (
        bar * float(rng.choice([2, 4]))
        if style == "long"
        else float(rng.choice([1.0, 2.0, bar, bar]))
    )
    # The same foot change must not come more often than a foot can manage.
    while np.interp(spacing, beats, seconds) < 0.4:
        spacing *= 2.0
    times, values = [], []
    down = int(rng.integers(80, 128))
    for beat in np.arange(0.0, end_beat + 1e-6, spacing):
        change = float(np.interp(beat, beats, seconds)) + float(rng.uniform(-0.01, 0.03))
        if times:
            times.append(max(change, times[-1] + 0.02))
            values.append(0)
        if style == "half" and (beat // (bar * 4.0)) % 2 == 1:
            continue
        times.append(max(change, 0.0) + float(rng.uniform(0.05, 0.18)))
        values.append(down)
    if not times:
        return np.zeros(0), np.zeros(0, np.int64)
    times.append(float(np.interp(end_beat + 0.5, beats, seconds)))
    values.append(0)
    order = np.argsort(times, kind="stable")
    return np.array(times)[order], np.array(values, np.int64)[order]


def _quantize(times: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(times, np.float64) * TICKS_PER_SECOND) / TICKS_PER_SECOND


def clean(performance: Performance, *, seconds: float) -> Performance:
    """Makes a performance one that a keyboard can send, and cuts it.

    Args:
        performance: any order, overlaps allowed.
        seconds: all is over by then; a note that starts within the last 0.3 s is dropped.

    Returns:
        Sorted, on MIDI ticks: on each key a note ends at least 15 ms before the next starts, and
        none is shorter than 25 ms.
    """
    onsets, offsets = _quantize(performance.onsets), _quantize(performance.offsets)
    order = np.lexsort((performance.pitches, onsets))
    kept_onsets, kept_offsets, kept = [], [], []
    last: dict[int, int] = {}
    for index in order:
        pitch, onset = int(performance.pitches[index]), onsets[index]
        if onset < 0.0 or onset > seconds - 0.3:
            continue
        if pitch in last:
            before = last[pitch]
            if onset - SHORTEST_GAP - kept_onsets[before] < SHORTEST_NOTE:
                continue
            kept_offsets[before] = min(kept_offsets[before], onset - SHORTEST_GAP)
        last[pitch] = len(kept)
        kept.append(index)
        kept_onsets.append(onset)
        kept_offsets.append(min(offsets[index], seconds))
    kept_offsets = np.floor(np.array(kept_offsets) * TICKS_PER_SECOND) / TICKS_PER_SECOND
    long_enough = kept_offsets - np.array(kept_onsets) >= SHORTEST_NOTE
    kept = np.array(kept, np.int64)[long_enough]
    pedal_times = _quantize(performance.pedal_times)
    inside = (pedal_times >= 0.0) & (pedal_times < seconds)
    pedal_times, pedal_values = pedal_times[inside], performance.pedal_values[inside]
    if len(pedal_values) and pedal_values[-1] >= PEDAL_DOWN:
        pedal_times = np.append(pedal_times, _quantize(np.array(seconds)))
        pedal_values = np.append(pedal_values, 0)
    return Performance(
        onsets=np.array(kept_onsets)[long_enough],
        offsets=kept_offsets[long_enough],
        pitches=np.asarray(performance.pitches)[kept],
        velocities=np.asarray(performance.velocities)[kept],
        pedal_times=pedal_times,
        pedal_values=pedal_values.astype(np.int64),
    )


def perform(
    score: piano_scores.Score,
    rng: np.random.Generator,
    *,
    tempo: float,
    seconds: float,
    lead_in: float = 0.5,
) -> Performance:
    """Plays a score.

    Args:
        score: at least one note.
        rng: random generator; it decides every trait of the playing.
        tempo: beats per minute before rubato.
        seconds: length to which the performance is cut.
        lead_in: silence before beat 0, seconds.

    Returns:
        The performance, cleaned (see `clean`).
    """
    beats, grid_seconds = _time_of_beat(score, tempo, rng)
    velocities = _velocities(score, rng)
    held = _held_fraction(score, rng)
    spread = float(rng.uniform(0.002, 0.012))
    lead = float(rng.uniform(0.0, 0.02)) * float(rng.random() < 0.5)
    onsets = np.interp(score.onsets, beats, grid_seconds)
    ends = np.interp(score.onsets + score.durations * held, beats, grid_seconds)
    scatter = np.clip(rng.normal(0.0, spread, len(score)), -0.03, 0.03)
    is_melody = score.parts == score.parts.min()
    onsets = onsets + lead_in + scatter - lead * is_melody
    ends = ends + lead_in + 0.5 * scatter
    end_beat = float((score.onsets + score.durations).max())
    pedal_times, pedal_values = _pedal(score, end_beat, beats, grid_seconds, rng)
    return clean(
        Performance(
            onsets=np.maximum(onsets, 0.0),
            offsets=np.maximum(ends, onsets + 0.04),
            pitches=score.pitches,
            velocities=velocities,
            pedal_times=pedal_times + lead_in,
            pedal_values=pedal_values,
        ),
        seconds=seconds,
    )


def sounding_offsets(performance: Performance) -> np.ndarray:
    """Ends of the notes with the pedal: at its release, or the key's next onset.

    Args:
        performance: cleaned.

    Returns:
        (N,) float64, seconds.
    """
    ends = performance.offsets.copy()
    times, values = performance.pedal_times, performance.pedal_values
    if len(times):
        state = np.searchsorted(times, ends, side="right") - 1
        held = (state >= 0) & (values[np.maximum(state, 0)] >= PEDAL_DOWN)
        up_times = times[values < PEDAL_DOWN]
        following = np.searchsorted(up_times, ends, side="right")
        released = np.append(up_times, times[-1])[following]
        ends = np.where(held, np.maximum(released, ends), ends)
    for pitch in np.unique(performance.pitches):
        rows = np.flatnonzero(performance.pitches == pitch)
        ends[rows[:-1]] = np.minimum(ends[rows[:-1]], performance.onsets[rows[1:]])
    return ends


def write_performance(
    path: str | os.PathLike,
    performance: Performance,
    *,
    bank: int = 0,
    program: int = 0,
    tuning_cents: float = 0.0,
    tail: float = 0.0,
) -> None:
    """Writes a performance as a MIDI file with the pedal as controller 64.

    Args:
        path: file to write; it appears whole (written beside, then renamed).
        performance: what to write.
        bank: MIDI bank, 0..127.
        program: General MIDI program, 0..127.
        tuning_cents: fine tuning sent as registered parameter 1, between -100 and 100.
        tail: seconds of silence before the end of the track.
    """
    events = []
    for onset, offset, pitch, velocity in zip(
        performance.onsets,
        performance.offsets,
        performance.pitches,
        performance.velocities,
        strict=True,
    ):
        note = {"note": int(pitch)}
        events.append((onset, 2, mido.Message("note_on", velocity=int(velocity), **note)))
        events.append((offset, 0, mido.Message("note_off", velocity=64, **note)))
    for time, value in zip(performance.pedal_times, performance.pedal_values, strict=True):
        message = mido.Message("control_change", control=64, value=int(value))
        events.append((time, 1, message))
    events.sort(key=lambda event: (round(event[0] * TICKS_PER_SECOND), event[1]))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    if bank:
        track.append(mido.Message("control_change", control=0, value=bank))
    track.append(mido.Message("program_change", program=program))
    if tuning_cents:
        fine = int(np.clip(round(8192 + 8192 * tuning_cents / 100.0), 0, 16383))
        for control, value in ((101, 0), (100, 1), (6, fine >> 7), (38, fine & 127)):
            track.append(mido.Message("control_change", control=control, value=value))
    now = 0
    for time, _, message in events:
        tick = round(time * TICKS_PER_SECOND)
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=round(tail * TICKS_PER_SECOND)))
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".part")
    mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(beside)
    os.replace(beside, path)
