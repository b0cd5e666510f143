"""What each part of a student's loss is for: the ablation of Parallel WaveNet (arXiv 1711.10433).

    python -m experiments.compare_vocoders --data_dir=CORPUS --teacher=TEACHER --workdir=RUNS

Trains students from one teacher, each with one more part of the loss, for the same number of steps
on the same data from the same seed, and scores them by copy synthesis of held-out utterances, as
`experiments.evaluate_voice` does. The paper has listeners judge the same four: KL alone, with the
power loss, with the perceptual loss, with the contrastive loss. Arms that are done are not trained
again, a half-done one goes on. Needs the extra `voice`. Writes the record `vocoder_ablation`.

With `--init_from=STUDENT`, a run or weights, all begin from it, are of its size, and the table has
it as it was: for machines on which students of the variant `small`, from noise, take too long.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

from deepaudio import data, evaluation
from deepaudio.data import voice_pipeline
from deepaudio.tasks.vocoder import Vocoder
from experiments import _arguments, evaluate_voice, records, restore, train
from experiments.configs import parallel_wavenet

# By name, the configuration's variant.
ARMS = {
    "KL": "kl_alone",
    "KL, power": "kl_power",
    "KL, power, perceptual": "kl_power_style",
    "KL, power, perceptual, contrastive": "small",
}


def compare(
    data_dir: str,
    teacher: str,
    workdir: Path,
    num_steps: int,
    *,
    split: str,
    limit: int | None,
    init_from: str | None = None,
    changes: dict[str, Any] | None = None,
    score: Any = evaluation.score_voice,
) -> list[dict[str, Any]]:
    """Trains and scores every arm.

    Args:
        data_dir: The corpus's folder, of manifests.
        teacher: Weights or a training run.
        workdir: Where the runs are kept.
        num_steps: Steps of every arm.
        split: The manifest to score on.
        limit: The most utterances to score on.
        init_from: A student, weights or a training run, that all begin from.
        changes: Settings of all arms that differ from their variants, by dotted name.
        score: As `evaluate_voice.evaluate` takes it.

    Returns:
        A row for each arm: `loss`, `steps` and mean scores; and one for the teacher and, if they
        begin from a student, for that.
    """
    runs, begun = {}, evaluate_voice.load(init_from) if init_from else None
    for name, variant in ARMS.items():
        config = parallel_wavenet.get_config(variant)
        if begun:
            config.model.update(dataclasses.asdict(begun.task.config.model))
            config.init_from = init_from
        config.update_from_flattened_dict(changes or {})
        config.data_dir, config.teacher = data_dir, teacher
        config.num_steps = config.evaluate_every = num_steps
        train.train_whole(config, workdir / variant)
        runs[name] = Vocoder(*restore.restore(workdir / variant))
    if begun:
        runs["the student that all begin from"] = begun
    runs["the teacher"] = evaluate_voice.load(teacher)
    convention = runs["the teacher"].convention
    utterances = data.read_manifest(Path(data_dir) / f"{split}.jsonl")[:limit]
    sounds = list(voice_pipeline.whole_utterances(utterances, convention=convention))
    makers = {name: _maker(vocoder) for name, vocoder in runs.items()}
    found = evaluate_voice.evaluate(makers, sounds, convention, score)
    return [
        {"loss": name, "steps": num_steps if name in ARMS else None, **scores}
        for name, scores, _ in found
    ]


def _maker(vocoder: Vocoder) -> evaluate_voice.Resynthesis:
    return lambda samples, mel: vocoder.vocode(mel)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder, of manifests.", required=True)
    flags.DEFINE_string("teacher", None, "Weights or a training run.", required=True)
    flags.DEFINE_string("workdir", None, "Where the runs are kept.", required=True)
    flags.DEFINE_string("split", "prompts_validation", "Which manifest to score on.")
    flags.DEFINE_integer("num_steps", 1000, "Steps of every arm.", lower_bound=2)
    flags.DEFINE_integer("limit", None, "Score only so many utterances.", lower_bound=1)
    flags.DEFINE_string("init_from", None, "A student that all begin from: weights or a run.")
    flags.DEFINE_string("record", "vocoder_ablation", "Name of the record.")


def main(argv: list[str]) -> None:
    """Compares and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        rows = compare(
            given.data_dir,
            given.teacher,
            Path(given.workdir),
            given.num_steps,
            split=given.split,
            limit=given.limit,
            init_from=given.init_from,
        )
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        sys.exit(f"compare_vocoders: {error}")
    for row in rows:
        scores = {k.removeprefix("metric/"): f"{v:.3f}" for k, v in row.items() if "/" in k}
        print(f"{row['loss']:36} {scores}")
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Parts of a student's loss at equal steps: means over held-out utterances",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
