import collections
import dataclasses
import json
import pickle

import numpy as np
import pytest
import soundfile

from deepaudio import audio
from deepaudio.data import Utterance
from deepaudio.data._speech_items import Reader, SpeechReport, needed_frames
from deepaudio.data.alphabet import ENGLISH
from deepaudio.data.speech_augment import SpeechAugmentConfig
from deepaudio.data.speech_pipeline import make_dataset

RATE = 8000
STRIDE = 160
BUCKETS = (0.5, 1.0, 2.0)
WORDS = "one two three four five six seven eight nine ten".split()


def record(folder, name, text, seconds, *, rate=RATE, stated=True):
    """An utterance of noise, every one of which is told from every other."""
    rng = np.random.default_rng(list(name.encode()))
    wave = 0.1 * rng.standard_normal(round(seconds * rate))
    soundfile.write(folder / f"{name}.wav", wave, rate, subtype="FLOAT")
    duration = len(wave) / rate if stated else None
    return Utterance(folder / f"{name}.wav", text, "train", "s", duration)


@pytest.fixture
def corpus(tmp_path):
    return [
        record(tmp_path, f"u{i:02d}", f"{WORDS[i % 10]} {WORDS[i % 7]}", 0.35 + 0.08 * (7 * i % 20))
        for i in range(20)
    ]


def dataset(utterances, **changes):
    settings = {
        "sample_rate": RATE,
        "batch_size": 3,
        "seed": 0,
        "buckets": BUCKETS,
        "sorta_grad": False,
        "augment": None,
        "frame_stride_samples": STRIDE,
        "num_threads": 0,
    }
    return make_dataset(utterances, ENGLISH, **(settings | changes))


def epoch_of(utterances, **changes):
    return list(dataset(utterances, num_epochs=1, **changes))


def names(batches):
    return [str(name) for batch in batches for name in batch["ids"]]


def by_name(corpus):
    return {utterance.name: utterance for utterance in corpus}


def test_batches_hold_the_sound_and_the_labels(corpus):
    known = by_name(corpus)
    for batch in epoch_of(corpus):
        assert {name: value.dtype for name, value in batch.items() if name != "ids"} == {
            "samples": np.float32,
            "num_samples": np.int32,
            "labels": np.int32,
            "num_labels": np.int32,
        }
        for row, name in enumerate(batch["ids"]):
            utterance = known[str(name)]
            whole, _ = audio.read(utterance.audio_path)
            count = batch["num_samples"][row]
            np.testing.assert_array_equal(batch["samples"][row, :count], whole)
            assert not batch["samples"][row, count:].any()
            labels = batch["labels"][row, : batch["num_labels"][row]]
            assert ENGLISH.decode(labels) == utterance.text
            assert not batch["labels"][row, batch["num_labels"][row] :].any()


def test_every_bucket_has_one_shape(corpus):
    data = dataset(corpus, num_epochs=3)
    expected = []
    for low, high in zip((0.0, *BUCKETS), BUCKETS, strict=False):
        held = [u for u in corpus if low < u.duration <= high]
        longest = max(len(u.text) for u in held)
        expected.append((3, round(high * RATE), longest + -longest % 16))
    assert data.shapes == expected
    seen = {(*batch["samples"].shape, batch["labels"].shape[1]) for batch in data}
    assert seen == set(expected)
    # Whole output frames, also where the bucket's seconds are not.
    odd = dataset(corpus, buckets=(0.501, 2.0)).shapes[0][1]
    assert odd % STRIDE == 0 and 0.501 * RATE <= odd < 0.501 * RATE + STRIDE


def test_an_epoch_holds_every_utterance(corpus):
    for sorta_grad in (False, True):
        data = dataset(corpus, num_epochs=1, sorta_grad=sorta_grad)
        batches = list(data)
        counts = collections.Counter(names(batches))
        assert set(counts) == set(by_name(corpus))
        assert len(batches) == data.batches_per_epoch
        # Twice only to fill up the last batch of a bucket.
        assert counts.total() == 3 * len(batches) and counts.total() - 20 <= 2 * len(BUCKETS)
        assert max(counts.values()) == 2


def test_the_first_epoch_is_ordered_by_length_and_later_ones_are_not(corpus):
    data = dataset(corpus, sorta_grad=True, num_epochs=3)
    size = data.batches_per_epoch
    batches = list(data)
    lengths = [batch["num_samples"].tolist() for batch in batches]
    longest = [max(members) for members in lengths[:size]]
    assert longest == sorted(longest)
    # Members too: none is shorter than one of the batch before, the filled-up ones aside.
    for before, after in zip(lengths[:size], lengths[1:size], strict=False):
        assert sorted(after)[-1] >= sorted(before)[-1] and after == sorted(after)
    for epoch in (1, 2):
        shuffled = [max(members) for members in lengths[epoch * size : (epoch + 1) * size]]
        assert shuffled != sorted(shuffled)
    groups = [
        {frozenset(map(str, b["ids"])) for b in batches[e * size : (e + 1) * size]}
        for e in range(3)
    ]
    assert groups[0] != groups[1] != groups[2]
    random = [max(b["num_samples"]) for b in epoch_of(corpus)]
    assert random != sorted(random)


