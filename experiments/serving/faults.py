"""Malformed requests by the thousand, beside streams that must be answered right.

    python -m experiments.serving.faults --data_dir=/data/speech

Broken headers, cut bodies, wrong types, random bytes, bodies and messages that are too large, slow
senders, half-closed sockets, and WebSockets that break the protocol or vanish. Every one must be
answered by a status of 4xx (or 503, where the server says that it is too busy) or by a close; the
server must stay healthy; and what streams beside hear must be what they hear alone. Writes the
record `serving_faults`.
"""

import asyncio
import base64
import collections
import dataclasses
import struct
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from absl import app, flags

from experiments import _arguments, records
from experiments.serving import _client, _server

_READ_SECONDS = 20.0
_AT_ONCE = 16


@dataclasses.dataclass
class Attack:
    """What the faults need.

    Attributes:
        port: Of the server.
        rng: Of all that is random.
        max_body_bytes: As the server's.
        max_message_bytes: As the server's.
    """

    port: int
    rng: np.random.Generator
    max_body_bytes: int
    max_message_bytes: int

    async def exchange(self, data: bytes, *, half_close: bool = False) -> str:
        """Sends bytes and says how the server took them: a status, or "closed"."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            if half_close:
                writer.write_eof()
            return await _outcome(reader)
        except ConnectionError:
            return "closed"
        finally:
            await _closed(writer)

    def random(self, most: int) -> bytes:
        """Random bytes, at most so many."""
        return self.rng.bytes(int(self.rng.integers(1, most + 1)))

    def handshake(self) -> bytes:
        """What begins a WebSocket."""
        key = base64.b64encode(self.rng.bytes(16)).decode()
        return (
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    def frame(self, payload: bytes, opcode: int = 2) -> bytes:
        """A masked frame whose mask is zero."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        return head + bytes(4) + payload

    async def speak(self, *frames: bytes, vanish: bool = False) -> str:
        """Opens a WebSocket and sends raw bytes; says how it ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self.handshake())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _READ_SECONDS)
            if not head.startswith(b"HTTP/1.1 101"):
                return head.split()[1].decode()
            for frame in frames:
                writer.write(frame)
            await writer.drain()
            if vanish:
                writer.transport.abort()
                return "vanished"
            await asyncio.wait_for(reader.read(), _READ_SECONDS)
            return "closed"
        except (ConnectionError, asyncio.IncompleteReadError):
            return "closed"
        except TimeoutError:
            return "open"
        finally:
            await _closed(writer)


async def _outcome(reader) -> str:
    try:
        line = await asyncio.wait_for(reader.readline(), _READ_SECONDS)
    except TimeoutError:
        return "open"
    words = line.split()
    return words[1].decode(errors="replace") if len(words) > 1 else "closed"


async def _closed(writer) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


def _post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


_PATHS = ("/v1/recognize", "/v1/transcribe", "/v1/vocode")


async def broken_headers(attack: Attack) -> str:
    """A request that is no HTTP."""
    broken = [
        b"GET\r\n\r\n",
        b"POST /v1/recognize HTTP/9.9\r\n\r\n",
        b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/recognize HTTP/1.1\r\nHost a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ]
    return await attack.exchange(broken[attack.rng.integers(len(broken))])


async def random_bytes(attack: Attack) -> str:
    """Bytes that mean nothing, where a request should be."""
    return await attack.exchange(attack.random(4000), half_close=True)


async def random_body(attack: Attack) -> str:
    """A body that is no sound."""
    path = _PATHS[attack.rng.integers(len(_PATHS))]
    return await attack.exchange(_post(path, attack.random(20_000)))


async def damaged_sound(attack: Attack) -> str:
    """The header of a sound file, then anything."""
    heads = [b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC\x00\x00\x00\x22", b"OggS\x00\x02", b"ID3\x04"]
    heads += [b"\x93NUMPY\x01\x00", b"FORM\x00\x00\x10\x00AIFF", b"\xff\xfb\x90\x64"]
    body = heads[attack.rng.integers(len(heads))] + attack.random(5000)
    return await attack.exchange(_post(_PATHS[attack.rng.integers(len(_PATHS))], body))


async def cut_body(attack: Attack) -> str:
    """A body shorter than was said, then a half-closed socket."""
    body = attack.random(2000)
    return await attack.exchange(
        _post("/v1/recognize", body, length=len(body) + 1000), half_close=True
    )


async def wrong_type(attack: Attack) -> str:
    """A multipart body that is none, or holds no file."""
    body = attack.random(500)
    kinds = ["multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; b"]
    kind = kinds[attack.rng.integers(len(kinds))]
    return await attack.exchange(_post("/v1/transcribe", body, f"Content-Type: {kind}"))


async def wrong_method(attack: Attack) -> str:
    """A method or a place that is not there."""
    requests = ["GET /v1/recognize", "DELETE /", "PUT /healthz", "POST /nothing", "BREW /static/x"]
    line = requests[attack.rng.integers(len(requests))]
    return await attack.exchange(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


async def wrong_query(attack: Attack) -> str:
    """Parameters out of range, with a body that is a sound."""
    queries = ["recognize?n_best=-1", "recognize?n_best=1e400", "transcribe?format=exe"]
    queries += ["transcribe?onset_threshold=2", "recognize?n_best=" + "9" * 5000]
    query = queries[attack.rng.integers(len(queries))]
    silence = np.zeros(800, "<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(silence), b"WAVE", b"fmt ", 16, 1, 1,
                       16000, 32000, 2, 16, b"data", len(silence))  # fmt: skip
    return await attack.exchange(_post(f"/v1/{query}", head + silence))


async def oversized(attack: Attack) -> str:
    """A body that says it is too large, or is."""
    if attack.rng.random() < 0.5:
        return await attack.exchange(_post("/v1/recognize", b"", length=attack.max_body_bytes + 1))
    head = b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    return await attack.exchange(head + chunk * (attack.max_body_bytes // 0x10000 + 1))


async def slow_sender(attack: Attack) -> str:
    """A request a byte at a time, given up in the middle."""
    reader, writer = await asyncio.open_connection("127.0.0.1", attack.port)
    data = _post("/v1/recognize", attack.random(50))
    try:
        for byte in data[: int(attack.rng.integers(1, len(data)))]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.002)
        return "vanished"
    except ConnectionError:
        return "closed"
    finally:
        await _closed(writer)


async def bad_handshake(attack: Attack) -> str:
    """A WebSocket's handshake with something missing."""
    lines = attack.handshake().split(b"\r\n")
    del lines[int(attack.rng.choice([4, 5]))]
    return await attack.exchange(b"\r\n".join(lines))


