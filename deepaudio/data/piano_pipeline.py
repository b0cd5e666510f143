"""From recordings to batches: chunks cut at quiet points, labels, augmentation, grain."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from deepaudio import audio
from deepaudio.data import augment as augmentation
from deepaudio.data._recording import Recording
from deepaudio.data._truth import read_truth
from deepaudio.data.augment import AugmentConfig
from deepaudio.data.labels import NUM_KEYS, LabelConfig, rolls
from deepaudio.data.notes import Notes

_CROSSING_SECONDS = 0.1
_SHORTEST_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A stretch of a recording.

    Attributes:
        recording: what it is cut from.
        start: seconds.
        stop: seconds.
        end: the recording's end, seconds.
    """

    recording: Recording
    start: float
    stop: float
    end: float


def chunks(
    recordings: Iterable[Recording], *, min_seconds: float, max_seconds: float
) -> list[Chunk]:
    """Cut recordings where no note sounds, else where the wave crosses zero.

    A chunk ends in the last silence between notes that lies min_seconds to max_seconds after its
    start; without one, at the zero crossing next before max_seconds (arXiv 1710.11153). A
    recording's last chunk may be shorter than min_seconds.

    Args:
        recordings: what to cut.
        min_seconds: the least length of a chunk other than the last.
        max_seconds: the greatest length of a chunk.

    Returns:
        The chunks; they cover every recording without gap or overlap.

    Raises:
        ValueError: if not 0 < min_seconds < max_seconds, or a truth cannot be read.
        AudioError: if a sound file cannot be read.
    """
    if not 0 < min_seconds < max_seconds:
        raise ValueError(f"{min_seconds=} and {max_seconds=} must rise from 0")
    result = []
    for recording in recordings:
        end = _named(audio.duration, recording.audio_path)
        silences = _silences(_notes(recording), end)
        start = 0.0
        while end - start > max_seconds:
            stop = _last_silence(silences, start + min_seconds, start + max_seconds)
            if stop is None:
                stop = _crossing_before(recording, start + max_seconds)
            result.append(Chunk(recording, start, stop, end))
            start = stop
        result.append(Chunk(recording, start, end, end))
    return result


def make_dataset(
    recordings: Sequence[Recording],
    *,
    batch_size: int,
    num_frames: int,
    seed: int,
    shuffle: bool,
    augment: AugmentConfig | None,
    labels: LabelConfig,
    num_epochs: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 2,
):
    """Make a dataset of batches of sound and labels.

    Every batch follows from the seed and its number alone. When shuffled, every chunk is moved
    back or forth by up to half its length, differently in every epoch, so that no cut is learned;
    otherwise chunks are as `chunks` cuts them and padded.

    Args:
        recordings: what to draw from.
        batch_size: chunks a batch.
        num_frames: frames a chunk.
        seed: of order, places and augmentation.
        shuffle: whether to shuffle and move chunks, as in training.
        augment: what to do to the sound; None for nothing.
        labels: sample rate, frame length and label lengths.
        num_epochs: how often to go through the chunks; None for ever.
        shard_index: which of the shards to give, from 0; shards share no chunk.
        shard_count: number of shards.
        num_threads: threads that prepare batches ahead; 0 to prepare each when it is asked for.

    Returns:
        A grain IterDataset of dicts: samples (B, num_frames·hop_length) float32; onsets, frames,
        offsets, velocities and frame_weights (B, num_frames, 88) float32; paddings (B, num_frames)
        float32, 1 where a frame is past the chunk's end; ids (B,) str, file and first second of
        each chunk. The last batch of a finite dataset may be smaller. Its iterator has `get_state`
        and `set_state`.

    Raises:
        ValueError: if a truth cannot be read, a shard has no chunk, or a number is out of range.
        AudioError: if a sound file cannot be read.
    """
    import grain

    if not 0 <= shard_index < shard_count or batch_size < 1 or num_frames < 1:
        raise ValueError(
            f"{shard_index=} of {shard_count=}, {batch_size=} or {num_frames=} is out of range"
        )
    seconds = num_frames * labels.hop_length / labels.sample_rate
    pieces = chunks(recordings, min_seconds=_SHORTEST_SHARE * seconds, max_seconds=seconds)
    pieces = pieces[shard_index::shard_count]
    if not pieces:
        raise ValueError(f"shard {shard_index} of {shard_count} has no chunk")
    example = functools.partial(
        _example, num_frames=num_frames, config=labels, augment=augment, move=shuffle
    )
    dataset = grain.MapDataset.source(pieces).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat(num_epochs).random_map(example).batch(batch_size)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return dataset.to_iter_dataset(options)


