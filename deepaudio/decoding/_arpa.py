"""ARPA files, the text form that language model programs exchange."""

import gzip
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from deepaudio.decoding._ngram import BEGIN, MISSING_UNKNOWN, SPECIAL, UNKNOWN, NgramModel, build

_TEN = math.log(10)
# How ARPA files write the logarithm of nothing.
_NEVER = -99.0


def read_arpa(path: Path | str, *, lower_case: bool = False) -> NgramModel:
    """Reads a backoff model of any order.

    Args:
        path: An ARPA file, compressed with gzip if its name ends in .gz.
        lower_case: Takes every word in lower case, for models in capitals like LibriSpeech's.

    Returns:
        The model, its vocabulary sorted. If the file has no <unk>, an unknown word's probability
        is 1e-100, as it is to KenLM.

    Raises:
        ValueError: The file is no ARPA file; quotes the line. Or two of its words are the same
            in lower case.
    """
    with _open(path, "rt") as file:
        lines = _Lines(file, path)
        counts = _read_counts(lines)
        entries: list[list] = []
        numbers: dict[str, int] = {}
        for order, count in enumerate(counts, start=1):
            if lines.text != f"\\{order}-grams:":
                raise lines.error(f"\\{order}-grams: expected")
            section = _read_section(lines, order, order < len(counts), lower_case)
            if order == 1:
                section = list(section)
                numbers = _number(section, path)
            try:
                entries.append([(p, [numbers[w] for w in ws], b) for p, ws, b in section])
            except KeyError as error:
                raise lines.error(f"{error.args[0]} is not among the 1-grams") from None
            if len(entries[-1]) != count:
                raise lines.error(f"{len(entries[-1])} {order}-grams instead of {count}")
        if lines.text != "\\end\\":
            raise lines.error("\\end\\ expected")
    tables = [
        (
            np.array([words for _, words, _ in section], np.int64).reshape(-1, order),
            np.array([log_prob for log_prob, _, _ in section]) * _TEN,
            np.array([backoff for _, _, backoff in section]) * _TEN,
        )
        for order, section in enumerate(entries, start=1)
    ]
    return build(list(numbers)[len(SPECIAL) :], tables)


def arpa_words(path: Path | str, *, lower_case: bool = False) -> tuple[str, ...]:
    """The sorted vocabulary of an ARPA file, without <unk>, <s> and </s>; `read_arpa` tells more.

    Raises:
        ValueError: The file is no ARPA file; quotes the line.
    """
    with _open(path, "rt") as file:
        lines = _Lines(file, path)
        orders = len(_read_counts(lines))
        section = list(_read_section(lines, 1, orders > 1, lower_case))
    return tuple(sorted(_number(section, path).keys() - {*SPECIAL, "<UNK>"}))


def write_arpa(model: NgramModel, path: Path | str) -> None:
    """Writes a model as an ARPA file.

    Args:
        model: What to write.
        path: The file, compressed with gzip if its name ends in .gz.
    """
    tables = []
    words = np.arange(len(model.vocabulary))[:, None]
    for order, grams in enumerate(model.grams, start=1):
        if order > 1:
            contexts, last = np.divmod(grams.keys, len(model.vocabulary))
            words = np.concatenate([words[contexts], last[:, None]], axis=1)
        # What is only a context has no probability of its own, and backs off with weight one.
        kept = ~np.isnan(grams.log_probs)
        tables.append((words[kept], grams.log_probs[kept], grams.backoffs[kept]))
    with _open(path, "wt") as file:
        file.write("\\data\\\n")
        for order, (words, _, _) in enumerate(tables, start=1):
            file.write(f"ngram {order}={len(words)}\n")
        for order, (words, log_probs, backoffs) in enumerate(tables, start=1):
            file.write(f"\n\\{order}-grams:\n")
            base_10 = np.maximum(log_probs.astype(np.float64) / _TEN, MISSING_UNKNOWN)
            base_10[np.isneginf(log_probs)] = _NEVER
            weights = backoffs.astype(np.float64) / _TEN
            for row, value, weight in zip(
                words.tolist(), base_10.tolist(), weights.tolist(), strict=True
            ):
                text = " ".join([model.vocabulary[number] for number in row])
                backoff = f"\t{weight:.8g}" if weight and order < len(tables) else ""
                file.write(f"{value:.8g}\t{text}{backoff}\n")
        file.write("\n\\end\\\n")


class _Lines:
    """The lines of a file that are not empty, one at a time."""

    def __init__(self, file: TextIO, path: Path | str):
        self._file, self._path, self._number = file, path, 0
        self.text = ""
        self.advance()

    def advance(self) -> None:
        """Goes to the next line; at the end of the file, to an empty one."""
        for line in self._file:
            self._number += 1
            # Not strip(): words may hold what Unicode counts as spaces.
            self.text = line.strip(" \t\r\n")
            if self.text:
                return
        self.text = ""

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self._path}, line {self._number}: {message}, not {self.text!r}")


def _open(path, mode) -> TextIO:
    if str(path).endswith(".gz"):
        return gzip.open(path, mode, encoding="utf-8", newline="\n")
    return open(path, mode, encoding="utf-8", newline="\n")


def _read_counts(lines: _Lines) -> list[int]:
    while lines.text != "\\data\\":
        if not lines.text:
            raise lines.error("\\data\\ expected")
        lines.advance()
    lines.advance()
    counts = []
    while match := re.fullmatch(r"ngram (\d+) *= *(\d+)", lines.text):
        if int(match[1]) != len(counts) + 1:
            raise lines.error(f"the number of {len(counts) + 1}-grams expected")
        counts.append(int(match[2]))
        lines.advance()
    if not counts:
        raise lines.error("ngram 1=… expected")
    return counts


def _read_section(lines, order, has_backoffs, lower_case) -> Iterator[tuple]:
    """Log10 probability, words and log10 backoff of every line of a section."""
    lines.advance()
    while lines.text and not lines.text.startswith("\\"):
        parts = re.split(r"[ \t]+", lines.text)
        if len(parts) not in (order + 1, order + 1 + has_backoffs):
            raise lines.error(f"a probability and {order} words expected")
        words = parts[1 : order + 1]
        try:
            log_prob = float(parts[0])
            backoff = float(parts[order + 1]) if len(parts) > order + 1 else 0.0
        except ValueError:
            raise lines.error("a logarithm expected") from None
        if not (log_prob <= 0 and backoff < math.inf):
            raise lines.error("the logarithm of a probability expected")
        yield log_prob, [word.lower() for word in words] if lower_case else words, backoff
        lines.advance()


def _number(section, path) -> dict[str, int]:
    """Numbers of the words: <unk>, <s> and </s>, then the others, sorted."""
    words = [UNKNOWN if words[0] == "<UNK>" else words[0] for _, words, _ in section]
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ValueError(f"{path}: {twice!r} stands twice among the 1-grams")
    if BEGIN not in words:
        raise ValueError(f"{path}: {BEGIN} is not among the 1-grams")
    numbers = {word: n for n, word in enumerate([*SPECIAL, *sorted(set(words) - set(SPECIAL))])}
    if "<UNK>" in {words[0] for _, words, _ in section}:
        numbers["<UNK>"] = numbers[UNKNOWN]
    return numbers
