"""The contract: every endpoint, the WebSocket's messages, and how an error looks (OpenAPI 3.1)."""

from typing import Any

from deepaudio import __version__

_WEBSOCKET = """
Live recognition by vosk-server's protocol, at `/` of the same host and port.

The client may first send text `{"config": {"sample_rate": 16000, "words": true}}`; `sample_rate`
is in Hz (8,000 to 192,000; 8,000 if none is given, as in vosk-server), `words` says whether finals
carry `result` (default true), and `max_alternatives` (0 to 10, default 0) asks for
`{"alternatives": [{"text", "confidence", "result"}]}` in place of `text` and `result`. A
configuration gets no answer and may not change once sound has been sent. Then the client sends
sound in binary messages, 16-bit little-endian mono PCM of any length up to the largest message.
Every binary message gets exactly one answer, in order:

- `{"partial": "text so far"}`, empty while nothing is said, or
- `{"text": "...", "result": [{"word", "start", "end", "conf"}]}` if the utterance has ended in a
  pause; times are in seconds from the beginning of the stream.

Text `{"eof": 1}` ends the sound: the last final comes back, then the server closes with 1000. Text
`{"reset": 1}` ends the utterance only: its final comes back, and what follows is heard without what
came before. A message that is none of these gets `{"error": "reason"}` and a close.

Close codes: 1000 the end; 1003 a message of no use; 1008 idle for too long; 1009 a message that is
too large; 1011 a fault of the server; 1012 the server is stopping (what was heard was answered
first); 1013 too busy. All but 1000, 1009 and 1012 come after `{"error": "reason"}`. Before the
handshake: 401 without the token, 403 for a foreign origin, 429 by the rate, 503 when all streams
are taken or the server is stopping.

With a token, a client sends the header `Authorization: Bearer TOKEN`. A browser, which cannot,
asks for two subprotocols: `new WebSocket(url, ["deepaudio.bearer", TOKEN])`; the server chooses the
first.
""".strip()

_DESCRIPTION = f"""
Piano recordings to notes, speech to text, and a vocoder. Every error of a `/v1` endpoint is
JSON, `{{"error": "one line"}}`; 429 and 503 come with `Retry-After`, but for a model that is not
there. If the server has a token, `/v1`, `/metrics` and the WebSocket ask for
`Authorization: Bearer TOKEN`; `/`, `/static`, `/healthz` and `/openapi.json` do not. Requests that
a browser sends from a page of another origin get 403 unless the server allows that origin.

## WebSocket

{_WEBSOCKET}
""".strip()

_SOUND = {
    "required": True,
    "description": (
        "A sound file of any rate, bit depth and number of channels: WAV, FLAC, Ogg (Vorbis, "
        "Opus), MP3, AIFF. Its type is told from the bytes; `Content-Type` may be anything but "
        "multipart, or multipart/form-data with one file."
    ),
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "audio/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            }
        },
    },
}


def _query(name: str, kind: str, description: str, **limits: Any) -> dict[str, Any]:
    schema = {"type": kind, **limits}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_FLAG = {"type": "boolean"}
_NOTE = _object(
    onset_seconds=_NUMBER,
    offset_seconds=_NUMBER,
    pitch={"type": "integer", "description": "MIDI, 21 to 108"},
    name={"type": "string", "examples": ["C4"]},
    velocity={"type": "integer", "description": "1 to 127"},
)
_WORD = _object(word=_TEXT, start=_NUMBER, end=_NUMBER, confidence=_NUMBER)
_SEGMENT = _object(
    start=_NUMBER, end=_NUMBER, alternatives=_array(_object(text=_TEXT, score=_NUMBER))
)
_TASK = {
    "type": "object",
    "properties": {
        "available": _FLAG,
        "model": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"], "description": "why it is not available"},
        "sample_rate": {"type": ["integer", "null"], "description": "Hz, of the model"},
    },
    "required": ["available", "model", "reason", "sample_rate"],
}
_HEALTH = _object(
    status={"type": "string", "enum": ["ok", "draining", "failed"]},
    version=_TEXT,
    token_required=_FLAG,
    tasks=_object(transcribe=_TASK, recognize=_TASK, vocode=_TASK),
    limits=_object(
        max_body_bytes=_INTEGER,
        max_seconds=_NUMBER,
        max_message_bytes=_INTEGER,
        max_streams=_INTEGER,
        requests_per_minute=_INTEGER,
    ),
)


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _responses(success: dict[str, Any], *errors: int) -> dict[str, Any]:
    return {
        "200": success,
        **{str(code): {"$ref": f"#/components/responses/{code}"} for code in errors},
    }


