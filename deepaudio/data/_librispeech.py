"""Utterances in the layout of LibriSpeech (Panayotov et al., ICASSP 2015)."""

import os
import pathlib
from collections.abc import Iterator

from deepaudio.data._utterance import Utterance


def read_librispeech(root: str | os.PathLike, subset: str) -> list[Utterance]:
    """List the utterances of a part of LibriSpeech.

    The layout is SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac with the transcripts in
    SPEAKER-CHAPTER.trans.txt beside them, a line "ID TEXT" each.

    Args:
        root: the folder that holds the subsets.
        subset: such as "train-clean-100" or "test-other".

    Returns:
        The utterances by speaker, chapter and number; text in upper case, durations unknown.

    Raises:
        ValueError: if there is no such folder, it has no transcripts, a line is malformed, a sound
            file is missing, or one has no transcript; names the file and the line.
    """
    folder = pathlib.Path(root) / subset
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    lists = sorted(folder.glob("*/*/*.trans.txt"))
    if not lists:
        raise ValueError(f"{folder}: no SPEAKER/CHAPTER/*.trans.txt")
    return [utterance for path in lists for utterance in _chapter(path, subset)]


def _chapter(path: pathlib.Path, subset: str) -> Iterator[Utterance]:
    spare = {sound.name for sound in path.parent.glob("*.flac")}
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not in UTF-8 ({error})") from error
    for number, line in enumerate(lines, start=1):
        name, _, text = line.strip().partition(" ")
        if not text:
            raise ValueError(f"{path}: line {number} is not an identifier and a text: {line!r}")
        sound = path.parent / f"{name}.flac"
        if sound.name not in spare:
            raise ValueError(f"{path}: line {number}: no file {sound.name!r}, or named twice")
        spare.remove(sound.name)
        yield Utterance(sound, text, subset, speaker=name.partition("-")[0])
    if spare:
        raise ValueError(f"{path}: no line for {min(spare)!r}")
