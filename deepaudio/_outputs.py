"""What a transcription is written as: CSV, JSON, a picture, a sound."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from deepaudio import audio
from deepaudio._cli_common import replacing, sound_blocks
from deepaudio.data.notes import Notes, write_midi
from deepaudio.evaluation import pictures
from deepaudio.tasks.transcriber import windows

_HARMONICS = 6
_RELEASE_SECONDS = 0.08
_WINDOW_FRAMES = 1024
_MARGIN_FRAMES = 2  # half an analysis window, so that inner frames see no edge


def note_rows(notes: Notes) -> list[dict]:
    """The notes as rows: seconds to the tenth of a millisecond, MIDI pitch, name, velocity."""
    return [
        {
            "onset_seconds": round(float(onset), 4),
            "offset_seconds": round(float(offset), 4),
            "pitch": int(pitch),
            "name": pictures.key_name(int(pitch)),
            "velocity": int(velocity),
        }
        for onset, offset, pitch, velocity in zip(
            notes.onsets, notes.offsets, notes.pitches, notes.velocities, strict=True
        )
    ]


def write_mid(path: Path, notes: Notes, source: Path) -> None:
    """Writes a MIDI file."""
    write_midi(path, notes)


def write_csv(path: Path, notes: Notes, source: Path) -> None:
    """Writes a table with a header row."""
    columns = ("onset_seconds", "offset_seconds", "pitch", "name", "velocity")
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(note_rows(notes))


def write_json(path: Path, notes: Notes, source: Path) -> None:
    """Writes an object with the file's name and its notes."""
    with replacing(path) as beside:
        content = {"file": str(source), "notes": note_rows(notes)}
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_png(path: Path, notes: Notes, source: Path) -> None:
    """Draws the notes over the mel spectrogram of the sound file they come from."""
    config = audio.LogMelConfig()
    figure = pictures.roll_picture(
        notes, _log_mel_of(source, config), config=config, title=source.name
    )
    with replacing(path) as beside:
        figure.savefig(beside)


WRITERS: dict[str, Callable[[Path, Notes, Path], None]] = {
    "mid": write_mid,
    "csv": write_csv,
    "json": write_json,
    "png": write_png,
}


def write_sound(path: Path, notes: Notes, source: Path, sample_rate: int) -> None:
    """Writes the recording on the left channel and the notes, played simply, on the right."""
    import soundfile

    length = 10 * sample_rate
    with replacing(path) as beside:
        with soundfile.SoundFile(beside, "w", sample_rate, 2, "PCM_16") as file:
            first = 0
            blocks = sound_blocks(source, sample_rate=sample_rate, block_samples=length)
            for block in blocks:
                played = synthesize(notes, sample_rate, first, len(block))
                file.write(np.stack([np.clip(block, -1, 1), played], axis=1))
                first += len(block)


def synthesize(notes: Notes, sample_rate: int, first: int, length: int) -> np.ndarray:
    """A stretch of the notes played as decaying harmonics.

    Every sample is a function of its time alone, so stretches join without a seam.

    Args:
        notes: What to play.
        sample_rate: In Hz.
        first: Number of the first sample wanted.
        length: Samples wanted.

    Returns:
        (length,) float32 in [-1, 1].
    """
    sound = np.zeros(length)
    begin, end = first / sample_rate, (first + length) / sample_rate
    heard = (notes.onsets < end) & (notes.offsets + _RELEASE_SECONDS > begin)
    for index in np.flatnonzero(heard):
        onset, offset = notes.onsets[index], notes.offsets[index]
        low = max(int(np.ceil(onset * sample_rate)), first)
        high = min(int(np.ceil((offset + _RELEASE_SECONDS) * sample_rate)), first + length)
        if low >= high:
            continue
        pitch = 440.0 * 2 ** ((notes.pitches[index] - 69) / 12)
        harmonics = np.arange(1, _HARMONICS + 1)
        harmonics = harmonics[harmonics * pitch < sample_rate / 2]
        time = np.arange(low, high) / sample_rate - onset
        tones = np.sin(2 * np.pi * pitch * harmonics[:, None] * time) / harmonics[:, None] ** 1.5
        attack = np.minimum(time / 0.004, 1)
        release = np.clip(1 - (time - (offset - onset)) / _RELEASE_SECONDS, 0, 1)
        decay = np.exp(-time * (0.8 + pitch / 600))
        loudness = 0.25 * (notes.velocities[index] / 127) ** 1.5
        sound[low - first : high - first] += loudness * attack * release * decay * tones.sum(0)
    return np.tanh(sound).astype(np.float32)


def _log_mel_of(source: Path, config: audio.LogMelConfig) -> np.ndarray:
    """The log-mel spectrogram of a file, (frames, mels), in bounded memory."""
    import jax

    front_end = jax.jit(lambda samples: audio.log_mel(samples, config))
    total = 0

    def counted(blocks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        nonlocal total
        for block in blocks:
            total += len(block)
            yield block

    length = _WINDOW_FRAMES * config.hop_length
    blocks = sound_blocks(source, sample_rate=config.sample_rate, block_samples=length)
    inner = slice(_MARGIN_FRAMES, _WINDOW_FRAMES - _MARGIN_FRAMES)
    parts = [
        np.asarray(front_end(window))[inner]
        for window in windows(counted(blocks), _WINDOW_FRAMES, _MARGIN_FRAMES, config.hop_length)
    ]
    return np.concatenate(parts)[: -(-total // config.hop_length)]
