"""The real process: sockets, signals, faults."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import websockets
import websockets.sync.client
from typer.testing import CliRunner

from deepaudio import _cli_serve
from deepaudio.cli import app
from deepaudio.serving import _process
from deepaudio.serving._process import Process, bound_socket
from deepaudio.serving.app import Server
from deepaudio.serving.settings import Access, Limits
from experiments.serving import faults

from .conftest import LIMITS, RATE


@contextlib.contextmanager
def serving(loaded, limits=LIMITS):
    """A server with real sockets in a thread; its process and port."""
    listening = bound_socket("127.0.0.1", 0)
    process = Process(Server(loaded, limits, Access()), limits)
    thread = threading.Thread(target=lambda: asyncio.run(process.serve([listening])))
    thread.start()
    while not process.started:
        time.sleep(0.01)
    try:
        yield process, listening.getsockname()[1]
    finally:
        process.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
        listening.close()


def test_faults_are_taken_well_and_streams_beside_hear_right(loaded, noise, eventually):
    """A short version of `experiments.serving.faults`."""
    pcms = [noise(3).tobytes(), noise(4).tobytes()]
    with serving(loaded) as (_, port):
        rng = np.random.default_rng(0)
        attack = faults.Attack(port, rng, LIMITS.max_body_bytes, LIMITS.max_message_bytes)
        outcomes, alone, beside = asyncio.run(
            faults.faults_beside_streams(attack, 90, pcms, chunk_seconds=0.1)
        )
        assert faults.healthy(port)
    for name, counts in outcomes.items():
        assert all(map(faults.taken_well, counts)), (name, counts)
    assert all(alone)
    assert not [error for heard in beside for error in heard.errors]
    eventually(lambda: loaded.live.dispatch.streams == 0)
    assert loaded.live.dispatch.waiting == 0


def test_headers_that_do_not_come_are_given_up(loaded, monkeypatch):
    monkeypatch.setattr(_process, "_HEADER_SECONDS", 0.1)
    with serving(loaded) as (_, port):
        import socket

        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
            slow.settimeout(60)
            assert slow.recv(100) == b""


def test_a_body_that_does_not_come_is_given_up(loaded):
    import socket

    limits = Limits(body_seconds=0.1, requests_per_minute=0)
    with serving(loaded, limits) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
            slow.settimeout(60)
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


PROGRAM = """
from deepaudio.serving import services
services._LIVE_SIZES, services._FILE_SIZES = (1,), (1,)
from deepaudio.cli import main
main()
"""


@pytest.fixture
def command(weights):
    """`deepaudio serve` in a process of its own, and its port."""
    words = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--decoders", "0"]
    for task in ("transcriber", "vocoder"):
        words += [f"--{task}", weights[task]]
    words += ["--model", weights["recognizer"]]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = None
            while port is None and (line := process.stderr.readline()):
                if found := re.search(r"serving on http://127.0.0.1:(\d+)", line):
                    port = int(found[1])
            yield process, port
        finally:
            process.kill()


def test_sigterm_answers_what_was_taken_and_ends(command, noise):
    process, port = command
    with websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as live:
        live.send(json.dumps({"config": {"sample_rate": RATE}}))
        live.send(noise(3).tobytes())
        live.recv()
        process.send_signal(signal.SIGTERM)
        # What was heard is answered, then comes the close.
        assert json.loads(live.recv())["text"]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            live.recv()
        assert closed.value.rcvd.code == 1012
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr.read()


def test_while_it_drains_new_requests_are_refused(loaded, noise, eventually):
    with serving(loaded) as (process, port):
        uri = f"ws://127.0.0.1:{port}"
        with websockets.sync.client.connect(uri) as live:
            live.send(json.dumps({"config": {"sample_rate": RATE}}))
            # Held up by a session that has not been answered yet.
            process._app._busy += 1
            process.handle_exit(signal.SIGTERM, None)
            eventually(lambda: process._app._draining)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/recognize", data=b"x")
            assert refused.value.code == 503
            refused.value.close()
            with pytest.raises(urllib.error.HTTPError) as draining:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
            with draining.value as answer:
                assert json.load(answer)["status"] == "draining"
            with pytest.raises(websockets.InvalidStatus) as handshake:
                websockets.sync.client.connect(uri)
            assert handshake.value.response.status_code == 503
            process._app._busy -= 1


def run(*words):
    return CliRunner().invoke(app, ["serve", *words])


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_cli_serve, "_MODULES", ("no_such_module",))
    result = run()
    assert result.exit_code == 1
    assert result.stderr == (
        "error: serve: no_such_module not installed: pip install 'deepaudio[serve]'\n"
    )


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["--model", "nosuch"], 1, "nosuch: no such weights file"),
        (["--token", "two words"], 2, "letters, digits"),
        (["--cors", "example.org"], 2, "is no origin"),
        (["--lm", "x", "--no-lm"], 2, "exclude each other"),
        (["--host", "256.1.1.1"], 1, "error: serve: "),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(words, status, reason):
    result = run("--port", "0", *words)
    assert result.exit_code == status
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_told_at_once():
    with bound_socket("127.0.0.1", 0) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "in use" in result.stderr


def test_help_teaches():
    text = run("--help").stdout
    assert "curl" in text and "127.0.0.1" in text and "deepaudio[serve]" in text
