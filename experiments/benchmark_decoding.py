"""Measures how fast transcripts are found: best path, and beam search with a 3-gram.

    python -m experiments.benchmark_decoding

Without `--posteriors`, a language is made up: random words with Zipf's frequencies, each with a
few favourite successors. A 3-gram is trained on its sentences, and other sentences are turned into
posteriors such as a CTC network writes: a spike for each letter, blanks between, and noise. They
come in three kinds: `peaked`, most frames all but certain, as of a good network; `uncertain`; and
`flat`, every frame in doubt, as of a network early in training.

With `--posteriors=FILE.npz`, every array in the file is the (frames, 29) log probabilities of one
recording over `deepaudio.data.alphabet.ENGLISH`; give their language model by `--language_model`.

Counts the processor's time of one thread, so that other programs do not matter much. The frames of
a kind are decoded `--repetitions` times and the median is taken. Writes the record
`decoding_speed`.
"""

import os

# Before numpy is imported: the figure is one core's.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")

import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from deepaudio import decoding  # noqa: E402
from deepaudio.data.alphabet import BLANK, ENGLISH  # noqa: E402
from experiments import _arguments, records  # noqa: E402

# Times real time at a beam of 100 with a 3-gram, over peaked posteriors.
GOAL = 20.0
# For each kind, mean and standard deviation of the logit of what was said in a frame; every
# symbol's has noise of 1.5.
KINDS = {"peaked": (10.0, 3.0), "uncertain": (6.0, 3.0), "flat": (2.0, 1.0)}
_NOISE = 1.5
# Letters a second of fluent English.
_LETTER_SECONDS = 1 / 14


class Language:
    """A random language.

    Attributes:
        words: Its vocabulary, the most frequent first.
    """

    def __init__(self, rng: np.random.Generator, *, num_words: int = 20_000):
        """Makes it up.

        Args:
            rng: Source of chance.
            num_words: Words in its vocabulary.
        """
        letters = np.array(ENGLISH.units[2:])
        # English has words of five letters on average, and likes some letters more than others.
        likely = rng.dirichlet(np.full(len(letters), 1.5))
        found: dict[str, None] = {}
        while len(found) < num_words:
            length = 1 + rng.poisson(1.5 + np.log10(1 + len(found)))
            found.setdefault("".join(rng.choice(letters, length, p=likely)))
        self.words = list(found)
        self._rng = rng
        frequency = 1 / np.arange(1, num_words + 1)
        self._cumulative = np.cumsum(frequency / frequency.sum())
        self._successors = self._draw((num_words, 10))

    def sentences(self, count: int) -> list[list[str]]:
        """Random sentences of 5 to 20 words; half of the words are favourites of the one before."""
        found = []
        for length in self._rng.integers(5, 21, count).tolist():
            fresh = self._draw(length).tolist()
            favourite = self._rng.integers(-10, 10, length).tolist()
            sentence = fresh[:1]
            for word, choice in zip(fresh[1:], favourite[1:], strict=True):
                old = choice >= 0
                sentence.append(int(self._successors[sentence[-1], choice]) if old else word)
            found.append([self.words[word] for word in sentence])
        return found

    def _draw(self, shape):
        drawn = np.searchsorted(self._cumulative, self._rng.random(shape))
        return np.minimum(drawn, len(self.words) - 1)


