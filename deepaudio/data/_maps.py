"""Recordings of MAPS (Emiya, Badeau and David, 2010)."""

import os
import pathlib
import re

import numpy as np

from deepaudio.data._recording import Recording
from deepaudio.data.notes import HIGHEST_PITCH, LOWEST_PITCH, Notes

TRAIN_PIANOS = (
    "AkPnBcht",
    "AkPnBsdf",
    "AkPnCGdD",
    "AkPnStgb",
    "SptkBGAm",
    "SptkBGCl",
    "StbgTGd2",
)
TEST_PIANOS = ("ENSTDkAm", "ENSTDkCl")
_PIECE = re.compile(r".*MUS-(.*)_[^_]+\.\w{3}")
_UNKNOWN_VELOCITY = 64


def read_maps(root: str | os.PathLike, split: str | None = None) -> list[Recording]:
    """List the music of MAPS by the split of Onsets and Frames.

    Test recordings are those of the two Disklaviers, 60 in all. Training recordings are those of
    the seven software pianos without the pieces that a Disklavier plays too, 139 of 210
    (arXiv 1710.11153).

    Args:
        root: the folder that holds `PIANO/MUS/MAPS_MUS-PIECE_PIANO.wav`, directly or one level
            down.
        split: "train" or "test"; None for both.

    Returns:
        The recordings sorted by piano, then piece. Their truth is the MIDI file, or the text file
        where there is none.

    Raises:
        ValueError: if the split is unknown, a Disklavier's folder is missing (without it the
            training pieces are not known either), there is no training piano, a file's name is not
            one of MAPS's, or a recording has no truth.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f"MAPS has the splits 'train' and 'test', not {split!r}")
    root = pathlib.Path(root)
    test = []
    for piano in TEST_PIANOS:
        found = _recordings(root, piano, "test")
        if not found:
            raise ValueError(f"{root}: no recordings {piano}/MUS/*.wav, which the split rests on")
        test += found
    if split == "test":
        return test
    test_pieces = {recording.piece for recording in test}
    train = [r for piano in TRAIN_PIANOS for r in _recordings(root, piano, "train")]
    train = [recording for recording in train if recording.piece not in test_pieces]
    if not train:
        raise ValueError(f"{root}: no training recordings of {', '.join(TRAIN_PIANOS)}")
    return train if split == "train" else train + test


def read_maps_text(path: str | os.PathLike) -> Notes:
    """Read a text file of MAPS: a header row, then onset, offset and pitch, tab separated.

    Args:
        path: the text file.

    Returns:
        The notes; all velocities are 64, since the file has none.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a row is not of that form.
    """
    lines = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            onset, offset, pitch = line.split()
            rows.append((float(onset), float(offset), int(pitch)))
        except ValueError:
            raise ValueError(
                f"{path}: line {number} is no onset, offset, pitch: {line!r}"
            ) from None
    onsets, offsets, pitches = np.array(rows, np.float64).reshape(-1, 3).T
    keep = (offsets > onsets) & (pitches >= LOWEST_PITCH) & (pitches <= HIGHEST_PITCH)
    velocities = np.full(keep.sum(), _UNKNOWN_VELOCITY)
    return Notes(onsets[keep], offsets[keep], pitches[keep], velocities)


def _recordings(root: pathlib.Path, piano: str, split: str) -> list[Recording]:
    folders = [root / piano / "MUS", *sorted(root.glob(f"*/{piano}/MUS"))]
    recordings = []
    for audio_path in sorted(path for folder in folders for path in folder.glob("*.wav")):
        match = _PIECE.fullmatch(audio_path.name)
        if not match:
            raise ValueError(f"{audio_path}: not a name of the form MAPS_MUS-PIECE_PIANO.wav")
        truths = [audio_path.with_suffix(suffix) for suffix in (".mid", ".txt")]
        truth = next((path for path in truths if path.is_file()), None)
        if truth is None:
            raise ValueError(f"{audio_path}: has neither a .mid nor a .txt file beside it")
        recordings.append(Recording(audio_path, truth, split, match[1], "", piano, None))
    return recordings
