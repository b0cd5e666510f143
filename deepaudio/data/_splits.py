"""The split of corpora that have none of their own."""

import hashlib
from collections.abc import Iterable

from deepaudio.data._utterance import Utterance

SPLITS = ("train", "test")


def split_of_identifier(identifier: str) -> str:
    """Return the split of an utterance, which follows from its identifier alone.

    Args:
        identifier: the corpus's name of it.

    Returns:
        "test" for a tenth, else "train".
    """
    place = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:4], "big")
    return "test" if place % 10 == 0 else "train"


def of_split(utterances: Iterable[Utterance], split: str) -> list[Utterance]:
    """Return the utterances of a split, which must be one of `SPLITS`.

    Raises:
        ValueError: if it is no such name.
    """
    if split not in SPLITS:
        raise ValueError(f"{split=} must be one of {', '.join(SPLITS)}")
    return [utterance for utterance in utterances if utterance.split == split]
