"""Batches of utterances: a source for grain whose every element is a batch."""

import bisect
import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepaudio.data import speech_augment
from deepaudio.data._speech_items import Item, Reader
from deepaudio.data.speech_augment import SpeechAugmentConfig
from deepaudio.data.speech_noise import NoiseBank

# How many utterances are tried for the place of a broken one.
_TRIES = 20
# Seconds by which a file may be longer than its corpus says, in rounded figures.
_ROUNDING = 0.02
# Batches' labels are a multiple of this long, so that like corpora have the same shapes, and
# programs that were compiled for one fit the other.
_LABELS = 16
# Streams of random numbers; the noise clips have 1.
_ORDER_STREAM, _MEMBER_STREAM = 0, 2


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Utterances of like length and the shape of their batches.

    Attributes:
        items: shortest first.
        num_samples: of a batch's sound.
        num_labels: of a batch's labels.
    """

    items: tuple[Item, ...]
    num_samples: int
    num_labels: int


def sort_into_buckets(
    items: Sequence[Item], bounds: Sequence[float], *, sample_rate: int, stride: int
) -> list[Bucket]:
    """Sort items into buckets by length.

    Args:
        items: shortest first, none longer than the last bound.
        bounds: the most seconds of each bucket, rising.
        sample_rate: Hz.
        stride: samples from one output frame to the next.

    Returns:
        The buckets that are not empty; their sound is a whole number of output frames long.
    """
    members = [[] for _ in bounds]
    for item in items:
        members[bisect.bisect_left(bounds, item.duration)].append(item)
    return [
        Bucket(
            items=tuple(held),
            num_samples=math.ceil(bound * sample_rate / stride) * stride,
            num_labels=math.ceil(max(len(item.labels) for item in held) / _LABELS) * _LABELS,
        )
        for held, bound in zip(members, bounds, strict=True)
        if held
    ]


@dataclasses.dataclass(repr=False)
class Batches:
    """A sequence of batches, each of which follows from the seed and its number alone.

    Attributes:
        buckets: what batches are made of.
        batch_size: utterances a batch and shard.
        shard: which share of every batch to give, and of how many.
        seed: of order and augmentation.
        sorta_grad: whether the first epoch is ordered by length.
        augment: what to do to the sound; None for nothing.
        noise: what noise to add; None for none.
        stride: samples from one output frame to the next.
        reader: reads sound.
        num_epochs: how often to go through the utterances; None for ever.
    """

    buckets: list[Bucket]
    batch_size: int
    shard: tuple[int, int]
    seed: int
    sorta_grad: bool
    augment: SpeechAugmentConfig | None
    noise: NoiseBank | None
    stride: int
    reader: Reader
    num_epochs: int | None

    def __post_init__(self):
        """Counts the batches of an epoch."""
        size = self.batch_size * self.shard[1]
        self.batches_per_epoch = sum(math.ceil(len(b.items) / size) for b in self.buckets)
        self._remember()

    def _remember(self) -> None:
        # Neighbouring epochs are prepared at once around the end of the first of them.
        self.order = functools.lru_cache(maxsize=2)(self._order)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; what is remembered cannot go there."""
        return {name: value for name, value in vars(self).items() if name != "order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begins in another process."""
        vars(self).update(state)
        self._remember()

    def __len__(self) -> int:
        """The number of batches; of an endless sequence, one that nobody counts to."""
        if self.num_epochs is None:
            return sys.maxsize
        return self.num_epochs * self.batches_per_epoch

    def _order(self, epoch: int) -> list[tuple[Bucket, np.ndarray]]:
        """Return the batches of an epoch: buckets, and places of the items of all shards."""
        rng = np.random.default_rng([self.seed, _ORDER_STREAM, epoch])
        is_sorted = self.sorta_grad and epoch == 0
        size = self.batch_size * self.shard[1]
        batches = []
        for bucket in self.buckets:
            count = len(bucket.items)
            places = np.arange(count) if is_sorted else rng.permutation(count)
            for start in range(0, count, size):
                # The last batch is filled up from those before it.
                begin = max(min(start, count - size), 0)
                batches.append((bucket, np.resize(places[begin : begin + size], size)))
        return batches if is_sorted else [batches[i] for i in rng.permutation(len(batches))]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read and augment the utterances of a batch, of this shard."""
        epoch, place = divmod(int(index), self.batches_per_epoch)
        bucket, members = self.order(epoch)[place]
        size = self.batch_size
        batch = {
            "samples": np.zeros((size, bucket.num_samples), np.float32),
            "num_samples": np.zeros(size, np.int32),
            "labels": np.zeros((size, bucket.num_labels), np.int32),
            "num_labels": np.zeros(size, np.int32),
        }
        names = []
        for row in range(size):
            member = row * self.shard[1] + self.shard[0]
            rng = np.random.default_rng([self.seed, _MEMBER_STREAM, int(index), member])
            item, samples = self._sound(bucket, int(members[member]), rng)
            batch["samples"][row, : len(samples)] = samples
            batch["num_samples"][row] = len(samples)
            batch["labels"][row, : len(item.labels)] = item.labels
            batch["num_labels"][row] = len(item.labels)
            names.append(item.utterance.name)
        return batch | {"ids": np.array(names)}

    def _sound(
        self, bucket: Bucket, place: int, rng: np.random.Generator
    ) -> tuple[Item, np.ndarray]:
        """Return an item and its sound, or if that is broken, those of another."""
        for _ in range(_TRIES):
            item = bucket.items[place]
            samples = self._read(bucket, item)
            if samples is not None:
                return item, self._augmented(bucket, item, samples, rng)
            place = int(rng.integers(len(bucket.items)))
        raise ValueError(
            f"{_TRIES} utterances in a row are broken; the last: {item.utterance.name}"
        )

    def _read(self, bucket: Bucket, item: Item) -> np.ndarray | None:
        """Return a sound that fits the labels and the bucket, or None."""
        samples = self.reader.read(item.utterance)
        if samples is None:
            return None
        too_long = len(samples) > bucket.num_samples + _ROUNDING * self.reader.sample_rate
        if too_long or len(samples) // self.stride < item.needed_frames:
            seconds = len(samples) / self.reader.sample_rate
            self.reader.exclude(item.utterance, f"{seconds:.2f} s long, not {item.duration:.2f} s")
            return None
        return samples[: bucket.num_samples]

    def _augmented(
        self, bucket: Bucket, item: Item, samples: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        config = self.augment
        if config is None:
            return samples
        if config.speeds:
            factor = config.speeds[int(rng.integers(len(config.speeds)))]
            changed = speech_augment.change_speed(samples, factor)
            # Else it keeps its own speed: the shape and the labels are given.
            if item.needed_frames * self.stride <= len(changed) <= bucket.num_samples:
                samples = changed
        return speech_augment.augment(
            samples, rng, sample_rate=self.reader.sample_rate, noise=self.noise, config=config
        )
