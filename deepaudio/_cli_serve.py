"""`deepaudio serve`: the models behind HTTP and a WebSocket, with a page."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from deepaudio._cli_common import Reporter

_MODULES = ("starlette", "uvicorn", "websockets", "prometheus_client", "python_multipart")
_MEGABYTE = 2**20


def _token(value: str | None) -> str | None:
    # A browser sends it as the name of a subprotocol, which may hold no other characters.
    if value is not None and not (value.isascii() and value and not set(value) - _ALLOWED):
        raise typer.BadParameter("may hold letters, digits and -._~ only, at least one of them")
    return value


_ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


def _origins(values: list[str] | None) -> list[str] | None:
    for value in values or []:
        scheme, separator, host = value.partition("://")
        if scheme not in ("http", "https") or not separator or not host or "/" in host:
            raise typer.BadParameter(f"{value!r} is no origin such as https://example.org")
    return values


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    model: Annotated[
        str | None,
        typer.Option(help="Speech: a weights file, or the name of an installed model (see info)."),
    ] = None,
    language_model: Annotated[
        Path | None,
        typer.Option(
            "--lm",
            metavar="FILE",
            help="An n-gram language model, .arpa or .arpa.gz.  [default: the model's own]",
        ),
    ] = None,
    no_language_model: Annotated[
        bool, typer.Option("--no-lm", help="Trust the ear alone: no language model.")
    ] = False,
    transcriber: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Piano: weights, as for --model.")
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Vocoder: weights of a student, as for --model."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            callback=_token,
            envvar="DEEPAUDIO_TOKEN",
            show_envvar=False,
            help="What clients must send, as 'Authorization: Bearer TOKEN'. Safer in the "
            "environment, as DEEPAUDIO_TOKEN.",
        ),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            metavar="ORIGIN",
            callback=_origins,
            help="Let pages of this origin ask too, such as https://example.org; may be given "
            "often.",
        ),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, metavar="MB", help="Largest upload.")] = 64,
    max_seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="Longest sound of an upload.")
    ] = 1800.0,
    max_streams: Annotated[
        int, typer.Option(min=1, max=4096, help="Live streams at a time.")
    ] = 256,
    rate: Annotated[
        int, typer.Option(min=0, help="Requests a minute from one address; 0 for any number.")
    ] = 120,
    decoders: Annotated[
        int | None,
        typer.Option(
            min=0, max=64, help="Processes that search for words.  [default: one a core, at most 8]"
        ),
    ] = None,
    trust_proxy: Annotated[
        bool,
        typer.Option("--trust-proxy", help="Take clients' addresses from a proxy on this machine."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print errors with a traceback.")] = False,
) -> None:
    r"""Serve transcription, recognition and vocoding over HTTP, with a page to try them.

    Needs the extra: pip install 'deepaudio[serve]'. Open http://127.0.0.1:8000 in a browser, or
    see /openapi.json for all there is. Live speech goes over a WebSocket at /, by vosk-server's
    protocol, so that its clients work as they are. Requests of many clients are computed
    together, as soon as the device is free. /metrics is for Prometheus, /healthz for whoever
    starts the server again. SIGTERM lets it answer what it has taken, then it ends.

    \b
    Examples:
      deepaudio serve                                   this machine only, port 8000
      deepaudio serve --host 0.0.0.0 --token s3cret     the network, with a password
      curl --data-binary @sonata.wav localhost:8000/v1/transcribe
      curl --data-binary @sonata.wav 'localhost:8000/v1/transcribe?format=midi' > sonata.mid
      curl --data-binary @note.wav localhost:8000/v1/recognize
      curl --data-binary @talk.wav localhost:8000/v1/vocode > resynthesized.wav

    Exit status: 0 if it was told to end, 1 if it could not begin, 2 on wrong usage.
    """
    if language_model and no_language_model:
        raise typer.BadParameter("--lm and --no-lm exclude each other")
    reporter = Reporter(quiet=quiet, debug=debug)
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: pip install 'deepaudio[serve]'"
        reporter.error("serve", ValueError(reason))
        reporter.exit()
    with reporter.guard("serve"):
        from deepaudio.serving.settings import Access, Limits

        models = {
            "recognizer": model,
            "language_model": language_model,
            "use_language_model": not no_language_model,
            "transcriber": transcriber,
            "vocoder": vocoder,
            "decoders": decoders,
        }
        limits = Limits(
            max_body_bytes=max_body * _MEGABYTE,
            max_seconds=max_seconds,
            max_streams=max_streams,
            requests_per_minute=rate,
        )
        access = Access(token, tuple(origins or ()))
        _run(reporter, host, port, models, limits, access, trust_proxy)
    reporter.exit()


def _run(reporter, host, port, models, limits, access, trust_proxy) -> None:
    import asyncio

    from deepaudio.serving import services
    from deepaudio.serving._process import Process, bound_socket
    from deepaudio.serving.app import Server

    # First, as it fails at once if another server has the port.
    with bound_socket(host, port) as listening:
        reporter.say("loading and compiling the models")
        loaded = services.Services(services.Models(**models), limits)
        try:
            process = Process(Server(loaded, limits, access), limits, trust_proxy=trust_proxy)
            name, number = listening.getsockname()[:2]
            shown = f"[{name}]" if ":" in name else name
            for task in ("transcribe", "recognize", "vocode"):
                if reason := getattr(loaded, task).reason:
                    reporter.say(f"without {task}: {reason}")
            reporter.say(f"serving on http://{shown}:{number} (process {os.getpid()})")
            asyncio.run(process.serve([listening]))
        finally:
            loaded.stop()