def _example(
    chunk: Chunk,
    rng: np.random.Generator,
    *,
    num_frames: int,
    config: LabelConfig,
    augment: AugmentConfig | None,
    move: bool,
) -> dict[str, np.ndarray]:
    """Return one chunk's sound and labels, without the batch's axis."""
    rate, hop = config.sample_rate, config.hop_length
    length = num_frames * hop
    semitones = augmentation.draw_pitch(rng, augment) if augment else 0.0
    speed = augmentation.speed(semitones)
    start, stop = chunk.start, chunk.stop
    if move:
        span = length / rate * speed
        start += rng.uniform(-0.5, 0.5) * (stop - start)
        start = max(0.0, min(start, chunk.end - span))
        stop = min(start + span, chunk.end)
    # Whole samples, so that sound and labels begin together.
    start = round(start * rate) / rate
    wanted = max(1, round((stop - start) * rate))
    read = functools.partial(audio.read_span, start=start, num_samples=wanted, sample_rate=rate)
    heard = _named(read, chunk.recording.audio_path)
    if augment is not None and len(heard):
        heard = augmentation.augment(
            heard, rng, sample_rate=rate, semitones=semitones, config=augment
        )
    heard = heard[:length]
    samples = np.zeros(length, np.float32)
    samples[: len(heard)] = heard
    valid = -(-len(heard) // hop)
    notes = _notes(chunk.recording)
    scaled = Notes(
        (notes.onsets - start) / speed,
        (notes.offsets - start) / speed,
        notes.pitches,
        notes.velocities,
    )
    folder, name = chunk.recording.audio_path.parts[-2:]
    result = {"samples": samples, "ids": np.array(f"{folder}/{name} at {start:.2f} s")}
    for name, roll in rolls(scaled, start=0.0, num_frames=valid, config=config).items():
        fill = 1.0 if name == "frame_weights" else 0.0
        result[name] = np.full((num_frames, NUM_KEYS), fill, np.float32)
        result[name][:valid] = roll
    result["paddings"] = (np.arange(num_frames) >= valid).astype(np.float32)
    return result


def _named(function, path):
    """Call `function(path)` and name the file in the error, which the audio package leaves out."""
    try:
        return function(path)
    except audio.AudioError as error:
        raise audio.AudioError(f"{path}: {error}") from error


def _notes(recording: Recording) -> Notes:
    status = recording.midi_path.stat()
    return _parsed_notes(recording, status.st_mtime_ns, status.st_size)


@functools.cache
def _parsed_notes(recording: Recording, modified: int, size: int) -> Notes:
    """Return a recording's notes, parsed once while its file keeps its time and size."""
    return read_truth(recording)


def _silences(notes: Notes, end: float) -> np.ndarray:
    """Return (K, 2) the stretches without a note, in seconds."""
    reached = np.maximum.accumulate(np.concatenate([[0.0], notes.offsets]))
    following = np.concatenate([notes.onsets, [end]])
    quiet = following > reached
    return np.stack([reached[quiet], following[quiet]], axis=1)


def _last_silence(silences: np.ndarray, earliest: float, latest: float) -> float | None:
    """Return the middle of the last silence's part within earliest..latest."""
    parts = np.clip(silences, earliest, latest)
    parts = parts[parts[:, 1] > parts[:, 0]]
    return float(parts[-1].mean()) if len(parts) else None


def _crossing_before(recording: Recording, time: float) -> float:
    """Return the last zero crossing in the tenth of a second before `time`, or else `time`."""
    rate = 16000
    begin = time - _CROSSING_SECONDS
    read = functools.partial(
        audio.read_span, start=begin, num_samples=int(_CROSSING_SECONDS * rate), sample_rate=rate
    )
    samples = _named(read, recording.audio_path)
    crossings = np.flatnonzero(np.signbit(samples[1:]) != np.signbit(samples[:-1]))
    return begin + (crossings[-1] + 1) / rate if len(crossings) else time
