import collections
import re

import numpy as np
import pytest

from deepaudio.data import speech_grammar, speech_mandarin, speech_texts
from deepaudio.data import speech_numbers as numbers
from deepaudio.data.alphabet import ENGLISH
from deepaudio.data.speech_texts import Sentence

SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
SMALL = [*SMALL.split(), *"fifteen sixteen seventeen eighteen nineteen".split()]
VALUES = {word: value for value, word in enumerate(SMALL)}
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
VALUES |= {word: 10 * value for value, word in enumerate(TENS, start=2)}
POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9}


def understood(words):
    """The number that English words mean."""
    total = part = 0
    for word in words.split():
        if word == "hundred":
            part *= 100
        elif word in POWERS:
            total, part = total + part * POWERS[word], 0
        else:
            part += VALUES[word]
    return total + part


def test_numbers_mean_what_they_say(rng):
    chosen = [*range(2000), *(10 ** rng.uniform(3, 12, 500)).astype(int), 10**12 - 1]
    for number in chosen:
        words = numbers.cardinal(int(number))
        assert understood(words) == number
        assert set(words) <= set("abcdefghijklmnopqrstuvwxyz ")
        assert not re.search(r"\bzero\b", words) or number == 0
    assert numbers.cardinal(421) == "four hundred twenty one"


def test_ranks_are_the_irregular_ones_or_end_in_th():
    for number in range(1, 1500):
        *before, last = numbers.ordinal(number).split()
        *expected, plain = numbers.cardinal(number).split()
        assert before == expected
        irregular = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
        irregular |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
        ending = plain[:-1] + "ieth" if plain.endswith("y") else plain + "th"
        assert last == irregular.get(plain, ending)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1984, "nineteen eighty four"),
        (1905, "nineteen oh five"),
        (1900, "nineteen hundred"),
        (2000, "two thousand"),
        (2007, "two thousand seven"),
        (2024, "twenty twenty four"),
        (1066, "ten sixty six"),
    ],
)
def test_years_are_said_in_pairs(number, words):
    assert numbers.year(number) == words


def test_digits_are_said_one_by_one():
    assert numbers.digits("40291") == "four zero two nine one"
    assert numbers.digits("500", zero="oh") == "five oh oh"


@pytest.mark.parametrize(
    ("function", "number"),
    [(numbers.cardinal, -1), (numbers.cardinal, 10**12), (numbers.ordinal, 0), (numbers.year, 999)],
)
def test_numbers_out_of_range_are_refused(function, number):
    with pytest.raises(ValueError, match=f"number={number}"):
        function(number)


def test_every_rule_of_the_grammars_is_there_and_used():
    for grammar, roots in (
        (speech_grammar, set(speech_grammar._KINDS)),
        (speech_mandarin, {"sentence"}),
    ):
        text = "".join(grammar._RULES.values())
        named = set(re.findall(r"\[(\w+)\]", text))
        assert named <= set(grammar._RULES) | set(grammar._MADE)
        assert set(grammar._RULES) | set(grammar._MADE) == named | roots
        # Nothing but rules stands in brackets.
        assert not re.search(r"[\[\]]", re.sub(r"\[\w+\]", "", text))


def test_generated_sentences_are_short_many_and_in_the_alphabet(rng):
    sentences = [speech_texts.generate(rng) for _ in range(4000)]
    for sentence in sentences:
        assert ENGLISH.normalize(sentence.text) == (sentence.text, {})
        assert 1 <= len(sentence.text.split()) <= speech_texts.MAX_WORDS
        assert re.fullmatch(r"[a-z', ]+", sentence.spoken)
    words = {word for sentence in sentences for word in sentence.text.split()}
    assert len({sentence.text for sentence in sentences}) > 2500 and 800 < len(words) < 2000
    assert words >= {"alpha", "january", "dollars", "o'clock", "first", "zero", "oh", "press"}
    lengths = collections.Counter(len(sentence.text.split()) for sentence in sentences)
    assert lengths[1] > 200 and sum(lengths[n] for n in range(8, 17)) > 400


def test_letters_are_spoken_by_their_names(rng, monkeypatch):
    monkeypatch.setattr(speech_grammar, "_KINDS", {"spelling": 1})
    names = {"a": "ay", "b": "bee", "h": "aitch", "w": "double you", "z": "zee"}
    told = set()
    for sentence in (speech_texts.generate(rng) for _ in range(2000)):
        if sentence.text.startswith("please spell "):
            letters = sentence.text.split()[2:]
            spoken = sentence.spoken.replace("double you", "double-you").split()[2:]
            assert all(len(letter) == 1 for letter in letters)
            for letter, name in zip(letters, spoken, strict=True):
                assert names.get(letter, name) == name.replace("-", " ")
                told.add(letter)
    assert told >= set(names)


def test_sentences_belong_to_splits_by_themselves():
    splits = collections.Counter(
        speech_texts.split_of(f"a sentence of number {number}") for number in range(20000)
    )
    assert splits["validation"] / 20000 == pytest.approx(0.03, abs=0.004)
    assert splits["test"] / 20000 == pytest.approx(0.07, abs=0.006)
    assert speech_texts.split_of("seven") == "train" == speech_texts.split_of("七")
    chinese = {speech_texts.split_of(speech_mandarin.spell(number)) for number in range(20, 500)}
    assert chinese == {"train", "validation", "test"}


