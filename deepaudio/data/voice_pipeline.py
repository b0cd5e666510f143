"""From utterances to batches of crops for vocoders: whole mel frames with sound around them."""

import dataclasses
import functools
import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from deepaudio.audio import MelConvention
from deepaudio.data._speech_items import Reader, SpeechReport
from deepaudio.data._utterance import Utterance

# How many utterances are tried for the place of a broken one.
_TRIES = 20
# How many crops are tried for one that is not nearly silent, which is below this, -50 dB.
_CROP_TRIES = 4
_QUIET_RMS = 10 ** (-50 / 20)
# Corpora whose sound takes less than this many bytes are read once and kept.
_KEPT_BYTES = 2**30
# Streams of random numbers.
_ORDER_STREAM, _MEMBER_STREAM = 0, 1


class VoiceDataset:
    """Batches of crops, each of which follows from the seed and its number alone.

    Attributes:
        report: what became of the utterances.
        speakers: the names that the numbers of speakers stand for.
        batches_per_epoch: how many batches an epoch has.
    """

    def __init__(self, crops: "_Crops", num_threads: int):
        """Wraps what `make_dataset` made."""
        self.report = crops.reader.report
        self.speakers = crops.speakers
        self.batches_per_epoch = crops.batches_per_epoch
        self._crops = crops
        self._num_threads = num_threads

    def __iter__(self):
        """Return grain's iterator over dicts of arrays, with `get_state` and `set_state`."""
        import grain

        options = grain.ReadOptions(
            num_threads=self._num_threads, prefetch_buffer_size=2 * self._num_threads
        )
        return iter(grain.MapDataset.source(self._crops).to_iter_dataset(options))


def make_dataset(
    utterances: Sequence[Utterance],
    *,
    convention: MelConvention,
    crop_frames: int,
    margin: int,
    batch_size: int,
    seed: int,
    shuffle: bool,
    speakers: Sequence[str] | None = None,
    num_epochs: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 2,
) -> VoiceDataset:
    """Make a dataset of batches of crops, with the sound around them that their mel frames need.

    When shuffled, crops begin anywhere, nearly silent ones are drawn again up to three times, and
    in every epoch an utterance gives about as many crops as fit into it, one at least. Otherwise
    every utterance gives the crop at its beginning, in the order given. Where an epoch's last batch
    would not be full, some stand in it a second time.

    Args:
        utterances: what to draw from; texts are not looked at.
        convention: its sample rate and hop are taken.
        crop_frames: frames a crop.
        margin: samples of sound before a crop, and after it; zeros beyond the recording's ends.
        batch_size: crops a batch and shard.
        seed: of order and places.
        shuffle: whether to draw at random, as in training.
        speakers: the names of speakers in the order of their numbers, as a model was trained with;
            None for the sorted names of those who speak here.
        num_epochs: how often to go through the utterances; None for ever.
        shard_index: which share of every batch to give, from 0.
        shard_count: number of shards.
        num_threads: threads that prepare batches ahead; 0 to prepare each when it is asked for.

    Returns:
        The dataset of dicts: samples (B, margin + crop_frames·hop_length + margin) float32, silent
        past the end of utterances shorter than a crop; speakers (B,) int32.

    Raises:
        ValueError: if a number is out of range, no utterance can be used, a speaker is not among
            those given, or more than one utterance in a hundred is broken; the last also while
            iterating. Fewer are replaced by others.
    """
    if not 0 <= shard_index < shard_count or batch_size < 1 or crop_frames < 1 or margin < 0:
        raise ValueError(
            f"{shard_index=} of {shard_count=}, {batch_size=}, {crop_frames=} or {margin=} is out "
            "of range"
        )
    reader = Reader(SpeechReport(num_given=len(utterances)), convention.sample_rate)
    speakers = speaker_names(utterances) if speakers is None else tuple(speakers)
    crop_seconds = crop_frames * convention.hop_length / convention.sample_rate
    used, counts = [], []
    for utterance, seconds in _usable(utterances, reader):
        used.append(_Voice(utterance, _speaker(utterance, speakers)))
        counts.append(max(1, round(seconds / crop_seconds)) if shuffle else 1)
    if not used:
        raise ValueError(f"no utterance can be used: {reader.report}")
    crops = _Crops(
        voices=used,
        entries=np.repeat(np.arange(len(used)), counts),
        speakers=speakers,
        length=crop_frames * convention.hop_length,
        margin=margin,
        batch_size=batch_size,
        shard=(shard_index, shard_count),
        seed=seed,
        shuffle=shuffle,
        reader=reader,
        num_epochs=num_epochs,
    )
    return VoiceDataset(crops, num_threads)


def whole_utterances(
    utterances: Sequence[Utterance],
    *,
    convention: MelConvention,
    speakers: Sequence[str] | None = None,
) -> Iterator[dict]:
    """Go through whole utterances, once and in the order given, as for scores.

    Args:
        utterances: what to read; broken ones are left out.
        convention: its sample rate and hop are taken.
        speakers: as for `make_dataset`.

    Yields:
        Dicts: samples (frames·hop_length,) float32, with silence at the end for whole frames;
        speaker int; name str, folder and file.

    Raises:
        ValueError: as for `make_dataset`.
    """
    reader = Reader(SpeechReport(num_given=len(utterances)), convention.sample_rate)
    speakers = speaker_names(utterances) if speakers is None else tuple(speakers)
    for utterance in utterances:
        speaker = _speaker(utterance, speakers)
        samples = reader.read(utterance)
        if samples is not None:
            padded = np.pad(samples, (0, -len(samples) % convention.hop_length))
            yield {"samples": padded, "speaker": speaker, "name": utterance.name}


