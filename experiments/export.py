"""Exports a training run's model to a weights file that `deepaudio transcribe --model` takes.

    python -m experiments.export --workdir=RUN --output=my_piano.safetensors

The file holds the averaged variables, the model's configuration, and the decoding thresholds.
"""

import sys
from pathlib import Path

from absl import app, flags

from deepaudio.models import save_weights
from experiments import restore


def export(
    workdir: str | Path,
    output: str | Path,
    *,
    onset_threshold: float,
    frame_threshold: float,
    step: int | None = None,
) -> None:
    """Writes a run's averaged variables as a weights file.

    Args:
        workdir: The run's folder.
        output: The file, .safetensors.
        onset_threshold: Probability above which a note begins.
        frame_threshold: Probability above which a key sounds.
        step: Which checkpoint; None for the newest.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
    """
    task, variables = restore.restore(workdir, step)
    decoding = {"onset_threshold": onset_threshold, "frame_threshold": frame_threshold}
    save_weights(output, variables, {**task.config.to_dict(), "decoding": decoding})


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("workdir", None, "The training run.", required=True)
    flags.DEFINE_string("output", None, "The file, .safetensors.", required=True)
    flags.DEFINE_integer("step", None, "Which checkpoint; else the newest.")
    flags.DEFINE_float("onset_threshold", 0.5, "Probability above which a note begins.")
    flags.DEFINE_float("frame_threshold", 0.5, "Probability above which a key sounds.")


def main(argv: list[str]) -> None:
    """Reads the flags and writes the file."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        export(
            flags.FLAGS.workdir,
            flags.FLAGS.output,
            onset_threshold=flags.FLAGS.onset_threshold,
            frame_threshold=flags.FLAGS.frame_threshold,
            step=flags.FLAGS.step,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
