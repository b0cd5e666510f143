"""Utterances in the layout of VCTK 0.92 (Yamagishi, Veaux and MacDonald, 2019)."""

import os
import pathlib
from collections.abc import Iterator

from deepaudio.data._splits import of_split, split_of_identifier
from deepaudio.data._utterance import Utterance

_SOUNDS = "wav48_silence_trimmed"
_ENDING = "_mic1.flac"


def read_vctk(root: str | os.PathLike, split: str) -> list[Utterance]:
    """List the utterances of a part of VCTK, as the first of its two microphones heard them.

    The layout is wav48_silence_trimmed/p225/p225_001_mic1.flac and txt/p225/p225_001.txt. A tenth
    is held out, by a hash of the utterance's name (p225_001): the corpus has no split of its own.

    Args:
        root: the folder that holds the two.
        split: "train" or "test".

    Returns:
        The utterances by speaker and number; the speaker is such as "p225", durations are unknown,
        and the text is empty where there is none, as for all of p315.

    Raises:
        ValueError: if the split is unknown, there is no such folder, it has no sounds, a sound's
            name is not of its speaker, or a text is not in UTF-8; names the file.
    """
    root = pathlib.Path(root)
    folder = root / _SOUNDS
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    utterances = list(_utterances(folder, root / "txt"))
    if not utterances:
        raise ValueError(f"{folder}: no SPEAKER/*{_ENDING}")
    return of_split(utterances, split)


def _utterances(folder: pathlib.Path, texts: pathlib.Path) -> Iterator[Utterance]:
    for sound in sorted(folder.glob(f"*/*{_ENDING}")):
        name, speaker = sound.name.removesuffix(_ENDING), sound.parent.name
        if not name.startswith(f"{speaker}_"):
            raise ValueError(f"{sound}: not {speaker}_NUMBER{_ENDING}")
        text = _text(texts / speaker / f"{name}.txt")
        yield Utterance(sound, text, split_of_identifier(name), speaker)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not in UTF-8 ({error})") from error
