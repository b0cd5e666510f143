"""All that the server computes with, loaded and compiled once."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax

from deepaudio.models.weights import shipped_weights
from deepaudio.serving._metrics import Metrics
from deepaudio.serving.jobs import TranscriptionService, VocodingService
from deepaudio.serving.recognition import (
    FILE_SECONDS,
    LIVE_SECONDS,
    RecognitionService,
    make_decoders,
)
from deepaudio.serving.settings import Limits
from deepaudio.tasks import recognizer, transcriber, vocoder

_LIVE_SIZES = (1, 2, 4, 8, 16, 32)
_FILE_SIZES = (1, 2, 4)
_MOST_DECODERS = 8
# On a processor, which the searches for words need too.
_PACE_SECONDS = 0.03


@dataclasses.dataclass(frozen=True)
class Models:
    """Which models to serve; each a file, or the name of installed weights.

    Attributes:
        recognizer: Of speech; None for the default.
        language_model: An n-gram model; None for the recognizer's own.
        use_language_model: Whether one is used at all.
        transcriber: Of piano; None for the default.
        vocoder: A student; None for the default, if that is installed.
        decoders: Processes for beam searches of live speech; None for one a core, at most 8; 0 for
            threads of the server's own process.
    """

    recognizer: str | None = None
    language_model: Path | None = None
    use_language_model: bool = True
    transcriber: str | None = None
    vocoder: str | None = None
    decoders: int | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What the server can do of one kind.

    Attributes:
        model: Name of its weights.
        service: What does it; None if nothing can.
        reason: Why nothing can.
    """

    model: str | None
    service: Any
    reason: str | None = None

    def row(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "available": self.service is not None,
            "model": self.model,
            "reason": self.reason,
            "sample_rate": getattr(self.service, "sample_rate", None),
        }


class Services:
    """The tasks of a server.

    Attributes:
        live: `RecognitionService` for live sound.
        recognize: The same for uploads, a `Task`.
        transcribe: A `Task`.
        vocode: A `Task`.
        metrics: Of all of them.
    """

    def __init__(self, models: Models, limits: Limits):
        """Loads the models and compiles them; takes some seconds.

        Args:
            models: Which.
            limits: How many streams and jobs.

        Raises:
            ValueError: A model cannot be used. A default vocoder that is not installed is no
                error; `vocode` has the reason.
        """
        self.metrics = Metrics()
        self._stops: list[Any] = []
        try:
            self._load(models, limits)
        except BaseException:
            self.stop()
            raise

    def _load(self, models, limits):
        heard = recognizer.load_recognizer(
            models.recognizer,
            language_model=models.language_model,
            use_language_model=models.use_language_model,
        )
        cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
        processes = models.decoders
        if processes is None:
            processes = min(cores or 1, _MOST_DECODERS)
        # Files have a process of their own, so that they hold no live stream up.
        decoders = [
            self._kept(make_decoders(heard, count)) for count in (processes, min(processes, 1))
        ]
        self.live = self._recognition(
            "live", heard, decoders[0], LIVE_SECONDS, _LIVE_SIZES, limits.max_streams
        )
        files = self._recognition(
            "recognize", heard, decoders[1], FILE_SECONDS, _FILE_SIZES, limits.max_jobs
        )
        self.recognize = Task(models.recognizer or recognizer.DEFAULT_WEIGHTS, files)
        self.transcribe = self._transcription(models, limits)
        self.vocode = self._vocoding(models, limits)
        for one in decoders:
            one.wait()
        self._decoders = decoders

    @property
    def broken(self) -> bool:
        """Whether something has failed for good, so that the server must be started anew."""
        return any(one.broken for one in self._decoders)

    def stop(self) -> None:
        """Ends everything; what is not done fails."""
        while self._stops:
            self._stops.pop().stop()

    def _recognition(self, name, heard, decoders, seconds, sizes, streams):
        return self._watched(
            name,
            RecognitionService(
                heard,
                decoders,
                seconds=seconds,
                sizes=sizes,
                max_streams=streams,
                pace_seconds=_PACE_SECONDS if jax.default_backend() == "cpu" else 0.0,
                observe=self.metrics.observer(name),
                name=name,
            ),
        )

    def _transcription(self, models, limits):
        name = models.transcriber or transcriber.DEFAULT_WEIGHTS
        service = TranscriptionService(
            transcriber.load_transcriber(name),
            jobs=limits.max_jobs,
            sizes=_FILE_SIZES,
            observe=self.metrics.observer("transcribe"),
        )
        return Task(name, self._watched("transcribe", service))

    def _vocoding(self, models, limits):
        name = models.vocoder or vocoder.DEFAULT_MODEL
        if models.vocoder is None and name not in shipped_weights():
            return Task(None, None, f"the vocoder {name} is not installed")
        service = VocodingService(
            vocoder.load_vocoder(name),
            jobs=limits.max_jobs,
            sizes=_FILE_SIZES,
            observe=self.metrics.observer("vocode"),
        )
        return Task(name, self._watched("vocode", service))

    def _watched(self, name, service):
        dispatch = service.dispatch
        self.metrics.watch(name, lambda: dispatch.waiting, lambda: dispatch.streams)
        return self._kept(service)

    def _kept(self, service):
        self._stops.append(service)
        return service
