"""The web application: endpoints, the page, and what holds for all of them."""

import asyncio
import io
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import soundfile
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepaudio import __version__, _outputs, _recognition_outputs
from deepaudio.serving import _openapi, jobs
from deepaudio.serving._accept import preferred
from deepaudio.serving._decoders import DecoderError
from deepaudio.serving._guard import ApiError, Guard, Rate
from deepaudio.serving._metrics import CONTENT_TYPE
from deepaudio.serving._page import FOLDER, HEADERS, index
from deepaudio.serving._uploads import Sound, receive_upload, upload_folder
from deepaudio.serving.batch_dispatch import Closed, Full, Late
from deepaudio.serving.live import LiveRecognition
from deepaudio.serving.services import Services, Task
from deepaudio.serving.settings import Access, Limits

_BLOCK_SECONDS = 4.0
_MIDI_TYPES = {"application/json": "json", "audio/midi": "midi", "audio/x-midi": "midi"}
_NUMPY_MAGIC = b"\x93NUMPY"
_ENDPOINTS = frozenset(_openapi.description()["paths"])
_LARGEST_SEED = 2**31 - 1
_MOST_ALTERNATIVES = 10


class Server:
    """The endpoints of one set of services.

    Attributes:
        app: The ASGI application.
    """

    def __init__(self, services: Services, limits: Limits, access: Access):
        """Builds the application.

        Args:
            services: What computes; the application does not stop it.
            limits: Of requests.
            access: Who may ask.
        """
        self._services, self._limits, self._access = services, limits, access
        self._draining = False
        self._busy = 0
        self._gate = jobs.Gate(limits.max_jobs)
        self._live = LiveRecognition(
            services.live, services.metrics, idle_seconds=limits.idle_seconds
        )
        endpoint = self._endpoint
        routes = [
            WebSocketRoute("/", self._live.converse),
            Route("/v1/transcribe", endpoint(self._transcribe), methods=["POST"]),
            Route("/v1/recognize", endpoint(self._recognize), methods=["POST"]),
            Route("/v1/vocode", endpoint(self._vocode), methods=["POST"]),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._describe),
            Route("/", index),
            Mount("/static", StaticFiles(directory=FOLDER)),
        ]
        middleware = [Middleware(_Watched, metrics=services.metrics)]
        if access.origins:
            middleware.append(
                Middleware(
                    CORSMiddleware,
                    allow_origins=access.origins,
                    allow_methods=["GET", "POST"],
                    allow_headers=["Authorization", "Content-Type"],
                )
            )
        rate = Rate(limits.requests_per_minute)
        middleware.append(Middleware(Guard, access=access, rate=rate, refusal=self._refusal))
        handlers = {
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            Exception: _on_fault,
        }
        self.app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)

    async def drain(self) -> None:
        """Refuses what is new, and waits until all that was taken has been answered."""
        self._draining = True
        self._live.drain()
        while self._busy or self._live.connections:
            await asyncio.sleep(0.02)

    def _refusal(self):
        return "the server is stopping" if self._draining else None

    def _endpoint(
        self, work: Callable[[Request, Path], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An upload's way: its body to a file, a place among the jobs, its work, its errors."""

        async def answer(request: Request) -> Response:
            self._busy += 1
            try:
                with upload_folder() as folder:
                    path = await receive_upload(request, Path(folder), self._limits)
                    async with asyncio.timeout(self._limits.deadline_seconds), self._gate:
                        return await _unless_gone(request, work(request, path))
            except ClientDisconnect:
                return Response(status_code=499)
            except (Full, Closed, DecoderError) as error:
                raise ApiError(503, str(error), Retry_After="1") from error
            except (Late, TimeoutError) as error:
                raise ApiError(
                    504, f"not done within {self._limits.deadline_seconds:g} s"
                ) from error
            finally:
                self._busy -= 1

        return answer

    async def _transcribe(self, request: Request, path: Path) -> Response:
        service = _available(self._services.transcribe)
        kind = _choice(request, "format", ("json", "midi"))
        if kind is None:
            kind = preferred(request.headers.getlist("accept"), _MIDI_TYPES)
        if kind is None:
            raise ApiError(406, f"only {', '.join(_MIDI_TYPES)} can be given")
        inner = {"least": math.ulp(0.0), "most": 1 - 2**-53}
        thresholds = {
            name: _number(request, name, None, **inner)
            for name in ("onset_threshold", "frame_threshold")
        }
        sound = self._sound(path, service.sample_rate)
        notes = await service.transcribe(sound, thresholds)
        if kind == "midi":
            midi = path.with_name("notes.mid")
            _outputs.write_mid(midi, notes, path)
            return Response(midi.read_bytes(), media_type="audio/midi")
        seconds = round(sound.seconds, 4)
        return JSONResponse({"seconds": seconds, "notes": _outputs.note_rows(notes)})

    async def _recognize(self, request: Request, path: Path) -> Response:
        service = _available(self._services.recognize)
        n_best = int(_number(request, "n_best", 1, 1, _MOST_ALTERNATIVES, whole=True))
        sound = self._sound(path, service.sample_rate)
        found = await jobs.recognize(service, sound, n_best)
        row = _recognition_outputs.as_row(found)
        return JSONResponse({"seconds": round(sound.seconds, 4), **row})

    async def _vocode(self, request: Request, path: Path) -> Response:
        service = _available(self._services.vocode)
        settings = {
            "seed": int(_number(request, "seed", 0, 0, _LARGEST_SEED, whole=True)),
            "temperature": float(_number(request, "temperature", 1.0, 0.0, 100.0)),
            "speaker": int(_number(request, "speaker", 0, 0, _LARGEST_SEED, whole=True)),
        }
        with path.open("rb") as file:
            is_mel = file.read(len(_NUMPY_MAGIC)) == _NUMPY_MAGIC
        given = path if is_mel else self._sound(path, service.sample_rate)
        try:
            samples = await service.vocode(given, max_seconds=self._limits.max_seconds, **settings)
        except ValueError as error:
            raise ApiError(422, str(error)) from error
        wav = io.BytesIO()
        soundfile.write(wav, samples, service.sample_rate, subtype="PCM_16", format="WAV")
        return Response(wav.getvalue(), media_type="audio/wav")

    def _sound(self, path, sample_rate):
        return Sound(
            path,
            sample_rate=sample_rate,
            block_seconds=_BLOCK_SECONDS,
            max_seconds=self._limits.max_seconds,
        )

    async def _health(self, request: Request) -> Response:
        status = "draining" if self._draining else "ok"
        status = "failed" if self._services.broken else status
        limits = self._limits
        content = {
            "status": status,
            "version": __version__,
            "token_required": self._access.token is not None,
            "tasks": {
                name: getattr(self._services, name).row()
                for name in ("transcribe", "recognize", "vocode")
            },
            "limits": {
                "max_body_bytes": limits.max_body_bytes,
                "max_seconds": limits.max_seconds,
                "max_message_bytes": limits.max_message_bytes,
                "max_streams": limits.max_streams,
                "requests_per_minute": limits.requests_per_minute,
            },
        }
        return JSONResponse(content, 200 if status == "ok" else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._services.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(_openapi.description())


def _available(task: Task) -> Any:
    if task.service is None:
        raise ApiError(503, task.reason or "not available")
    return task.service


def _choice(request: Request, name: str, known: tuple[str, ...]) -> str | None:
    value = request.query_params.get(name)
    if value is not None and value not in known:
        raise ApiError(400, f"{name}={value[:100]!r} is not one of {', '.join(known)}")
    return value


def _number(
    request: Request,
    name: str,
    default: float | None,
    least: float,
    most: float,
    *,
    whole: bool = False,
) -> float | None:
    """A number of the query, or the default."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ApiError(400, f"{name}={text[:100]!r} must be {kind} from {least:.3g} to {most:.10g}")
    return value


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """The work's result; if the client goes first, the work is cancelled."""
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientDisconnect
    finally:
        for task in (doing, watching):
            task.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Watched:
    """Middleware: counts and times requests, adds headers, and lets no fault out as a traceback."""

    def __init__(self, app: ASGIApp, *, metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.monotonic(), 500
        endpoint = scope["path"] if scope["path"] in _ENDPOINTS else "other"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.request_seconds.labels(endpoint).observe(time.monotonic() - begin)


async def _on_api_error(request: Request, error: ApiError) -> Response:
    return error.response()


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    headers = error.headers or {}
    return JSONResponse({"error": error.detail}, error.status_code, headers)


async def _on_fault(request: Request, error: Exception) -> Response:
    # The server's log has the traceback.
    return JSONResponse({"error": "a fault of the server"}, 500)
