import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaudio.data.alphabet import BLANK, ENGLISH, Alphabet, alphabet_of, english_bigrams


@pytest.mark.parametrize(
    ("text", "expected", "lost"),
    [
        ("Hello, World!", "hello world", {}),
        ("  two\n lines\t", "two lines", {}),
        ("Don’t — ever-green", "don't ever green", {}),
        ("naïve Ångström", "naive angstrom", {}),
        ("ﬁne", "fine", {}),
        ("route 66", "route", {"6": 2}),
        ("π r²", "r", {"π": 1, "2": 1}),
        ("", "", {}),
    ],
)
def test_text_is_normalized_by_the_stated_rules(text, expected, lost):
    assert ENGLISH.normalize(text) == (expected, collections.Counter(lost))


@given(st.text(max_size=30))
def test_a_normalized_text_can_be_written_and_stays_as_it_is(text):
    normal, _ = ENGLISH.normalize(text)
    assert ENGLISH.normalize(normal) == (normal, collections.Counter())
    assert ENGLISH.decode(ENGLISH.encode(normal)) == normal
    assert BLANK not in ENGLISH.encode(normal)


def test_english_has_28_units_and_the_blank():
    assert len(ENGLISH) == 29
    assert ENGLISH.encode("a b'").tolist() == [
        1 + ENGLISH.units.index(unit) for unit in ("a", " ", "b", "'")
    ]


def test_pairs_are_cut_from_the_left_and_never_across_spaces():
    """The paper's example: "the cat sat" without overlap."""
    alphabet = english_bigrams()
    units = [alphabet.units[i - 1] for i in alphabet.encode("the cat sat")]
    assert units == ["th", "e", " ", "ca", "t", " ", "sa", "t"]
    assert alphabet.decode(alphabet.encode("the cat sat")) == "the cat sat"


def test_characters_of_a_corpus_by_frequency():
    alphabet = alphabet_of(["我们。我", "他们！ 我"], limit=2)
    assert alphabet.units == ("我", "们")
    text, lost = alphabet.normalize("我 们，他")
    assert text == "我们" and lost == {"他": 1}


def test_round_trip_through_json():
    alphabet = english_bigrams()
    assert Alphabet.from_dict(alphabet.to_dict()) == alphabet


def test_bad_alphabets_and_texts_are_refused():
    with pytest.raises(ValueError, match="'a' stands twice"):
        Alphabet(("a", "a"))
    with pytest.raises(ValueError, match="'abc'"):
        Alphabet(("abc",))
    with pytest.raises(ValueError, match="at least one"):
        Alphabet(())
    with pytest.raises(ValueError, match="'7' of 'route 7'"):
        ENGLISH.encode("route 7")