async def bad_frames(attack: Attack) -> str:
    """A WebSocket that sends bytes which are no frames."""
    # A first bit of a reserved kind, so that it cannot be one by chance.
    return await attack.speak(b"\xf3" + attack.random(300))


async def large_message(attack: Attack) -> str:
    """A WebSocket message that is larger than the server takes."""
    return await attack.speak(attack.frame(bytes(attack.max_message_bytes + 2)))


async def useless_message(attack: Attack) -> str:
    """A WebSocket message that is none of the protocol's."""
    texts = [b"{}", b"[1]", b"hello", b'{"config": []}', b'{"config": {"sample_rate": -5}}']
    frames = [attack.frame(texts[attack.rng.integers(len(texts))], 1), attack.frame(b"\0")]
    return await attack.speak(frames[attack.rng.integers(2)])


async def vanishing_stream(attack: Attack) -> str:
    """A WebSocket that is dropped while it is spoken to."""
    frames = [attack.frame(attack.rng.bytes(6400)) for _ in range(attack.rng.integers(1, 8))]
    return await attack.speak(attack.frame(b'{"config": {"sample_rate": 16000}}', 1), *frames,
                              vanish=True)  # fmt: skip


FAULTS: tuple[Callable[[Attack], Awaitable[str]], ...] = (
    broken_headers,
    random_bytes,
    random_body,
    damaged_sound,
    cut_body,
    wrong_type,
    wrong_method,
    wrong_query,
    oversized,
    slow_sender,
    bad_handshake,
    bad_frames,
    large_message,
    useless_message,
    vanishing_stream,
)
# What counts as taken well; a 500 or a connection left open does not.
_GOOD = {"closed", "vanished", "503"}


