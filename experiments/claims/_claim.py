"""What a claim is, what measuring it gives, and how that is kept."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import records

SCALES = ("smoke", "small", "paper")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how large claims are measured.

    Attributes:
        scale: One of `SCALES`: to see that it runs, for two CPU cores, or the paper's own sizes.
        corpora: The folder that holds the corpora `piano`, `speech` and `mandarin`.
        workdir: Where training runs are kept, and found again.
        seeds: Every arm is trained once from each.
        jobs: Runs at a time.
    """

    scale: str
    corpora: Path
    workdir: Path
    seeds: tuple[int, ...]
    jobs: int

    def pick(self, smoke: Any, small: Any, paper: Any) -> Any:
        """The value for this scale."""
        return dict(zip(SCALES, (smoke, small, paper), strict=True))[self.scale]


class Check(NamedTuple):
    """One thing that must be so if the claim is to hold.

    Attributes:
        asked: What must be so.
        found: What was found.
        holds: Whether it is so; None where it cannot be measured here, which `found` explains.
    """

    asked: str
    found: str
    holds: bool | None


class Panel(NamedTuple):
    """A picture's part: bars with what each seed gave.

    Attributes:
        title: What is drawn, with its unit.
        values: A value for each seed, by arm; an arm without values failed.
        log: Whether the axis is logarithmic.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    log: bool = False


class Outcome(NamedTuple):
    """What measuring a claim gave.

    Attributes:
        rows: The numbers of every run.
        checks: What was asked; at least one.
        panels: Of the picture.
        tried: What else was tried, and came out otherwise.
    """

    rows: list[dict[str, Any]]
    checks: list[Check]
    panels: list[Panel]
    tried: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A paper's headline, and how it is measured here.

    Attributes:
        name: On the command line and of the record.
        paper: Where it was published.
        sentence: What the paper says.
        instead: What is measured in its stead.
        measure: From the setting to what was found.
    """

    name: str
    paper: str
    sentence: str
    instead: str
    measure: Callable[[Setting], Outcome]


def holds(checks: Iterable[Check]) -> bool:
    """Whether everything that could be measured is so, and anything could."""
    measured = [check.holds for check in checks if check.holds is not None]
    return bool(measured) and all(measured)


def mean(values: Sequence[float]) -> float:
    """The mean over seeds; NaN, which no comparison holds for, where all have failed."""
    return statistics.fmean(values) if values else float("nan")


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Mean and standard deviation over seeds: "54.1 ± 0.8"."""
    if not values:
        return "failed"
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


def values_of(rows: Iterable[Mapping[str, Any]], arm: str, name: str) -> list[float]:
    """A metric of an arm, of each seed that did not fail."""
    return [row[name] for row in rows if row["arm"] == arm and name in row]


def pooled_spread(*groups: Sequence[float]) -> float:
    """The standard deviation within groups of seeds, pooled; 0 where no group has two."""
    variances = [(statistics.variance(group), len(group) - 1) for group in groups if len(group) > 1]
    freedom = sum(count for _, count in variances)
    return (sum(value * count for value, count in variances) / freedom) ** 0.5 if freedom else 0.0


def write(claim: Claim, setting: Setting, outcome: Outcome, directory: Path) -> Path:
    """Writes the record and the picture of a claim.

    Args:
        claim: What was measured.
        setting: How.
        outcome: What it gave.
        directory: Of records; the claim's are in its folder `claims`.

    Returns:
        The record's path.
    """
    path = records.write_record(
        f"claims/{claim.name}",
        None,
        outcome.rows,
        directory=directory,
        description=claim.instead,
        paper=claim.paper,
        claim=claim.sentence,
        measured="; ".join(f"{check.asked}: {check.found}" for check in outcome.checks),
        holds=holds(outcome.checks),
        scale=setting.scale,
        seeds=setting.seeds,
        checks=[check._asdict() for check in outcome.checks],
        tried=outcome.tried,
    )
    picture(claim, outcome.panels, path.with_suffix(".png"))
    return path


def picture(claim: Claim, panels: Sequence[Panel], path: Path) -> None:
    """Draws bars of means, with a dot for each seed."""
    from matplotlib.figure import Figure

    tallest = max(len(panel.values) for panel in panels)
    figure = Figure(figsize=(1 + 4.5 * len(panels), 1.6 + 0.4 * tallest), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, values in enumerate(panel.values.values()):
            if values:
                axes.barh(place, statistics.fmean(values), height=0.6, color="C0", alpha=0.6)
                axes.plot(values, [place] * len(values), "k.", markersize=4)
            else:
                axes.text(0.02, place, "failed", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(panel.values)), list(panel.values))
        axes.invert_yaxis()
        axes.set_xlabel(panel.title)
        if panel.log:
            axes.set_xscale("log")
    figure.suptitle(claim.name.replace("_", " "))
    figure.savefig(path, dpi=100)
