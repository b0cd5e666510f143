"""Measures `deepaudio transcribe` as a user runs it: start-up, speed, and memory.

    python -m experiments.measure_transcribe

Makes three recordings of generated piano music (one second, five minutes, one hour), runs the
installed command on each in a process of its own, and writes the record `transcribe_speed`:

- start-up: from the command's start to the end of a recording of one second;
- speed: seconds of sound a second, on five minutes, start-up excluded;
- memory: the largest resident set while an hour is transcribed.

Times are medians over the runs; all runs are in the record.
"""

import numpy as np
from absl import app, flags

from deepaudio.data import piano_generation, piano_performance, piano_synthesis
from experiments import _arguments, _command_speed
from experiments._command_speed import SAMPLE_RATE


def make_sound(seconds: int, seed: int = 0) -> np.ndarray:
    """Generated piano music of exactly this length, (seconds * 16000,) float32."""
    rng = np.random.default_rng(seed)
    piano = piano_synthesis.random_piano(seed)
    passages, length = [], 0
    while length < seconds * SAMPLE_RATE:
        score = piano_generation.generate_score(rng, 60.0)
        tempo = piano_performance.choose_tempo(score, rng)
        played = piano_performance.perform(score, rng, tempo=tempo, seconds=60.0)
        passages.append(piano_synthesis.render(played, piano, rng, SAMPLE_RATE))
        length += len(passages[-1])
    sound = np.concatenate(passages)[: seconds * SAMPLE_RATE]
    return 0.5 * sound / np.abs(sound).max()


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("runs", 3, "Runs of the short recordings.", lower_bound=1)
    flags.DEFINE_string("record", "transcribe_speed", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    _command_speed.record("transcribe", make_sound, runs=given.runs, name=given.record)


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
