"""CTC prefix beam search with a language model (arXiv 1412.5567, section 2.2; 1512.02595, 3.8)."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepaudio.data.alphabet import Alphabet
from deepaudio.decoding._automata import HotWords, Lexicon
from deepaudio.decoding._beam_stream import BeamStream, Limits
from deepaudio.decoding._ctc import Transcript, check_frame_seconds, separator_of
from deepaudio.decoding._ngram import UNKNOWN, LanguageModel
from deepaudio.decoding._prefixes import Scoring


class BeamSearch:
    """Searches for the likeliest transcripts.

    Of a sound x these are the texts c with the highest

        Q(c) = log p(c | x) + alpha log p_lm(c) + beta words(c)
               - unknown_penalty unknown(c) + hot words(c).

    p(c | x) is the sum of the probabilities of all paths of CTC outputs that read as c: runs of
    an output are one, blanks are left out, and so are separators at the ends or in a row.
    p_lm(c) includes the end of the sentence; words(c) counts words, and unknown(c) those that
    neither the language model knows nor are part of a hot word. Where the alphabet has no word
    separator, as in Mandarin, every character is a word.

    A search holds nothing of what it decodes: one may serve many streams and threads.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        language_model: LanguageModel | None = None,
        *,
        alpha: float = 0.5,
        beta: float = 1.0,
        beam_width: int = 100,
        hot_words: Mapping[str, float] | None = None,
        unknown_penalty: float = 10.0,
        lookahead: bool = True,
        prune_mass: float = 0.99,
        prune_most: int = 40,
    ):
        """Prepares the search.

        Args:
            alphabet: Of the recognizer.
            language_model: Of words, or of characters where the alphabet has no word separator.
            alpha: Weight of the language model, 0 or more.
            beta: Bonus for each word.
            beam_width: Prefixes kept from frame to frame.
            hot_words: Bonus, in natural logarithms, for each time that a word or phrase stands in
                the transcript; 2 to 10 is felt. Half a phrase has half of it during the search, so
                that it is not lost before it is whole.
            unknown_penalty: Taken off for each word that the language model does not know, besides
                what its <unk> costs, 0 or more. That is the probability of all unknown words
                together; this makes up for how many there are.
            lookahead: While a word is being written, counts it as the likeliest word of the
                language model that begins so, or as unknown if there is none. The scores of whole
                transcripts stay the same, but a narrow beam finds better ones. Only with a word
                separator, and a language model that tells its words.
            prune_mass: In each frame only the likeliest symbols that together hold this share of
                the probability extend prefixes, in (0, 1] (arXiv 1512.02595, section 7). What a
                prefix gains without a new unit, by a blank or by its last unit once more, always
                counts, so that a frame that is nearly all blank costs little.
            prune_most: How many symbols these may be.

        Raises:
            ValueError: A number is out of its range, a hot word cannot be spelled, or the
                alphabet's word separator is no unit; or it has none, but pairs of characters.
        """
        _check_weights(alpha, beta)
        if not 0 <= unknown_penalty < math.inf:
            raise ValueError(f"{unknown_penalty=} must not be negative")
        self._limits = _limits(beam_width, prune_mass, prune_most)
        separator = separator_of(alphabet)
        pairs = [unit for unit in alphabet.units if len(unit) > 1]
        if separator < 0 and pairs:
            raise ValueError(f"without a word separator {pairs[0]!r} cannot be a unit")
        familiar = _familiar(hot_words or {}, separator)
        lexicon = None
        if lookahead and language_model and language_model.words and separator >= 0:
            lexicon = _lexicon(language_model, familiar, alphabet)
        self._scoring = Scoring(
            alphabet=alphabet,
            separator=separator,
            language_model=language_model,
            alpha=alpha,
            beta=beta,
            unknown_penalty=unknown_penalty,
            familiar=familiar,
            lexicon=lexicon,
            hot_words=HotWords(hot_words, alphabet) if hot_words else None,
        )

    def with_weights(self, *, alpha: float, beta: float) -> "BeamSearch":
        """The same search with other weights.

        Args:
            alpha: Weight of the language model, 0 or more.
            beta: Bonus for each word.

        Raises:
            ValueError: `alpha` is negative, or one of them is not finite.
        """
        _check_weights(alpha, beta)
        other = copy.copy(self)
        other._scoring = dataclasses.replace(self._scoring, alpha=alpha, beta=beta)
        return other

    def decode(
        self, log_probs: Any, *, frame_seconds: float, n_best: int = 1, start: float = 0.0
    ) -> list[Transcript]:
        """Finds the transcripts of one recording.

        Args:
            log_probs: (frames, symbols) natural logarithms of the probabilities.
            frame_seconds: Length of a frame in seconds.
            n_best: The most transcripts to return.
            start: Time of frame 0 in seconds.

        Returns:
            Transcripts by falling score Q, no two texts the same. Words are timed by the likeliest
            path that reads as the transcript, as `ctc_greedy` describes.

        Raises:
            ValueError: `log_probs` are no log probabilities over the alphabet, or
                `frame_seconds` or `n_best` is not positive.
        """
        stream = self.stream(frame_seconds=frame_seconds, start=start)
        stream.feed(log_probs)
        return stream.finish(n_best)

    def stream(self, *, frame_seconds: float, start: float = 0.0) -> BeamStream:
        """Begins a search that is fed its frames in pieces.

        Args:
            frame_seconds: Length of a frame in seconds.
            start: Time of the first frame in seconds.

        Raises:
            ValueError: `frame_seconds` is not positive.
        """
        check_frame_seconds(frame_seconds)
        return BeamStream(self._scoring, self._limits, frame_seconds, start)


def _familiar(hot_words, separator) -> frozenset[str]:
    """The words of the phrases to look out for."""
    wanted = " ".join(phrase for phrase, weight in hot_words.items() if weight > 0).split()
    return frozenset(wanted if separator >= 0 else "".join(wanted))


def _lexicon(language_model, familiar, alphabet) -> Lexicon:
    """The beginnings of the model's words, and of others that are familiar."""
    others = sorted(word for word in familiar if word not in language_model)
    unknown, _ = language_model.score(language_model.start(), UNKNOWN)
    log_probs = np.append(language_model.unigrams(), np.full(len(others), unknown))
    return Lexicon([*language_model.words, *others], log_probs, alphabet)


def _limits(beam_width, prune_mass, prune_most) -> Limits:
    for name, value in {"beam_width": beam_width, "prune_most": prune_most}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if not 0 < prune_mass <= 1:
        raise ValueError(f"{prune_mass=} must be above 0 and at most 1")
    return Limits(width=beam_width, mass=prune_mass, most=prune_most)


def _check_weights(alpha, beta):
    if not 0 <= alpha < math.inf:
        raise ValueError(f"{alpha=} must not be negative")
    if not math.isfinite(beta):
        raise ValueError(f"{beta=} must be finite")
