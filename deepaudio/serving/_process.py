"""The process: sockets, signals, slow clients, and an end within ten seconds."""

import asyncio
import logging
import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deepaudio.serving.app import Server
from deepaudio.serving.settings import Limits

_LOG = logging.getLogger("deepaudio.serving")
_DRAIN_SECONDS = 8.0
_HEADER_SECONDS = 10.0
_LARGEST_HEADERS = 16 * 1024
_PING_SECONDS = 20.0
_MESSAGES_AHEAD = 8
_BACKLOG = 1024


class _Protocol(H11Protocol):
    """HTTP whose client must have sent its headers in time; uvicorn would wait for ever."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(_HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc):
        self._header_timer.cancel()
        super().connection_lost(exc)

    def _give_up(self):
        # The protocol changes with a WebSocket; with a request there is a scope.
        if self.scope is None and self.transport.get_protocol() is self:
            self.transport.close()


class Process(uvicorn.Server):
    """Serves until a signal, then answers what it took, refuses what is new, and ends."""

    def __init__(self, server: Server, limits: Limits, *, trust_proxy: bool = False):
        """Prepares it.

        Args:
            server: The application.
            limits: For messages.
            trust_proxy: Whether clients' addresses are what a proxy on this machine says.
        """
        super().__init__(
            uvicorn.Config(
                server.app,
                http=_Protocol,
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=trust_proxy,
                server_header=False,
                h11_max_incomplete_event_size=_LARGEST_HEADERS,
                ws_max_size=limits.max_message_bytes,
                ws_max_queue=_MESSAGES_AHEAD,
                ws_ping_interval=_PING_SECONDS,
                ws_ping_timeout=_PING_SECONDS,
                # Sound does not get smaller by it.
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._app = server
        self._draining: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on bound sockets."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one ends at once."""
        if self._draining is None:
            self._loop.call_soon_threadsafe(self._begin_to_drain)
        else:
            self.should_exit = self.force_exit = True

    def _begin_to_drain(self):
        if self._draining is None:
            _LOG.info("stopping: answering what was taken")
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self):
        try:
            await asyncio.wait_for(self._app.drain(), _DRAIN_SECONDS)
        except TimeoutError:
            _LOG.warning("not all was answered within %g s", _DRAIN_SECONDS)
        finally:
            self.should_exit = True


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or an address, of IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        OSError: It cannot.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
