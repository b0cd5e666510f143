"""Times a command of `deepaudio` as a user runs it: start-up, speed, and memory."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from experiments import records

SAMPLE_RATE = 16000
_SECONDS = {"one second": 1, "five minutes": 300, "one hour": 3600}


def run_command(command: str, sound: Path, output: Path) -> tuple[float, int]:
    """Runs the command on one file.

    Args:
        command: transcribe, or recognize.
        sound: The file.
        output: Folder to write to.

    Returns:
        Wall-clock seconds, and the largest resident set in bytes.

    Raises:
        RuntimeError: The command failed.
    """
    words = [sys.executable, "-m", "deepaudio.cli", command, str(sound), "-o", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {errors.decode().strip()}")
    # Linux counts in KiB, macOS in bytes.
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(
    command: str, make_sound: Callable[[int], np.ndarray], folder: Path, runs: int
) -> list[dict[str, object]]:
    """Runs a command on a second, on five minutes and on an hour of sound.

    Args:
        command: transcribe, or recognize.
        make_sound: From seconds to (seconds * 16000,) float32.
        folder: For sounds and outputs.
        runs: Of the shorter recordings; the hour is heard once.

    Returns:
        A row a recording: `wall_seconds`, a median, `peak_memory_mib`, and for the longer ones
        `times_real_time`, start-up excluded: the second's time is taken off.
    """
    results = []
    for name, seconds in _SECONDS.items():
        sound = folder / f"{seconds}.wav"
        soundfile.write(sound, make_sound(seconds), SAMPLE_RATE)
        timed = [run_command(command, sound, folder) for _ in range(runs if seconds < 3600 else 1)]
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


def record(command: str, make_sound: Callable[[int], np.ndarray], *, runs: int, name: str) -> None:
    """Measures a command, prints what it found, and writes the record."""
    with tempfile.TemporaryDirectory() as folder:
        results = measure(command, make_sound, Path(folder), runs)
    for result in results:
        print(result)
    path = records.write_record(
        name,
        records.running_command(),
        results,
        description=f"deepaudio {command} as a user runs it; speed excludes start-up",
    )
    print(f"wrote {path}")
