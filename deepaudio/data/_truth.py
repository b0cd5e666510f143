"""The notes of a recording, in whatever form its corpus has them."""

from deepaudio.data._maps import read_maps_text
from deepaudio.data._recording import Recording
from deepaudio.data.notes import Notes, read_midi


def read_truth(recording: Recording) -> Notes:
    """Read a recording's notes, with the sustain pedal applied.

    Args:
        recording: as a reader of this package lists it.

    Returns:
        The notes.

    Raises:
        FileNotFoundError: if the truth's file is missing.
        ValueError: if it cannot be read.
    """
    if recording.midi_path.suffix.lower() == ".txt":
        return read_maps_text(recording.midi_path)
    return read_midi(recording.midi_path)
