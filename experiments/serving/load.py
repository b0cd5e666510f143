"""Streams in real time: how soon finals come, and how many streams a server holds.

    python -m experiments.serving.load --data_dir=/data/speech

Clients in a second process speak to a server as microphones do. For 10, 20 and 30 streams, and then
for as many as it takes, the median and the 98th percentile of the latency of final results are
measured, from the message that ends an utterance to its final, with Batch Dispatch and, in turns
with it, one request at a time. The paper's figures for Batch Dispatch on a small GPU (arXiv
1512.02595, section 7) are 44, 48 and 67 ms in the median, 70, 86 and 114 at the 98th percentile.
Writes the record `serving_load`.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments import _arguments, records
from experiments.serving import _server

LIMIT_SECONDS = 0.3
_NAMES = {False: "Batch Dispatch", True: "one request at a time"}


def measure(port: int, streams: int, *, data_dir: str, seconds: float, chunk: float) -> dict:
    """Latencies of so many streams at a time.

    Returns:
        `streams`, `finals`, `median_seconds`, `p98_seconds`, the same of partials, `errors`.

    Raises:
        RuntimeError: The clients failed.
    """
    command = [sys.executable, "-m", "experiments.serving._client", f"--port={port}"]
    command += [f"--streams={streams}", f"--seconds={seconds}", f"--chunk_seconds={chunk}"]
    command += [f"--data_dir={data_dir}"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise RuntimeError(f"the clients have failed: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    row: dict[str, Any] = {"streams": streams, "errors": len(found["errors"])}
    for kind in ("final", "partial"):
        latencies = np.array(found[f"{kind}_seconds"])
        row[f"{kind}s"] = len(latencies)
        if len(latencies):
            median, high = np.percentile(latencies, (50, 98))
            row |= {
                f"{kind}_median_seconds": round(median, 4),
                f"{kind}_p98_seconds": round(high, 4),
            }
    return row


def holds(row: dict[str, Any]) -> bool:
    """Whether a row is within the limit, without an error."""
    return not row["errors"] and row.get("final_p98_seconds", 1e9) < LIMIT_SECONDS


def most_held(
    port: int, rows: list[dict[str, Any]], *, step: int, most: int, **how: Any
) -> list[dict[str, Any]]:
    """Rows of a search for the most streams that are held.

    Upwards by half while a server holds them, then by halves between the most that it holds and
    the fewest that it does not.

    Args:
        port: Of the server.
        rows: What has been measured.
        step: How precisely.
        most: Streams to try at most.
        **how: As `measure` takes it.
    """
    found: list[dict[str, Any]] = []
    while True:
        tried = [*rows, *found]
        high = min((row["streams"] for row in tried if not holds(row)), default=None)
        held = [row["streams"] for row in tried if holds(row)]
        low = max((streams for streams in held if high is None or streams < high), default=0)
        if (high is not None and high - low <= step) or low >= most:
            return found
        following = min(low + max(low // 2, step), most) if high is None else (low + high) // 2
        found.append(measure(port, following, **how))
        print(f"  {found[-1]}", file=sys.stderr)


def compare(
    counts: list[int], *, step: int, most: int, server: list[str], **how: Any
) -> list[dict[str, Any]]:
    """Measures both ways in turns, then how many streams each holds.

    Args:
        counts: Streams at a time.
        step: As `most_held` takes it.
        most: As `most_held` takes it.
        server: More of both servers' command lines.
        **how: As `measure` takes it.

    Returns:
        Rows of all measurements, with `dispatch`.
    """
    with _both(server) as ports:
        rows = _latencies(ports, counts, **how)
        for one_at_a_time, port in ports.items():
            rows[one_at_a_time] += most_held(port, rows[one_at_a_time], step=step, most=most, **how)
    return _named(rows)


def latencies(counts: list[int], *, server: list[str], **how: Any) -> list[dict[str, Any]]:
    """Measures both ways in turns, at these numbers of streams; as `compare` without its search."""
    with _both(server) as ports:
        return _named(_latencies(ports, counts, **how))


@contextlib.contextmanager
def _both(server: list[str]) -> Iterator[dict[bool, int]]:
    """Two servers: the ports by whether they serve one request at a time."""
    with (
        _server.running(*server) as (_, batched),
        _server.running("--one_at_a_time", *server) as (_, single),
    ):
        yield {False: batched, True: single}


def _latencies(ports, counts, **how):
    rows = {one_at_a_time: [] for one_at_a_time in ports}
    for count in [1, *counts]:  # the first warms both up
        for one_at_a_time, port in ports.items():
            row = measure(port, count, **how)
            print(f"  {_NAMES[one_at_a_time]}: {row}", file=sys.stderr)
            if count != 1:
                rows[one_at_a_time].append(row)
    return rows


def _named(rows):
    return [
        {"dispatch": _NAMES[one_at_a_time], **row}
        for one_at_a_time, ways in rows.items()
        for row in sorted(ways, key=lambda row: row["streams"])
    ]


def held(rows: list[dict[str, Any]], name: str) -> int:
    """The most streams held, of all counts below the first that is not."""
    mine = sorted((r for r in rows if r["dispatch"] == name), key=lambda row: row["streams"])
    most = 0
    for row in mine:
        if not holds(row):
            break
        most = row["streams"]
    return most


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_list("streams", ["10", "20", "30"], "Streams at a time.")
    flags.DEFINE_float("seconds", 20.0, "Of sound in a stream.", lower_bound=1.0)
    flags.DEFINE_float("chunk_seconds", 0.2, "Of sound in a message.", lower_bound=0.01)
    flags.DEFINE_integer("step", 5, "How precisely the most streams are found.", lower_bound=1)
    flags.DEFINE_integer("most", _server.MOST_STREAMS, "Streams to try at most.", lower_bound=1)
    flags.DEFINE_integer("decoders", None, "As deepaudio serve has it.", lower_bound=0)
    flags.DEFINE_string("record", "serving_load", "Name of the record.")
    flags.DEFINE_string("record_dir", str(records.RECORDS), "Where it goes.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        rows = compare(
            [int(count) for count in given.streams],
            step=given.step,
            most=given.most,
            server=[] if given.decoders is None else [f"--decoders={given.decoders}"],
            data_dir=given.data_dir,
            seconds=given.seconds,
            chunk=given.chunk_seconds,
        )
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"load: {error}")
    most = {name: held(rows, name) for name in _NAMES.values()}
    for name, count in most.items():
        print(f"{name}: {count} streams with a 98th percentile below {LIMIT_SECONDS} s")
    path = records.write_record(
        given.record,
        None,
        rows,
        description="Latency of final results of live recognition, clients in a second process",
        directory=given.record_dir,
        chunk_seconds=given.chunk_seconds,
        most_streams=most,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
