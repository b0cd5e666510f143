"""Pictures of results: the roofline, and speeds over the sizes of a sweep."""

import itertools
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.benchmark._device import Ceilings

_MARKERS = "osD^vP*X"
_COLUMNS = 3

Row = dict[str, Any]


def roofline(rows: list[Row], ceilings: Ceilings | None, title: str, path: Path) -> int:
    """Draws operations a second over operations a byte, beneath what the device can do.

    Hollow points are baselines; a line joins the sizes of one contestant.

    Args:
        rows: Figures; those without operations and bytes are left out.
        ceilings: Of the device; None to draw points alone.
        title: Over the picture.
        path: The file.

    Returns:
        The number of points.
    """
    rows = [row for row in rows if row.get("flops") and row.get("bytes")]
    figure, axes = plt.subplots(figsize=(11, 6.5), layout="constrained")
    axes.set(xscale="log", yscale="log", title=title)
    axes.set(xlabel="operations a byte of memory", ylabel="operations a second (FLOP/s)")
    colors = {}
    markers = dict(zip(dict.fromkeys(r["contestant"] for r in rows), itertools.cycle(_MARKERS)))
    for (suite, case, contestant), points in _grouped(rows, "suite", "case", "contestant"):
        color = colors.setdefault((suite, case), f"C{len(colors) % 10}")
        hollow = contestant == points[0]["baseline"]
        axes.plot(
            [row["flops_per_byte"] for row in points],
            [row["flops_per_second"] for row in points],
            color=color,
            marker=markers[contestant],
            markerfacecolor="none" if hollow else color,
            linewidth=1,
            label=f"{case.replace('_', ' ')}: {contestant}",
        )
    if ceilings:
        _draw_ceilings(axes, rows, ceilings)
    if rows or ceilings:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return len(rows)


def _draw_ceilings(axes, rows, ceilings):
    most = max(ceilings.peaks.values())
    ridge = most / ceilings.bandwidth
    found = [row["flops_per_byte"] for row in rows]
    span = np.geomspace(min([*found, ridge]) / 2, max([*found, ridge]) * 4, 200)
    axes.plot(
        span,
        np.minimum(span * ceilings.bandwidth, most),
        color="black",
        linewidth=1.5,
        label=f"{ceilings.bandwidth / 1e9:,.0f} GB/s ({ceilings.source})",
    )
    for name, peak in ceilings.peaks.items():
        beyond = span[span >= peak / ceilings.bandwidth]
        axes.plot(
            beyond,
            np.full(len(beyond), peak),
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"{name}: {peak / 1e12:,.3g} TFLOP/s ({ceilings.source})",
        )


def sweep(rows: list[Row], path: Path) -> None:
    """Draws a panel for each case: speeds of its contestants over its sizes.

    Args:
        rows: Figures, at several sizes of each case.
        path: The file.
    """
    panels = _grouped([row for row in rows if "rate" in row], "suite", "case")
    height = max(1, math.ceil(len(panels) / _COLUMNS))
    figure, grid = plt.subplots(
        height, _COLUMNS, figsize=(12, 3 * height), layout="constrained", squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, ((_, case), panel) in zip(grid.flat, panels, strict=False):
        axes.set(xscale="log", yscale="log")
        axes.set_title(case.replace("_", " "), fontsize=9)
        axes.set(xlabel=panel[0]["size_of"], ylabel=f"{panel[0]['unit']}s a second")
        for (contestant,), points in _grouped(panel, "contestant"):
            points = sorted(points, key=lambda row: row["size"])
            sizes, rates = ([row[name] for row in points] for name in ("size", "rate"))
            axes.plot(sizes, rates, marker="o", label=contestant)
        every = sorted({row["size"] for row in panel})
        axes.set_xticks(every, [f"{size:,}" for size in every])
        axes.set_xticks([], minor=True)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _grouped(rows: list[Row], *names: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Rows by some of their values, in the order in which these first come."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(found.items())
