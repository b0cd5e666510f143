"""Pictures of transcriptions."""

from typing import TYPE_CHECKING

import numpy as np

from deepaudio.audio import LogMelConfig, mel_frequencies
from deepaudio.data.notes import Notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND = "#0e1117"
_TEXT = "#c9d1d9"
_GRID = "#ffffff"
_SOUND_COLOURS = ["#0e1117", "#141c2e", "#1f2f52", "#33507d", "#5a7ea6"]
_NOTE_COLOURS = ["#b5305f", "#f0603c", "#fdb62f", "#fff7a8"]
_DYNAMIC_RANGE = 50.0  # dB below the loudest band that still show
_MAX_ROWS = 12
_SLACK = 0.1  # seconds
_BANDS_A_KEY = 3


def roll_picture(
    notes: Notes,
    log_mel: np.ndarray | None = None,
    *,
    config: LogMelConfig | None = None,
    reference: Notes | None = None,
    duration: float | None = None,
    row_seconds: float = 30.0,
    title: str | None = None,
) -> "Figure":
    """A piano roll over the sound it was heard in.

    Time runs to the right in seconds, the keys go up; the fill of a note tells its velocity. A
    recording longer than `row_seconds` is broken into rows; a row holds more than that if there
    would be more than twelve.

    Args:
        notes: The notes to draw.
        log_mel: Log-mel spectrogram in dB, (frames, mels), from time 0, drawn behind the notes.
        config: How `log_mel` was made; None for the default front end.
        reference: True notes, drawn as white outlines.
        duration: Length of the sound in seconds; None takes the spectrogram's or the last note's.
        row_seconds: Length of a row in seconds.
        title: Words above the picture.

    Returns:
        A matplotlib figure of no window system; save it by `savefig`.
    """
    # matplotlib takes half a second to import, which only pictures should pay.
    from matplotlib.figure import Figure

    config = config or LogMelConfig()
    everything = [notes] if reference is None else [notes, reference]
    if duration is None:
        duration = max((float(part.offsets.max(initial=0.0)) for part in everything), default=0.0)
        if log_mel is not None:
            duration = len(log_mel) * config.hop_length / config.sample_rate
    duration = max(duration, 1e-3)
    # A last frame that reaches a little over a row's end deserves no row of its own.
    rows = int(np.clip(np.ceil((duration - _SLACK) / row_seconds), 1, _MAX_ROWS))
    row_seconds = duration / rows if rows in (1, _MAX_ROWS) else row_seconds
    low, high = _pitch_range(everything)

    height = 4.6 if rows == 1 else 2.4 * rows + 0.8
    figure = Figure(figsize=(12, height), dpi=120, facecolor=_BACKGROUND, layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for row, ax in enumerate(axes):
        span = row * row_seconds, (row + 1) * row_seconds
        if log_mel is not None:
            _draw_sound(ax, np.asarray(log_mel), config, span, (low, high))
        _draw_notes(ax, notes, reference, span)
        _draw_keys(ax, span, (low, high))
    axes[-1].set_xlabel("seconds", color=_TEXT)
    _draw_velocity_scale(figure, axes)
    if title:
        figure.suptitle(title, color=_TEXT, fontsize=12)
    return figure


def to_image(figure: "Figure") -> np.ndarray:
    """The pixels of a figure, as metric writers take them.

    Args:
        figure: A matplotlib figure.

    Returns:
        (height, width, 3) uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def key_name(pitch: int) -> str:
    """The name of a MIDI pitch, such as C4 for 60 and F#3 for 54."""
    names = "C C# D D# E F F# G G# A A# B".split()
    return f"{names[pitch % 12]}{pitch // 12 - 1}"


def _pitch_range(everything: list[Notes]) -> tuple[int, int]:
    """The octaves that hold the notes, at least three of them."""
    pitches = np.concatenate([part.pitches for part in everything])
    if len(pitches) == 0:
        return 36, 84
    low, high = int(pitches.min()) - 2, int(pitches.max()) + 2
    missing = max(36 - (high - low), 0)
    return max(low - missing // 2, 20), min(high + missing - missing // 2, 109)


def _draw_sound(ax: "Axes", log_mel, config: LogMelConfig, span, pitches) -> None:
    """The spectrogram of a row, its mel bands laid out along the keys."""
    from matplotlib.colors import LinearSegmentedColormap

    frame_seconds = config.hop_length / config.sample_rate
    first, last = (int(round(edge / frame_seconds)) for edge in span)
    sound = log_mel[first:last]
    if len(sound) == 0:
        return
    centres = mel_frequencies(config)
    low, high = pitches
    steps = np.arange((high - low + 1) * _BANDS_A_KEY)
    keys = low - 0.5 + (steps + 0.5) / _BANDS_A_KEY
    bands = np.interp(440 * 2 ** ((keys - 69) / 12), centres, np.arange(config.n_mels))
    lower = np.minimum(bands.astype(np.int64), config.n_mels - 2)
    share = (bands - lower).astype(np.float32)
    picture = sound[:, lower] * (1 - share) + sound[:, lower + 1] * share
    loudest = float(log_mel.max())
    ax.imshow(
        picture.T,
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
        extent=(first * frame_seconds, (first + len(sound)) * frame_seconds, low - 0.5, high + 0.5),
        cmap=LinearSegmentedColormap.from_list("sound", _SOUND_COLOURS),
        vmin=loudest - _DYNAMIC_RANGE,
        vmax=loudest,
    )


def _note_colours():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("velocity", _NOTE_COLOURS)


def _draw_notes(ax: "Axes", notes: Notes, reference: Notes | None, span) -> None:
    from matplotlib.collections import PolyCollection

    here = (notes.onsets < span[1]) & (notes.offsets > span[0])
    colours = _note_colours()(notes.velocities[here] / 127)
    boxes = _boxes(notes, here, 0.46)
    # A dark edge keeps repeated notes apart.
    ax.add_collection(
        PolyCollection(boxes, facecolors=colours, edgecolors=_BACKGROUND, linewidths=0.4)
    )
    if reference is not None:
        here = (reference.onsets < span[1]) & (reference.offsets > span[0])
        boxes = _boxes(reference, here, 0.46)
        ax.add_collection(
            PolyCollection(boxes, facecolors="none", edgecolors="#ffffffd0", linewidths=0.7)
        )


def _boxes(notes: Notes, here: np.ndarray, half: float) -> np.ndarray:
    """The corners of the chosen notes, (notes, 4, 2)."""
    left, right, key = notes.onsets[here], notes.offsets[here], notes.pitches[here]
    across = np.stack([left, right, right, left], axis=1)
    up = np.stack([key - half, key - half, key + half, key + half], axis=1)
    return np.stack([across, up], axis=2)


def _draw_keys(ax: "Axes", span, pitches) -> None:
    low, high = pitches
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    ax.set_facecolor(_BACKGROUND)
    ax.set_xlim(*span)
    ax.set_ylim(low - 0.5, high + 0.5)
    ax.set_yticks(octaves, [key_name(pitch) for pitch in octaves])
    for pitch in octaves:
        ax.axhline(pitch - 0.5, color=_GRID, alpha=0.12, linewidth=0.6)
    ax.tick_params(colors=_TEXT, labelsize=9, length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_velocity_scale(figure: "Figure", axes) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(0, 127), _note_colours())
    bar = figure.colorbar(scale, ax=list(axes), pad=0.01, fraction=0.025, aspect=40)
    bar.set_label("velocity", color=_TEXT)
    bar.ax.tick_params(colors=_TEXT, labelsize=9, length=0)
    bar.outline.set_visible(False)