VOLUME = tuple(Sentence(f"book line {i}", f"book line {i}", "book") for i in range(500))


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setattr(speech_texts, "read_library", lambda: {"book": VOLUME})


@pytest.mark.parametrize("split", speech_texts.SPLITS)
def test_drawn_sentences_are_of_the_split_and_half_of_them_from_books(library, rng, split):
    drawn = [speech_texts.draw(rng, split) for _ in range(200)]
    assert {speech_texts.split_of(sentence.text) for sentence in drawn} == {split}
    share = np.mean([sentence.kind == "book" for sentence in drawn])
    assert share == pytest.approx(0.5, abs=0.15)
    avoided = {sentence.text for sentence in drawn[:100]}
    again = [speech_texts.draw(rng, split, without=avoided) for _ in range(50)]
    assert not {sentence.text for sentence in again} & avoided


def test_texts_for_language_models_have_no_held_out_sentence(library, rng):
    without = {"book line 0", "book line 1"}
    lines = list(speech_texts.training_lines(rng, 2000, without=without))
    assert {speech_texts.split_of(line) for line in lines} == {"train"}
    books = {line for line in lines if line.startswith("book line")}
    expected = {s.text for s in VOLUME if speech_texts.split_of(s.text) == "train"} - without
    assert books == expected
    assert 1700 < len(lines) - len(books) < 2000


def texts(passage, **settings):
    return [sentence.text for sentence in speech_texts.cut(passage, "x", **settings)]


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("He ran.  She\nwalked away!", ["he ran", "she walked away"]),
        ("Mr. Smith met Dr. Jones.", ["mister smith met doctor jones"]),
        ("It's 21--he's late.", ["it's twenty one he's late"]),
        ('"Well-known," he said', ["well known he said"]),
        ("The boys' ’twas said", ["the boys twas said"]),
        ("In 1984 we won", ["in one thousand nine hundred eighty four we won"]),
        ("The NATO summit. All is well.", ["all is well"]),
        ("Call 007 now. 5% of it. x = y here. Use a GOTO here", []),
        ("Brrr it is. J. R. left", []),
        ("Alone.", []),
    ],
)
def test_passages_are_cut_and_written_out(passage, expected):
    assert texts(passage) == expected


def test_capitals_are_words_where_said_so():
    assert texts("And the LORD God said") == []
    assert texts("And the LORD God said", capitals=True) == ["and the lord god said"]


def test_pauses_are_spoken_and_not_written():
    (sentence,) = speech_texts.cut("Yes, I do; why?", "x")
    assert sentence == Sentence("yes i do why", "yes, i do; why?", "x")


def test_long_sentences_are_cut_at_punctuation():
    clause = "one two three four five"
    passage = ", ".join([clause] * 7) + "."
    pieces = texts(passage)
    assert " ".join(pieces) == " ".join([clause] * 7)
    assert all(len(piece.split()) % 5 == 0 and len(piece.split()) <= 16 for piece in pieces)
    assert texts(" ".join([clause] * 4)) == []


def test_installed_books_are_read(tmp_path, monkeypatch):
    (tmp_path / "data.noun").write_text(
        '  1 license "AS IS"\n001 03 n 01 cat 0 | an animal; "the cat sat down"; "she ran"\n'
    )
    (tmp_path / "wisdom").write_text("Know thyself well.\n\t\t-- Thales of Miletus\n%\nTry again\n")
    monkeypatch.setattr(speech_texts, "_WORDNET_FOLDER", tmp_path)
    monkeypatch.setattr(speech_texts, "_FORTUNES_FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    library = speech_texts.read_library.__wrapped__()
    assert {name: [s.text for s in volume] for name, volume in library.items()} == {
        "wordnet": ["the cat sat down", "she ran"],
        "fortunes": ["know thyself well", "try again"],
    }


def test_the_bible_is_read(require, monkeypatch, tmp_path):
    require("bible")
    monkeypatch.setattr(speech_texts, "_WORDNET_FOLDER", tmp_path)
    monkeypatch.setattr(speech_texts, "_FORTUNES_FOLDER", tmp_path)
    lines = speech_texts._bible()
    assert len(lines) > 31000
    assert lines[0] == "In the beginning God created the heaven and the earth."


UNITS = {"十": 10, "百": 100, "千": 1000}


def understood_chinese(characters):
    total, digit = 0, 0
    for character in characters:
        if character in UNITS:
            total, digit = total + (digit or 1) * UNITS[character], 0
        else:
            digit = "零一二三四五六七八九".index(character)
    return total + digit


def test_chinese_numbers_mean_what_they_say():
    said = [speech_mandarin.spell(number) for number in range(10000)]
    assert [understood_chinese(characters) for characters in said] == list(range(10000))
    assert [said[n] for n in (12, 20, 105, 110, 1001)] == [
        "十二",
        "二十",
        "一百零五",
        "一百一十",
        "一千零一",
    ]
    with pytest.raises(ValueError, match="number=10000"):
        speech_mandarin.spell(10000)


def test_mandarin_sentences_have_a_few_hundred_characters(rng):
    sentences = [speech_texts.generate(rng, "cmn") for _ in range(5000)]
    characters = set("".join(sentence.text for sentence in sentences))
    assert 250 <= len(characters) <= 400
    assert all("\u4e00" <= character <= "\u9fff" for character in characters)
    assert all(s.spoken.replace(",", "") == s.text for s in sentences)
    assert len({sentence.text for sentence in sentences}) > 3000
