"""Utterances in the layout of LJSpeech 1.1 (Ito and Johnson, 2017)."""

import os
import pathlib
from collections.abc import Iterator

from deepaudio.data._splits import of_split, split_of_identifier
from deepaudio.data._utterance import Utterance

_SPEAKER = "LJ"


def read_ljspeech(root: str | os.PathLike, split: str) -> list[Utterance]:
    """List the utterances of a part of LJSpeech.

    The layout is wavs/ID.wav and metadata.csv, a line "ID|text|normalised text" each, without
    quoting. A tenth is held out, by a hash of the ID: the corpus has no split of its own.

    Args:
        root: the folder LJSpeech-1.1.
        split: "train" or "test".

    Returns:
        The utterances in the table's order; the text is the normalised one, the speaker "LJ",
        durations unknown.

    Raises:
        ValueError: if the split is unknown, the table is missing, malformed or empty, or a sound
            file is missing; names the file and the line.
    """
    root = pathlib.Path(root)
    table = root / "metadata.csv"
    if not table.is_file():
        raise ValueError(f"{table}: no such file")
    utterances = list(_utterances(table, root / "wavs"))
    if not utterances:
        raise ValueError(f"{table}: no utterances")
    return of_split(utterances, split)


def _utterances(table: pathlib.Path, folder: pathlib.Path) -> Iterator[Utterance]:
    try:
        lines = table.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: not in UTF-8 ({error})") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split("|")
        if len(fields) != 3 or not fields[0]:
            raise ValueError(f"{table}: line {number} is not ID|text|normalised text: {line!r}")
        sound = folder / f"{fields[0]}.wav"
        if not sound.is_file():
            raise ValueError(f"{table}: line {number}: no file {sound.name!r} in wavs")
        yield Utterance(sound, fields[2], split_of_identifier(fields[0]), _SPEAKER)
