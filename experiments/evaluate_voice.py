"""Scores vocoders by copy synthesis: a recording becomes a mel spectrogram and sound again.

    python -m experiments.evaluate_voice --data_dir=CORPUS --student=STUDENT --teacher=TEACHER

STUDENT and TEACHER are weights files, names of shipped ones, or training runs; either may be left
out. Beside them stand what is below and above: Griffin and Lim's algorithm, and WORLD's analysis
and synthesis of the recording itself, which sees more than a mel spectrogram. Scores are means over
the utterances of a split, each against its recording. Needs the extra `voice`. With --record it
writes experiments/records/NAME.json, with --output sounds and a picture of the first utterances.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from absl import app, flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deepaudio import audio, data, evaluation
from deepaudio.data import voice_pipeline
from deepaudio.tasks.vocoder import Vocoder, load_vocoder
from experiments import _arguments, records, restore
from experiments._griffin_lim import griffin_lim

# From a recording and its log-mel to sound.
Resynthesis = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SHOWN = 3


def load(source: str) -> Vocoder:
    """A vocoder of a training run's folder, or of weights."""
    if Path(source).is_dir():
        return Vocoder(*restore.restore(source))
    return load_vocoder(source)


def world(convention: audio.MelConvention) -> Resynthesis:
    """WORLD's analysis and synthesis (Morise et al. 2016), the ceiling."""
    pyworld = importlib.import_module("pyworld")

    def run(samples: np.ndarray, mel: np.ndarray) -> np.ndarray:
        del mel
        rate = convention.sample_rate
        made = pyworld.synthesize(*pyworld.wav2world(samples.astype(np.float64), rate), rate)
        return np.pad(made, (0, max(len(samples) - len(made), 0)))[: len(samples)]

    return run


def contestants(
    convention: audio.MelConvention, vocoders: Mapping[str, Vocoder], seed: int
) -> dict[str, Resynthesis]:
    """What is scored, by name.

    Args:
        convention: The mel convention of all.
        vocoders: By name.
        seed: Of their noise.

    Raises:
        ValueError: A vocoder reads mel spectrograms of another convention.
    """
    found: dict[str, Resynthesis] = {
        "WORLD, from the recording": world(convention),
        "Griffin-Lim": lambda samples, mel: griffin_lim(mel, convention),
    }
    for name, vocoder in vocoders.items():
        if vocoder.convention != convention:
            raise ValueError(f"{name} reads {vocoder.convention.name}, not {convention.name}")
        found[name] = lambda samples, mel, vocoder=vocoder: vocoder.vocode(mel, seed=seed)
    return found


def evaluate(
    makers: Mapping[str, Resynthesis],
    sounds: list[dict[str, Any]],
    convention: audio.MelConvention,
    score: Callable[..., dict[str, float]],
) -> Iterator[tuple[str, dict[str, float], list[np.ndarray]]]:
    """Scores every contestant on every sound.

    Args:
        makers: By name.
        sounds: With `samples`, (n,) of whole frames.
        convention: The mel convention.
        score: From a recording, what was made of it and the rate to scores, NaN where undefined.

    Yields:
        The name, mean scores, and what was made of the first few sounds.
    """
    for name, make in makers.items():
        rows, kept = [], []
        for sound in track(sounds, name, console=Console(stderr=True)):
            samples = sound["samples"]
            mel = np.asarray(audio.convention_mel(jnp.asarray(samples), convention))
            made = np.asarray(make(samples, mel), np.float32)[: len(samples)]
            rows.append(score(samples, made, convention.sample_rate, convention))
            if len(kept) < _SHOWN:
                kept.append(made)
        yield name, _means(rows), kept


def _means(rows):
    """Mean of each score over the rows that have it."""
    means = {}
    for key in rows[0]:
        values = np.array([row[key] for row in rows], np.float64)
        if np.isfinite(values).any():
            means[key] = float(np.nanmean(values))
    return means


def write_sounds(
    folder: Path, made: Mapping[str, list[np.ndarray]], convention: audio.MelConvention
) -> None:
    """Writes small sound files, and a picture of all spectrograms side by side.

    Args:
        folder: Made if need be.
        made: By contestant, sounds of the same utterances.
        convention: The mel convention of the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(made.values())))
    figure, axes = plt.subplots(
        len(made), count, figsize=(4 * count, 2 * len(made)), squeeze=False, layout="constrained"
    )
    for row, (name, sounds) in enumerate(made.items()):
        stem = name.split(",")[0].replace(" ", "_").lower()
        for column, sound in enumerate(sounds):
            path = folder / f"{column}_{stem}.ogg"
            soundfile.write(path, sound, convention.sample_rate, format="OGG", subtype="VORBIS")
            mel = np.asarray(audio.convention_mel(jnp.asarray(sound), convention))
            axis = axes[row, column]
            axis.imshow(mel.T, origin="lower", aspect="auto", interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(stem.replace("_", "\n"))
    figure.savefig(folder / "spectrograms.png", dpi=110)
    plt.close(figure)


def _print(rows):
    names = [name for name in rows[0] if name.startswith("metric/")]
    table = Table(title="copy synthesis, means")
    for column in ("vocoder", *(name.removeprefix("metric/") for name in names)):
        table.add_column(column, justify="left" if column == "vocoder" else "right")
    for row in rows:
        table.add_row(row["vocoder"], *(f"{row.get(name, np.nan):.3f}" for name in names))
    Console().print(table)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder, of manifests.", required=True)
    flags.DEFINE_string("split", "prompts_validation", "Which manifest; nobody trained on it.")
    flags.DEFINE_string("student", None, "Weights or a training run.")
    flags.DEFINE_string("teacher", None, "Weights or a training run.")
    flags.DEFINE_string("convention", "hifigan_16k", "The mel convention of all.")
    flags.DEFINE_integer("limit", None, "Score only so many utterances.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the vocoders' noise.")
    flags.DEFINE_string("output", None, "A folder for sounds and a picture.")
    flags.DEFINE_string("record", None, "Also write experiments/records/NAME.json.")


def main(argv: list[str]) -> None:
    """Scores, prints, and writes what was asked for."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        convention = audio.mel_convention(given.convention)
        named = {"student": given.student, "teacher": given.teacher}
        vocoders = {name: load(source) for name, source in named.items() if source}
        utterances = data.read_manifest(Path(given.data_dir) / f"{given.split}.jsonl")
        sounds = list(
            voice_pipeline.whole_utterances(utterances[: given.limit], convention=convention)
        )
        makers = contestants(convention, vocoders, given.seed)
        rows, made = [], {"recording": [sound["samples"] for sound in sounds[:_SHOWN]]}
        for name, scores, kept in evaluate(makers, sounds, convention, evaluation.score_voice):
            rows.append({"vocoder": name, "utterances": len(sounds), **scores})
            made[name] = kept
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate_voice: {error}")
    _print(rows)
    if given.output:
        write_sounds(Path(given.output), made, convention)
    if given.record:
        path = records.write_record(
            given.record,
            None,
            rows,
            description="Copy synthesis scored against the recordings, means over utterances",
        )
        print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
