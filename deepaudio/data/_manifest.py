"""Utterances in a manifest: a file of JSON lines, as several speech toolkits read them."""

import json
import os
import pathlib

from deepaudio.data._utterance import Utterance

_REQUIRED = ("audio_filepath", "text")


def read_manifest(path: str | os.PathLike) -> list[Utterance]:
    """List the utterances of a manifest.

    Every line is a JSON object with `audio_filepath` (relative paths begin at the manifest's
    folder) and `text`; `duration` in seconds, `speaker`, `kind` and `split` may be there. Without
    `split`, the manifest's own name is the split.

    Args:
        path: the manifest.

    Returns:
        The utterances in the manifest's order.

    Raises:
        ValueError: if the file is missing, not JSON lines in UTF-8 or empty, a field is missing or
            of the wrong type, or a sound file is missing; names the file and the line.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not in UTF-8 ({error})") from error
    utterances = [
        _utterance(path, number, line)
        for number, line in enumerate(lines, start=1)
        if line and not line.isspace()
    ]
    if not utterances:
        raise ValueError(f"{path}: no utterances")
    return utterances


def _utterance(path: pathlib.Path, number: int, line: str) -> Utterance:
    where = f"{path}: line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is not a JSON object: {line!r}")
    missing = [name for name in _REQUIRED if name not in row]
    if missing:
        raise ValueError(f"{where}: no field {', '.join(missing)}")
    for name in (*_REQUIRED, "speaker", "kind", "split"):
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{where}: {name} {row[name]!r} is no string")
    duration = row.get("duration")
    is_number = isinstance(duration, int | float) and not isinstance(duration, bool)
    if duration is not None and not (is_number and 0 < duration < float("inf")):
        raise ValueError(f"{where}: duration {duration!r} is no number above 0")
    sound = path.parent / row["audio_filepath"]
    if not sound.is_file():
        raise ValueError(f"{where}: no file {row['audio_filepath']!r}")
    return Utterance(
        audio_path=sound,
        text=row["text"],
        split=row.get("split", path.stem),
        speaker=row.get("speaker", ""),
        duration=None if duration is None else float(duration),
        kind=row.get("kind", ""),
    )
