"""What a corpus reader gives."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording and its truth.

    Attributes:
        audio_path: the sound file.
        midi_path: the truth: a MIDI file, or one of MAPS's text files.
        split: "train", "validation" or "test".
        piece: what is played.
        composer: who wrote it; empty where the corpus does not say.
        instrument: what it is played on.
        duration: seconds; None where the corpus does not say.
    """

    audio_path: pathlib.Path
    midi_path: pathlib.Path
    split: str
    piece: str
    composer: str
    instrument: str
    duration: float | None
