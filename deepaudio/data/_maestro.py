"""Recordings in the layout of MAESTRO (arXiv 1810.12247)."""

import csv
import os
import pathlib

from deepaudio.data._recording import Recording

_COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "midi_filename",
    "audio_filename",
    "duration",
)


def read_maestro(root: str | os.PathLike, split: str | None = None) -> list[Recording]:
    """List the recordings of MAESTRO v1, v2 or v3, or of a corpus in the same layout.

    Args:
        root: the folder with the corpus's CSV file, to which the paths in it are relative. A
            column `instrument` beside MAESTRO's own is read where there is one.
        split: "train", "validation" or "test"; None for all.

    Returns:
        The recordings in the order of the CSV file.

    Raises:
        ValueError: if there is not exactly one CSV file, it is malformed, a file it names is
            missing, or the split is empty.
    """
    table = _only_csv(pathlib.Path(root))
    recordings = []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{table}: no column {', '.join(missing)}")
            for row in reader:
                if split is None or row["split"] == split:
                    recordings.append(_recording(table, reader.line_num, row))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table}: not a CSV file in UTF-8 ({error})") from error
    if not recordings:
        raise ValueError(f"{table}: no recordings of split {split or 'any'!r}")
    return recordings


def _only_csv(root: pathlib.Path) -> pathlib.Path:
    tables = sorted(root.glob("*.csv"))
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise ValueError(f"{root}: wants one CSV file, found {found}")
    return tables[0]


def _recording(table: pathlib.Path, line: int, row: dict) -> Recording:
    if None in row or None in row.values():
        raise ValueError(f"{table}: line {line} has too many or too few fields")
    paths = {}
    for column in ("audio_filename", "midi_filename"):
        paths[column] = table.parent / row[column]
        if not row[column] or not paths[column].is_file():
            raise ValueError(f"{table}: line {line}: no file {row[column]!r}")
    try:
        duration = float(row["duration"]) if row["duration"] else None
    except ValueError:
        raise ValueError(
            f"{table}: line {line}: duration {row['duration']!r} is no number"
        ) from None
    return Recording(
        audio_path=paths["audio_filename"],
        midi_path=paths["midi_filename"],
        split=row["split"],
        piece=row["canonical_title"],
        composer=row["canonical_composer"],
        instrument=row.get("instrument", "Disklavier"),
        duration=duration,
    )
