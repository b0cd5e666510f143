"""What a recognizer writes with: characters, or pairs of them, and how text becomes numbers."""

import collections
import dataclasses
import functools
import unicodedata
from collections.abc import Iterable

import numpy as np

BLANK = 0
# What stands for a letter that the alphabet lacks: typographic quotes and dashes.
_REPLACED = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "–": " ", "—": " ", "-": " "})


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """The output units of a recognizer; unit i has the number i + 1, the CTC blank has 0.

    Attributes:
        units: One or two characters each, no two the same. With pairs, a text is cut into pairs
            from the left within each word, never across spaces (arXiv 1512.02595, section 3.6).
        word_separator: What stands between words in a transcript; empty where every character
            counts as a word, as in Mandarin.
    """

    units: tuple[str, ...]
    word_separator: str = " "

    def __post_init__(self):
        """Refuses what could not be read back.

        Raises:
            ValueError: There is no unit, one stands twice, or one is not one or two characters.
        """
        if not self.units:
            raise ValueError("an alphabet needs at least one unit")
        twice = [u for u, n in collections.Counter(self.units).items() if n > 1]
        if twice:
            raise ValueError(f"the unit {twice[0]!r} stands twice in the alphabet")
        for unit in self.units:
            if len(unit) not in (1, 2):
                raise ValueError(f"the unit {unit!r} must be one or two characters")

    def __len__(self) -> int:
        """Number of outputs, the blank included."""
        return len(self.units) + 1

    @functools.cached_property
    def characters(self) -> frozenset[str]:
        """The characters that a transcript may hold."""
        return frozenset("".join(self.units))

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {unit: number for number, unit in enumerate(self.units, start=BLANK + 1)}

    def normalize(self, text: str) -> tuple[str, collections.Counter]:
        """A text in this alphabet, and what had to be left out of it.

        Lower case; compatibility forms resolved (NFKC); dashes become spaces and typographic
        apostrophes plain ones; an accented letter becomes its plain one where the alphabet lacks
        it; any other character that the alphabet lacks becomes a space, so that words stay apart,
        and is counted unless it is punctuation or a space; spaces in a row become one, none at
        either end.

        Args:
            text: As it is found in a corpus.

        Returns:
            The normalized text, and how often each character that is no punctuation was left out.

        >>> ENGLISH.normalize("It’s  9 o'clock, Zoë!")
        ("it's o'clock zoe", Counter({'9': 1}))
        """
        known, lost, kept = self.characters, collections.Counter(), []
        for char in unicodedata.normalize("NFKC", text).lower().translate(_REPLACED):
            if char in known:
                kept.append(char)
                continue
            plain = unicodedata.normalize("NFD", char)[0]
            if plain in known:
                kept.append(plain)
                continue
            if unicodedata.category(char)[0] not in "PZC":
                lost[char] += 1
            kept.append(" ")
        return self.word_separator.join("".join(kept).split()), lost

    def encode(self, text: str) -> np.ndarray:
        """A normalized text as numbers.

        Args:
            text: As `normalize` returns it.

        Returns:
            (units,) int32, none of them the blank.

        Raises:
            ValueError: A character or pair is not in the alphabet; names it.
        """
        numbers = self._numbers
        try:
            return np.array([numbers[unit] for unit in self._split(text)], np.int32)
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} of {text!r} is not in the alphabet") from None

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of some numbers without blanks; the inverse of `encode`."""
        return "".join(self.units[int(number) - 1 - BLANK] for number in numbers)

    def _split(self, text: str) -> list[str]:
        numbers, place, units = self._numbers, 0, []
        while place < len(text):
            # A lone letter is always a unit too, so that every pair left out can be spelled.
            pair = text[place : place + 2]
            unit = pair if len(pair) == 2 and pair in numbers else text[place]
            units.append(unit)
            place += len(unit)
        return units

    def to_dict(self) -> dict:
        """JSON types only; `from_dict` is the inverse."""
        return {"units": list(self.units), "word_separator": self.word_separator}

    @classmethod
    def from_dict(cls, stored: dict) -> "Alphabet":
        """Builds the alphabet from what `to_dict` gave."""
        return cls(tuple(stored["units"]), stored["word_separator"])


ENGLISH = Alphabet(tuple(" 'abcdefghijklmnopqrstuvwxyz"))


def english_bigrams() -> Alphabet:
    """English letters, and all pairs of letters and apostrophes, for long strides over time."""
    letters = ENGLISH.units[1:]
    return Alphabet(ENGLISH.units + tuple(a + b for a in letters for b in letters))


def alphabet_of(texts: Iterable[str], *, limit: int = 6000, word_separator: str = "") -> Alphabet:
    """The characters of some texts, the most frequent first.

    Args:
        texts: Transcripts.
        limit: The most characters to take.
        word_separator: As `Alphabet` has it; where it is not empty, it is the first unit.

    Returns:
        The alphabet, of characters that are neither punctuation nor spaces.

    Raises:
        ValueError: There is no such character.
    """
    counts = collections.Counter(
        char
        for text in texts
        for char in unicodedata.normalize("NFKC", text).lower()
        if unicodedata.category(char)[0] in "LNM" or char == "'"
    )
    ranked = sorted(counts, key=lambda char: (-counts[char], char))[:limit]
    return Alphabet((*word_separator, *ranked), word_separator)
