"""Metrics to TensorBoard and to a CSV file."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter


class MetricWriter:
    """Writes scalars and images; the methods are those of `clu.metric_writers`.

    Scalars also go to `metrics.csv` (step, name, value), which outlives any event format.
    """

    def __init__(self, directory: str | Path):
        """Opens the folder, making it if need be; goes on where an earlier run ended."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._summary = SummaryWriter(str(directory))
        path = directory / "metrics.csv"
        is_new = not path.exists()
        self._file = path.open("a", newline="")
        self._rows = csv.writer(self._file)
        if is_new:
            self._rows.writerow(["step", "name", "value"])

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes named numbers of one step."""
        for name, value in scalars.items():
            self._summary.add_scalar(name, float(value), step)
            self._rows.writerow([step, name, f"{float(value):.6g}"])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes named (height, width, 3) uint8 images of one step."""
        for name, image in images.items():
            self._summary.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Makes everything written visible to readers."""
        self._summary.flush()
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self.flush()
        self._summary.close()
        self._file.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()
