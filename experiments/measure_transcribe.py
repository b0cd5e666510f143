"""Measures `deepaudio transcribe` as a user runs it: start-up, speed, and memory.

    python -m experiments.measure_transcribe

Makes three recordings of generated piano music (one second, five minutes, one hour), runs the
installed command on each in a process of its own, and writes the record `transcribe_speed`:

- start-up: from the command's start to the end of a recording of one second;
- speed: seconds of sound a second, on five minutes, start-up excluded;
- memory: the largest resident set while an hour is transcribed.

Times are medians over the runs; all runs are in the record.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from absl import app, flags

from deepaudio.data import piano_generation, piano_performance, piano_synthesis
from experiments import _arguments, records

SAMPLE_RATE = 16000
_SECONDS = {"one second": 1, "five minutes": 300, "one hour": 3600}


def make_sound(seconds: int, seed: int = 0) -> np.ndarray:
    """Generated piano music of exactly this length, (seconds * 16000,) float32."""
    rng = np.random.default_rng(seed)
    piano = piano_synthesis.random_piano(seed)
    passages, length = [], 0
    while length < seconds * SAMPLE_RATE:
        score = piano_generation.generate_score(rng, 60.0)
        tempo = piano_performance.choose_tempo(score, rng)
        played = piano_performance.perform(score, rng, tempo=tempo, seconds=60.0)
        passages.append(piano_synthesis.render(played, piano, rng, SAMPLE_RATE))
        length += len(passages[-1])
    sound = np.concatenate(passages)[: seconds * SAMPLE_RATE]
    return 0.5 * sound / np.abs(sound).max()


def run_command(sound: Path, output: Path) -> tuple[float, int]:
    """Runs the command on one file.

    Returns:
        Wall-clock seconds, and the largest resident set in bytes.

    Raises:
        RuntimeError: The command failed.
    """
    command = [sys.executable, "-m", "deepaudio.cli", "transcribe", str(sound), "-o", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"transcribe failed: {errors.decode().strip()}")
    # Linux counts in KiB, macOS in bytes.
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(folder: Path, runs: int) -> list[dict[str, object]]:
    """Runs everything; one result a recording."""
    results = []
    for name, seconds in _SECONDS.items():
        sound = folder / f"{seconds}.wav"
        soundfile.write(sound, make_sound(seconds), SAMPLE_RATE)
        timed = [run_command(sound, folder) for _ in range(runs if seconds < 3600 else 1)]
        results.append(
            {
                "recording": name,
                "sound_seconds": seconds,
                "wall_seconds": statistics.median(wall for wall, _ in timed),
                "all_wall_seconds": [round(wall, 3) for wall, _ in timed],
                "peak_memory_mib": max(memory for _, memory in timed) / 2**20,
            }
        )
    startup = results[0]["wall_seconds"]
    for result in results[1:]:
        working = result["wall_seconds"] - startup
        result["times_real_time"] = result["sound_seconds"] / working
    return results


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_integer("runs", 3, "Runs of the short recordings.", lower_bound=1)
    flags.DEFINE_string("record", "transcribe_speed", "Name of the record.")


def main(argv: list[str]) -> None:
    """Measures and writes the record."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), flags.FLAGS.runs)
    for result in results:
        print(result)
    path = records.write_record(
        flags.FLAGS.record,
        records.running_command(),
        results,
        description="deepaudio transcribe as a user runs it; speed excludes start-up",
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
