"""The prefixes that a beam search has met, as a tree, and what each is worth besides its sound."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from deepaudio.data.alphabet import BLANK, Alphabet
from deepaudio.decoding._automata import HotWords, Lexicon
from deepaudio.decoding._ngram import UNKNOWN, LanguageModel


class Table:
    """Columns that grow together; rows point at earlier rows by the column `parent`."""

    def __init__(self, **dtypes: Any):
        self.columns = {
            name: np.zeros(1024, dtype) for name, dtype in {"parent": np.int64, **dtypes}.items()
        }
        self.count = 0

    def append(self, count: int, **values: Any) -> np.ndarray:
        """Adds rows and returns their numbers."""
        size = len(self.columns["parent"])
        while size < self.count + count:
            size *= 2
        rows = slice(self.count, self.count + count)
        for name, column in self.columns.items():
            if size > len(column):
                column = self.columns[name] = np.concatenate(
                    [column, np.zeros(size - len(column), column.dtype)]
                )
            column[rows] = values[name]
        self.count += count
        return np.arange(rows.start, rows.stop)

    def keep(self, rows: np.ndarray) -> np.ndarray:
        """Drops all rows but those and what they point at, over any number of steps.

        Args:
            rows: Numbers of rows, or -1 for none.

        Returns:
            (rows there were + 1,) the new number of each row, -1 if dropped; the last is of -1.
        """
        kept = np.zeros(self.count, bool)
        waiting = np.unique(rows[rows >= 0])
        parents = self.columns["parent"]
        while len(waiting):
            kept[waiting] = True
            waiting = np.unique(parents[waiting])
            waiting = waiting[(waiting >= 0) & ~kept[waiting]]
        renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
        numbers = np.flatnonzero(kept)
        for column in self.columns.values():
            column[: len(numbers)] = column[numbers]
        self.count = len(numbers)
        parents[: self.count] = renumbered[parents[: self.count]]
        return renumbered


@dataclasses.dataclass(frozen=True)
class Scoring:
    """What a transcript is worth besides its sound; all in natural logarithms.

    Attributes:
        alphabet: What is written.
        separator: The unit between words; -1 where every unit is a word.
        language_model: Or None.
        alpha: Weight of the language model.
        beta: For each word.
        unknown_penalty: Taken off for each word that the language model does not know.
        familiar: Words for which it is not.
        lexicon: Beginnings of the language model's words, or None.
        hot_words: Words with bonuses, or None.
    """

    alphabet: Alphabet
    separator: int
    language_model: LanguageModel | None
    alpha: float
    beta: float
    unknown_penalty: float
    familiar: frozenset[str]
    lexicon: Lexicon | None
    hot_words: HotWords | None

    def completes(self, units: np.ndarray) -> np.ndarray:
        """(N,) bool, whether each of (N,) units makes a word whole."""
        return units == self.separator if self.separator >= 0 else np.ones(len(units), bool)

    def word(self, state: Any, word: str) -> tuple[float, Any]:
        """What one more word adds, and the language model's state after it."""
        model = self.language_model
        if model is None:
            return self.beta, None
        log_prob, after = model.score(state, word)
        gain = self.alpha * log_prob + self.beta
        if word not in model and word not in self.familiar:
            gain -= self.unknown_penalty
        return gain, after

    def end(self, state: Any) -> float:
        """What the end of the sentence adds."""
        return self.alpha * self.language_model.finish(state) if self.language_model else 0.0

    @functools.cached_property
    def promises(self) -> np.ndarray:
        """(states,) what an unfinished word promises in each state of the lexicon."""
        # Without a weight, even a word that has no probability costs nothing.
        best = self.lexicon.best if self.alpha else np.zeros(len(self.lexicon.best))
        found = self.alpha * best + self.beta
        found[Lexicon.DEAD] = self.word(self.language_model.start(), UNKNOWN)[0]
        found[Lexicon.ROOT] = 0.0
        return found

    def most(self) -> float:
        """The most that one more unit can add."""
        most = max(self.beta, 0.0)
        if self.hot_words:
            most += max(self.hot_words.found.max(), 0.0) + self.hot_words.hoped.max()
        return most


class Growth(NamedTuple):
    """Prefixes longer by a unit, (N,) each, before they are in the tree.

    Attributes:
        parent: The shorter prefix.
        unit: What was added.
        fixed: What all whole words are worth.
        hoped: What the unfinished word promises: its language model score if all goes well, and
            shares of hot words. It is gone when the word is complete.
        lexicon: State of the lexicon.
        hot: State of the hot words.
        model: Number of the state of the language model.
    """

    parent: np.ndarray
    unit: np.ndarray
    fixed: np.ndarray
    hoped: np.ndarray
    lexicon: np.ndarray
    hot: np.ndarray
    model: np.ndarray