def test_what_cannot_be_used_is_left_out_and_told(corpus, tmp_path):
    extra = [
        record(tmp_path, "foreign", "pay 7 €", 0.6),
        record(tmp_path, "accents", "Déjà — VU!", 0.6),
        record(tmp_path, "empty", " ?! ", 0.6),
        record(tmp_path, "long", "long", 2.5),
        record(tmp_path, "short", "a short sound for a long text", 0.5),
    ]
    data = dataset([*corpus, *extra], num_epochs=1)
    report = data.report
    folder = tmp_path.name
    assert report.foreign == [f"{folder}/foreign.wav"]
    assert report.foreign_characters == {"7": 1, "€": 1}
    assert report.empty == [f"{folder}/empty.wav"]
    assert report.too_long == [f"{folder}/long.wav"]
    assert report.too_short == [f"{folder}/short.wav"]
    assert report.broken == [] and (report.num_given, report.num_used) == (25, 21)
    used = [*corpus, extra[1]]
    assert report.seconds == pytest.approx(sum(u.duration for u in used))
    assert set(names(data)) == set(by_name(used))
    text = str(report)
    assert "21 of 25 utterances" in text and f"1 too long (first {folder}/long.wav)" in text


def test_needed_frames_count_a_blank_between_equal_labels():
    assert needed_frames(np.array([3, 1, 2], np.int32)) == 3
    assert needed_frames(np.array([3, 3, 2, 2, 2], np.int32)) == 8
    assert needed_frames(np.zeros(0, np.int32)) == 0


def test_labels_must_fit_the_output_frames_exactly(tmp_path):
    """Of "aab", which needs 4 frames: 4 are enough, and 3 are not."""
    fits = record(tmp_path, "fits", "aab", 4 * STRIDE / RATE)
    short = record(tmp_path, "short", "aab", (4 * STRIDE - 1) / RATE)
    report = dataset([fits, short]).report
    assert report.too_short == [short.name] and report.num_used == 1


def test_durations_are_read_where_the_corpus_lacks_them(corpus):
    bare = [dataclasses.replace(u, duration=None) for u in corpus]
    assert dataset(bare).shapes == dataset(corpus).shapes
    assert names(epoch_of(bare)) == names(epoch_of(corpus))


def test_sound_of_another_rate_is_resampled(tmp_path):
    sound = record(tmp_path, "fast", "fast", 1.0, rate=22050)
    (batch,) = epoch_of([sound], batch_size=1)
    assert batch["num_samples"].tolist() == [RATE]


def many(tmp_path, count):
    return [record(tmp_path, f"m{i:03d}", "many", 0.3) for i in range(count)]


def test_a_broken_sound_is_replaced_and_listed(tmp_path):
    utterances = many(tmp_path, 100)
    broken = utterances[17]
    broken.audio_path.write_bytes(b"RIFF")
    data = dataset(utterances, num_epochs=2)
    first = names(data)
    assert broken.name not in first and len(first) == 2 * 3 * data.batches_per_epoch
    assert set(first) >= {u.name for u in utterances if u is not broken}
    assert data.report.broken == [f"{broken.name}: not a sound file of a known format"]
    # What stands in its place follows from the seed.
    assert names(dataset(utterances, num_epochs=2)) == first
    assert "1 broken" in str(data.report)


@pytest.mark.parametrize("seconds", [0.7, 0.02])
def test_a_sound_of_another_length_than_stated_is_broken(tmp_path, seconds):
    utterances = many(tmp_path, 100)
    liar = dataclasses.replace(record(tmp_path, "liar", "liar", seconds), duration=0.4)
    data = dataset([*utterances, liar], num_epochs=1)
    assert liar.name not in names(data)
    assert data.report.broken == [f"{liar.name}: {seconds:.2f} s long, not 0.40 s"]


def test_many_broken_sounds_end_the_training(tmp_path):
    utterances = many(tmp_path, 100)
    for utterance in utterances[10:12]:
        utterance.audio_path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="2 of 100 utterances .*, more than 1%; the last: .*wav"):
        epoch_of(utterances)
    bare = [dataclasses.replace(u, duration=None) for u in utterances]
    with pytest.raises(ValueError, match="2 of 100 utterances"):
        dataset(bare)


