"""What a corpus of speech gives."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A sound file of speech and what is said.

    Attributes:
        audio_path: the sound file.
        text: the transcript as the corpus has it.
        split: the corpus's name of the part it belongs to.
        speaker: who speaks; empty where the corpus does not say.
        duration: seconds; None where the corpus does not say.
        kind: what sort of speech it is; empty where the corpus does not say.
    """

    audio_path: pathlib.Path
    text: str
    split: str
    speaker: str = ""
    duration: float | None = None
    kind: str = ""

    @property
    def name(self) -> str:
        """Folder and file, short enough for a message."""
        return "/".join(self.audio_path.parts[-2:])
