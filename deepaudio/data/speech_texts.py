"""Sentences to be spoken: a grammar's and those of free texts, and which split each belongs to."""

import dataclasses
import functools
import hashlib
import pathlib
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Collection, Iterable, Iterator

import numpy as np

from deepaudio.data import speech_grammar, speech_mandarin
from deepaudio.data import speech_numbers as numbers
from deepaudio.data.alphabet import ENGLISH

MAX_WORDS = 16
SPLITS = ("train", "validation", "test")
# Shares of all sentences in thousandths, by the hash of the sentence.
_VALIDATION, _TEST = 30, 70
_LETTER_NAMES = dict(
    zip(
        speech_grammar.LETTERS,
        "ay,bee,see,dee,ee,eff,jee,aitch,eye,jay,kay,ell,em,en,oh,pee,cue,are,ess,tee,you,vee,"
        "double you,ex,why,zee".split(","),
        strict=True,
    )
)
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_TITLE = re.compile(r"\b(mr|mrs|dr)\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.?!])[\"')]*\s+")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+")
_PAUSES = re.compile(r"[,;:?!]")
_QUOTES = re.compile(r"[\"“”()\[\]]")
_NUMBER = re.compile(r"\b([1-9]\d{0,3})\b")
_WORD = re.compile(r"[A-Za-z]+('[A-Za-z]+)*")
# A vowel beside a consonant; what has none is an abbreviation, but for these words.
_SAYABLE = re.compile(r"[a-z][aeiouy]|[aeiouy][a-z]|^[aio]$")
# Volumes whose language is plain; the others hold songs, programs or tables.
_FORTUNES = (
    "cookie education food fortunes humorists kids literature love medicine miscellaneous people "
    "pets platitudes riddles science sports wisdom work"
).split()
_FORTUNES_FOLDER = pathlib.Path("/usr/share/games/fortunes")
_WORDNET_FOLDER = pathlib.Path("/usr/share/wordnet")


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence to be spoken.

    Attributes:
        text: the transcript, in the alphabet.
        spoken: what a speech synthesizer is given, with punctuation and letters' names.
        kind: "generated", or the name of the text it is from.
    """

    text: str
    spoken: str
    kind: str


def split_of(text: str) -> str:
    """Return the split that a sentence belongs to, which follows from the sentence alone.

    Single words are vocabulary that every speaker says, and so always for training.

    Args:
        text: a normalized transcript.

    Returns:
        "train", "validation" or "test".
    """
    if len(text) == 1 or (text.isascii() and " " not in text):
        return "train"
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 1000
    if place < _VALIDATION:
        return "validation"
    return "test" if place < _VALIDATION + _TEST else "train"


def generate(rng: np.random.Generator, language: str = "en") -> Sentence:
    """Generate a sentence by the grammar of a language.

    Args:
        rng: source of randomness.
        language: "en" or "cmn".

    Returns:
        The sentence, of at most `MAX_WORDS` words or characters.
    """
    if language == "cmn":
        spoken = speech_mandarin.generate(rng)
        return Sentence(spoken.replace(",", ""), spoken, "generated")
    while True:
        marked = speech_grammar.generate(rng)
        text = ENGLISH.normalize(re.sub(r"<(\w)>", r"\1", marked))[0]
        if len(text.split()) <= MAX_WORDS:
            break
    spoken = re.sub(r"<(\w)>", lambda match: _LETTER_NAMES[match[1]], marked)
    return Sentence(text, spoken.replace("-", " "), "generated")


def draw(
    rng: np.random.Generator, split: str, *, language: str = "en", without: Collection[str] = ()
) -> Sentence:
    """Draw a sentence of a split: by the grammar, or one time in two from the texts there are.

    Args:
        rng: source of randomness.
        split: "train", "validation" or "test".
        language: "en" or "cmn".
        without: transcripts not to draw.

    Returns:
        The sentence.
    """
    library = read_library() if language == "en" else {}
    while True:
        if library and rng.random() < 0.5:
            volume = library[list(library)[int(rng.integers(len(library)))]]
            sentence = volume[int(rng.integers(len(volume)))]
        else:
            sentence = generate(rng, language)
        if split_of(sentence.text) == split and sentence.text not in without:
            return sentence


@functools.cache
def read_library() -> dict[str, tuple[Sentence, ...]]:
    """Read the free texts that are installed.

    They are the King James Bible (Debian's bible-kjv), WordNet's examples of use (wordnet-base)
    and fortune cookies (fortunes).

    Returns:
        Sentences of 2 to `MAX_WORDS` words by the name of the text, each once; empty where nothing
        is installed.
    """
    volumes = {"bible": _bible(), "wordnet": _wordnet(), "fortunes": _fortunes()}
    library = {}
    for name, passages in volumes.items():
        sentences = {}
        for passage in passages:
            for sentence in cut(passage, name, capitals=name == "bible"):
                sentences.setdefault(sentence.text, sentence)
        if sentences:
            library[name] = tuple(sentences.values())
    return library


def training_lines(
    rng: np.random.Generator, count: int, *, language: str = "en", without: Collection[str] = ()
) -> Iterator[str]:
    """Give the text that a language model may be made from.

    Args:
        rng: source of randomness.
        count: number of generated sentences; those of the texts come on top.
        language: "en" or "cmn".
        without: transcripts to leave out.

    Yields:
        Normalized sentences, none of them of the validation or test split.
    """
    library = read_library() if language == "en" else {}
    texts = (sentence.text for volume in library.values() for sentence in volume)
    generated = (generate(rng, language).text for _ in range(count))
    for lines in (texts, generated):
        for text in lines:
            if split_of(text) == "train" and text not in without:
                yield text


def cut(passage: str, kind: str, *, capitals: bool = False) -> Iterator[Sentence]:
    """Cut a passage into sentences fit to be spoken.

    It is cut at the ends of sentences, and where a sentence is longer than a limit of 4 to 16
    words, which follows from the sentence, at its other punctuation. Digits are written out. A
    piece with signs, abbreviations or acronyms whose sound the letters do not tell is left out.

    Args:
        passage: any text.
        kind: what to call it.
        capitals: whether words all in capitals are words rather than acronyms.

    Yields:
        The sentences.
    """
    passage = unicodedata.normalize("NFKC", " ".join(passage.split()))
    passage = passage.replace("’", "'").replace("--", ", ")
    passage = _TITLE.sub(lambda match: _TITLES[match[1].lower()], passage)
    for whole in _SENTENCE_END.split(passage):
        limit = 4 + hashlib.sha256(whole.encode()).digest()[0] % (MAX_WORDS - 3)
        for piece in _pieces(whole, limit):
            spoken = _spoken(piece, capitals=capitals)
            if spoken:
                text = _PAUSES.sub("", spoken)
                if 2 <= len(text.split()) <= MAX_WORDS:
                    yield Sentence(text, spoken, kind)


def _pieces(sentence: str, limit: int) -> Iterator[str]:
    """Yield parts that end at punctuation and are as long as the limit allows."""
    held = ""
    for clause in _CLAUSE_END.split(sentence):
        joined = f"{held} {clause}".strip()
        if held and len(joined.split()) > limit:
            yield held
            joined = clause
        held = joined
    yield held


def _spoken(piece: str, *, capitals: bool) -> str | None:
    """Return a piece in lower case with its digits written out; None if its sound is unclear."""
    piece = _QUOTES.sub("", piece).replace("-", " ")
    piece = _NUMBER.sub(lambda match: numbers.cardinal(int(match[1])), piece)
    words = []
    for word in piece.split():
        bare = word.strip(",;:.?!'`")
        acronym = bare.isupper() and len(bare) > 1 and not capitals
        if acronym or not _WORD.fullmatch(bare) or not _SAYABLE.search(bare.lower()):
            return None
        ending = word[-1] if word[-1] in ",;:?!" else ""
        words.append(bare.lower() + ending)
    return " ".join(words).rstrip(",;:") or None


def _bible() -> Iterable[str]:
    program = shutil.which("bible")
    if program is None:
        return ()
    run = subprocess.run(
        [program, "-f", "Gen1:1-Rev22:21"], capture_output=True, text=True, check=False
    )
    return [line.partition(" ")[2] for line in run.stdout.splitlines()]


def _fortunes() -> Iterable[str]:
    paths = (_FORTUNES_FOLDER / name for name in _FORTUNES)
    texts = (path.read_text("utf-8", errors="replace") for path in paths if path.is_file())
    # A cookie ends with who said it.
    return [
        re.sub(r"\n\s*--.*", "", cookie, flags=re.DOTALL)
        for text in texts
        for cookie in text.split("\n%\n")
    ]


def _wordnet() -> Iterable[str]:
    return [
        example
        for path in sorted(_WORDNET_FOLDER.glob("data.*"))
        for line in path.read_text("utf-8", errors="replace").splitlines()
        for example in re.findall(r'"([^"]+)"', line.partition("|")[2])
    ]
