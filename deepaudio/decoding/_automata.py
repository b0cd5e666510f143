"""What a beam search knows of the word it is still writing: what known words it may become."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from deepaudio.data.alphabet import BLANK, Alphabet
from deepaudio.decoding._ctc import separator_of

# A longer word would make the table of all words' characters too wide.
_LONGEST_WORD = 48


class _UnitTable:
    """States by state and unit, worked out when a state is first met.

    Vocabularies have millions of states and a search meets thousands of them: a table of all would
    not pay, and to ask for one state at a time would be slow.
    """

    def __init__(self, num_states: int, num_symbols: int):
        self._places = np.full(num_states, -1, np.int32)
        self._rows = np.zeros((64, num_symbols), np.int32)
        self._count = 0
        # Searches in several threads may share the table.
        self._lock = threading.Lock()

    def __getstate__(self):
        """All but the lock, so that another process may have the table too."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def after(self, states: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The states after `units`, (N,) int32, from `states`, (N,) integers."""
        places = self._places[states]
        if places.min(initial=0) < 0:
            with self._lock:
                for state in np.unique(states[places < 0]).tolist():
                    self._add(state)
            places = self._places[states]
        return self._rows[places, units]

    def _add(self, state):
        if self._places[state] >= 0:
            return
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[self._count] = self._row(state)
        # Last, so that another thread never finds a place without its row.
        self._places[state] = self._count
        self._count += 1

    def _row(self, state: int) -> np.ndarray:
        """(symbols,) states after each unit; what stands at the blank is not read."""
        raise NotImplementedError


class Lexicon(_UnitTable):
    """The words of a vocabulary by their beginnings (a trie).

    Attributes:
        best: (states,) float64 highest unigram log probability among the words that begin as the
            state does; -inf in the state `DEAD`, where none does.
    """

    DEAD, ROOT = 0, 1

    def __init__(self, words: Sequence[str], log_probs: np.ndarray, alphabet: Alphabet):
        """Builds the trie.

        Args:
            words: No two the same. Those that the alphabet cannot spell, and those of more than
                48 characters, are left out.
            log_probs: (len(words),) of each.
            alphabet: Of the recognizer; with a word separator.
        """
        numbers = {char: n for n, char in enumerate(sorted(alphabet.characters), start=1)}
        self._grow(*_spell(words, log_probs, numbers))
        super().__init__(len(self.best), len(alphabet))
        self._separator = separator_of(alphabet)
        # The unit that a character is, and a pair of them; the blank if there is none.
        self._singles = np.full(len(numbers) + 1, BLANK, np.int64)
        self._pairs = np.full((len(numbers) + 1,) * 2, BLANK, np.int64)
        for unit, text in enumerate(alphabet.units, start=BLANK + 1):
            if len(text) == 1:
                self._singles[numbers[text]] = unit
            else:
                self._pairs[numbers[text[0]], numbers[text[1]]] = unit
        self._has_pairs = bool(self._pairs.any())

    def _grow(self, codes, log_probs):
        """Makes the states, a level at a time; the children of a state are numbered in a row."""
        best = [np.array([-np.inf, log_probs.max(initial=-np.inf)])]
        chars, parents = [np.zeros(2, np.int64)], [np.zeros(2, np.int64)]
        states, count = np.full(len(codes), self.ROOT), self.ROOT + 1
        for depth in range(codes.shape[1]):
            goes_on = codes[:, depth] > 0
            codes, log_probs, states = codes[goes_on], log_probs[goes_on], states[goes_on]
            if not len(codes):
                break
            char = codes[:, depth]
            new = np.append(True, (states[1:] != states[:-1]) | (char[1:] != char[:-1]))
            begins = np.flatnonzero(new)
            best.append(np.maximum.reduceat(log_probs, begins))
            chars.append(char[begins])
            parents.append(states[begins])
            states = count + np.cumsum(new) - 1
            count += len(begins)
        self.best = np.concatenate(best)
        self._chars = np.concatenate(chars)
        children = np.bincount(np.concatenate(parents)[2:], minlength=count)
        self._first = self.ROOT + 1 + np.append(0, np.cumsum(children))

    def _children(self, state):
        return np.arange(self._first[state], self._first[state + 1])

    def _row(self, state):
        row = np.full(self._rows.shape[1], self.DEAD, np.int32)
        if state != self.DEAD:
            children = self._children(state)
            row[self._singles[self._chars[children]]] = children
            for child in children.tolist() if self._has_pairs else ():
                grandchildren = self._children(child)
                pairs = self._pairs[self._chars[child], self._chars[grandchildren]]
                row[pairs] = grandchildren
        row[self._separator] = self.ROOT
        return row


