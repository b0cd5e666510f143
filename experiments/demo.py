"""Shows the main job from end to end, in a few minutes on two cores.

    python -m experiments.demo

1. The `deepaudio` command transcribes the recordings of `examples/`; what it wrote is scored
   against the true notes that stand beside them.
2. A small corpus is made, and the `smoke` variant is trained on it for about a minute.

MIDI files, pictures and the training run go to `demo_output/`.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deepaudio.data import read_midi
from deepaudio.evaluation import average_scores, score_notes

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
OUTPUT = REPOSITORY / "demo_output"
CONFIG = "experiments/configs/onsets_and_frames.py:smoke"
CORPUS_HOURS = 0.1
_KINDS = {"note": "note F1", "note_with_offset": "with offset"}
_PLOT_WIDTH = 50


def find_examples(folder: Path) -> list[tuple[Path, Path]]:
    """Returns (sound, true MIDI) of each recording in a folder that has its truth beside it."""
    pairs = [(sound, sound.with_suffix(".mid")) for sound in sorted(folder.glob("*.flac"))]
    return [(sound, truth) for sound, truth in pairs if truth.exists()]


def score_folder(pairs: Sequence[tuple[Path, Path]], folder: Path) -> list[dict[str, float]]:
    """Scores the MIDI files that the command wrote.

    Args:
      pairs: (sound, true MIDI) of each recording.
      folder: where STEM.mid of each sound was written.

    Returns:
      `deepaudio.evaluation.score_notes` of each recording.
    """
    return [
        score_notes(read_midi(truth), read_midi(folder / f"{sound.stem}.mid"))
        for sound, truth in pairs
    ]


def score_table(pairs: Sequence[tuple[Path, Path]], scores: Sequence[dict[str, float]]) -> Table:
    """Returns F1 of every recording, and their mean, as a table."""
    table = Table("recording", title="Notes found, against the true notes")
    for heading in _KINDS.values():
        table.add_column(heading, justify="right")
    named = [(sound.name, score) for (sound, _), score in zip(pairs, scores, strict=True)]
    for name, score in [*named, ("mean", average_scores(scores))]:
        if name == "mean":
            table.add_section()
        table.add_row(name, *(f"{score[f'metric/{kind}/f1']:.3f}" for kind in _KINDS))
    return table


def read_losses(path: Path) -> list[tuple[int, float]]:
    """Returns (step, total loss) of each logged step of a run's metrics.csv, in order."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [(int(r["step"]), float(r["value"])) for r in rows if r["name"] == "loss/total"]


def loss_plot(losses: Sequence[tuple[int, float]]) -> str:
    """Returns a bar for each logged step, the largest loss the longest."""
    largest = max(loss for _, loss in losses)
    return "\n".join(
        f"  step {step:4d}  {loss:7.4f}  {'█' * max(1, round(_PLOT_WIDTH * loss / largest))}"
        for step, loss in losses
    )


def _run(console: Console, *words: str | Path) -> None:
    """Shows and runs a program of this project; ends the demo if it fails."""
    shown = [str(word).replace(f"{REPOSITORY}/", "") for word in words]
    console.print(f"\n$ {' '.join(shown)}", style="bold", highlight=False, soft_wrap=True)
    if shown[0] == "deepaudio":
        command = [sys.executable, "-m", "deepaudio.cli", *shown[1:]]
    else:
        command = [sys.executable, *shown[1:]]
    status = subprocess.run(command, cwd=REPOSITORY).returncode
    if status:
        sys.exit(f"demo: the last command failed with status {status}")


def transcribe_examples(console: Console) -> None:
    """Transcribes the examples by the command, and prints how many notes are right."""
    pairs = find_examples(EXAMPLES)
    if not pairs:
        sys.exit(f"demo: no recordings with true notes beside them in {EXAMPLES.name}/")
    sounds = [sound for sound, _ in pairs]
    _run(console, "deepaudio", "transcribe", *sounds, "-o", OUTPUT, "--format", "mid,png")
    console.print(score_table(pairs, score_folder(pairs, OUTPUT)))
    console.print(f"MIDI files and pictures are in {OUTPUT.name}/")


def train_smoke(console: Console) -> None:
    """Makes a small corpus, trains the smoke variant on it, and shows the loss."""
    corpus, workdir = OUTPUT / "corpus", OUTPUT / "smoke"
    _run(
        console,
        *("python", "-m", "experiments.make_piano_corpus", "--output", corpus),
        *("--hours", str(CORPUS_HOURS), "--scores", "generated", "--instruments", "synthetic"),
    )
    # A finished run would be taken up where it ended, and there would be nothing to see.
    shutil.rmtree(workdir, ignore_errors=True)
    _run(
        console,
        *("python", "-m", "experiments.train", f"--config={CONFIG}"),
        *(f"--config.data_dir={corpus.relative_to(REPOSITORY)}", "--workdir", workdir),
        "--verbosity=-1",  # absl: warnings and worse, or checkpoints talk over the progress bar
    )
    losses = read_losses(workdir / "metrics.csv")
    console.print("\nTraining loss:")
    console.print(loss_plot(losses), highlight=False)
    first, last = losses[0][1], losses[-1][1]
    if last >= first:
        sys.exit(f"demo: the loss did not fall: {first:.4f} at first, {last:.4f} at last")
    console.print(f"The loss fell from {first:.4f} to {last:.4f}.")


def main() -> None:
    """Runs the demo."""
    console = Console()
    OUTPUT.mkdir(exist_ok=True)
    transcribe_examples(console)
    train_smoke(console)


if __name__ == "__main__":
    main()
