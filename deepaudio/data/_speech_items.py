"""Which utterances of a corpus can be used, and what became of the others."""

import collections
import dataclasses
import sys
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from deepaudio import audio
from deepaudio.data._utterance import Utterance
from deepaudio.data.alphabet import Alphabet

# The most of a corpus that may be unreadable before it is taken for a mistake.
_BROKEN_SHARE = 0.01


@dataclasses.dataclass
class SpeechReport:
    """What became of the utterances; every list is of names: folder and file.

    Attributes:
        num_given: utterances given.
        num_used: utterances that batches are made of.
        seconds: their length.
        foreign: dropped: with characters outside the alphabet.
        foreign_characters: how often each of those characters was met.
        empty: dropped: without a transcript.
        too_short: dropped: with fewer output frames than their labels need.
        too_long: dropped: longer than the last bucket.
        broken: unreadable, or of another length than the corpus says; with the reason. They are
            found when they are read, so this list grows while training goes on.
    """

    num_given: int = 0
    num_used: int = 0
    seconds: float = 0.0
    foreign: list[str] = dataclasses.field(default_factory=list)
    foreign_characters: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    empty: list[str] = dataclasses.field(default_factory=list)
    too_short: list[str] = dataclasses.field(default_factory=list)
    too_long: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """One line of counts, with the first name of each kind of fault."""
        parts = [f"{self.num_used} of {self.num_given} utterances, {self.seconds / 3600:.2f} hours"]
        for kind in ("foreign", "empty", "too_short", "too_long", "broken"):
            names = getattr(self, kind)
            if names:
                parts.append(f"{len(names)} {kind.replace('_', ' ')} (first {names[0]})")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Item:
    """An utterance ready to be batched.

    Attributes:
        utterance: what it is.
        labels: (n,) int32.
        needed_frames: as `needed_frames` counts them.
        duration: seconds.
    """

    utterance: Utterance
    labels: np.ndarray
    needed_frames: int
    duration: float


def needed_frames(labels: np.ndarray) -> int:
    """Count the output frames that CTC needs at least.

    Args:
        labels: (n,) int32.

    Returns:
        One for each label, and one for the blank between two that are the same.
    """
    return len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))


class Reader:
    """Reads sound, and keeps account of what cannot be read; any thread may use it."""

    def __init__(self, report: SpeechReport, sample_rate: int):
        """Begins with nothing broken.

        Args:
            report: whose list of broken utterances to keep.
            sample_rate: Hz.
        """
        self.report = report
        self.sample_rate = sample_rate
        self._lock = threading.Lock()
        self._known: set[Utterance] = set()
        self._is_worker = False

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; a lock cannot go there."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begins in another process, where nobody sees the report."""
        vars(self).update(state)
        self._lock = threading.Lock()
        self._is_worker = True

    def read(self, utterance: Utterance) -> np.ndarray | None:
        """Return (n,) float32; None, and an entry in the report, if it cannot be read."""
        try:
            return audio.read(utterance.audio_path, sample_rate=self.sample_rate)[0]
        except audio.AudioError as error:
            self.exclude(utterance, str(error))
            return None

    def duration(self, utterance: Utterance) -> float | None:
        """Return seconds, from the corpus or the file's header; None as `read` does."""
        if utterance.duration is not None:
            return utterance.duration
        try:
            return audio.duration(utterance.audio_path)
        except audio.AudioError as error:
            self.exclude(utterance, str(error))
            return None

    def exclude(self, utterance: Utterance, reason: str) -> None:
        """Put an utterance on the list of the broken.

        Raises:
            ValueError: if that makes too many.
        """
        reason = f"{utterance.name}: {reason}"
        with self._lock:
            if utterance in self._known:
                return
            self._known.add(utterance)
            self.report.broken.append(reason)
            if self._is_worker:
                print(f"broken: {reason}", file=sys.stderr)
            count, given = len(self._known), self.report.num_given
        if count > _BROKEN_SHARE * given:
            raise ValueError(
                f"{count} of {given} utterances cannot be used for their sound, more than "
                f"{_BROKEN_SHARE:.0%}; the last: {reason}"
            )


def usable(
    utterances: Iterable[Utterance],
    alphabet: Alphabet,
    longest: float,
    stride: int,
    reader: Reader,
) -> list[Item]:
    """Choose the utterances that can be used.

    Args:
        utterances: of a corpus.
        alphabet: which writes the labels.
        longest: seconds.
        stride: samples from one output frame to the next.
        reader: reads durations; its report is filled in.

    Returns:
        The items, shortest first.

    Raises:
        ValueError: if too many cannot be read.
    """
    report, items = reader.report, []
    for utterance in utterances:
        text, foreign = alphabet.normalize(utterance.text)
        if foreign:
            report.foreign.append(utterance.name)
            report.foreign_characters.update(foreign)
            continue
        if not text:
            report.empty.append(utterance.name)
            continue
        duration = reader.duration(utterance)
        if duration is None:
            continue
        labels = alphabet.encode(text)
        item = Item(utterance, labels, needed_frames(labels), duration)
        if duration > longest:
            report.too_long.append(utterance.name)
        elif item.needed_frames > round(duration * reader.sample_rate) // stride:
            report.too_short.append(utterance.name)
        else:
            items.append(item)
    items.sort(key=lambda item: (item.duration, str(item.utterance.audio_path)))
    report.num_used = len(items)
    report.seconds = sum(item.duration for item in items)
    return items