class HotWords(_UnitTable):
    """Words and phrases to look out for (the automaton of Aho and Corasick 1975).

    A phrase is found where it stands between word boundaries; where the alphabet has no word
    separator, anywhere.

    Attributes:
        found: (states,) float64 sum of the weights of the phrases that end in the state.
        hoped: (states,) float64 highest share of a positive weight that the unfinished phrases
            have earned: the characters written of those there are.
        start: The state at the beginning of a transcript.
    """

    def __init__(self, weights: Mapping[str, float], alphabet: Alphabet):
        """Builds the automaton.

        Args:
            weights: Of each phrase, a natural logarithm.
            alphabet: Of the recognizer.

        Raises:
            ValueError: A phrase is empty or cannot be spelled, or a weight is not finite.
        """
        self._units = alphabet.units
        self._mark = alphabet.word_separator
        self._next: list[dict[str, int]] = [{}]
        found, hoped = [0.0], [0.0]
        for phrase, weight in weights.items():
            words = self._mark.join(phrase.split())
            if not words or not set(words) <= alphabet.characters:
                raise ValueError(f"hot_words: {phrase!r} cannot be spelled in the alphabet")
            if not np.isfinite(weight):
                raise ValueError(f"hot_words: the weight {weight} of {phrase!r} is not finite")
            self._add_phrase(self._mark + words + self._mark, len(words), weight, found, hoped)
        self._link(found, hoped)
        self.found, self.hoped = np.array(found), np.array(hoped)
        super().__init__(len(found), len(alphabet))
        self.start = self._step(0, self._mark)

    def _add_phrase(self, marked, length, weight, found, hoped):
        state = 0
        for place, char in enumerate(marked, start=1):
            state = self._next[state].setdefault(char, len(self._next))
            if state == len(self._next):
                self._next.append({})
                found.append(0.0)
                hoped.append(0.0)
            if place < len(marked):
                written = place - len(self._mark)
                hoped[state] = max(hoped[state], weight * written / length)
        found[state] += weight

    def _link(self, found, hoped):
        """Links every state to that of the longest end of it that begins a phrase too."""
        self._links = [0] * len(self._next)
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            link = self._links[state]
            found[state] += found[link]
            hoped[state] = max(hoped[state], hoped[link])
            for char, child in self._next[state].items():
                self._links[child] = self._step(link, char)
                waiting.append(child)

    def _step(self, state, text):
        for char in text:
            while state and char not in self._next[state]:
                state = self._links[state]
            state = self._next[state].get(char, 0)
        return state

    def _row(self, state):
        return np.array([0, *(self._step(state, unit) for unit in self._units)], np.int32)


def _spell(words, log_probs, numbers) -> tuple[np.ndarray, np.ndarray]:
    """The words that can be spelled, sorted.

    Returns:
        (words, characters) numbers of their characters, 0 after the end, and (words,) log
        probabilities.
    """
    spelled = [
        (word, log_prob)
        for word, log_prob in zip(words, np.asarray(log_probs).tolist(), strict=True)
        if 0 < len(word) <= _LONGEST_WORD
    ]
    spelled.sort()
    texts = np.array([word for word, _ in spelled], np.str_)
    width = texts.dtype.itemsize // 4
    points = texts.view(np.uint32).reshape(len(texts), width) if width else np.zeros((0, 0), int)
    known = np.array([0, *map(ord, numbers)])
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known, points, sorter=order), len(known) - 1)
    codes = order[places]
    can = (known[codes] == points).all(axis=1)
    return codes[can], np.array([log_prob for _, log_prob in spelled])[can]
