"""Utterances in the layout of Mozilla's Common Voice (Ardila et al., LREC 2020)."""

import csv
import os
import pathlib
from collections.abc import Iterator

from deepaudio.data._utterance import Utterance

_COLUMNS = ("client_id", "path", "sentence")
_DURATIONS = "clip_durations.tsv"


def read_common_voice(root: str | os.PathLike, split: str) -> list[Utterance]:
    """List the utterances of a part of Common Voice in one language.

    Args:
        root: the folder of the language, with `clips/` and the tables. Durations are taken from
            clip_durations.tsv where there is one.
        split: a table's name: "train", "dev", "test", "validated", ….

    Returns:
        The utterances in the order of the table.

    Raises:
        ValueError: if the table is missing, malformed or empty, or a clip is missing; names the
            file and the line.
    """
    root = pathlib.Path(root)
    table = root / f"{split}.tsv"
    durations = {}
    if (root / _DURATIONS).is_file():
        for line, row in _rows(root / _DURATIONS, ("clip", "duration[ms]")):
            durations[row["clip"]] = _seconds(root / _DURATIONS, line, row["duration[ms]"])
    utterances = []
    for line, row in _rows(table, _COLUMNS):
        sound = root / "clips" / row["path"]
        if not row["path"] or not sound.is_file():
            raise ValueError(f"{table}: line {line}: no file {row['path']!r} in clips")
        utterances.append(
            Utterance(sound, row["sentence"], split, row["client_id"], durations.get(row["path"]))
        )
    if not utterances:
        raise ValueError(f"{table}: no utterances")
    return utterances


def _rows(table: pathlib.Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict]]:
    """Yield the number of each line and its fields; there is no quoting in these tables."""
    if not table.is_file():
        raise ValueError(f"{table}: no such file")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{table}: no column {', '.join(missing)}")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{table}: line {reader.line_num} has too many or too few fields"
                    )
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table}: not a table in UTF-8 ({error})") from error


def _seconds(table: pathlib.Path, line: int, milliseconds: str) -> float:
    try:
        return float(milliseconds) / 1000.0
    except ValueError:
        raise ValueError(f"{table}: line {line}: duration {milliseconds!r} is no number") from None
