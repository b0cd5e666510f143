"""Exports a training run's model to a weights file that `deepaudio transcribe --model` takes.

    python -m experiments.export --workdir=RUN --data_dir=CORPUS --output=my_piano.safetensors

The file holds the averaged variables, the model's configuration, and the decoding thresholds that
score best on the corpus's validation split; without a corpus they are 0.5, and notes end by the
paper's rule.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from deepaudio import data
from deepaudio.models import save_weights
from deepaudio.tasks.transcriber import make_transcriber
from experiments import _arguments, _transcription, restore

_SCORES = ("metric/note/f1", "metric/note_with_offset/f1")


def export(
    workdirs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    step: int | None = None,
    data_dir: str | None = None,
    half: bool = False,
) -> dict[str, float | None]:
    """Writes the averaged variables of a run, or of several, as a weights file.

    Args:
        workdirs: The run's folder; or of several runs, each begun from the one before it, whose
            variables are averaged (model soup, Wortsman et al. 2022, arXiv 2203.05482).
        output: The file, .safetensors.
        step: Which checkpoint; None for the newest.
        data_dir: A corpus in MAESTRO's layout on whose validation split thresholds are chosen.
        half: Stores float16, in half the space; loading makes float32 of it again.

    Returns:
        The decoding that was stored, as `decode_notes` takes it.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
        ValueError: The corpus cannot be read, or the runs are of different models.
    """
    if isinstance(workdirs, str | Path):
        workdirs = [workdirs]
    tasks, runs = zip(*(restore.restore(workdir, step) for workdir in workdirs), strict=True)
    task = tasks[0]
    if any(other.config != task.config for other in tasks):
        raise ValueError(f"{', '.join(map(str, workdirs))}: runs of different models")
    variables = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *runs)
    if half:
        # Rounded first, so that the decoding is chosen for what is stored.
        variables = jax.tree.map(lambda leaf: leaf.astype(np.float16), variables)
    decoding = _transcription.PAPERS_DECODING
    if data_dir:
        rounded = jax.tree.map(lambda leaf: leaf.astype(np.float32), variables)
        predict = functools.partial(jax.jit(task.predict), rounded)
        decoding = _transcription.best_decoding(
            make_transcriber(task.config, predict),
            data.read_maestro(data_dir, "validation"),
            _SCORES,
        )
    # Averaged weights are float32 whatever the training's precision was.
    config = {**task.config.to_dict(), "precision": "float32", "decoding": decoding}
    save_weights(output, variables, config)
    return decoding


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list(
        "workdir", None, "The training run; of several, with commas, the average.", required=True
    )
    flags.DEFINE_string("output", None, "The file, .safetensors.", required=True)
    flags.DEFINE_integer("step", None, "Which checkpoint; else the newest.")
    flags.DEFINE_string("data_dir", None, "A corpus on which to choose the thresholds.")
    flags.DEFINE_bool("half", False, "Store float16, in half the space.")


def main(argv: list[str]) -> None:
    """Reads the flags and writes the file."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        decoding = export(
            flags.FLAGS.workdir,
            flags.FLAGS.output,
            step=flags.FLAGS.step,
            data_dir=flags.FLAGS.data_dir,
            half=flags.FLAGS.half,
        )
        print(f"{flags.FLAGS.output}: {decoding}")
    except (ValueError, OSError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
