"""Trains an n-gram language model for `deepaudio recognize --lm`.

    python -m experiments.train_language_model --texts=CORPUS/texts.txt --output=model.arpa.gz
    python -m experiments.train_language_model --texts=a.txt,b.txt --order=3 --prune=0,0,1 \
        --output=model.npz

Modified Kneser-Ney smoothing over the lines of the texts, normalized as transcripts are (a to z,
apostrophe, spaces); with `--characters`, over characters, for Mandarin. The name says the format:
.arpa or .arpa.gz, which other programs read too, or this project's own .npz, which loads at once.
`--held_out` tells the perplexity on other texts.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio.data.alphabet import ENGLISH
from deepaudio.decoding import LanguageModel, NgramModel, train_kneser_ney, write_arpa
from experiments import _arguments

_SUFFIXES = (".arpa", ".arpa.gz", ".npz")


def read_sentences(paths: list[str], *, characters: bool) -> list[list[str]]:
    """The sentences of some files, a line each, empty ones left out.

    Args:
        paths: Text files in UTF-8.
        characters: Whether every character counts as a word.
    """
    sentences = []
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            words = list("".join(line.split())) if characters else _words(line)
            if words:
                sentences.append(words)
    return sentences


def _words(line: str) -> list[str]:
    return ENGLISH.normalize(line)[0].split()


def perplexity(model: LanguageModel, sentences: list[list[str]]) -> tuple[float, float]:
    """Perplexity a word, sentence ends counted, and the share of words that are unknown."""
    total, count, unknown = 0.0, 0, 0
    for sentence in sentences:
        state = model.start()
        for word in sentence:
            log_prob, state = model.score(state, word)
            total += log_prob
            unknown += word not in model
        total += model.finish(state)
        count += len(sentence) + 1
    words = count - len(sentences)
    return math.exp(-total / count), unknown / max(words, 1)


def save(model: NgramModel, path: str) -> None:
    """Writes a model in the format that the name says."""
    if path.endswith(".npz"):
        model.save(path, half_precision=True)
    else:
        write_arpa(model, path)


def _progress(sentences: list[list[str]]) -> Iterator[list[str]]:
    yield from track(sentences, "reading", console=Console(stderr=True))


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_list("texts", None, "Text files, a sentence a line.", required=True)
    flags.DEFINE_string("output", None, "The file: .arpa, .arpa.gz or .npz.", required=True)
    flags.DEFINE_integer("order", 3, "Length of the longest n-grams.", lower_bound=1)
    flags.DEFINE_list(
        "prune", ["0"], "For each order, n-grams that occur at most so often are left out."
    )
    flags.DEFINE_bool("characters", False, "Every character counts as a word.")
    flags.DEFINE_list("held_out", [], "Text files to tell the perplexity on.")


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        if not given.output.endswith(_SUFFIXES):
            raise ValueError(f"output={given.output} must end in {', '.join(_SUFFIXES)}")
        sentences = read_sentences(given.texts, characters=given.characters)
        prune = [int(text) for text in given.prune]
        model = train_kneser_ney(_progress(sentences), order=given.order, prune=prune)
        save(model, given.output)
        grams = ", ".join(f"{len(g.keys):,}" for g in model.grams)
        print(f"{given.output}: {len(sentences):,} sentences, {grams} n-grams")
        if given.held_out:
            held_out = read_sentences(given.held_out, characters=given.characters)
            value, unknown = perplexity(model, held_out)
            print(f"perplexity {value:.1f} a word, {100 * unknown:.2f} % unknown words")
    except (ValueError, OSError) as error:
        sys.exit(f"train_language_model: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
