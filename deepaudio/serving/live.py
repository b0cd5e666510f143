"""Live recognition over a WebSocket, by vosk-server's protocol."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from deepaudio.decoding import Transcript
from deepaudio.serving._decoders import DecoderError
from deepaudio.serving._guard import SUBPROTOCOL, ApiError, deny
from deepaudio.serving._metrics import Metrics
from deepaudio.serving.batch_dispatch import Closed, Full, Late
from deepaudio.serving.recognition import RecognitionService, RecognitionStream, Resampler
from deepaudio.tasks.recognizer import Segment

_LOG = logging.getLogger("deepaudio.serving")
# vosk-server's, for clients that send no configuration.
_DEFAULT_RATE = 8000
_LOWEST_RATE, _HIGHEST_RATE = 8000, 192_000
_MOST_ALTERNATIVES = 10


class _Useless(ValueError):
    """A message that is none of the protocol."""


class LiveRecognition:
    """The WebSocket endpoint.

    Attributes:
        connections: How many there are.
    """

    def __init__(self, service: RecognitionService, metrics: Metrics, *, idle_seconds: float):
        """Nobody is connected.

        Args:
            service: What hears.
            metrics: What is told of latencies.
            idle_seconds: A connection without a message for so long is closed.
        """
        self._service, self._metrics = service, metrics
        self._idle_seconds = idle_seconds
        self._sessions: set[_Session] = set()
        metrics.watch_connections(lambda: self.connections)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._sessions)

    async def converse(self, websocket: WebSocket) -> None:
        """One connection, from handshake to close."""
        dispatch = self._service.dispatch
        if max(dispatch.streams, self.connections) >= dispatch.max_streams:
            error = ApiError(503, "all live streams are taken", Retry_After="5")
            await websocket.receive()  # the handshake
            await deny(websocket.scope, error, websocket._send)
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        session = _Session(websocket, self._service, self._metrics, self._idle_seconds)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    def drain(self) -> None:
        """Has every connection answered and closed."""
        for session in self._sessions:
            session.drain()


class _Session:
    """One connection."""

    def __init__(self, websocket, service, metrics, idle_seconds):
        self._websocket: WebSocket = websocket
        self._service: RecognitionService = service
        self._metrics: Metrics = metrics
        self._idle_seconds = idle_seconds
        self._timeout: asyncio.Timeout | None = None
        self._draining = False
        self._rate, self._words, self._alternatives = _DEFAULT_RATE, True, 0
        self._stream: RecognitionStream | None = None
        self._resampler: Resampler | None = None
        self._partial = ""
        # Seconds heard before the present stream, which begins with the first sound or a reset.
        self._begin, self._samples = 0.0, 0

    def drain(self) -> None:
        """Ends the sound as soon as the message at hand is answered."""
        self._draining = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Answers messages until the end, whoever brings it about."""
        code, reason = 1011, "a fault of the server"
        try:
            code, reason = await self._converse()
        except WebSocketDisconnect:
            return
        except _Useless as error:
            code, reason = 1003, str(error)
        except (Full, Late, Closed) as error:
            code, reason = (1012 if self._draining else 1013), str(error)
        except DecoderError as error:
            reason = str(error)
        except Exception:
            _LOG.exception("a live stream has failed")
        finally:
            self._end_stream()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            if code not in (1000, 1012):
                await self._send({"error": reason})
            await self._websocket.close(code, reason[:100])

    async def _converse(self) -> tuple[int, str]:
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds) as self._timeout:
                    if self._draining:
                        raise TimeoutError
                    message = await self._websocket.receive()
            except TimeoutError:
                if not self._draining:
                    return 1008, f"no message within {self._idle_seconds:g} s"
                await self._send(await self._final())
                return 1012, "the server is stopping"
            finally:
                self._timeout = None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            begin = time.monotonic()
            pcm = message.get("bytes")
            if pcm is not None:
                answer, last = await self._hear(pcm), False
            else:
                answer, last = await self._command(message.get("text") or "")
            if answer is not None:
                kind = "partial" if "partial" in answer else "final"
                self._metrics.live_seconds.labels(kind).observe(time.monotonic() - begin)
                await self._send(answer)
            if last:
                return 1000, ""

    async def _hear(self, pcm: bytes) -> dict[str, Any]:
        try:
            if self._stream is None:
                self._stream = self._service.open(
                    n_best=max(self._alternatives, 1), start=self._begin
                )
                self._resampler = Resampler(self._rate, self._service.sample_rate)
            samples = self._resampler.feed(pcm)
        except ValueError as error:
            raise _Useless(str(error)) from None
        self._samples += len(pcm) // 2
        final: list[Segment] = []
        async for heard in self._stream.hear(samples):
            final += heard.final
            self._partial = heard.partial
        return self._answer(final) if final else {"partial": self._partial}

    async def _final(self) -> dict[str, Any]:
        """Ends the sound, and what it still gave."""
        final: list[Segment] = []
        if self._stream is not None:
            async for heard in self._stream.hear(self._resampler.finish()):
                final += heard.final
            async for heard in self._stream.finish():
                final += heard.final
        self._end_stream()
        return self._answer(final)

    async def _command(self, text: str) -> tuple[dict[str, Any] | None, bool]:
        """The answer to a text message, and whether it is the last."""
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            raise _Useless("a text message must be JSON") from None
        if not isinstance(given, dict):
            raise _Useless("a text message must be a JSON object")
        if "config" in given:
            self._configure(given["config"])
            return None, False
        if given.get("eof"):
            return await self._final(), True
        if given.get("reset"):
            return await self._final(), False
        raise _Useless("a text message must have one of config, eof and reset")

    def _configure(self, config: Any) -> None:
        if not isinstance(config, dict):
            raise _Useless("config must be an object")
        if self._stream is not None:
            raise _Useless("config must come before sound")
        rate = _number(config, "sample_rate", self._rate, _LOWEST_RATE, _HIGHEST_RATE)
        if rate != self._rate:
            # So far the clock has counted at another rate.
            self._begin, self._rate = self._clock(), rate
            self._samples = 0
        self._alternatives = _number(
            config, "max_alternatives", self._alternatives, 0, _MOST_ALTERNATIVES
        )
        self._words = bool(config.get("words", self._words))

    def _clock(self) -> float:
        return self._begin + self._samples / self._rate

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._begin, self._samples = self._clock(), 0
            self._stream = self._resampler = None
        self._partial = ""

    def _answer(self, final: Sequence[Segment]) -> dict[str, Any]:
        separator = self._service.word_separator
        best = [segment.transcripts[0] for segment in final]
        if not self._alternatives:
            return _result(best, separator, words=self._words and bool(best))
        count = max((len(segment.transcripts) for segment in final), default=1)
        rows = []
        for rank in range(count):
            chosen = [s.transcripts[min(rank, len(s.transcripts) - 1)] for s in final]
            score = sum(transcript.score for transcript in chosen)
            row = _result(chosen, separator, words=self._words)
            rows.append({"confidence": round(score, 4), **row})
        return {"alternatives": rows}

    async def _send(self, answer: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(answer, ensure_ascii=False))


def _result(transcripts: Sequence[Transcript], separator: str, *, words: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if words:
        answer["result"] = [
            {
                "conf": round(word.confidence, 6),
                "end": round(word.end, 3),
                "start": round(word.start, 3),
                "word": word.text,
            }
            for transcript in transcripts
            for word in transcript.words
        ]
    return answer | {"text": separator.join(transcript.text for transcript in transcripts)}


def _number(config, name, default, least, most) -> int:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise _Useless(f"{name} must be a number")
    if not least <= value <= most or value != int(value):
        raise _Useless(f"{name}={value} must be a whole number from {least} to {most}")
    return int(value)