def taken_well(outcome: str) -> bool:
    """Whether a fault had the answer that it deserves."""
    return outcome in _GOOD or (len(outcome) == 3 and outcome.startswith("4"))


async def run_faults(attack: Attack, count: int) -> dict[str, collections.Counter]:
    """So many faults in all, the kinds in turn, some at a time; outcomes by kind."""
    outcomes = {fault.__name__: collections.Counter() for fault in FAULTS}
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(fault):
        async with places:
            outcomes[fault.__name__][await fault(attack)] += 1

    await asyncio.gather(*(one(FAULTS[number % len(FAULTS)]) for number in range(count)))
    return outcomes


async def faults_beside_streams(
    attack: Attack, count: int, pcms: list[bytes], chunk_seconds: float = 0.2
) -> tuple[dict[str, collections.Counter], list[list[str]], list[_client.Heard]]:
    """Faults, while streams speak for as long as they last; and what these hear without.

    Returns:
        Outcomes by kind; the texts of each sound without faults; and what was heard beside them.
    """
    uri = f"ws://127.0.0.1:{attack.port}"
    quiet = [_client.speak(uri, pcm, chunk_seconds=chunk_seconds) for pcm in pcms]
    alone = [heard.texts for heard in await asyncio.gather(*quiet)]
    beside: list[_client.Heard] = []
    running = asyncio.create_task(run_faults(attack, count))

    async def speak(pcm, expected):
        while True:
            heard = await _client.speak(uri, pcm, chunk_seconds=chunk_seconds)
            if heard.texts != expected:
                heard.errors.append("heard wrongly")
            beside.append(heard)
            if running.done():
                return

    await asyncio.gather(*map(speak, pcms, alone))
    return await running, alone, beside


def healthy(port: int) -> bool:
    """Whether the server says that it is."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
        return answer.status == 200


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_integer("count", 2000, "Malformed requests.", lower_bound=1)
    flags.DEFINE_integer("streams", 4, "Streams beside them.", lower_bound=1)
    flags.DEFINE_float("seconds", 12.0, "Of sound in a stream.", lower_bound=1.0)
    flags.DEFINE_integer("seed", 0, "Of all that is random.")
    flags.DEFINE_string("record", "serving_faults", "Name of the record.")
    flags.DEFINE_string("record_dir", str(records.RECORDS), "Where it goes.")


def report(outcomes: dict[str, collections.Counter]) -> list[dict[str, Any]]:
    """A row a kind: `fault`, `count`, `taken_well`, and how often each `outcome`."""
    return [
        {
            "fault": name,
            "count": counts.total(),
            "taken_well": sum(n for outcome, n in counts.items() if taken_well(outcome)),
            "outcomes": dict(sorted(counts.items())),
        }
        for name, counts in outcomes.items()
    ]


def main(argv: list[str]) -> None:
    """Attacks and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    pcms = _client.voices(given.data_dir, given.streams, given.seconds, given.seed)
    with _server.running() as (_, port):
        limits = _server.limits()
        rng = np.random.default_rng(given.seed)
        attack = Attack(port, rng, limits.max_body_bytes, limits.max_message_bytes)
        outcomes, _, beside = asyncio.run(faults_beside_streams(attack, given.count, pcms))
        good = healthy(port)
    rows = report(outcomes)
    for row in rows:
        print(f"{row['fault']:18} {row['taken_well']} of {row['count']}: {row['outcomes']}")
    errors = [error for heard in beside for error in heard.errors]
    print(f"{len(beside)} streams beside, {len(errors)} errors; healthy: {good}")
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Malformed requests: how the server took them, and the streams beside them",
        directory=given.record_dir,
        taken_well=sum(row["taken_well"] for row in rows),
        count=given.count,
        streams_beside=len(beside),
        streams_with_errors=sum(bool(heard.errors) for heard in beside),
        healthy=good,
    )
    print(f"wrote {path}")
    if errors or not good or any(row["taken_well"] < row["count"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
