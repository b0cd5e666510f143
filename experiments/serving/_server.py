"""The server of these measurements, in a process of its own.

    python -m experiments.serving._server --one_at_a_time

It prints its port as soon as it serves. `--one_at_a_time` is what Batch Dispatch is measured
against: live sound is computed one request at a time, network and search, in order of arrival.
"""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags

from deepaudio.serving import recognition, services
from deepaudio.serving._process import Process, bound_socket
from deepaudio.serving.app import Server
from deepaudio.serving.settings import Access, Limits
from deepaudio.tasks.recognizer import Heard

MOST_STREAMS = 512


class _InTurn(recognition.RecognitionStream):
    """A stream that computes a piece only while no other does."""

    turn: asyncio.Lock

    async def compute(self, piece) -> Heard:
        """One piece."""
        async with self.turn:
            return await super().compute(piece)


def take_turns() -> None:
    """Makes every stream of this process compute in turn."""
    _InTurn.turn = asyncio.Lock()
    recognition.RecognitionService.stream_type = _InTurn


def limits() -> Limits:
    """Of this server: those of `deepaudio serve`, but for many streams of one machine."""
    return Limits(max_streams=MOST_STREAMS, requests_per_minute=0)


def main(argv: list[str]) -> None:
    """Serves until a signal."""
    given = flags.FLAGS
    if given.one_at_a_time:
        take_turns()
    models = services.Models(recognizer=given.model, decoders=given.decoders)
    loaded = services.Services(models, limits())
    try:
        with bound_socket("127.0.0.1", 0) as listening:
            process = Process(Server(loaded, limits(), Access()), limits())
            print(f"port {listening.getsockname()[1]}", flush=True)
            asyncio.run(process.serve([listening]))
    finally:
        loaded.stop()


@contextlib.contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """The server in a process of its own, stopped in the end.

    Args:
        *words: More of its command line.

    Yields:
        The process, and the port.

    Raises:
        RuntimeError: It could not begin.
    """
    command = [sys.executable, "-m", "experiments.serving._server", *words]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"port (\d+)\n", line)
            if found is None:
                raise RuntimeError(f"the server has not begun: {line!r}")
            yield process, int(found[1])
        finally:
            process.send_signal(signal.SIGTERM)
            killing = threading.Timer(20, process.kill)
            killing.start()
            process.wait()
            killing.cancel()


def _define_flags() -> None:
    flags.DEFINE_bool("one_at_a_time", False, "Whether requests are computed one after another.")
    flags.DEFINE_string("model", None, "Weights of the recognizer.")
    flags.DEFINE_integer("decoders", None, "As deepaudio serve has it.", lower_bound=0)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
