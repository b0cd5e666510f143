"""Measures `deepaudio recognize` as a user runs it: start-up, speed, and memory.

    python -m experiments.measure_recognize --data_dir=CORPUS

Joins utterances of a corpus, with pauses of half a second, into three recordings (one second, five
minutes, one hour), runs the installed command on each in a process of its own, with the language
model, and writes the record `recognize_speed`:

- start-up: from the command's start to the end of a recording of one second;
- speed: seconds of sound a second, on five minutes, start-up excluded;
- memory: the largest resident set while an hour is recognized.

Times are medians over the runs; all runs are in the record.
"""

import functools
import sys

import numpy as np
from absl import app, flags

from deepaudio import audio
from experiments import _arguments, _command_speed, evaluate_speech
from experiments._command_speed import SAMPLE_RATE

_PAUSE_SECONDS = 0.5


def make_sound(data_dir: str, split: str, seconds: int) -> np.ndarray:
    """Utterances one after the other, from the first again when they end.

    Args:
        data_dir: The corpus's folder.
        split: Which part of it.
        seconds: Length wanted.

    Returns:
        (seconds * 16000,) float32.
    """
    pause = np.zeros(int(_PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts, length = [], 0
    while length < seconds * SAMPLE_RATE:
        for utterance in evaluate_speech.read_split(data_dir, split):
            samples, _ = audio.read(utterance.audio_path, sample_rate=SAMPLE_RATE)
            parts += [samples, pause]
            length += len(samples) + len(pause)
            if length >= seconds * SAMPLE_RATE:
                break
    return np.concatenate(parts)[: seconds * SAMPLE_RATE]


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_string("split", "test_engine", "Which part of it.")
    flags.DEFINE_integer("runs", 3, "Runs of the short recordings.", lower_bound=1)
    flags.DEFINE_string("record", "recognize_speed", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    sound = functools.partial(make_sound, given.data_dir, given.split)
    try:
        _command_speed.record("recognize", sound, runs=given.runs, name=given.record)
    except (ValueError, OSError) as error:
        sys.exit(f"measure_recognize: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