def test_a_worker_tells_of_a_broken_sound_itself(tmp_path, capsys):
    utterances = many(tmp_path, 100)
    report = SpeechReport(num_given=100)
    reader = Reader(report, RATE)
    elsewhere = pickle.loads(pickle.dumps(reader))
    utterances[17].audio_path.write_bytes(b"RIFF")
    assert elsewhere.read(utterances[17]) is None and report.broken == []
    assert capsys.readouterr().err.startswith(f"broken: {utterances[17].name}: not a sound")
    assert reader.read(utterances[17]) is None and len(report.broken) == 1
    assert capsys.readouterr().err == ""


def test_many_broken_sounds_end_the_training_from_a_worker_too(tmp_path):
    utterances = many(tmp_path, 100)
    for utterance in utterances[10:12]:
        utterance.audio_path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="2 of 100 utterances"):
        epoch_of(utterances, num_workers=1)


def fingerprints(iterator, count):
    return [next(iterator)["samples"].sum(axis=1).round(4).tolist() for _ in range(count)]


AUGMENT = SpeechAugmentConfig(noise_clips=4, noise_share=1.0, reverberation_share=1.0)


@pytest.mark.parametrize("running", [{"num_threads": 0}, {"num_threads": 2}, {"num_workers": 2}])
def test_resume_is_exact(corpus, running):
    settings = {"augment": AUGMENT, "sorta_grad": True, **running}
    iterator = iter(dataset(corpus, **settings))
    for _ in range(5):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator) for _ in range(12)]  # over the end of the first epoch
    resumed = iter(dataset(corpus, **settings))
    resumed.set_state(state)
    for one in expected:
        other = next(resumed)
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_batches_follow_from_the_seed_whatever_the_threads_and_workers(corpus):
    first = fingerprints(iter(dataset(corpus, augment=AUGMENT)), 6)
    for running in ({"num_threads": 2}, {"num_workers": 2, "num_threads": 1}):
        assert fingerprints(iter(dataset(corpus, augment=AUGMENT, **running)), 6) == first
    assert fingerprints(iter(dataset(corpus, augment=AUGMENT, seed=1)), 6) != first


def test_shards_share_batches_of_one_shape(corpus):
    whole = epoch_of(corpus, batch_size=4, augment=AUGMENT)
    shards = [
        epoch_of(corpus, batch_size=2, shard_index=i, shard_count=2, augment=AUGMENT)
        for i in range(2)
    ]
    assert len(whole) == len(shards[0]) == len(shards[1])
    for batch, one, other in zip(whole, *shards, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(value[::2], one[name], err_msg=name)
            np.testing.assert_array_equal(value[1::2], other[name], err_msg=name)


def test_augmentation_changes_the_sound_but_not_the_labels(corpus):
    known = by_name(corpus)
    for batch in epoch_of(corpus, augment=AUGMENT):
        for row, name in enumerate(batch["ids"]):
            whole, _ = audio.read(known[str(name)].audio_path)
            count = batch["num_samples"][row]
            assert not np.array_equal(batch["samples"][row, :count], whole)
            labels = batch["labels"][row, : batch["num_labels"][row]]
            assert ENGLISH.decode(labels) == known[str(name)].text


def test_speeds_that_fit_neither_bucket_nor_labels_are_not_taken(tmp_path):
    only_speed = {
        "noise_snr_db": None,
        "reverberation_time": None,
        "gain_db": None,
    }
    fast = SpeechAugmentConfig(**only_speed, speeds=(1.25,))
    slow = SpeechAugmentConfig(**only_speed, speeds=(0.8,))
    full = record(tmp_path, "full", "full", 0.45)  # 0.56 s when slower, past the bucket
    tight = record(tmp_path, "tight", "a b c d e f g h i j k l", 0.47)  # 18 frames when faster
    loose = record(tmp_path, "loose", "loose", 0.35)

    def lengths(augment):
        return {
            str(name).rpartition("/")[2]: int(count)
            for batch in epoch_of([full, tight, loose], augment=augment)
            for name, count in zip(batch["ids"], batch["num_samples"], strict=True)
        }

    assert lengths(slow) == {
        "full.wav": 3600,
        "tight.wav": 3760,
        "loose.wav": pytest.approx(3500, abs=1),
    }
    assert lengths(fast) == {
        "full.wav": pytest.approx(2880, abs=1),
        "tight.wav": 3760,
        "loose.wav": pytest.approx(2240, abs=1),
    }


def test_faults_name_the_number(corpus):
    with pytest.raises(ValueError, match="shard_index=2 of shard_count=2"):
        dataset(corpus, shard_index=2, shard_count=2)
    with pytest.raises(ValueError, match="batch_size=0"):
        dataset(corpus, batch_size=0)
    with pytest.raises(ValueError, match=r"buckets=\(2\.0, 1\.0\) must rise"):
        dataset(corpus, buckets=(2.0, 1.0))
    with pytest.raises(ValueError, match="no utterance can be used: 0 of 20 .* 20 too long"):
        dataset(corpus, buckets=(0.1,))
    with pytest.raises(ValueError, match="no utterance can be used: 0 of 0"):
        dataset([])
