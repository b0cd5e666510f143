"""What a sweep has come to: a table and a picture of its members' metrics."""

import collections
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from experiments import _arguments
from experiments.readme_tables import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beside a member's run: what it is a run of, and whether it is finished.
MEMBER_FILE = "member.json"
_INCHES = (8, 5)


class Result(NamedTuple):
    """What there is of one member.

    Attributes:
        name: Of its folder.
        values: Its swept settings by dotted name.
        finished: Whether its run came to its end.
        metrics: (steps, values) of every metric, by name, in order of the step.
    """

    name: str
    values: dict[str, Any]
    finished: bool
    metrics: dict[str, tuple[list[int], list[float]]]


def read_results(workdir: Path) -> list[Result]:
    """Reads what all members that were begun have written, sorted by their settings.

    Args:
        workdir: The sweep's folder.

    Raises:
        ValueError: There are none.
    """
    found = []
    for path in sorted(workdir.glob(f"*/{MEMBER_FILE}")):
        about = json.loads(path.read_text())
        # JSON has no tuples.
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in about["values"].items()}
        metrics = read_metrics(path.parent)
        found.append(Result(path.parent.name, values, about["finished"], metrics))
    if not found:
        raise ValueError(f"{workdir}: holds no member of a sweep")
    return sorted(found, key=lambda result: [_order(result.values.get(k)) for k in _keys(found)])


def read_metrics(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The metrics of a run, (steps, values) by name.

    A run that was killed and went on has written some steps twice; the later row counts. A row
    that is being written just now is left out.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return {}
    found = collections.defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.reader(file):
            try:
                step, name, value = int(row[0]), row[1], float(row[2])
            except (ValueError, IndexError):
                continue
            found[name][step] = value
    return {
        name: (sorted(values), [values[step] for step in sorted(values)])
        for name, values in found.items()
    }


def check_metrics(results: Sequence[Result], metrics: Sequence[str]) -> None:
    """Checks that some member has each metric.

    Raises:
        ValueError: None has it; the nearest one that there is is named.
    """
    known = sorted({name for result in results for name in result.metrics})
    for metric in metrics:
        if known and metric not in known:
            near = _arguments.nearest(metric, known)
            raise ValueError(f"no member has the metric {metric}; nearest: {near}")


def table(results: Sequence[Result], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row a member: its settings, the last step, whether it is finished, the last values.

    Args:
        results: Of the members.
        metrics: Names of metrics; None stands where a member has none of it.
    """
    rows = []
    for result in results:
        steps = [found[-1] for found, _ in result.metrics.values()]
        row = {key: result.values.get(key) for key in _keys(results)}
        row["step"] = max(steps, default=0)
        row["finished"] = result.finished
        row |= {m: result.metrics[m][1][-1] if m in result.metrics else None for m in metrics}
        rows.append(row)
    return rows


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the table; an empty cell stands for None."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def terminal_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The table for the terminal."""
    shown = Table(title=title)
    for column in rows[0]:
        shown.add_column(column, justify="right", overflow="fold")
    for row in rows:
        shown.add_row(*[_cell(value) for value in row.values()])
    return shown


def plot(results: Sequence[Result], metric: str, kind: str, path: Path) -> None:
    """Draws a metric of all members.

    Args:
        results: Of the members; those without the metric are left out.
        metric: Name of the metric.
        kind: "values" draws the last value over the first swept setting that is not a seed, a
            line for each combination of the others through the means over seeds; "curves" draws
            each member over its steps.
        path: The PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    drawn = [result for result in results if metric in result.metrics]
    (_draw_curves if kind == "curves" else _draw_values)(axes, drawn, metric)
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _draw_curves(axes: "Axes", results: Sequence[Result], metric: str) -> None:
    for result in results:
        marker = "o" if len(result.metrics[metric][0]) == 1 else None
        axes.plot(*result.metrics[metric], marker=marker, label=result.name)
    axes.set_xlabel("step")


def _draw_values(axes: "Axes", results: Sequence[Result], metric: str) -> None:
    keys = _keys(results)
    seeds = [key for key in keys if key.rpartition(".")[2] == "seed"]
    across = next((key for key in keys if key not in seeds), keys[0] if keys else "")
    others = [key for key in keys if key != across and key not in seeds]
    lines = collections.defaultdict(lambda: collections.defaultdict(list))
    for result in results:
        label = ", ".join(f"{k.rpartition('.')[2]}={_cell(result.values.get(k))}" for k in others)
        x = result.values.get(across)
        # Anything but a number is a category.
        x = x if is_number(x) else _cell(x)
        lines[label][x].append(result.metrics[metric][1][-1])
    for label, points in lines.items():
        means = {x: statistics.fmean(values) for x, values in points.items()}
        (line,) = axes.plot(means.keys(), means.values(), marker="o", label=label or None)
        for x, values in points.items():
            if len(values) > 1:
                axes.plot([x] * len(values), values, "_", color=line.get_color())
    axes.set_xlabel(across)


def _keys(results: Sequence[Result]) -> list[str]:
    """All swept settings, in the order of the grid."""
    return list(dict.fromkeys(key for result in results for key in result.values))


def _order(value: Any) -> tuple[bool, float, str]:
    return (True, float(value), "") if is_number(value) else (False, 0.0, str(value))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
