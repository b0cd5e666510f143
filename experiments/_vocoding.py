"""What the launchers need to know of vocoding."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from deepaudio import data
from deepaudio.data import voice_pipeline
from deepaudio.models import load_weights
from deepaudio.tasks.recognizer import load_model
from deepaudio.tasks.vocoding import (
    DistillationConfig,
    StudentTask,
    TeacherTask,
    VocodingConfig,
    make_model_config,
)


def prepare(config: ml_collections.ConfigDict) -> None:
    """Checks that the model knows as many speakers as the data have.

    Raises:
        ValueError: It knows fewer.
    """
    if config.model.speakers:
        names = voice_pipeline.speaker_names(read_utterances(config, "train"))
        if len(names) > config.model.speakers:
            raise ValueError(
                f"model.speakers={config.model.speakers}, but the data have {len(names)} speakers"
            )


def make_task(config: ml_collections.ConfigDict) -> TeacherTask | StudentTask:
    """The task of a configuration; a student's with its teacher and what hears it.

    Raises:
        ValueError: A student's teacher or listener cannot be used.
    """
    settings = {name: value for name, value in config.model.items() if name != "kind"}
    is_student = config.model.kind == "parallel_wavenet"
    distillation = DistillationConfig(**config.distillation) if is_student else None
    vocoding = VocodingConfig(
        convention=config.convention,
        model=make_model_config(config.model.kind, **settings),
        distillation=distillation or DistillationConfig(),
        precision=config.precision,
    )
    if not is_student:
        return TeacherTask(vocoding)
    listener = None
    if config.teacher and vocoding.distillation.style:
        listener = load_model(config.listener)[:2]
    teacher = _read_teacher(config.teacher) if config.teacher else None
    return StudentTask(vocoding, teacher, listener)


def _read_teacher(source: str) -> tuple[TeacherTask, dict[str, Any]]:
    """A teacher's task and variables, from a run's folder or a weights file."""
    if Path(source).is_dir():
        from experiments import restore  # which asks this module for tasks

        return restore.restore(source)
    variables, stored = load_weights(source)
    names = ("convention", "model", "distillation", "precision")
    return TeacherTask(VocodingConfig.from_dict({name: stored[name] for name in names})), variables


def read_utterances(config: ml_collections.ConfigDict, split: str) -> list[data.Utterance]:
    """The utterances of a split of the configured dataset, "train" or "validation".

    For manifests that is SPLIT.jsonl in the data folder; several may be joined by "+".

    Raises:
        ValueError: No folder is given, or the split is empty.
    """
    if not config.data_dir:
        raise ValueError("no data: give --config.data_dir=FOLDER")
    name = config.splits.get(split, split)
    if config.dataset == "manifest":
        found = []
        for part in name.split("+"):
            found += data.read_manifest(Path(config.data_dir) / f"{part}.jsonl")
        return found
    readers = {"ljspeech": data.read_ljspeech, "vctk": data.read_vctk}
    if config.dataset not in readers:
        raise ValueError(f"{config.dataset=} must be 'ljspeech', 'vctk' or 'manifest'")
    # Both have no split of their own; what is held out serves for validation and test.
    return readers[config.dataset](config.data_dir, "train" if split == "train" else "test")


def _dataset(config, task, split, **settings):
    return voice_pipeline.make_dataset(
        read_utterances(config, split),
        convention=task.convention,
        crop_frames=config.num_frames,
        margin=task.margin * task.convention.hop_length,
        seed=config.seed,
        **settings,
    )


def make_batches(config: ml_collections.ConfigDict) -> Any:
    """An endless, resumable iterator of training batches of this process."""
    dataset = _dataset(
        config,
        make_task(config),
        "train",
        batch_size=config.batch_size // jax.process_count(),
        shuffle=True,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_threads=config.num_threads,
    )
    if jax.process_index() == 0:
        print(dataset.report, file=sys.stderr)
    return iter(dataset)


def make_evaluator(config: ml_collections.ConfigDict, task: TeacherTask | StudentTask) -> Any:
    """The loss and its parts on crops of some validation utterances; None if there are none."""
    try:
        dataset = _dataset(
            config,
            task,
            "validation",
            batch_size=config.batch_size,
            shuffle=False,
            num_epochs=1,
            num_threads=0,
        )
    except (ValueError, OSError):
        return None
    wanted = -(-config.evaluate_utterances // config.batch_size)
    batches = [batch for batch, _ in zip(dataset, range(wanted), strict=False)]
    loss = jax.jit(task.loss)

    def evaluate(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        rest = {name: value for name, value in variables.items() if name != "params"}
        found = [
            loss(variables["params"], rest, batch, jax.random.key(number))[1][0]
            for number, batch in enumerate(batches)
        ]
        for name in found[0]:
            yield f"validation/{name}", np.mean([float(each[name]) for each in found])

    return evaluate