def random_posteriors(
    text: str, frame_seconds: float, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """What a CTC network might make of a text.

    Args:
        text: In the alphabet `ENGLISH`.
        frame_seconds: Length of a frame in seconds.
        kind: One of `KINDS`.
        rng: Source of chance.

    Returns:
        (frames, 29) float32 log probabilities.
    """
    mean, deviation = KINDS[kind]
    path = []
    for unit in ENGLISH.encode(text).tolist():
        blanks = rng.poisson(max(_LETTER_SECONDS / frame_seconds - 1, 0))
        # Equal letters in a row can only be told apart by a blank.
        path += [BLANK] * max(blanks, int(path[-1:] == [unit])) + [unit]
    logits = _NOISE * rng.standard_normal((len(path), len(ENGLISH)))
    logits[np.arange(len(path)), path] += rng.normal(mean, deviation, len(path))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def measure(
    decode: Callable[[np.ndarray], Any],
    recordings: Sequence[np.ndarray],
    *,
    frame_seconds: float,
    repetitions: int,
) -> dict[str, Any]:
    """Times the decoding of some recordings.

    Args:
        decode: Takes (frames, symbols) log probabilities.
        recordings: Log probabilities of each.
        frame_seconds: Length of a frame in seconds.
        repetitions: How often all are decoded; the first time, to warm up, is not counted.

    Returns:
        `frames_per_second` and `times_real_time` by the median of `all_seconds`, the processor's.
    """
    seconds = []
    for _ in range(repetitions + 1):
        begin = time.process_time()
        for log_probs in recordings:
            decode(log_probs)
        seconds.append(time.process_time() - begin)
    frames = sum(len(log_probs) for log_probs in recordings)
    rate = frames / statistics.median(seconds[1:])
    return {
        "frames_per_second": round(rate),
        "times_real_time": round(rate * frame_seconds, 1),
        "all_seconds": [round(value, 4) for value in seconds[1:]],
    }


def make_decoders(
    language_model: decoding.LanguageModel | None, widths: Sequence[int], frame_seconds: float
) -> dict[str, Callable[[np.ndarray], Any]]:
    """The ways of decoding to compare, by name."""

    def searcher(**options):
        search = decoding.BeamSearch(ENGLISH, **options)
        return lambda log_probs: search.decode(log_probs, frame_seconds=frame_seconds)

    def greedy(log_probs):
        return decoding.ctc_greedy(log_probs, ENGLISH, frame_seconds=frame_seconds)

    decoders = {"best path": greedy}
    for width in widths:
        decoders[f"beam {width}"] = searcher(beam_width=width)
        if language_model:
            decoders[f"beam {width}, language model"] = searcher(
                language_model=language_model, beam_width=width
            )
    return decoders


def _made_up(seconds: float, frame_seconds: float, seed: int):
    """Recordings by kind, and a 3-gram of their language."""
    rng = np.random.default_rng(seed)
    language = Language(rng)
    model = decoding.train_kneser_ney(language.sentences(20_000), order=3)
    recordings: dict[str, list[np.ndarray]] = {}
    for kind in KINDS:
        frames, recordings[kind] = 0, []
        while frames * frame_seconds < seconds:
            text = " ".join(language.sentences(1)[0])
            recordings[kind].append(random_posteriors(text, frame_seconds, kind, rng))
            frames += len(recordings[kind][-1])
    return recordings, model


def _stored(path: str) -> Mapping[str, list[np.ndarray]]:
    with np.load(path) as stored:
        return {"stored": [stored[name] for name in stored.files]}


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("posteriors", None, "Stored posteriors; None for made-up ones.")
    flags.DEFINE_string("language_model", None, "Language model of the stored posteriors.")
    flags.DEFINE_float("seconds", 60.0, "Made-up sound of each kind.", lower_bound=1.0)
    flags.DEFINE_float("frame_seconds", 0.03, "Length of a frame.", lower_bound=0.001)
    flags.DEFINE_multi_integer("beam_width", [100], "Prefixes kept.", lower_bound=1)
    flags.DEFINE_integer("repetitions", 3, "Timed turns.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the made-up language.")
    flags.DEFINE_string("record", "decoding_speed", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    if given.posteriors:
        recordings = _stored(given.posteriors)
        path = given.language_model
        model = decoding.load_language_model(path) if path else None
    else:
        recordings, model = _made_up(given.seconds, given.frame_seconds, given.seed)
    rows = []
    for name, decode in make_decoders(model, given.beam_width, given.frame_seconds).items():
        for kind, some in recordings.items():
            found = measure(
                decode, some, frame_seconds=given.frame_seconds, repetitions=given.repetitions
            )
            rows.append({"decoder": name, "posteriors": kind, **found})
            print(f"{name}, {kind}: {found['times_real_time']} times real time", flush=True)
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Decoding by one core: frames a second of the processor's time, medians",
        frame_seconds=given.frame_seconds,
        goal=GOAL,
        reached=all(row["times_real_time"] >= GOAL for row in rows),
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
