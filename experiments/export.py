"""Exports a training run's model to a weights file that `deepaudio` takes as `--model`.

    python -m experiments.export --workdir=RUN --data_dir=CORPUS --output=my_piano.safetensors
    python -m experiments.export --workdir=RUN --data_dir=CORPUS --language_model=words.npz \
        --output=my_speech.safetensors
    python -m experiments.export --workdir=PRUNED_RUN --packed --output=my_small_speech.safetensors

The file holds the averaged variables, the model's configuration, and the settings of decoding that
score best on the corpus's validation split: thresholds of a transcriber, the weights of a
recognizer's language model, which is found again by the name given here. Without a corpus a
transcriber has the paper's decoding, and a recognizer no language model. Vocoders have no decoding.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from deepaudio import data
from deepaudio.models import pack_weights, save_weights
from deepaudio.tasks.recognition import RecognitionTask
from deepaudio.tasks.transcriber import make_transcriber
from deepaudio.tasks.vocoding import Vocoding
from experiments import _arguments, _export_speech, _transcription, restore

_SCORES = ("metric/note/f1", "metric/note_with_offset/f1")


def export(
    workdirs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    step: int | None = None,
    data_dir: str | None = None,
    language_model: str | None = None,
    half: bool = False,
    packed: bool = False,
) -> dict[str, Any]:
    """Writes the averaged variables of a run, or of several, as a weights file.

    Args:
        workdirs: The run's folder; or of several runs, each begun from the one before it, whose
            variables are averaged (model soup, Wortsman et al. 2022, arXiv 2203.05482).
        output: The file, .safetensors.
        step: Which checkpoint; None for the newest.
        data_dir: A corpus on whose validation split decoding is chosen: in MAESTRO's layout for a
            transcriber, with validation.jsonl for a recognizer.
        language_model: Of a recognizer: a file, or the name of one that the package ships.
        half: Stores float16, in half the space; loading makes float32 of it again.
        packed: Stores a pruned recognizer's matrices packed, in about a tenth of the space at
            90 %, and the rest as float16.

    Returns:
        The decoding that was stored, as `decode_notes` or `load_recognizer` takes it.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
        ValueError: The corpus or the language model cannot be read, there is one without the
            other, the runs are of different models, or `packed` is for another model than a
            recognizer.
    """
    if isinstance(workdirs, str | Path):
        workdirs = [workdirs]
    tasks, runs = zip(*(restore.restore(workdir, step) for workdir in workdirs), strict=True)
    task = tasks[0]
    if any(other.config != task.config for other in tasks):
        raise ValueError(f"{', '.join(map(str, workdirs))}: runs of different models")
    variables = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *runs)
    if packed and not isinstance(task, RecognitionTask):
        raise ValueError(f"{workdirs[0]}: only a recognizer's weights can be packed")
    if half or packed:
        # Rounded first, so that the decoding is chosen for what is stored.
        variables = jax.tree.map(lambda leaf: leaf.astype(np.float16), variables)
    rounded = jax.tree.map(lambda leaf: leaf.astype(np.float32), variables)
    if isinstance(task, Vocoding):
        decoding = {}
    elif isinstance(task, RecognitionTask):
        decoding = _of_words(task, rounded, data_dir, language_model)
    else:
        decoding = _of_notes(task, rounded, data_dir)
    # Averaged weights are float32 whatever the training's precision was.
    config = {**task.config.to_dict(), "precision": "float32", "decoding": decoding}
    save_weights(output, pack_weights(variables) if packed else variables, config)
    return decoding


def _of_notes(task, variables, data_dir):
    if not data_dir:
        return _transcription.PAPERS_DECODING
    predict = functools.partial(jax.jit(task.predict), variables)
    return _transcription.best_decoding(
        make_transcriber(task.config, predict), data.read_maestro(data_dir, "validation"), _SCORES
    )


def _of_words(task, variables, data_dir, language_model):
    if bool(data_dir) != bool(language_model):
        raise ValueError("a recognizer needs both data_dir and language_model, or neither")
    if not language_model:
        return {}
    utterances = data.read_manifest(Path(data_dir) / "validation.jsonl")
    return _export_speech.best_decoding(task, variables, utterances, language_model=language_model)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list(
        "workdir", None, "The training run; of several, with commas, the average.", required=True
    )
    flags.DEFINE_string("output", None, "The file, .safetensors.", required=True)
    flags.DEFINE_integer("step", None, "Which checkpoint; else the newest.")
    flags.DEFINE_string("data_dir", None, "A corpus on which to choose the decoding.")
    flags.DEFINE_string("language_model", None, "Of a recognizer: a file, or a shipped one.")
    flags.DEFINE_bool("half", False, "Store float16, in half the space.")
    flags.DEFINE_bool("packed", False, "Store a pruned recognizer's matrices packed.")


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
            language_model=flags.FLAGS.language_model,
            half=flags.FLAGS.half,
            packed=flags.FLAGS.packed,
        )
        print(f"{flags.FLAGS.output}: {decoding}")
    except (ValueError, OSError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
