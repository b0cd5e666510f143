"""Clients that speak to a server in real time, in a process of their own.

    python -m experiments.serving._client --port=8000 --streams=10 --data_dir=/data/speech

Every stream sends pieces of sound at the pace of a microphone, utterances with pauses between them,
and reads answers as they come. Prints one JSON object: `final_seconds` and `partial_seconds`, from
the moment that a message was sent to its answer, `errors`, and `texts`.
"""

import asyncio
import collections
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import websockets
from absl import app, flags

from deepaudio import audio

RATE = 16000
_PAUSE_SECONDS = 1.2


@dataclasses.dataclass
class Heard:
    """What one stream came to.

    Attributes:
        finals: Seconds from the message that a final answers to the final.
        partials: The same of partial results.
        texts: The finals.
        errors: What went wrong.
    """

    finals: list[float] = dataclasses.field(default_factory=list)
    partials: list[float] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)


async def speak(
    uri: str, pcm: bytes, *, chunk_seconds: float, delay: float = 0.0, rate: int = RATE
) -> Heard:
    """One stream in real time.

    Args:
        uri: Of the server.
        pcm: 16-bit mono samples.
        chunk_seconds: Of sound in a message.
        delay: Seconds until it begins.
        rate: Of the samples, in Hz.

    Returns:
        What it came to; errors are part of it.
    """
    heard = Heard()
    await asyncio.sleep(delay)
    size = 2 * round(chunk_seconds * rate)
    sent: collections.deque[float] = collections.deque()
    try:
        async with websockets.connect(uri, compression=None, max_queue=64) as socket:
            await socket.send(json.dumps({"config": {"sample_rate": rate}}))
            listening = asyncio.create_task(_listen(socket, sent, heard))
            begin = time.monotonic()
            for number, first in enumerate(range(0, len(pcm), size), start=1):
                await asyncio.sleep(max(begin + number * chunk_seconds - time.monotonic(), 0))
                sent.append(time.monotonic())
                await socket.send(pcm[first : first + size])
            sent.append(time.monotonic())
            await socket.send('{"eof" : 1}')
            await asyncio.wait_for(listening, 30)
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        heard.errors.append(f"{type(error).__name__}: {error}")
    if sent:
        heard.errors.append(f"{len(sent)} messages have had no answer")
    return heard


async def _listen(socket, sent, heard):
    async for message in socket:
        now, answer = time.monotonic(), json.loads(message)
        if "error" in answer:
            heard.errors.append(answer["error"])
            continue
        seconds = now - sent.popleft()
        if "partial" in answer:
            heard.partials.append(seconds)
        else:
            heard.finals.append(seconds)
            if answer["text"]:
                heard.texts.append(answer["text"])


def voices(data_dir: str | Path, count: int, seconds: float, seed: int = 0) -> list[bytes]:
    """Sounds of utterances with pauses, each as long as asked for, no two the same.

    Args:
        data_dir: A corpus of `experiments.make_speech_corpus`.
        count: How many.
        seconds: Of each.
        seed: Of the choice.

    Returns:
        16-bit mono samples at `RATE`.
    """
    folder = Path(data_dir)
    rows = [json.loads(line) for line in (folder / "test_speakers.jsonl").open(encoding="utf-8")]
    rng = np.random.default_rng(seed)
    rows = [rows[n] for n in rng.permutation(len(rows))[:200]]
    said = [audio.read(folder / row["audio_filepath"], sample_rate=RATE)[0] for row in rows]
    pause = np.zeros(round(_PAUSE_SECONDS * RATE), np.float32)
    found = []
    for _ in range(count):
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < seconds * RATE:
            parts += [said[rng.integers(len(said))], pause]
        # Streams are at different places of their utterances.
        sound = np.concatenate(parts)[: round(seconds * RATE)]
        found.append((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return found


async def speak_together(
    uri: str, pcms: list[bytes], *, chunk_seconds: float, spread: float, seed: int = 0
) -> list[Heard]:
    """Many streams, which begin spread over some seconds."""
    delays = np.random.default_rng(seed).uniform(0, spread, len(pcms))
    return await asyncio.gather(
        *(
            speak(uri, pcm, chunk_seconds=chunk_seconds, delay=float(delay))
            for pcm, delay in zip(pcms, delays, strict=True)
        )
    )


def summary(heard: list[Heard]) -> dict[str, Any]:
    """All streams together, JSON types."""
    return {
        "final_seconds": [round(s, 5) for one in heard for s in one.finals],
        "partial_seconds": [round(s, 5) for one in heard for s in one.partials],
        "texts": [one.texts for one in heard],
        "errors": [error for one in heard for error in one.errors],
    }


def main(argv: list[str]) -> None:
    """Speaks and prints what came of it."""
    given = flags.FLAGS
    pcms = voices(given.data_dir, given.streams, given.seconds, given.seed)
    heard = asyncio.run(
        speak_together(
            f"ws://127.0.0.1:{given.port}",
            pcms,
            chunk_seconds=given.chunk_seconds,
            spread=given.spread,
        )
    )
    print(json.dumps(summary(heard)))


def _define_flags() -> None:
    flags.DEFINE_integer("port", None, "Of the server.", required=True)
    flags.DEFINE_integer("streams", 10, "At a time.", lower_bound=1)
    flags.DEFINE_float("seconds", 20.0, "Of sound, each.", lower_bound=0.1)
    flags.DEFINE_float("spread", 4.0, "Seconds over which streams begin.", lower_bound=0.0)
    flags.DEFINE_float("chunk_seconds", 0.2, "Of sound in a message.", lower_bound=0.01)
    flags.DEFINE_integer("seed", 0, "Of the choice of utterances.")
    flags.DEFINE_string("data_dir", None, "A corpus of make_speech_corpus.", required=True)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
