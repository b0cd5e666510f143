"""Ten minutes of steady load: no error, and memory that stays.

    python -m experiments.serving.soak --data_dir=/data/speech --streams=40

Streams speak in real time, one after another ends and another begins, for as long as asked for;
choose four fifths of what `experiments.serving.load` found the server to hold. Once every few
seconds the resident memory of the server and of its decoding processes is read (Linux). Writes the
record `serving_soak`.
"""

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from experiments import _arguments, records
from experiments.serving import _client, _server

_EVERY_SECONDS = 5.0
_SETTLED_SECONDS = 60.0


def resident_mib(process: int) -> float:
    """Resident memory of a process and of all that it has started, in MiB.

    Raises:
        OSError: The system does not tell.
    """
    total, waiting = 0.0, [process]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        status = (folder / "status").read_text()
        line = next((line for line in status.splitlines() if line.startswith("VmRSS")), None)
        total += int(line.split()[1]) / 1024 if line else 0.0
        for task in (folder / "task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return total


async def soak(
    process: int, port: int, pcms: list[bytes], *, seconds: float, chunk_seconds: float
) -> tuple[list[_client.Heard], list[tuple[float, float]]]:
    """Streams that begin anew when they end, and the server's memory beside them.

    Returns:
        What every stream came to, and (seconds, MiB) of the server.
    """
    uri, begin = f"ws://127.0.0.1:{port}", time.monotonic()
    heard: list[_client.Heard] = []
    memory: list[tuple[float, float]] = []

    async def speak(number):
        # Spread over one sound, so that streams do not end together.
        length = len(pcms[number]) / 2 / _client.RATE
        await asyncio.sleep(length * number / len(pcms))
        while time.monotonic() - begin < seconds:
            heard.append(await _client.speak(uri, pcms[number], chunk_seconds=chunk_seconds))

    async def watch():
        while True:
            memory.append((time.monotonic() - begin, resident_mib(process)))
            await asyncio.sleep(_EVERY_SECONDS)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(speak(number) for number in range(len(pcms))))
    watching.cancel()
    return heard, memory


def growth(memory: list[tuple[float, float]]) -> float:
    """By which share memory has grown since it had settled: last tenth over first, medians."""
    settled = [mib for at, mib in memory if at >= _SETTLED_SECONDS] or [mib for _, mib in memory]
    part = max(len(settled) // 10, 1)
    return float(np.median(settled[-part:]) / np.median(settled[:part]) - 1)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_integer("streams", None, "At a time.", lower_bound=1, required=True)
    flags.DEFINE_float("minutes", 10.0, "For how long.", lower_bound=0.01)
    flags.DEFINE_float("seconds", 30.0, "Of sound in a stream.", lower_bound=1.0)
    flags.DEFINE_float("chunk_seconds", 0.2, "Of sound in a message.", lower_bound=0.01)
    flags.DEFINE_string("record", "serving_soak", "Name of the record.")
    flags.DEFINE_string("record_dir", str(records.RECORDS), "Where it goes.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    pcms = _client.voices(given.data_dir, given.streams, given.seconds)
    try:
        with _server.running() as (process, port):
            heard, memory = asyncio.run(
                soak(
                    process.pid,
                    port,
                    pcms,
                    seconds=60 * given.minutes,
                    chunk_seconds=given.chunk_seconds,
                )
            )
    except (OSError, RuntimeError) as error:
        sys.exit(f"soak: {error}")
    finals = np.array([seconds for one in heard for seconds in one.finals])
    errors = [error for one in heard for error in one.errors]
    row = {
        "minutes": given.minutes,
        "streams_at_a_time": given.streams,
        "streams": len(heard),
        "errors": len(errors),
        "finals": len(finals),
        "final_median_seconds": float(np.median(finals)),
        "final_p98_seconds": float(np.percentile(finals, 98)),
        "memory_growth": growth(memory),
        "memory_mib": [[round(at), round(mib, 1)] for at, mib in memory],
    }
    print({name: value for name, value in row.items() if name != "memory_mib"}, *errors[:5])
    path = records.write_record(
        given.record,
        None,
        [row],
        description="The server under steady load: errors, latencies and memory",
        directory=given.record_dir,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
