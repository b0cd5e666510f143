"""Cuts the recordings of `examples/` out of a made corpus's test split.

    python -m experiments.make_piano_corpus --output CORPUS --hours 12
    python -m experiments.make_examples --corpus CORPUS

Each is the first half minute of a piece and an instrument that the shipped model was not trained
on, as FLAC with its true notes beside it.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile
from absl import app, flags

from deepaudio import audio, data

PIECES = {
    "clara_schumann_polonaise": "schumann_clara/polonaise_op1n3",
    "mozart_minuet": "mozart/k458/movement2",
    "robert_schumann_song": "schumann_robert/dichterliebe_no2",
}
SECONDS = 30.0


def first_seconds(notes: data.Notes, seconds: float) -> data.Notes:
    """The notes begun within the first seconds, ending there at the latest."""
    kept = notes.onsets < seconds - 0.05
    return data.Notes(
        onsets=notes.onsets[kept],
        offsets=np.minimum(notes.offsets[kept], seconds),
        pitches=notes.pitches[kept],
        velocities=notes.velocities[kept],
    )


def make_example(recording: data.Recording, path: Path) -> None:
    """Writes `path` (.flac) and the .mid beside it."""
    samples, rate = audio.read(recording.audio_path, sample_rate=16000)
    samples = samples[: int(SECONDS * rate)]
    soundfile.write(path, samples, rate, subtype="PCM_16")
    notes = first_seconds(data.read_midi(recording.midi_path), len(samples) / rate)
    data.write_midi(path.with_suffix(".mid"), notes)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("corpus", None, "The corpus's folder.", required=True)
    flags.DEFINE_string("output", "examples", "Where they are written.")


def main(argv: list[str]) -> None:
    """Reads the flags and cuts."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    output = Path(flags.FLAGS.output)
    output.mkdir(exist_ok=True)
    test = {r.piece: r for r in data.read_maestro(flags.FLAGS.corpus, "test")}
    for name, piece in PIECES.items():
        if piece not in test:
            sys.exit(f"make_examples: {flags.FLAGS.corpus}: no {piece} in the test split")
        make_example(test[piece], output / f"{name}.flac")
        print(f"{output / name}.flac: {piece}, {test[piece].instrument}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