class Prefixes:
    """A tree of prefixes; number 0 is the empty one, which counts as ending in a separator."""

    def __init__(self, scoring: Scoring):
        self.scoring = scoring
        self._size = len(scoring.alphabet)
        self._table = Table(
            unit=np.int64,
            fixed=np.float64,
            hoped=np.float64,
            lexicon=np.int64,
            hot=np.int64,
            model=np.int64,
        )
        model, hot_words = scoring.language_model, scoring.hot_words
        self._states = [model.start() if model else None]
        self._children: dict[int, int] = {}
        self._completed: dict[int, tuple[float, int]] = {}
        self._table.append(
            1,
            parent=0,
            unit=scoring.separator if scoring.separator >= 0 else BLANK,
            fixed=0.0,
            hoped=0.0,
            lexicon=Lexicon.ROOT,
            hot=hot_words.start if hot_words else 0,
            model=0,
        )

    def __len__(self) -> int:
        """How much is remembered, in prefixes; a state of the language model is a tenth of one."""
        return max(self._table.count, len(self._states) // 10)

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of the tree, one of `Growth`'s."""
        return self._table.columns[name]

    def grow(self, parents: np.ndarray, units: np.ndarray) -> Growth:
        """The prefixes that come of `parents`, (N,) numbers, by `units`, (N,) numbers."""
        scoring, fixed, model = self.scoring, self["fixed"][parents], self["model"][parents]
        whole = scoring.completes(units)
        if whole.any():
            keys = (parents[whole] * self._size + units[whole]).tolist()
            gains, numbers = zip(*map(self._complete, keys), strict=True)
            fixed[whole] += gains
            model[whole] = numbers
        hoped = np.zeros(len(units))
        lexicon = hot = np.zeros(len(units), np.int64)
        if scoring.lexicon:
            lexicon = scoring.lexicon.after(self["lexicon"][parents], units)
            hoped = scoring.promises[lexicon]
        if scoring.hot_words:
            hot = scoring.hot_words.after(self["hot"][parents], units)
            fixed += scoring.hot_words.found[hot]
            hoped = hoped + scoring.hot_words.hoped[hot]
        return Growth(parents, units, fixed, hoped, lexicon, hot, model)

    def add(self, growth: Growth) -> np.ndarray:
        """Numbers, (N,) int64, of the prefixes of `growth`, no two the same; new ones if need be.

        A prefix that has left the beam may come back, and what grew of it may still be there.
        """
        keys = (growth.parent * self._size + growth.unit).tolist()
        children = self._children
        found = np.array([children.get(key, -1) for key in keys], np.int64)
        new = np.flatnonzero(found < 0)
        values = {name: column[new] for name, column in growth._asdict().items()}
        found[new] = numbers = self._table.append(len(new), **values)
        children.update(zip([keys[n] for n in new.tolist()], numbers.tolist(), strict=True))
        return found

    def finished(self, nodes: np.ndarray) -> np.ndarray:
        """What prefixes are worth as whole transcripts, (N,) float64."""
        scoring, found = self.scoring, self["fixed"][nodes]
        for place, node in enumerate(nodes.tolist()):
            gain, state = 0.0, int(self["model"][node])
            if scoring.separator >= 0 and self["unit"][node] != scoring.separator:
                gain, state = self._complete(node * self._size + scoring.separator)
                if scoring.hot_words:
                    hot, unit = self["hot"][[node]], np.array([scoring.separator])
                    gain += scoring.hot_words.found[scoring.hot_words.after(hot, unit)][0]
            found[place] += gain + scoring.end(self._states[state])
        return found

    def units(self, node: int) -> list[int]:
        """The units of a prefix."""
        parents, numbers, found = self["parent"], self["unit"], []
        while node:
            found.append(int(numbers[node]))
            node = int(parents[node])
        return found[::-1]

    def keep(self, nodes: np.ndarray) -> np.ndarray:
        """Forgets all prefixes but those, and returns their new numbers."""
        renumbered = self._table.keep(np.append(nodes, 0))
        rows = slice(self._table.count)
        models, numbers = np.unique(self["model"][rows], return_inverse=True)
        self._states = [self._states[model] for model in models.tolist()]
        self["model"][rows] = numbers
        keys = self["parent"][rows] * self._size + self["unit"][rows]
        self._children = {key: node for node, key in enumerate(keys.tolist()) if node}
        self._completed = {}
        return renumbered[nodes]

    def _complete(self, key: int) -> tuple[float, int]:
        """What a word adds that ends in a prefix, and the number of the model's state after it.

        Args:
            key: The prefix's number times the size of the alphabet, plus the unit that makes the
                word whole.
        """
        found = self._completed.get(key)
        if found is None:
            node, unit = divmod(key, self._size)
            number = int(self["model"][node])
            if unit == self.scoring.separator:
                word = self._last_word(node)
            else:
                word = self.scoring.alphabet.units[unit - 1 - BLANK]
            gain, state = self.scoring.word(self._states[number], word)
            if state is not None:
                number = len(self._states)
                self._states.append(state)
            found = self._completed[key] = gain, number
        return found

    def _last_word(self, node: int) -> str:
        parents, numbers = self["parent"], self["unit"]
        texts, separator, word = self.scoring.alphabet.units, self.scoring.separator, []
        while (unit := int(numbers[node])) != separator:
            word.append(texts[unit - 1 - BLANK])
            node = int(parents[node])
        return "".join(word[::-1])