_ERRORS = {
    400: "The request is malformed: a parameter, the multipart body, or an empty or cut body",
    401: "The bearer token is missing or wrong",
    403: "A page of another origin",
    406: "None of the accepted types can be given",
    408: "The body came too slowly",
    413: "The body is larger than the server takes",
    422: "The sound cannot be used: unknown format, damaged, without samples, or too long",
    429: "Too many requests of one client; `Retry-After` in seconds",
    503: "Too busy, stopping, or without a model for this; the error says which",
    504: "Not done by its deadline",
}
_ALWAYS = (400, 401, 403, 408, 413, 422, 429, 503, 504)


def _operation(summary, body, parameters, success, *more_errors) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "security": [{}, {"token": []}],
            "parameters": parameters,
            "requestBody": body,
            "responses": _responses(success, *sorted({*_ALWAYS, *more_errors})),
        }
    }


def _transcribe() -> dict[str, Any]:
    success = _json(
        _object(seconds=_NUMBER, notes=_array(_NOTE)),
        "The notes, by onset; `seconds` is the length of the recording",
    )
    success["content"]["audio/midi"] = {"schema": {"type": "string", "format": "binary"}}
    threshold = {"exclusiveMinimum": 0, "exclusiveMaximum": 1}
    return _operation(
        "A piano recording to notes: JSON, or a MIDI file if the client asks for it",
        _SOUND,
        [
            _query(
                "format",
                "string",
                "json or midi; overrides `Accept`, of which application/json, audio/midi and "
                "audio/x-midi are known. JSON if neither says anything.",
                enum=["json", "midi"],
            ),
            _query("onset_threshold", "number", "Above it a note begins.", **threshold),
            _query("frame_threshold", "number", "Above it a key sounds.", **threshold),
        ],
        success,
        406,
    )


def _recognize() -> dict[str, Any]:
    return _operation(
        "A recording of speech to text",
        _SOUND,
        [_query("n_best", "integer", "Alternatives a segment.", minimum=1, maximum=10, default=1)],
        _json(
            _object(seconds=_NUMBER, text=_TEXT, words=_array(_WORD), segments=_array(_SEGMENT)),
            "Text, words with times in seconds and confidences in [0, 1], and segments between "
            "pauses with their alternatives, the best first",
        ),
    )


def _vocode() -> dict[str, Any]:
    body = {
        **_SOUND,
        "description": "A sound, to be turned into a mel spectrogram and back (copy synthesis); or "
        "a log-mel spectrogram of the model's convention, frames by bands, saved by numpy (.npy). "
        + _SOUND["description"],
    }
    return _operation(
        "Sound by the vocoder",
        body,
        [
            _query("seed", "integer", "Of the noise; the same gives the same sound.", default=0),
            _query("temperature", "number", "Factor of the noise.", minimum=0, default=1.0),
            _query("speaker", "integer", "Whose voice, by number.", minimum=0, default=0),
        ],
        {
            "description": "A WAV file, 16 bits, mono, at the model's rate",
            "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
        },
    )


def _plain_get(summary: str, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses, **more}}


def description() -> dict[str, Any]:
    """The OpenAPI document, JSON types only."""
    page = {"description": "HTML", "content": {"text/html": {}}}
    metrics = {"description": "Prometheus text", "content": {"text/plain": {}}}
    document = {"description": "This document", "content": {"application/json": {}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "deepaudio",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": _DESCRIPTION,
        },
        "paths": {
            "/": _plain_get("The page; a WebSocket upgrade begins live recognition", {"200": page}),
            "/v1/transcribe": _transcribe(),
            "/v1/recognize": _recognize(),
            "/v1/vocode": _vocode(),
            "/healthz": _plain_get(
                "Whether the server takes requests, what it can do, and its limits",
                {"200": _json(_HEALTH, "It does"), "503": _json(_HEALTH, "It does not")},
            ),
            "/metrics": _plain_get(
                "Queue lengths, batch sizes, latencies",
                _responses(metrics, 401),
                security=[{}, {"token": []}],
            ),
            "/openapi.json": _plain_get("This description", {"200": document}),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                str(code): _json(_object(error=_TEXT), text) for code, text in _ERRORS.items()
            },
        },
    }
