"""Sound of any length to words, in bounded memory: what the command and the server run."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from deepaudio.data.alphabet import BLANK
from deepaudio.decoding import (
    BeamSearch,
    LanguageModel,
    Transcript,
    Word,
    load_language_model,
)
from deepaudio.models.packed import (
    COLLECTION,
    pack_weights,
    runnable_weights,
    unpack_weights,
)
from deepaudio.models.weights import WeightsError, check_shapes, load_weights, shipped_file
from deepaudio.tasks.listening import (
    Listener,
    StreamingListener,
    StreamingNetwork,
    WindowedListener,
    averaged,
    can_stream,
)
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask

DEFAULT_WEIGHTS = "deep_speech_2_small"
# A stretch without a letter that ends a segment.
_PAUSE_SECONDS = 0.9
_LONGEST_SEGMENT_SECONDS = 60.0
# Pieces: long ones for files, as they cost less a frame; short ones for live sound.
_FILE_SECONDS, _LIVE_SECONDS = 4.0, 0.4


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of speech between pauses.

    Attributes:
        start: In seconds, of its first word.
        end: In seconds, of its last word.
        transcripts: The best one first; as many as were asked for and found.
    """

    start: float
    end: float
    transcripts: tuple[Transcript, ...]


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What was recognized in a recording.

    Attributes:
        segments: In order; those without a word are left out.
        word_separator: What stands between words.
    """

    segments: tuple[Segment, ...]
    word_separator: str = " "

    @property
    def text(self) -> str:
        """All of it, as one line."""
        return self.word_separator.join(s.transcripts[0].text for s in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, with times in seconds and confidences."""
        return tuple(word for s in self.segments for word in s.transcripts[0].words)


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a `StreamingRecognizer` says after a piece of sound.

    Attributes:
        final: Segments that have ended since the last piece.
        partial: Text of the segment that has not; it may still change.
    """

    final: tuple[Segment, ...]
    partial: str


class Parts(NamedTuple):
    """What a recognizer consists of, for those who run many streams at once.

    Attributes:
        task: Of the network, which hears live sound.
        variables: Of the network, on the device.
        search: What reads words from probabilities.
        delay_seconds: By how much the network writes later than it hears.
    """

    task: RecognitionTask
    variables: dict[str, Any]
    search: BeamSearch
    delay_seconds: float


class Recognizer:
    """A model with its decoder.

    Attributes:
        sample_rate: Of the sound it takes, in Hz.
        alphabet: What it writes with.
        frame_seconds: Length of an output frame in seconds.
        streams: Whether the model can hear live sound.
        word_separator: What stands between words; empty where characters are words.
    """

    def __init__(
        self,
        models: Sequence[tuple[RecognitionTask, dict[str, Any]]],
        search: BeamSearch,
        *,
        n_best: int = 1,
        jitter_seconds: float = 0.0,
        delay_seconds: float = 0.0,
    ):
        """Prepares models for recordings.

        Args:
            models: Tasks and variables. Several are an ensemble, whose probabilities are averaged;
                they have one alphabet, sample rate and frame length.
            search: What reads words from probabilities.
            n_best: Transcripts a segment.
            jitter_seconds: Probabilities are averaged over the sound shifted by so much to either
                side (arXiv 1412.5567, section 2.1: 0.005); 0 for none.
            delay_seconds: By how much the model writes later than it hears; taken off all times.

        Raises:
            ValueError: The models do not fit each other.
        """
        task = models[0][0]
        for other, _ in models[1:]:
            for name in ("alphabet", "frame_seconds", "frame_samples"):
                if getattr(other.config, name) != getattr(task.config, name):
                    raise ValueError(f"the models of an ensemble differ in {name}")
        self.sample_rate = task.config.front_end.sample_rate
        self.alphabet = task.config.alphabet
        self.frame_seconds = task.config.frame_seconds
        self.word_separator = task.config.alphabet.word_separator
        self.streams = len(models) == 1 and not jitter_seconds and can_stream(task)
        self._task = task
        self._search = search
        self._n_best = n_best
        self._delay = delay_seconds
        if self.streams:
            self._variables = jax.device_put(models[0][1])
            self._networks = {
                seconds: _compiled_stream(task, self._variables, seconds)
                for seconds in (_FILE_SECONDS, _LIVE_SECONDS)
            }
        else:
            self._log_probs = averaged(
                [
                    functools.partial(jax.jit(t.log_probs), jax.device_put(variables))
                    for t, variables in models
                ],
                jitter_samples=round(jitter_seconds * self.sample_rate),
            )

    def recognize(
        self, blocks: Iterable[np.ndarray], progress: Callable[[float], None] | None = None
    ) -> Recognition:
        """The words of a whole recording.

        Args:
            blocks: The sound in order, float32 mono (n,) each, at `sample_rate`; any lengths.
            progress: Called with the seconds of sound done, after every block.

        Returns:
            What was recognized.
        """
        listener, segmenter = self._listener(_FILE_SECONDS), self._segmenter()
        segments, heard = [], 0
        for block in blocks:
            segments += segmenter.feed(listener.feed(block))
            heard += len(block)
            if progress:
                progress(heard / self.sample_rate)
        segments += segmenter.feed(listener.finish())
        segments += segmenter.finish()
        return Recognition(tuple(segments), self.word_separator)

    def log_probs(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """What the network alone says of a whole recording.

        Args:
            blocks: As `recognize` takes them.

        Returns:
            (frames, outputs) float32 log probabilities; an hour is about 14 MB.
        """
        listener = self._listener(_FILE_SECONDS)
        parts = [listener.feed(block) for block in blocks]
        return np.concatenate([*parts, listener.finish()])

    def stream(self) -> "StreamingRecognizer":
        """Begins to hear live sound.

        Raises:
            ValueError: The model needs whole sounds.
        """
        self._require_streams()
        return StreamingRecognizer(self._listener(_LIVE_SECONDS), self._segmenter())

    def parts(self) -> Parts:
        """What it consists of.

        Raises:
            ValueError: The model needs whole sounds.
        """
        self._require_streams()
        return Parts(self._task, self._variables, self._search, self._delay)

    def _require_streams(self):
        if not self.streams:
            raise ValueError("only a single forward-only model without jitter hears live sound")

    def _listener(self, seconds: float) -> Listener:
        if self.streams:
            return StreamingListener(self._task, *self._networks[seconds])
        return WindowedListener(self._task, self._log_probs)

    def _segmenter(self) -> "Segmenter":
        return Segmenter(
            self._search,
            frame_seconds=self._task.config.frame_seconds,
            n_best=self._n_best,
            start=-self._delay,
        )


def _compiled_stream(task, variables, seconds):
    """The network in pieces of about so many seconds, and its compiled `advance`."""
    network = StreamingNetwork(task, max(round(seconds / task.config.frame_seconds), 1))
    return network, functools.partial(jax.jit(network.advance), variables)


class StreamingRecognizer:
    """Recognizes live sound; what it says in the end is what `Recognizer.recognize` says."""

    def __init__(self, listener: Listener, segmenter: "Segmenter"):
        """Begins; `Recognizer.stream` does this."""
        self._listener, self._segmenter = listener, segmenter

    def feed(self, samples: np.ndarray) -> Heard:
        """Takes a piece of sound.

        Args:
            samples: (n,) float32 mono, at the recognizer's rate; any length.

        Returns:
            What is known by now.
        """
        final = self._segmenter.feed(self._listener.feed(samples))
        return Heard(tuple(final), self._segmenter.partial())

    def finish(self) -> Heard:
        """Ends the sound; what is left becomes final."""
        final = self._segmenter.feed(self._listener.finish())
        return Heard((*final, *self._segmenter.finish()), "")


class Segmenter:
    """Decodes log probabilities in segments, each of which ends at a pause.

    A pause is a stretch in which every frame's likeliest output is the blank. Nothing here depends
    on how the frames arrive.
    """

    def __init__(
        self,
        search: BeamSearch,
        *,
        frame_seconds: float,
        n_best: int = 1,
        start: float = 0.0,
        pause_seconds: float = _PAUSE_SECONDS,
        longest_seconds: float = _LONGEST_SEGMENT_SECONDS,
    ):
        """Begins.

        Args:
            search: What decodes a segment.
            frame_seconds: Length of a frame in seconds.
            n_best: Transcripts a segment.
            start: Time of the first frame in seconds.
            pause_seconds: A pause of this length ends a segment.
            longest_seconds: A segment ends after so long even without a pause.
        """
        self._search, self._n_best = search, n_best
        self._seconds, self._start = frame_seconds, start
        self._pause = max(round(pause_seconds / frame_seconds), 1)
        self._longest = max(round(longest_seconds / frame_seconds), 1)
        self._frame = 0  # of the whole sound
        self._begin()

    def _begin(self):
        start = self._start + self._frame * self._seconds
        self._stream = self._search.stream(frame_seconds=self._seconds, start=start)
        self._length = self._blanks = 0
        self._spoken = False

    def feed(self, log_probs: np.ndarray) -> list[Segment]:
        """Takes (frames, outputs) log probabilities; returns the segments that end with them."""
        found = []
        silent = np.argmax(log_probs, axis=1) == BLANK if len(log_probs) else np.zeros(0, bool)
        first = 0
        for place, is_blank in enumerate(silent.tolist(), start=1):
            self._blanks = self._blanks + 1 if is_blank else 0
            self._spoken |= not is_blank
            self._length += 1
            paused = self._spoken and self._blanks >= self._pause
            if paused or self._length >= self._longest:
                found += self._end(log_probs[first:place])
                first = place
        rest = log_probs[first:]
        if len(rest):
            self._stream.feed(rest)
            self._frame += len(rest)
        return found

    def partial(self) -> str:
        """The likeliest text of the segment that has not ended."""
        return self._stream.best().text if self._spoken else ""

    def finish(self) -> list[Segment]:
        """Ends the last segment."""
        return self._end(None)

    def _end(self, log_probs) -> list[Segment]:
        if log_probs is not None:
            self._stream.feed(log_probs)
            self._frame += len(log_probs)
        # Over a long silence many faint letters together outweigh none at all.
        transcripts = self._stream.finish(self._n_best) if self._spoken else []
        self._begin()
        if not transcripts or not transcripts[0].words:
            return []
        words = transcripts[0].words
        return [Segment(words[0].start, words[-1].end, tuple(transcripts))]


def load_recognizer(
    weights: str | Path | Sequence[str | Path] | None = None,
    *,
    language_model: str | Path | None = None,
    use_language_model: bool = True,
    beam_width: int | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    hot_words: Mapping[str, float] | None = None,
    n_best: int = 1,
    jitter_seconds: float = 0.0,
    packed: bool = False,
) -> Recognizer:
    """A recognizer with weights from files.

    Args:
        weights: A path, or the name of weights shipped in the package; several for an ensemble;
            None for the default.
        language_model: A file, ARPA or this project's own; None for the one that the weights name.
        use_language_model: Whether one is used at all.
        beam_width: Prefixes kept; None for what the weights say.
        alpha: Weight of the language model; None for what the weights say.
        beta: Bonus a word; None for what the weights say.
        hot_words: As `BeamSearch` takes them.
        n_best: Transcripts a segment.
        jitter_seconds: As `Recognizer` takes it.
        packed: As `load_model` takes it.

    Returns:
        The recognizer.

    Raises:
        WeightsError: There are no such weights, or they do not fit their configuration.
        ValueError: The language model cannot be read, or a setting is out of range.
    """
    names = [weights or DEFAULT_WEIGHTS] if isinstance(weights, str | Path | None) else weights
    models, stored = [], None
    for name in names:
        task, variables, decoding = load_model(name, packed=packed)
        models.append((task, variables))
        stored = decoding if stored is None else stored
    model_path = language_model or stored.get("language_model")
    if use_language_model and model_path:
        loaded = _load_language_model(model_path)
    else:
        loaded, use_language_model = None, False
    settings = {
        "beam_width": beam_width or stored.get("beam_width", 100),
        "alpha": stored.get("alpha", 0.5) if alpha is None else alpha,
        # A bonus for words makes up for what a language model takes off for each.
        "beta": (stored.get("beta", 1.0) if use_language_model else 0.0) if beta is None else beta,
    }
    search = BeamSearch(models[0][0].config.alphabet, loaded, hot_words=hot_words, **settings)
    return Recognizer(
        models,
        search,
        n_best=n_best,
        jitter_seconds=jitter_seconds,
        delay_seconds=stored.get("delay_seconds", 0.0),
    )


def _load_language_model(name: str | Path) -> LanguageModel:
    path = shipped_file(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such language model")
    return load_language_model(path)


def load_model(
    name: str | Path, *, packed: bool = False
) -> tuple[RecognitionTask, dict[str, Any], dict[str, Any]]:
    """Reads a recognition model.

    Args:
        name: A path, or the name of weights shipped in the package; dense or packed weights.
        packed: Whether the recurrent matrices of a pruned model run packed, which is faster for
            large ones; with a warning, the model stays dense if it is not pruned.

    Returns:
        The task, its variables, and the decoding settings that were stored with them.

    Raises:
        WeightsError: There are no such weights, or they do not fit their configuration.
    """
    variables, stored = load_weights(name)
    try:
        config = RecognitionConfig.from_dict(stored)
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{name}: not the weights of a recognition model: {error}") from error
    task = RecognitionTask(config)
    dense = unpack_weights(variables)
    check_shapes(dense, jax.eval_shape(task.init, jax.random.key(0)), name)
    if not packed:
        variables = dense
    elif COLLECTION in variables:
        variables = runnable_weights(variables)
    else:
        variables = runnable_weights(pack_weights(variables))
    return task, variables, stored.get("decoding", {})
