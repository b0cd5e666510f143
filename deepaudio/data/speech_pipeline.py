"""From utterances to batches of few shapes: transcripts, buckets by length, SortaGrad, grain."""

from collections.abc import Sequence

import numpy as np
from absl import flags

from deepaudio.data import speech_augment
from deepaudio.data._speech_batches import Batches, sort_into_buckets
from deepaudio.data._speech_items import Item, Reader, SpeechReport, usable
from deepaudio.data._utterance import Utterance
from deepaudio.data.alphabet import Alphabet
from deepaudio.data.speech_augment import SpeechAugmentConfig
from deepaudio.data.speech_noise import NoiseBank

_BABBLE_UTTERANCES = 40
# A stream of random numbers beside those of the batches.
_NOISE_STREAM = 1


class SpeechDataset:
    """Batches of speech, each of which follows from the seed and its number alone.

    Attributes:
        report: what became of the utterances.
        shapes: (batch, samples, labels) of every bucket, the shortest first.
        batches_per_epoch: how many batches hold every utterance at least once.
    """

    def __init__(self, batches: Batches, report: SpeechReport, num_threads: int, num_workers: int):
        """Wraps what `make_dataset` made."""
        self.report = report
        self.shapes = [
            (batches.batch_size, bucket.num_samples, bucket.num_labels)
            for bucket in batches.buckets
        ]
        self.batches_per_epoch = batches.batches_per_epoch
        self._batches = batches
        self._num_threads = num_threads
        self._num_workers = num_workers

    def __iter__(self):
        """Return grain's iterator over dicts of arrays, with `get_state` and `set_state`."""
        import grain

        options = grain.ReadOptions(
            num_threads=self._num_threads, prefetch_buffer_size=2 * self._num_threads
        )
        dataset = grain.MapDataset.source(self._batches).to_iter_dataset(options)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # grain reads some, also where there is no command line
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.multiprocessing.MultiprocessingOptions(
                    num_workers=self._num_workers, per_worker_buffer_size=2
                )
            )
        return iter(dataset)


def make_dataset(
    utterances: Sequence[Utterance],
    alphabet: Alphabet,
    *,
    sample_rate: int,
    batch_size: int,
    seed: int,
    buckets: Sequence[float],
    sorta_grad: bool,
    augment: SpeechAugmentConfig | None,
    frame_stride_samples: int,
    num_epochs: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 2,
    num_workers: int = 0,
) -> SpeechDataset:
    """Make a dataset of batches of speech and labels.

    All batches of a bucket have one shape, so that a step is compiled once for each. An epoch
    holds every utterance at least once: where a bucket's last batch would not be full, some stand
    in it a second time. Batches and their members are ordered anew in every epoch; with SortaGrad
    (arXiv 1512.02595, section 3.3) those of the first epoch go from short to long.

    Args:
        utterances: what to draw from; what cannot be used is left out and told in the report.
        alphabet: which writes the labels.
        sample_rate: Hz.
        batch_size: utterances a batch and shard.
        seed: of order and augmentation.
        buckets: the most seconds of each bucket, rising.
        sorta_grad: whether to begin with an epoch ordered by length.
        augment: what to do to the sound; None for nothing.
        frame_stride_samples: samples from one of the network's output frames to the next.
        num_epochs: how often to go through the utterances; None for ever.
        shard_index: which share of every batch to give, from 0; all shards' batches have the same
            shape at the same time.
        shard_count: number of shards.
        num_threads: threads that prepare batches ahead; 0 to prepare each when it is asked for.
        num_workers: processes that do, each with so many threads; 0 for this process alone. One
            process prepares some 500 utterances a second, which a GPU soon outruns. Workers tell
            of broken utterances on stderr and not in the report, and each counts its own.

    Returns:
        The dataset of dicts: samples (B, n) float32, zero past the end; num_samples (B,) int32;
        labels (B, L) int32, zero past the end; num_labels (B,) int32; ids (B,) str.

    Raises:
        ValueError: if a number is out of range, no utterance can be used, the noise folder has no
            usable sound, or more than one utterance in a hundred is broken; the last also while
            iterating. Fewer are replaced by others of their bucket.
    """
    if not 0 <= shard_index < shard_count or batch_size < 1 or frame_stride_samples < 1:
        raise ValueError(
            f"{shard_index=} of {shard_count=}, {batch_size=} or {frame_stride_samples=} is out "
            "of range"
        )
    if not buckets or list(buckets) != sorted({*buckets}) or buckets[0] <= 0:
        raise ValueError(f"buckets={tuple(buckets)} must rise from above 0")
    report = SpeechReport(num_given=len(utterances))
    reader = Reader(report, sample_rate)
    items = usable(utterances, alphabet, buckets[-1], frame_stride_samples, reader)
    if not items:
        raise ValueError(f"no utterance can be used: {report}")
    batches = Batches(
        buckets=sort_into_buckets(
            items, buckets, sample_rate=sample_rate, stride=frame_stride_samples
        ),
        batch_size=batch_size,
        shard=(shard_index, shard_count),
        seed=seed,
        sorta_grad=sorta_grad,
        augment=augment,
        noise=_make_noise(items, augment, seed, reader),
        stride=frame_stride_samples,
        reader=reader,
        num_epochs=num_epochs,
    )
    return SpeechDataset(batches, report, num_threads, num_workers)


def _make_noise(
    items: list[Item], config: SpeechAugmentConfig | None, seed: int, reader: Reader
) -> NoiseBank | None:
    """Return the noise to add; its babble is of some of the utterances."""
    if config is None or config.noise_snr_db is None:
        return None
    rng = np.random.default_rng([seed, _NOISE_STREAM])
    speech = []
    if config.noise_folder is None:
        places = rng.choice(len(items), min(_BABBLE_UTTERANCES, len(items)), replace=False)
        heard = [reader.read(items[place].utterance) for place in places]
        speech = [samples for samples in heard if samples is not None and samples.any()]
    return speech_augment.make_noise_bank(
        rng, config, sample_rate=reader.sample_rate, speech=speech
    )
