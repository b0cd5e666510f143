"""Sound files to mono samples, whole or block by block."""

import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

# A program that writes to a pipe cannot go back and fill in the length, and leaves a huge one.
_UNKNOWN_LENGTH = 0x7FFF0000
_SOURCE_BLOCK = 1 << 16


class AudioError(ValueError):
    """A sound file that cannot be used; the message is the reason alone, without the file name."""


def read(path: str | os.PathLike, *, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file as mono.

    Args:
        path: a WAV, FLAC, Ogg or MP3 file, or any other that libsndfile knows, of any bit depth.
            Channels are averaged.
        sample_rate: the rate wanted, Hz; None keeps the file's.

    Returns:
        (n,) float32 samples and their rate in Hz.

    Raises:
        AudioError: if the file is missing, unreadable, empty, no sound file, truncated, or holds
            no samples, or samples that are NaN or infinite.
    """
    with _open(path) as file:
        rate = sample_rate or file.samplerate
        blocks = list(_resampled(_mono_blocks(file), file.samplerate, rate))
    return _require_samples(np.concatenate([*blocks, np.zeros(0, np.float32)])), rate


def iter_blocks(
    path: str | os.PathLike, *, sample_rate: int, block_samples: int
) -> Iterator[np.ndarray]:
    """Read a sound file of any length in bounded memory.

    The blocks joined are what `read` returns.

    Args:
        path: as for `read`.
        sample_rate: the rate wanted, Hz.
        block_samples: samples a block.

    Yields:
        (block_samples,) float32; the last block may be shorter.

    Raises:
        AudioError: as for `read`; a fault inside the file is raised when it is reached.
        ValueError: if block_samples is not positive.
    """
    if block_samples < 1:
        raise ValueError(f"{block_samples=} must be positive")
    with _open(path) as file:
        pending, held, empty = [], 0, True
        for block in _resampled(_mono_blocks(file), file.samplerate, sample_rate):
            pending.append(block)
            held += len(block)
            if held < block_samples:
                continue
            joined = np.concatenate(pending)
            whole = held // block_samples * block_samples
            for begin in range(0, whole, block_samples):
                yield joined[begin : begin + block_samples]
            pending, held, empty = [joined[whole:]], held - whole, False
        if held or empty:
            yield _require_samples(np.concatenate([*pending, np.zeros(0, np.float32)]))


def read_span(
    path: str | os.PathLike, *, start: float, num_samples: int, sample_rate: int
) -> np.ndarray:
    """Read a stretch of a sound file as mono, touching only that part of the file.

    Args:
        path: as for `read`.
        start: where the stretch begins, seconds, not negative.
        num_samples: samples wanted.
        sample_rate: the rate wanted, Hz.

    Returns:
        (num_samples,) float32, or fewer where the file ends before that; none past its end.

    Raises:
        AudioError: as for `read`.
    """
    with _open(path) as file:
        rate = file.samplerate
        first = min(round(start * rate), file.frames)
        count = min(-(-num_samples * rate // sample_rate), file.frames - first)
        file.seek(first)
        try:
            block = file.read(count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            block = np.zeros((0, 1), np.float32)
    if len(block) < count:
        raise AudioError(f"truncated or damaged after {(first + len(block)) / rate:.1f} s")
    samples = _checked_mono(block)
    if rate != sample_rate and count:
        samples = soxr.resample(samples, rate, sample_rate)
    return samples[:num_samples]


def duration(path: str | os.PathLike) -> float:
    """Return the length of a sound file in seconds, from its header.

    Args:
        path: as for `read`.

    Returns:
        Seconds.

    Raises:
        AudioError: as for `read`, apart from faults further inside the file.
    """
    with _open(path) as file:
        return file.frames / file.samplerate


def _require_samples(samples: np.ndarray) -> np.ndarray:
    if not len(samples):
        raise AudioError("too short to hold a sample at the rate wanted")
    return samples


def _open(path) -> soundfile.SoundFile:
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            raise AudioError("a folder, not a sound file")
        with path.open("rb") as probe:
            if not probe.read(1):
                raise AudioError("an empty file")
    except FileNotFoundError:
        raise AudioError("no such file") from None
    except PermissionError:
        raise AudioError("no permission to read it") from None
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror})") from None
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:
        # TypeError: soundfile takes `.raw` for headerless sound and asks for its format.
        raise AudioError("not a sound file of a known format") from error
    if _declares_more(file.extra_info):
        file.close()
        raise AudioError("truncated: it ends before the length its header gives")
    if not file.frames:
        file.close()
        raise AudioError("holds no samples")
    return file


def _declares_more(log: str) -> bool:
    """Tell from libsndfile's log whether the file is shorter than its header says.

    For WAV and AIFF the library shortens the sound without an error, and only its log tells.
    """
    if "lacks an end-of-stream bit" in log:
        return True
    for declared, there in re.findall(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", log, re.M):
        if int(there) < int(declared) < _UNKNOWN_LENGTH:
            return True
    return False


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield (n,) float32 blocks of the channels' mean."""
    done = 0
    while done < file.frames:
        try:
            block = file.read(_SOURCE_BLOCK, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            block = None
        if block is None or not len(block):
            at, whole = done / file.samplerate, file.frames / file.samplerate
            raise AudioError(f"truncated or damaged at {at:.1f} s of {whole:.1f} s")
        done += len(block)
        yield _checked_mono(block)


def _checked_mono(block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise AudioError("holds samples that are NaN or infinite")
    return block.mean(axis=1, dtype=np.float32)


def _resampled(blocks: Iterator[np.ndarray], rate_in: int, rate_out: int) -> Iterator[np.ndarray]:
    """Yield the blocks at another rate, by one streaming resampler."""
    if rate_in == rate_out:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
