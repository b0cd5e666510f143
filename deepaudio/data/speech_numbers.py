"""Numbers as English words, the way a transcript without digits writes them."""

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_POWERS = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """Spell a number.

    Args:
        number: 0 up to 10**12, exclusive.

    Returns:
        Lower-case words without hyphens or "and": "four hundred twenty one".

    Raises:
        ValueError: if the number is out of range.
    """
    if not 0 <= number < 10**12:
        raise ValueError(f"{number=} is not within 0..10**12")
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _joined(_TENS[tens], rest)
    size, name = next(power for power in _POWERS if number >= power[0])
    count, rest = divmod(number, size)
    return _joined(f"{cardinal(count)} {name}", rest)


def ordinal(number: int) -> str:
    """Spell a rank.

    Args:
        number: 1 up to 10**12, exclusive.

    Returns:
        Lower-case words without hyphens: "twenty first".

    Raises:
        ValueError: if the number is out of range.
    """
    if number < 1:
        raise ValueError(f"{number=} has no rank")
    before, _, last = cardinal(number).rpartition(" ")
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return f"{before} {last}".strip()


def year(number: int) -> str:
    """Spell a year the way it is said.

    Args:
        number: 1000 to 2999.

    Returns:
        "nineteen eighty four", "nineteen oh five", "nineteen hundred", "two thousand seven".

    Raises:
        ValueError: if the number is out of range.
    """
    if not 1000 <= number <= 2999:
        raise ValueError(f"{number=} is not within 1000..2999")
    century, rest = divmod(number, 100)
    if number % 1000 < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str, *, zero: str = "zero") -> str:
    """Spell digits one by one.

    Args:
        text: of digits.
        zero: the word for 0, such as "oh".

    Returns:
        "four two zero".
    """
    return " ".join(zero if digit == "0" else _UNITS[int(digit)] for digit in text)


def _joined(words: str, rest: int) -> str:
    return f"{words} {cardinal(rest)}" if rest else words
