"""Pianos of the project's own: modal synthesis with random parameters.

A note is a sum of damped sinusoids, its strings' modes. With complex rates a_p the samples of
block b are x[b L + s] = Re(sum_p c_p exp(a_p b L) exp(a_p s)): one matrix product a note.
The inharmonicity curve has the form of Rigaud, David and Daudet, "A parametric model and
estimation techniques for the inharmonicity and tuning of the piano", JASA 133 (2013), eq. 9: a
wound-bass and a plain-treble exponential; the frequency-dependent damping b1 + b3 f^2 and the
hammer's strike-position comb are those of Chaigne and Askenfelt, JASA 95 (1994); the two-stage
decay follows Weinreich, "Coupled piano strings", JASA 62 (1977).
"""

import dataclasses

import numpy as np
import scipy.signal

from deepaudio.data import piano_performance

_BLOCK = 256
_FLOOR_DB = 70.0  # a note is followed down to this level below its start
_LONGEST = 14.0  # seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Piano:
    """Parameters of one piano; arrays of 88 hold one value a key, from MIDI pitch 21.

    Attributes:
        frequencies: (88,) fundamental, Hz, with tuning, stretch and detuning.
        inharmonicity: (88,) B of f_n = n f sqrt(1 + B n^2).
        decay: (88,) amplitude decay rate of the fundamental, 1/s.
        damping: b3, extra decay rate by frequency squared, s.
        first_stage: how many times faster the early decay is.
        aftersound: level of the slow stage relative to the fast one.
        string_cents: typical mistuning between the strings of a note, cents.
        strike: hammer's place as a part of the string.
        cutoff: (low, high) cutoff of the hammer's spectrum at velocity 0 and 127, Hz.
        slope: steepness above the cutoff.
        partial_slope: exponent of n on the partials' level.
        body_db: (64,) soundboard and microphone response, dB, on `body_hz`.
        body_hz: (64,) Hz, ascending.
        level_range_db: level of velocity 1 below velocity 127, dB.
        level_curve: exponent of the velocity curve.
        key_gain: (88,) level of every key, linear.
        contact: (88,) length of the attack, s.
        release: (88,) time constant of the damper, s.
        undamped_from: MIDI pitch from which no damper exists.
        knock: level of the hammer noise relative to the note, linear.
        knock_hz: (low, high) band of the hammer noise.
        knock_decay: time constant of the hammer noise, s.
        key_off: level of the noise of the key's return, linear.
        is_electric: few partials and a tine instead of strings.
        tine_ratio: frequency of the tine partial over the fundamental.
        tine_level: level of the tine partial at full velocity, linear.
        seed: of the random phases and details.
    """

    frequencies: np.ndarray
    inharmonicity: np.ndarray
    decay: np.ndarray
    damping: float
    first_stage: float
    aftersound: float
    string_cents: float
    strike: float
    cutoff: tuple[float, float]
    slope: float
    partial_slope: float
    body_db: np.ndarray
    body_hz: np.ndarray
    level_range_db: float
    level_curve: float
    key_gain: np.ndarray
    contact: np.ndarray
    release: np.ndarray
    undamped_from: int
    knock: float
    knock_hz: tuple[float, float]
    knock_decay: float
    key_off: float
    is_electric: bool
    tine_ratio: float
    tine_level: float
    seed: int


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _body(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random response with formants, weak below the soundboard's first mode."""
    hz = np.geomspace(25.0, 8000.0, 64)
    octaves = np.log2(hz)
    curve = rng.uniform(-2.0, 1.0) * (octaves - np.log2(500.0))
    for _ in range(int(rng.integers(4, 14))):
        centre = rng.uniform(octaves[0] + 1.5, octaves[-1])
        curve = curve + rng.normal(0.0, 4.5) * np.exp(
            -0.5 * ((octaves - centre) / rng.uniform(0.12, 0.9)) ** 2
        )
    corner = _log_uniform(rng, 45.0, 140.0)
    curve = curve - 10.0 * np.log10(1.0 + (corner / hz) ** float(rng.uniform(1.5, 4.0)))
    return hz, np.clip(curve, -40.0, 15.0)


def random_piano(seed: int) -> Piano:
    """Draws a piano.

    Args:
        seed: the same seed gives the same piano.

    Returns:
        Its parameters; about one in ten is an electric piano.
    """
    rng = np.random.default_rng([seed, 0x9A10])
    pitches = np.arange(21, 109)
    electric = bool(rng.random() < 0.1)
    height = (pitches - 21) / 87.0
    bass, treble = rng.normal(0.0, 0.4, 2)
    inharmonicity = np.exp(-0.0847 * pitches - 5.82 + bass) + np.exp(
        0.0926 * pitches - 13.64 + treble
    )
    inharmonicity *= np.exp(rng.normal(0.0, 0.08, 88))
    stretch = rng.uniform(0.2, 1.2) * 22.0 * ((pitches - 69) / 39.0) ** 3
    tuning = float(np.clip(rng.normal(0.0, 10.0), -30.0, 30.0))
    cents = tuning + stretch + rng.normal(0.0, _log_uniform(rng, 0.3, 5.0), 88)
    frequencies = 440.0 * 2.0 ** ((pitches - 69) / 12.0 + cents / 1200.0)
    t60 = _log_uniform(rng, 9.0, 22.0) * (_log_uniform(rng, 0.35, 1.2) / 14.0) ** height
    if electric:
        inharmonicity = np.full(88, 1e-6)
        t60 = _log_uniform(rng, 5.0, 12.0) * 0.25**height
    decay = 6.91 / t60 * np.exp(rng.normal(0.0, rng.uniform(0.02, 0.2), 88))
    hz, body = _body(rng)
    low = _log_uniform(rng, 250.0, 900.0)
    registers = np.interp(height, np.linspace(0, 1, 5), rng.normal(0.0, 2.5, 5))
    gain_db = registers + rng.normal(0.0, rng.uniform(0.3, 2.0), 88)
    contact = _log_uniform(rng, 0.001, 0.004) * 2.0 ** (-1.2 * (height - 0.5))
    release = _log_uniform(rng, 0.02, 0.16) * 2.0 ** (-1.5 * (height - 0.4))
    knock_low = _log_uniform(rng, 60.0, 300.0)
    return Piano(
        frequencies=frequencies,
        inharmonicity=inharmonicity,
        decay=decay,
        damping=_log_uniform(rng, 3e-8, 4e-7),
        first_stage=float(rng.uniform(1.0, 4.5)),
        aftersound=_log_uniform(rng, 0.04, 0.6),
        string_cents=_log_uniform(rng, 0.1, 2.5 if rng.random() < 0.85 else 12.0),
        strike=float(rng.uniform(0.06, 0.18)),
        cutoff=(low, low * _log_uniform(rng, 2.5, 9.0)),
        slope=float(rng.uniform(0.7, 1.6)) + float(electric),
        partial_slope=float(rng.uniform(0.0, 0.9)) + 1.2 * float(electric),
        body_db=body * (0.4 if electric else 1.0),
        body_hz=hz,
        level_range_db=float(rng.uniform(25.0, 45.0)),
        level_curve=float(rng.uniform(0.6, 1.2)),
        key_gain=10.0 ** (gain_db / 20.0),
        contact=np.clip(contact, 0.0006, 0.005),
        release=np.clip(release, 0.015, 0.25),
        undamped_from=int(rng.choice([200, 89, 90, 92])),
        knock=10.0 ** (float(rng.uniform(-40.0, -16.0)) / 20.0) * (0.3 if electric else 1.0),
        knock_hz=(knock_low, knock_low * _log_uniform(rng, 3.0, 12.0)),
        knock_decay=_log_uniform(rng, 0.005, 0.035),
        key_off=10.0 ** (float(rng.uniform(-62.0, -38.0)) / 20.0),
        is_electric=electric,
        tine_ratio=float(rng.uniform(5.5, 18.0)),
        tine_level=_log_uniform(rng, 0.05, 0.6),
        seed=seed,
    )


def _mode_table(piano: Piano, pitch: int, sample_rate: int) -> tuple[np.ndarray, ...]:
    """Frequencies (Hz), decay rates (1/s), levels and phases (rad) of a key's modes.

    The first string's partials come first, in order.
    """
    rng = np.random.default_rng([piano.seed, pitch])
    key = pitch - 21
    fundamental, stiffness = piano.frequencies[key], piano.inharmonicity[key]
    n = np.arange(1, (7 if piano.is_electric else 60) + 1, dtype=np.float64)
    hz = n * fundamental * np.sqrt((1.0 + stiffness * n**2) / (1.0 + stiffness))
    keep = hz < 0.475 * sample_rate
    n, hz = n[keep], hz[keep]
    rate = piano.decay[key] + piano.damping * hz**2
    level = n**-piano.partial_slope * np.abs(np.sin(np.pi * n * piano.strike))
    level = level * np.exp(rng.normal(0.0, 0.25, len(n)))
    modes = [(hz, rate * piano.first_stage, level)]
    strings = 1 if pitch < 33 else 2 if pitch < 46 else 3
    if piano.is_electric:
        modes = [(hz, rate, level)]
        tine = np.array([fundamental * piano.tine_ratio])
        if tine[0] < 0.475 * sample_rate:
            modes.append((tine, np.array([12.0]), np.array([piano.tine_level])))
    else:
        for _ in range(max(strings - 1, 1)):
            count = len(n) if strings < 3 else min(len(n), 16)
            cents = piano.string_cents * rng.normal(0.0, 1.0, count) * 0.3
            cents = cents + piano.string_cents * rng.normal()
            after = piano.aftersound * np.exp(rng.normal(0.0, 0.4, count))
            modes.append(
                (hz[:count] * 2.0 ** (cents / 1200.0), rate[:count], level[:count] * after)
            )
    hz, rate, level = (np.concatenate(column) for column in zip(*modes, strict=True))
    keep = hz < 0.48 * sample_rate
    return hz[keep], rate[keep], level[keep], rng.uniform(0.0, 2.0 * np.pi, keep.sum())


class _Key:
    """The modes of one key, tabulated for `num_blocks` blocks."""

    def __init__(self, piano: Piano, pitch: int, num_blocks: int, sample_rate: int):
        hz, rate, level, phase = _mode_table(piano, pitch, sample_rate)
        self.hz, self.level = hz, level
        self.body = 10.0 ** (np.interp(hz, piano.body_hz, piano.body_db) / 20.0)
        self.phase = np.exp(1j * phase)
        self.register = (piano.frequencies[pitch - 21] / 260.0) ** 0.45
        exponent = (-rate + 2j * np.pi * hz) / sample_rate
        inside = np.exp(exponent[:, None] * np.arange(_BLOCK))
        self.inside = np.concatenate([inside.real, -inside.imag]).astype(np.float32)
        # Powers by cumulative product would drift; the phase needs float64 before the cast.
        starts = np.exp(np.arange(num_blocks)[:, None] * _BLOCK * exponent)
        self.starts = np.concatenate([starts.real, starts.imag], axis=1).astype(np.float32)

    def play(self, piano: Piano, velocity: float, num_blocks: int) -> np.ndarray:
        """The undamped note at a velocity in 0..1, (num_blocks * _BLOCK,) float32."""
        low, high = piano.cutoff
        cutoff = low * (high / low) ** velocity * self.register
        spectrum = self.level / (1.0 + (self.hz / cutoff) ** 2) ** piano.slope
        level = spectrum / np.sqrt((spectrum**2).sum()) * self.body
        coefficient = level * self.phase
        count = len(level)
        starts = self.starts[:num_blocks]
        real, imag = coefficient.real.astype(np.float32), coefficient.imag.astype(np.float32)
        mixed = np.concatenate(
            [
                starts[:, :count] * real - starts[:, count:] * imag,
                starts[:, :count] * imag + starts[:, count:] * real,
            ],
            axis=1,
        )
        return (mixed @ self.inside).reshape(-1)


def _bursts(piano: Piano, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """(8, samples) float32 hammer noises of unit peak that start at once."""
    samples = int(0.15 * sample_rate)
    low, high = piano.knock_hz
    sections = scipy.signal.butter(
        2, (low, min(high, 0.45 * sample_rate)), "bandpass", fs=sample_rate, output="sos"
    )
    noise = scipy.signal.sosfilt(sections, rng.normal(size=(8, samples)), axis=1)
    noise *= np.exp(-np.arange(samples) / sample_rate / piano.knock_decay)
    return (noise / np.abs(noise).max(axis=1, keepdims=True)).astype(np.float32)


def _add(output: np.ndarray, start: int, samples: np.ndarray) -> None:
    stop = min(start + len(samples), len(output))
    if stop > start:
        output[start:stop] += samples[: stop - start]


def render(
    performance: piano_performance.Performance,
    piano: Piano,
    rng: np.random.Generator,
    sample_rate: int = 16000,
    tail: float = 1.5,
) -> np.ndarray:
    """Plays a performance on a piano, dry.

    Args:
        performance: cleaned performance.
        piano: the instrument.
        rng: random generator for the noises and small variations of each note.
        sample_rate: Hz.
        tail: seconds after the last note's end.

    Returns:
        (samples,) float32, not normalized; a note at t starts at sample round(t * sample_rate).
    """
    ends = piano_performance.sounding_offsets(performance)
    last = float(ends.max()) if len(ends) else 0.0
    output = np.zeros(round((last + tail) * sample_rate), np.float32)
    bursts = _bursts(piano, rng, sample_rate)
    for pitch in np.unique(performance.pitches):
        rows = np.flatnonzero(performance.pitches == pitch)
        key = int(pitch) - 21
        damped = pitch < piano.undamped_from
        release = piano.release[key]
        audible = min(_FLOOR_DB / 8.686 / piano.decay[key], _LONGEST)
        lengths = (
            (ends[rows] - performance.onsets[rows] + 7.0 * release)
            if damped
            else np.full(len(rows), audible)
        )
        blocks = np.ceil(np.minimum(lengths, audible) * sample_rate / _BLOCK).astype(int)
        strings = _Key(piano, int(pitch), int(blocks.max()), sample_rate)
        ramp_length = max(int(piano.contact[key] * sample_rate), 2)
        ramp = np.sin(0.5 * np.pi * np.arange(1, ramp_length + 1) / ramp_length) ** 2
        for row, num_blocks in zip(rows, blocks, strict=True):
            start = round(performance.onsets[row] * sample_rate)
            stop = round(ends[row] * sample_rate)
            velocity = performance.velocities[row] / 127.0
            level_db = -piano.level_range_db * (1.0 - velocity**piano.level_curve)
            gain = 10.0 ** ((level_db + rng.normal(0.0, 0.5)) / 20.0) * piano.key_gain[key]
            note = strings.play(piano, velocity, int(num_blocks))
            note[: len(ramp)] *= ramp
            _add(note, 0, bursts[rng.integers(8)] * np.float32(piano.knock * np.abs(note).max()))
            if damped and stop - start < len(note):
                after = np.arange(len(note) - (stop - start)) / sample_rate
                note[stop - start :] *= np.exp(-after / release)
            _add(output, start, note * np.float32(gain))
            if damped:
                off = bursts[rng.integers(8)] * np.float32(piano.key_off * rng.uniform(0.3, 1.0))
                _add(output, round(performance.offsets[row] * sample_rate), off)
    return output
