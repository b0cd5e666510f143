"""Pictures and animations of runs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepaudio.simulation._bodies import Bodies, is_molecular
from deepaudio.simulation._diagnostics import Diagnostics
from deepaudio.simulation._run_folder import RunFolder, read_snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND = "#0e1117"
_TEXT = "#c9d1d9"
_LINES = ("#fdb62f", "#f0603c", "#6ea8fe")
_POSITIVE, _NEGATIVE = "#f0603c", "#6ea8fe"
# Up to so many bodies leave trails; more than the other number are thinned out.
_TRAILS, _MOST_DRAWN = 10, 20_000
_PANEL_INCHES, _DPI = 4.0, 100
_FRAMES_A_SECOND = 20


def run_picture(folder: str | Path, title: str | None = None) -> "Figure":
    """A run at a glance: the bodies at start, half-time and end, and how its figures went.

    Below the bodies, seen along z, stand the relative energy error, the Lagrangian radii, and the
    virial ratio or the temperature, over time.

    Args:
        folder: Of the run.
        title: Words above the picture.

    Returns:
        A matplotlib figure of no window system; save it by `savefig`.

    Raises:
        ValueError: There is no run in the folder, or no whole snapshot.
    """
    # matplotlib takes half a second to import, which only pictures should pay.
    from matplotlib.figure import Figure

    history = _History(folder)
    size = (3 * _PANEL_INCHES, 2 * _PANEL_INCHES - 1)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=_BACKGROUND, layout="constrained")
    above, below = figure.subplots(2, 3, height_ratios=(_PANEL_INCHES, _PANEL_INCHES - 1))
    last = len(history) - 1
    for axes, place in zip(above, (0, (last + 1) // 2, last), strict=True):
        history.draw(axes, place)
    _draw_figures(below, list(history.rows.values()))
    if title:
        figure.suptitle(title, color=_TEXT, fontsize=12)
    return figure


def write_animation(
    path: str | Path,
    folder: str | Path,
    *,
    max_frames: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the bodies of a run, seen along z, as a film.

    Args:
        path: Ends in .gif, or in .mp4, which needs the program ffmpeg.
        folder: Of the run.
        max_frames: If there are more snapshots, they are thinned out evenly.
        progress: Is called with the frames drawn and their number.

    Raises:
        ValueError: The suffix is another one, there is no run in the folder, or no whole snapshot,
            or ffmpeg is missing.
        OSError: The file cannot be written.
    """
    from matplotlib import animation
    from matplotlib.figure import Figure

    path = Path(path)
    writers = {".gif": animation.PillowWriter, ".mp4": animation.FFMpegWriter}
    if path.suffix not in writers:
        raise ValueError(f"{path} must end in .gif or .mp4")
    if not writers[path.suffix].isAvailable():
        raise ValueError(f"{path} needs the program ffmpeg, which is not installed")
    history = _History(folder)
    places = np.unique(np.linspace(0, len(history) - 1, min(max_frames, len(history))).round())
    size = (1.25 * _PANEL_INCHES, 1.25 * _PANEL_INCHES)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=_BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    writer = writers[path.suffix](fps=_FRAMES_A_SECOND)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with writer.saving(figure, str(beside), _DPI):
            for done, place in enumerate(places.astype(int), start=1):
                axes.clear()
                history.draw(axes, place)
                writer.grab_frame(facecolor=_BACKGROUND)
                if progress is not None:
                    progress(done, len(places))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class _History:
    """The whole snapshots of a run, read when they are drawn."""

    def __init__(self, folder: str | Path):
        self._folder = RunFolder(folder)
        self._folder.config()
        indices = self._folder.indices()
        self.rows = self._folder.figures(max(indices, default=0), lambda message: None)
        if not self.rows:
            raise ValueError(f"{folder} holds no whole snapshot")
        self._indices = list(self.rows)
        first = self._bodies(0)
        number = len(first.masses)
        self._shown = slice(None, None, -(-number // _MOST_DRAWN))
        self._colours = _colours(first, self._shown)
        self._sizes = first.sigmas[self._shown] if is_molecular(first) else None
        self._number = number
        self._trails = None
        if number <= _TRAILS:
            self._trails = np.stack([_centred(self._bodies(i)) for i in range(len(self))])
            self._half = 1.15 * float(np.abs(self._trails).max())
        else:
            radii = [row.radius_90 for row in self.rows.values()]
            self._half = 1.5 * max(radii[0], float(np.median(radii)))

    def __len__(self) -> int:
        return len(self._indices)

    def _bodies(self, place: int) -> Bodies:
        return read_snapshot(self._folder.snapshot_path(self._indices[place])).state.bodies

    def draw(self, axes: "Axes", place: int) -> None:
        """Draws the bodies of one snapshot, seen along z: molecules by their diameters."""
        from matplotlib.collections import EllipseCollection

        half = self._half
        axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xticks=[], yticks=[])
        _darken(axes)
        positions = _centred(self._bodies(place))[self._shown]
        # The nearest are drawn last, over the others.
        order = np.argsort(positions[:, 2], kind="stable")
        places, colours = positions[order, :2], self._colours[order]
        if self._sizes is not None:
            widths = self._sizes[order]
            round_ = {"units": "x", "offsets": places, "offset_transform": axes.transData}
            edges = {"edgecolors": _BACKGROUND, "linewidths": 0.6}
            axes.add_collection(
                EllipseCollection(widths, widths, 0, **round_, facecolors=colours, **edges)
            )
        else:
            area = max(2000 / self._number, 0.3) if self._trails is None else 60
            axes.scatter(*places.T, s=area, c=colours, linewidths=0)
        if self._trails is not None:
            trails = np.moveaxis(self._trails[: place + 1, :, :2], 1, 0)
            for trail, colour in zip(trails, self._colours, strict=True):
                axes.plot(*trail.T, color=colour, alpha=0.5, linewidth=1)
        time = self.rows[self._indices[place]].time
        axes.text(0.03, 0.95, f"t = {time:.3g}", color=_TEXT, transform=axes.transAxes)


def _centred(bodies: Bodies) -> np.ndarray:
    """Positions about the centre of mass."""
    return bodies.positions - bodies.masses @ bodies.positions / bodies.masses.sum()


def _colours(first: Bodies, shown: slice) -> np.ndarray:
    """A colour for each body that is shown: by its charge, or by where it was at the start."""
    import matplotlib
    from matplotlib.colors import to_rgba

    if first.charges is not None and np.any(first.charges):
        either = np.array([to_rgba(_NEGATIVE), to_rgba(_POSITIVE)])
        return either[(first.charges[shown] > 0).astype(int)]
    distances = np.linalg.norm(first.positions[shown], axis=1)
    ranks = np.argsort(np.argsort(distances, kind="stable"), kind="stable")
    return matplotlib.colormaps["plasma"](1 - 0.75 * ranks / max(len(ranks) - 1, 1))


def _draw_figures(panels: Sequence["Axes"], rows: Sequence[Diagnostics]) -> None:
    """Energy error, Lagrangian radii, and virial ratio or temperature, over time."""
    times = [row.time for row in rows]
    errors = np.abs([row.energy_error for row in rows])
    panels[0].set_title("relative energy error", color=_TEXT, fontsize=10)
    shown = errors > 0
    if shown.any():
        panels[0].semilogy(np.array(times)[shown], errors[shown], color=_LINES[0])
    panels[1].set_title("radii of 10, 50 and 90 % of the mass", color=_TEXT, fontsize=10)
    for name, colour in zip(("radius_10", "radius_50", "radius_90"), _LINES, strict=True):
        panels[1].plot(times, [getattr(row, name) for row in rows], color=colour)
    panels[1].set_ylim(bottom=0)
    hot = not np.isnan(rows[0].temperature)
    name = "temperature" if hot else "virial_ratio"
    words = "temperature" if hot else "kinetic over |potential| energy"
    panels[2].set_title(words, color=_TEXT, fontsize=10)
    panels[2].plot(times, [getattr(row, name) for row in rows], color=_LINES[0])
    panels[2].set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("time", color=_TEXT, fontsize=9)
        axes.grid(color="#ffffff", alpha=0.1, linewidth=0.6)
        _darken(axes)


def _darken(axes: "Axes") -> None:
    axes.set_facecolor(_BACKGROUND)
    axes.tick_params(colors=_TEXT, labelsize=8, length=0, which="both")
    for spine in axes.spines.values():
        spine.set_visible(False)
