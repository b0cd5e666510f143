"""Who may ask, and how often: before a request reaches an endpoint."""

import collections
import hmac
import math
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deepaudio.serving.settings import Access

# Clients whose rate is remembered; of more, those seen longest ago are forgotten.
_MOST_CLIENTS = 10_000
_LARGEST_HEADERS = 16 * 1024
SUBPROTOCOL = "deepaudio.bearer"


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: Of HTTP.
        message: One line.
        headers: More headers.
    """

    def __init__(self, status: int, message: str, **headers: str):
        """An answer.

        Args:
            status: Of HTTP, 4xx or 5xx.
            message: What is wrong, in a line.
            **headers: With _ for -.
        """
        super().__init__(message)
        self.status, self.message = status, " ".join(message.split())
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> JSONResponse:
        """What is sent."""
        return JSONResponse({"error": self.message}, self.status, self.headers)


class Rate:
    """A bucket for every client, filled steadily; it holds the requests of a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        """Full buckets.

        Args:
            per_minute: 0 for no limit.
            clock: In seconds.
        """
        self._most, self._clock = per_minute, clock
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, client: str) -> float:
        """Takes one request out of a client's bucket; returns 0, or the seconds to wait for one."""
        if not self._most:
            return 0.0
        now = self._clock()
        left, then = self._buckets.pop(client, (float(self._most), now))
        left = min(left + (now - then) * self._most / 60, self._most)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self._most
        self._buckets[client] = left - (not wait), now
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class Guard:
    """Middleware: the rate, the origin and the token, of everything that costs something."""

    def __init__(
        self, app: ASGIApp, *, access: Access, rate: Rate, refusal: Callable[[], str | None]
    ):
        """Stands before an application.

        Args:
            app: The application.
            access: Who may ask.
            rate: How often.
            refusal: Why nobody may at present, or None.
        """
        self._app, self._access, self._rate, self._refusal = app, access, rate, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > _LARGEST_HEADERS:
                raise ApiError(431, f"the headers are larger than {_LARGEST_HEADERS} bytes")
            if self._is_guarded(scope):
                self._check(scope)
        except ApiError as error:
            if scope["type"] == "websocket":
                await receive()  # the handshake
                await deny(scope, error, send)
            else:
                await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_guarded(self, scope):
        path = scope["path"]
        return scope["type"] == "websocket" or path == "/metrics" or path.startswith("/v1/")

    def _check(self, scope):
        headers = Headers(scope=scope)
        if scope["path"] != "/metrics" and scope.get("method") != "OPTIONS":
            if reason := self._refusal():
                raise ApiError(503, reason, Retry_After="5", Connection="close")
            client = (scope.get("client") or ("",))[0]
            if wait := self._rate.take(client):
                seconds = math.ceil(wait)
                raise ApiError(
                    429, f"too many requests; try again in {seconds} s", Retry_After=str(seconds)
                )
        if not self._is_own(headers):
            raise ApiError(403, f"pages of {headers['origin'][:200]} may not ask this server")
        if self._access.token is not None and not self._has_token(headers):
            raise ApiError(401, "the bearer token is missing or wrong", WWW_Authenticate="Bearer")

    def _is_own(self, headers):
        """Whether a browser asks for a page of ours, or no browser asks."""
        origin = headers.get("origin")
        if origin is None or origin in self._access.origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get("host")
        except ValueError:
            return False

    def _has_token(self, headers):
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            offered = [p.strip() for p in headers.get("sec-websocket-protocol", "").split(",")]
            given = offered[1] if offered[0] == SUBPROTOCOL and len(offered) > 1 else ""
        return hmac.compare_digest(given.strip().encode(), self._access.token.encode())


async def deny(scope: Scope, error: ApiError, send: Send) -> None:
    """Answers a WebSocket's handshake with an error."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    response = error.response()
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body})
