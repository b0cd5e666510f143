"""Exports a training run's model to a weights file that `deepaudio transcribe --model` takes.

    python -m experiments.export --workdir=RUN --output=my_piano.safetensors

The file holds the averaged variables, the model's configuration, and the decoding thresholds.
"""

import sys

from absl import app, flags

from deepaudio.models import save_weights
from experiments import restore

_WORKDIR = flags.DEFINE_string("workdir", None, "The training run.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The file, .safetensors.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; else the newest.")
_ONSET = flags.DEFINE_float("onset_threshold", 0.5, "Probability above which a note begins.")
_FRAME = flags.DEFINE_float("frame_threshold", 0.5, "Probability above which a key sounds.")


def main(argv: list[str]) -> None:
    """Reads the flags and writes the file."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        task, variables = restore.restore(_WORKDIR.value, _STEP.value)
        decoding = {"onset_threshold": _ONSET.value, "frame_threshold": _FRAME.value}
        save_weights(_OUTPUT.value, variables, {**task.config.to_dict(), "decoding": decoding})
    except (ValueError, OSError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    app.run(main)
