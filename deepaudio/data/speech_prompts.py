"""Recordings of a human speaker: the telephone prompts of Asterisk, as Debian packages them.

The sounds are in asterisk-core-sounds-en-g722 (or -wav), their texts in asterisk-core-sounds-en.
Copyright Allison Smith and Digium, CC-BY-SA 3.0.
"""

import collections
import dataclasses
import gzip
import hashlib
import pathlib
import re

from deepaudio.data import speech_numbers as numbers
from deepaudio.data.alphabet import ENGLISH

SOUNDS = pathlib.Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = pathlib.Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
# What is said where the list has it otherwise: slips, and words it puts together.
_SAID = {
    "letters/exclaimation-point": "exclamation point",
    "phonetic/x_p": "x ray",
    "queue-periodic-announce": "all of our representatives are currently busy please stay on the "
    "line and your call will be answered by the next available representative",
    "spy-iax2": "IAX",
    "unidentified-no-callback": "unidentified or withheld and therefore cannot be called back",
    "vm-intro": "please leave your message after the tone when done hang up or press the pound key",
}
_SLIPS = {"umute": "unmute", "thru": "through"}
_SIGNS = {"*": " star ", "#": " pound "}
# Acronyms said as words; others are spelled.
_WORDS = ("DAHDI", "SIP", "INBOX", "VOIP")
_FOLDERS = ("digits", "letters", "phonetic")
_LONGEST_WORDS = 40


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A recorded prompt.

    Attributes:
        path: the sound file.
        name: its name in the list of texts.
        text: the transcript, in the English alphabet.
        kind: "digits", "letters", "phonetic" or "other".
        split: "train", "validation" or "test".
    """

    path: pathlib.Path
    name: str
    text: str
    kind: str
    split: str


def read_prompts(
    sounds: pathlib.Path = SOUNDS, texts: pathlib.Path = TEXTS
) -> tuple[list[Prompt], collections.Counter]:
    """Read the prompts.

    A third is for test and a tenth for validation, by the hash of the text, so that the same words
    under two names are in one split.

    Args:
        sounds: folder of g722 or WAV files.
        texts: the list of texts, gzip-compressed, of lines "name: text".

    Returns:
        The prompts by name, and how many were left out by reason; nothing where nothing is
        installed.
    """
    left_out = collections.Counter()
    prompts = []
    if not sounds.is_dir() or not texts.is_file():
        return prompts, left_out
    written = dict(_lines(texts))
    for path in sorted([*sounds.rglob("*.g722"), *sounds.rglob("*.wav")]):
        name = path.relative_to(sounds).with_suffix("").as_posix()
        text, reason = _transcript(name, written.get(name))
        if reason:
            left_out[reason] += 1
            continue
        folder = name.partition("/")[0]
        kind = folder if folder in _FOLDERS else "other"
        prompts.append(Prompt(path, name, text, kind, _split(text)))
    return prompts, left_out


def _lines(path: pathlib.Path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            name, colon, text = line.strip().partition(": ")
            if colon and not name.startswith(";"):
                yield name, text


def _transcript(name: str, written: str | None) -> tuple[str, str | None]:
    """Return a prompt's transcript, or why it is not known."""
    if written is None:
        return "", "no text in the list"
    said = _SAID.get(name, written)
    # Descriptions of a sound, and signs that a name stands for.
    said = re.sub(r"\[[^]]*\]?\]|<[^>]*>|\([^)]*\)", " ", said)
    if re.search(r"\d\d|\d\.\d|www\.", said):
        return "", "a number or address that can be said in several ways"
    for sign, word in _SIGNS.items():
        said = said.replace(sign, word)
    said = re.sub(r"\d", lambda match: f" {numbers.cardinal(int(match[0]))} ", said)
    said = re.sub(r"\b([A-Z])\.", r"\1 ", said)
    said = re.sub(r"\b[A-Z]{2,}\b", lambda m: m[0] if m[0] in _WORDS else " ".join(m[0]), said)
    said = re.sub(r"\b([Rr]e|[Dd]e)-", r"\1", said)
    words = [_SLIPS.get(word, word) for word in ENGLISH.normalize(said)[0].split()]
    if not words:
        return "", "no words"
    if len(words) > _LONGEST_WORDS:
        return "", f"more than {_LONGEST_WORDS} words"
    return " ".join(words), None


def _split(text: str) -> str:
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[4:8], "big") % 30
    return "test" if place < 10 else "validation" if place < 13 else "train"