def speaker_names(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """Return the sorted names of those who speak; a model's numbers of speakers index them."""
    return tuple(sorted({utterance.speaker for utterance in utterances}))


def _speaker(utterance: Utterance, speakers: tuple[str, ...]) -> int:
    if utterance.speaker not in speakers:
        known = f"{len(speakers)} known speakers, {', '.join(speakers[:3])}…"
        raise ValueError(f"{utterance.name}: {utterance.speaker!r} is none of the {known}")
    return speakers.index(utterance.speaker)


def _usable(utterances: Sequence[Utterance], reader: Reader) -> list[tuple[Utterance, float]]:
    """Return the utterances whose length is known, and it in seconds; fills in the report."""
    used = [
        (utterance, seconds)
        for utterance in utterances
        if (seconds := reader.duration(utterance)) is not None
    ]
    reader.report.num_used = len(used)
    reader.report.seconds = sum(seconds for _, seconds in used)
    return used


@dataclasses.dataclass(frozen=True)
class _Voice:
    """An utterance and the number of its speaker."""

    utterance: Utterance
    speaker: int


@dataclasses.dataclass(repr=False)
class _Crops:
    """A sequence of batches: a source for grain.

    Attributes:
        voices: what to crop.
        entries: (n,) int, the places in `voices` that an epoch goes through.
        speakers: the names of speakers.
        length: samples of a crop without its margins.
        margin: samples on either side.
        batch_size: crops a batch and shard.
        shard: which share of every batch to give, and of how many.
        seed: of order and places.
        shuffle: whether order and places are drawn.
        reader: reads sound.
        num_epochs: how often to go through the entries; None for ever.
    """

    voices: list[_Voice]
    entries: np.ndarray
    speakers: tuple[str, ...]
    length: int
    margin: int
    batch_size: int
    shard: tuple[int, int]
    seed: int
    shuffle: bool
    reader: Reader
    num_epochs: int | None

    def __post_init__(self):
        """Counts the batches of an epoch, and decides what is kept in memory."""
        self.batches_per_epoch = math.ceil(len(self.entries) / (self.batch_size * self.shard[1]))
        # Neighbouring epochs are prepared at once around the end of the first of them.
        self.order = functools.lru_cache(maxsize=2)(self._order)
        self.read = self.reader.read
        if 4 * self.reader.sample_rate * self.reader.report.seconds < _KEPT_BYTES:
            self.read = functools.cache(self.reader.read)

    def __len__(self) -> int:
        """The number of batches; of an endless sequence, one that nobody counts to."""
        if self.num_epochs is None:
            return sys.maxsize
        return self.num_epochs * self.batches_per_epoch

    def _order(self, epoch: int) -> np.ndarray:
        """Return (batches, batch of all shards) places in `voices`."""
        entries = self.entries
        if self.shuffle:
            rng = np.random.default_rng([self.seed, _ORDER_STREAM, epoch])
            entries = rng.permutation(entries)
        # The last batch is filled up from the first ones.
        return np.resize(entries, (self.batches_per_epoch, self.batch_size * self.shard[1]))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read and crop the utterances of a batch, of this shard."""
        epoch, place = divmod(int(index), self.batches_per_epoch)
        members = self.order(epoch)[place]
        batch = {
            "samples": np.zeros((self.batch_size, self.length + 2 * self.margin), np.float32),
            "speakers": np.zeros(self.batch_size, np.int32),
        }
        for row in range(self.batch_size):
            member = row * self.shard[1] + self.shard[0]
            rng = np.random.default_rng([self.seed, _MEMBER_STREAM, int(index), member])
            voice, samples = self._sound(int(members[member]), rng)
            batch["samples"][row] = self._crop(samples, rng)
            batch["speakers"][row] = voice.speaker
        return batch

    def _sound(self, place: int, rng: np.random.Generator) -> tuple[_Voice, np.ndarray]:
        """Return a voice and its sound, or if that is broken, those of another."""
        for _ in range(_TRIES):
            voice = self.voices[place]
            samples = self.read(voice.utterance)
            if samples is not None:
                return voice, samples
            place = int(rng.choice(self.entries))
        raise ValueError(
            f"{_TRIES} utterances in a row are broken; the last: {voice.utterance.name}"
        )

    def _crop(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (margin + length + margin,) float32."""
        room = max(0, len(samples) - self.length)
        start = 0
        if self.shuffle:
            for _ in range(_CROP_TRIES):
                start = int(rng.integers(room + 1))
                crop = samples[start : start + self.length]
                if np.sqrt(np.mean(np.square(crop))) >= _QUIET_RMS:
                    break
        heard = samples[max(0, start - self.margin) : start + self.length + self.margin]
        before = max(0, self.margin - start)
        return np.pad(heard, (before, self.length + 2 * self.margin - before - len(heard)))
