"""Generated polyphony for the made corpus: many piano textures over random harmony.

Every texture is a function (rng, harmony, start, length, tempo) that gives (onset, duration,
pitch, part) notes in beats. A piece strings a few textures together; together they reach all 88
keys, 1 to about 25 notes a second, and chords of up to 10 notes.
"""

from collections.abc import Callable

import numpy as np

from deepaudio.data import piano_scores

NoteList = list[tuple[float, float, int, int]]

_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "whole": (0, 2, 4, 6, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
    "chromatic": tuple(range(12)),
}
_PROGRESSION = {0: (3, 4, 5, 1), 1: (4, 4, 6), 2: (5, 3), 3: (0, 4, 1), 4: (0, 0, 5), 5: (1, 3, 4)}


class _Harmony:
    """A key that wanders, and the chord of the moment."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.tonic = int(rng.integers(12))
        self.scale = _SCALES[rng.choice(list(_SCALES), p=(0.4, 0.3, 0.1, 0.05, 0.08, 0.07))]
        self.degree = 0
        self.free = rng.random() < 0.15

    def step(self) -> list[int]:
        """Moves to the next chord; gives its pitch classes, root first."""
        rng = self.rng
        if rng.random() < 0.04:
            self.tonic = (self.tonic + int(rng.choice([5, 7, 3, 9]))) % 12
        if self.free:
            root = int(rng.integers(12))
            kinds = (
                (0, 4, 7),
                (0, 3, 7),
                (0, 3, 6),
                (0, 4, 8),
                (0, 4, 7, 10),
                (0, 3, 7, 10),
                (0, 3, 6, 9),
                (0, 4, 7, 11, 14),
                (0, 5, 7),
                (0, 1, 6),
            )
            return [(root + step) % 12 for step in kinds[rng.integers(len(kinds))]]
        self.degree = int(rng.choice(_PROGRESSION.get(self.degree, (0,))))
        size = int(rng.choice([3, 3, 3, 4, 5]))
        count = len(self.scale)
        return [
            (self.tonic + self.scale[(self.degree + 2 * index) % count]) % 12
            for index in range(size)
        ]

    def chords(self, start: float, length: float) -> list[tuple[float, float, list[int]]]:
        """Cuts a stretch into chords of 1, 2 or 4 beats."""
        spacing = float(self.rng.choice([1.0, 2.0, 2.0, 4.0]))
        return [
            (onset, min(spacing, start + length - onset), self.step())
            for onset in np.arange(start, start + length - 1e-6, spacing)
        ]

    def scale_pitches(self) -> np.ndarray:
        """All keys of the piano that belong to the scale."""
        keys = np.arange(piano_scores.MIN_PITCH, piano_scores.MAX_PITCH + 1)
        return keys[np.isin((keys - self.tonic) % 12, self.scale)]


def _stack(classes: list[int], low: int, count: int) -> list[int]:
    """The lowest `count` keys from `low` up whose pitch class is in the chord."""
    pitches = [pitch for pitch in range(low, low + 12 * count + 12) if pitch % 12 in classes]
    return [pitch for pitch in pitches[:count] if pitch <= piano_scores.MAX_PITCH]


def _subdivision(rng: np.random.Generator, tempo: float, rate: tuple[float, float]) -> float:
    """A note value (beats) that gives between rate[0] and rate[1] notes a second."""
    values = np.array([4.0, 2.0, 1.0, 0.5, 1 / 3, 0.25, 1 / 6, 0.125, 1 / 12])
    speed = tempo / 60.0 / values
    chosen = values[(speed >= rate[0]) & (speed <= rate[1])]
    return float(rng.choice(chosen)) if len(chosen) else 0.5


def _walk(rng: np.random.Generator, keys: np.ndarray, count: int, low: int, high: int) -> list[int]:
    """A melody: mostly steps on the scale, some leaps, kept between two keys."""
    usable = keys[(keys >= low) & (keys <= high)]
    if not len(usable):
        usable = np.arange(low, high + 1)
    position = int(rng.integers(len(usable)))
    pitches = []
    for _ in range(count):
        pitches.append(int(usable[position]))
        leap = rng.choice([-1, 1, -1, 1, -2, 2, 0, int(rng.integers(-7, 8))])
        position = int(np.clip(position + leap, 0, len(usable) - 1))
    return pitches


def _melody(rng, harmony, start, length, tempo, low, high, part=0) -> NoteList:
    unit = _subdivision(rng, tempo, (1.5, 7.0))
    notes, onset = [], start
    keys = harmony.scale_pitches()
    pitches = _walk(rng, keys, int(length / unit) + 2, low, high)
    for pitch in pitches:
        duration = unit * float(rng.choice([1, 1, 1, 1, 2, 2, 3, 4]))
        if onset + duration > start + length + 1e-6:
            break
        if rng.random() > 0.06:
            notes.append((onset, duration, pitch, part))
        onset += duration
    return notes


def _accompanied_melody(rng, harmony, start, length, tempo) -> NoteList:
    low = int(rng.integers(55, 80))
    notes = _melody(rng, harmony, start, length, tempo, low, min(low + 24, 108))
    octaves = rng.random() < 0.2
    if octaves:
        notes += [(onset, duration, pitch + 12, 0) for onset, duration, pitch, _ in notes]
    pattern = rng.choice(["alberti", "block", "arpeggio", "stride", "repeat", "tenths"])
    bottom = int(np.clip(low - rng.integers(12, 34), 24, 60))
    unit = _subdivision(rng, tempo, (2.0, 9.0))
    for onset, duration, classes in harmony.chords(start, length):
        chord = _stack(classes, bottom, int(rng.integers(3, 6)))
        times = np.arange(onset, onset + duration - 1e-6, unit)
        if pattern == "block":
            notes += [(onset, duration, pitch, 1) for pitch in chord]
        elif pattern == "stride":
            for index, time in enumerate(np.arange(onset, onset + duration - 1e-6, 0.5)):
                played = [chord[0] - 12] if index % 2 == 0 else chord[1:]
                notes += [(time, 0.45, pitch, 1) for pitch in played]
        elif pattern == "repeat":
            notes += [(time, unit, pitch, 1) for time in times for pitch in chord]
        else:
            order = {"alberti": (0, 2, 1, 2), "tenths": (0, -1, 1, -1)}.get(
                pattern, tuple(range(len(chord)))
            )
            notes += [
                (time, unit, chord[order[index % len(order)] % len(chord)], 1)
                for index, time in enumerate(times)
            ]
    return notes


def _chorale(rng, harmony, start, length, tempo) -> NoteList:
    notes, low = [], int(rng.integers(36, 55))
    unit = _subdivision(rng, tempo, (0.8, 3.5))
    for onset in np.arange(start, start + length - 1e-6, unit):
        classes = harmony.step()
        bass = low + (classes[0] - low) % 12
        uppers = rng.choice(_stack(classes, bass + 5, 9), 3, replace=False)
        notes += [(onset, unit, int(pitch), 1) for pitch in [bass, *uppers]]
    return notes


def _block_chords(rng, harmony, start, length, tempo) -> NoteList:
    notes, unit = [], _subdivision(rng, tempo, (0.5, 5.0))
    size = int(rng.integers(2, 11))
    for onset in np.arange(start, start + length - 1e-6, unit):
        classes = harmony.step()
        left = _stack(classes, int(rng.integers(22, 56)), size // 2)
        right = _stack(classes, int(rng.integers(58, 88)), size - size // 2)
        hold = unit * float(rng.choice([0.5, 1.0, 1.0]))
        notes += [(onset, hold, pitch, int(pitch < 58)) for pitch in left + right]
    return notes


def _arpeggio(rng, harmony, start, length, tempo) -> NoteList:
    notes, unit = [], _subdivision(rng, tempo, (4.0, 20.0))
    held = rng.random() < 0.3
    for onset, duration, classes in harmony.chords(start, length):
        low, count = int(rng.integers(21, 70)), max(int(duration / unit), 1)
        ladder = _stack(classes, low, int(rng.integers(4, 16)))
        ladder = ladder + ladder[-2:0:-1] if rng.random() < 0.6 else ladder[::-1]
        notes += [
            (onset + step * unit, duration - step * unit if held else unit, pitch, 0)
            for step, pitch in enumerate((ladder * (count // len(ladder) + 1))[:count])
        ]
        if rng.random() < 0.4:
            notes += [(onset, duration, pitch, 1) for pitch in _stack(classes, 28, 2)]
    return notes


def _scale(rng, harmony, start, length, tempo) -> NoteList:
    unit = _subdivision(rng, tempo, (3.0, 18.0))
    keys = harmony.scale_pitches()
    position, direction = int(rng.integers(len(keys))), int(rng.choice([-1, 1]))
    interval = int(rng.choice([0, 0, 2, 5, 7, 9]))
    notes = []
    for onset in np.arange(start, start + length - 1e-6, unit):
        notes.append((onset, unit, int(keys[position]), 0))
        if interval and position >= interval:
            notes.append((onset, unit, int(keys[position - interval]), 1))
        if not 0 <= position + direction < len(keys) or rng.random() < 0.05:
            direction = -direction
        position = int(np.clip(position + direction, 0, len(keys) - 1))
    return notes


def _repeated(rng, harmony, start, length, tempo) -> NoteList:
    unit, notes = _subdivision(rng, tempo, (4.0, 13.0)), []
    for onset, duration, classes in harmony.chords(start, length):
        pitches = _stack(classes, int(rng.integers(24, 98)), int(rng.choice([1, 1, 2, 3])))
        notes += [
            (time, unit, pitch, 0)
            for time in np.arange(onset, onset + duration - 1e-6, unit)
            for pitch in pitches
        ]
        notes += [(onset, duration, pitch, 1) for pitch in _stack(classes, 30, 2)]
    return notes


def _trill(rng, harmony, start, length, tempo) -> NoteList:
    unit = 60.0 / tempo
    beats = 1.0 / (unit * float(rng.uniform(8.0, 16.0)))
    notes = []
    for onset, duration, classes in harmony.chords(start, length):
        low = int(rng.integers(33, 104))
        # A tremolo is a trill over a wider interval.
        high = min(low + int(rng.choice([1, 2, 2, 3, 4, 7, 12])), 108)
        notes += [
            (time, beats, (low, high)[index % 2], 0)
            for index, time in enumerate(np.arange(onset, onset + duration - 1e-6, beats))
        ]
        notes += [(onset, duration, pitch, 1) for pitch in _stack(classes, 36, 3)]
    return notes


def _leaps(rng, harmony, start, length, tempo) -> NoteList:
    unit, notes = _subdivision(rng, tempo, (2.0, 9.0)), []
    for onset, duration, classes in harmony.chords(start, length):
        for index, time in enumerate(np.arange(onset, onset + duration - 1e-6, unit)):
            low = int(rng.integers(21, 45) if index % 2 == 0 else rng.integers(60, 96))
            size = int(rng.choice([1, 2, 3, 4]))
            notes += [(time, unit, pitch, index % 2) for pitch in _stack(classes, low, size)]
            if rng.random() < 0.3:
                notes.append((time, unit, notes[-1][2] + 12, index % 2))
    return notes


def _atonal(rng, harmony, start, length, tempo) -> NoteList:
    del harmony
    rate = float(np.exp(rng.uniform(np.log(1.0), np.log(25.0)))) * 60.0 / tempo
    count = max(int(rng.poisson(rate * length)), 1)
    low = int(rng.integers(21, 90)) if rng.random() < 0.5 else 21
    high = 108 if low == 21 else min(low + int(rng.integers(7, 40)), 108)
    onsets = start + rng.uniform(0.0, length, count)
    durations = np.exp(rng.normal(np.log(0.5 * tempo / 60.0), 0.8, count))
    pitches = rng.integers(low, high + 1, count)
    return [
        (float(onset), float(np.clip(duration, 0.1, 12.0)), int(pitch), 0)
        for onset, duration, pitch in zip(onsets, durations, pitches, strict=True)
    ]


def _counterpoint(rng, harmony, start, length, tempo) -> NoteList:
    voices = int(rng.integers(2, 5))
    notes = []
    for voice in range(voices):
        low = int(72 - voice * 36 / voices - rng.integers(0, 6))
        notes += _melody(rng, harmony, start, length, tempo, low, low + 16, part=voice)
    return notes


def _isolated(rng, harmony, start, length, tempo) -> NoteList:
    """Single notes and intervals anywhere on the keyboard, long or short."""
    del harmony
    notes, unit = [], _subdivision(rng, tempo, (0.5, 4.0))
    for onset in np.arange(start, start + length - 1e-6, unit):
        pitch = int(rng.integers(21, 109))
        duration = unit * float(rng.choice([0.3, 0.8, 1.0, 2.0]))
        notes.append((onset, duration, pitch, 0))
        if rng.random() < 0.5:
            # Octaves, twelfths and double octaves share partials: the hard cases.
            notes.append((onset, duration, pitch + int(rng.choice([12, 19, 24, 7, 4, -12])), 0))
    return notes


_Texture = Callable[[np.random.Generator, _Harmony, float, float, float], NoteList]
TEXTURES: dict[str, tuple[float, _Texture]] = {
    "accompanied melody": (6.0, _accompanied_melody),
    "chorale": (2.0, _chorale),
    "block chords": (2.0, _block_chords),
    "arpeggio": (2.5, _arpeggio),
    "scale": (1.5, _scale),
    "repeated notes": (1.5, _repeated),
    "trill": (1.0, _trill),
    "leaps": (1.5, _leaps),
    "atonal": (3.0, _atonal),
    "counterpoint": (3.0, _counterpoint),
    "isolated": (1.0, _isolated),
}


def generate_score(rng: np.random.Generator, seconds: float) -> piano_scores.Score:
    """Makes up a piece.

    Args:
        rng: random generator.
        seconds: wished length at the score's own tempo.

    Returns:
        A score with a tempo, of one to four textures in turn.
    """
    tempo = float(np.clip(np.exp(rng.normal(np.log(96.0), 0.25)), 50.0, 180.0))
    bar = float(rng.choice([2, 3, 4, 4, 4]))
    harmony = _Harmony(rng)
    names = list(TEXTURES)
    weights = np.array([TEXTURES[name][0] for name in names])
    chosen = rng.choice(names, int(rng.integers(1, 5)), p=weights / weights.sum())
    notes: NoteList = []
    start, beats = 0.0, seconds * tempo / 60.0
    while start < beats:
        length = bar * float(rng.choice([1, 2, 2, 4, 4]))
        texture = TEXTURES[str(rng.choice(chosen))][1]
        notes += texture(rng, harmony, start, length, tempo)
        start += length
    shift = int(rng.choice([0, 0, 0, 0, -12, 12, 24]))
    notes = [(onset, length, pitch + shift, part) for onset, length, pitch, part in notes]
    kept = [note for note in notes if note[0] < beats]
    return piano_scores.make_score(kept, beats_per_bar=bar, tempo=tempo)
