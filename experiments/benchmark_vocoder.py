"""Times a student beside its sequential teacher: samples a second, and times real time.

    python -m experiments.benchmark_vocoder
    python -m experiments.benchmark_vocoder --variant=paper --batch_sizes=1,32

The networks have the sizes of `experiments/configs` and random weights, on which speed does not
depend. They take turns; the teacher makes fewer samples, as it is slower. The paper reports 172
samples a second for its teacher and over 500,000 for its student (P100, batch 1). Writes the record
`vocoder_speed`.
"""

import functools
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio.models import draw_noise, generate, num_uniforms
from deepaudio.tasks.vocoding import StudentTask, TeacherTask
from experiments import _arguments, _vocoding, records
from experiments._turns import Run, take_turns
from experiments.configs import parallel_wavenet, wavenet

# Variants of students without a teacher of the same name.
_TEACHERS = {"source": "small", "voice": "small"}


def student_run(task: StudentTask, batch: int, frames: int) -> Run:
    """A compiled student from mel frames to samples, ready to be timed."""
    model = task.config.model
    variables = task.init(jax.random.key(0))
    mel = jnp.zeros((batch, frames + 2 * model.margin, model.mels))

    def run(variables, mel, key):
        noise = draw_noise(key, (batch, frames * model.hop_length), model.noise)
        return task.network.apply(variables, noise, mel)[0]

    return _compiled(run, variables, mel, jax.random.key(1))


def teacher_run(task: TeacherTask, batch: int, frames: int) -> Run:
    """The compiled scan that samples from a teacher, ready to be timed."""
    model = task.config.model
    variables = task.init(jax.random.key(0))
    mel = jnp.zeros((batch, frames + 2 * model.margin, model.mels))
    conditioning = task.network.apply(variables, mel, method="condition")
    shape = (*conditioning.shape[:2], num_uniforms(model.output))
    uniforms = jax.random.uniform(jax.random.key(1), shape)
    return _compiled(functools.partial(generate, task.network), variables, conditioning, uniforms)


def _compiled(function, *arguments) -> Run:
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def measure(
    variant: str, batch_sizes: list[int], *, frames: int, teacher_frames: int, repetitions: int
) -> list[dict[str, Any]]:
    """Times both networks at every batch size.

    Args:
        variant: Of both configurations; students that only have a variant beside `small`'s
            teacher.
        batch_sizes: Sounds at a time.
        frames: Mel frames that the student turns into sound.
        teacher_frames: Mel frames that the teacher does.
        repetitions: Timed turns.

    Returns:
        A row for each: `network`, `batch_size`, `samples_per_second` of all sounds together,
        `times_real_time` of each, `times_teacher` and `all_seconds`.

    Raises:
        ValueError: There is no such variant.
    """
    student = _vocoding.make_task(parallel_wavenet.get_config(variant))
    teacher = _vocoding.make_task(wavenet.get_config(_TEACHERS.get(variant, variant)))
    hop, rate = student.convention.hop_length, student.convention.sample_rate
    rows = []
    for batch in track(batch_sizes, "timing", console=Console(stderr=True)):
        runs = {
            "student": student_run(student, batch, frames),
            "teacher, a sample at a time": teacher_run(teacher, batch, teacher_frames),
        }
        seconds = take_turns(runs, repetitions)
        # Seconds a sample in each turn, so that the ratio is of what met the same machine.
        made = (frames * hop, teacher_frames * hop)
        each = {
            name: np.array(times) / number
            for (name, times), number in zip(seconds.items(), made, strict=True)
        }
        slow = each["teacher, a sample at a time"]
        for name, times in each.items():
            rows.append(
                {
                    "network": name,
                    "variant": variant,
                    "sample_rate": rate,
                    "batch_size": batch,
                    "samples_per_second": batch / statistics.median(times),
                    "times_real_time": 1.0 / statistics.median(times) / rate,
                    "times_teacher": statistics.median(slow / times),
                    "all_seconds": [round(value, 5) for value in seconds[name]],
                }
            )
    return rows


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list("variant", ["small", "voice"], "Of the configurations of both.")
    flags.DEFINE_list("batch_sizes", ["1"], "Sounds at a time.")
    flags.DEFINE_integer("frames", 250, "Mel frames for the student.", lower_bound=1)
    flags.DEFINE_integer("teacher_frames", 20, "Mel frames for the teacher.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 7, "Timed turns.", lower_bound=1)
    flags.DEFINE_string("record", "vocoder_speed", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        rows = []
        for variant in given.variant:
            rows += measure(
                variant,
                [int(size) for size in given.batch_sizes],
                frames=given.frames,
                teacher_frames=given.teacher_frames,
                repetitions=given.repetitions,
            )
    except ValueError as error:
        sys.exit(f"benchmark_vocoder: {error}")
    for row in rows:
        print(
            f"{row['variant']:8} {row['network']:28} batch {row['batch_size']:3}: "
            f"{row['samples_per_second']:12,.0f} samples/s, {row['times_real_time']:.2f} times "
            f"real time, {row['times_teacher']:.1f} times the teacher"
        )
    path = records.write_record(
        given.record, None, rows, description="Samples a second of student and teacher"
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
