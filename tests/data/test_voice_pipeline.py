import collections
import dataclasses
import functools
import json

import numpy as np
import pytest
import soundfile

from deepaudio import audio
from deepaudio.data import Utterance, read_ljspeech, read_manifest, read_vctk, voice_pipeline
from deepaudio.data.voice_pipeline import make_dataset, speaker_names, whole_utterances

CONVENTION = audio.mel_convention("hifigan_16k")
RATE, HOP = CONVENTION.sample_rate, CONVENTION.hop_length
FRAMES, MARGIN = 10, 384
LENGTH = FRAMES * HOP


def record(folder, name, seconds, *, speaker="s", rate=RATE, stated=True, gain=0.1):
    """An utterance of noise, every stretch of which is told from every other."""
    rng = np.random.default_rng(list(name.encode()))
    wave = gain * rng.standard_normal(round(seconds * rate))
    soundfile.write(folder / f"{name}.wav", wave, rate, subtype="FLOAT")
    duration = len(wave) / rate if stated else None
    return Utterance(folder / f"{name}.wav", "", "train", speaker, duration)


@pytest.fixture
def corpus(tmp_path):
    return [
        record(tmp_path, f"u{i:02d}", 0.3 + 0.11 * (7 * i % 11), speaker="bac"[i % 3])
        for i in range(11)
    ]


def dataset(utterances, **changes):
    settings = {
        "convention": CONVENTION,
        "crop_frames": FRAMES,
        "margin": MARGIN,
        "batch_size": 4,
        "seed": 0,
        "shuffle": True,
        "num_threads": 0,
    }
    return make_dataset(utterances, **(settings | changes))


@functools.cache
def sound_of(utterance):
    return audio.read(utterance.audio_path)[0]


def locate(utterances, row):
    """The utterance that a crop is of, and where it begins there."""
    wanted = row[MARGIN : MARGIN + 8]
    for utterance in utterances:
        whole = sound_of(utterance)
        for start in np.flatnonzero(whole[: len(whole) - 7] == wanted[0]):
            if np.array_equal(whole[start : start + 8], wanted):
                return utterance, whole, int(start)
    raise AssertionError("of no utterance")


@pytest.mark.parametrize(("kept_bytes", "reads"), [(2**30, 11), (0, 24)])
def test_a_small_corpus_is_read_once(corpus, monkeypatch, kept_bytes, reads):
    """And one that is too large for that, for every crop."""
    monkeypatch.setattr(voice_pipeline, "_KEPT_BYTES", kept_bytes)
    paths, read = [], audio.read

    def counted(path, **settings):
        paths.append(path)
        return read(path, **settings)

    monkeypatch.setattr(audio, "read", counted)
    # An utterance a crop: two epochs of three batches of four.
    batches = list(dataset(corpus, num_epochs=2, shuffle=False))
    assert len(batches) == 6 and len(paths) == reads and len(set(paths)) == 11


def test_crops_hold_the_sound_and_what_is_around_it(corpus):
    starts = []
    for batch in dataset(corpus, num_epochs=2):
        assert batch["samples"].shape == (4, LENGTH + 2 * MARGIN)
        assert batch["samples"].dtype == np.float32 and batch["speakers"].dtype == np.int32
        for row, speaker in zip(batch["samples"], batch["speakers"], strict=True):
            utterance, whole, start = locate(corpus, row)
            assert "abc"[speaker] == utterance.speaker
            assert 0 <= start <= len(whole) - LENGTH
            silent = np.zeros(MARGIN, np.float32)
            surrounded = np.concatenate([silent, whole, silent])
            np.testing.assert_array_equal(row, surrounded[start : start + len(row)])
            starts.append(start)
    # Crops begin anywhere, at the very ends of a recording too if that is drawn.
    assert len(set(starts)) > 0.9 * len(starts) and any(start % HOP for start in starts)


def test_mel_frames_of_a_crop_are_those_of_the_recording(tmp_path):
    utterance = record(tmp_path, "a", 1.0)
    whole = sound_of(utterance)
    row = next(iter(dataset([utterance], batch_size=1, margin=2 * HOP)))["samples"][0]
    margin = 2 * HOP
    start = next(s for s in range(len(whole)) if whole[s] == row[margin])
    begin = start % HOP
    mel = np.asarray(audio.convention_mel(row, CONVENTION))[2:-2]
    expected = np.asarray(audio.convention_mel(whole[begin:], CONVENTION))[start // HOP :][:FRAMES]
    assert mel.shape == (FRAMES, 80)
    np.testing.assert_allclose(mel, expected, atol=1e-3)


def test_short_utterances_are_padded_with_silence(tmp_path):
    short = record(tmp_path, "short", 0.05)
    whole = sound_of(short)
    for shuffle in (True, False):
        (batch,) = dataset([short], num_epochs=1, batch_size=1, shuffle=shuffle)
        (row,) = batch["samples"]
        np.testing.assert_array_equal(row[MARGIN : MARGIN + len(whole)], whole)
        assert not row[:MARGIN].any() and not row[MARGIN + len(whole) :].any()


def test_an_epoch_hears_long_utterances_more_often(tmp_path):
    corpus = [record(tmp_path, "long", 1.6), record(tmp_path, "short", 0.05)]
    data = dataset(corpus, num_epochs=1, batch_size=1)
    assert data.batches_per_epoch == 11
    heard = collections.Counter(locate(corpus, b["samples"][0])[0].audio_path.stem for b in data)
    assert heard == {"long": 10, "short": 1}


def test_nearly_silent_crops_are_drawn_again(tmp_path):
    rng = np.random.default_rng(0)
    wave = np.zeros(4 * LENGTH)
    wave[:LENGTH] = 0.1 * rng.standard_normal(LENGTH)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    half_silent = Utterance(tmp_path / "a.wav", "", "train", "s", len(wave) / RATE)
    batches = list(dataset([half_silent], num_epochs=50, batch_size=1))
    silent = sum(not b["samples"][0, MARGIN:-MARGIN].any() for b in batches)
    # Two crops in three are silent, and four draws in a row so with (2/3)^4, about 0.2.
    assert 0.08 < silent / len(batches) < 0.32
    silence = record(tmp_path, "silence", 1.0, gain=0.0)
    assert not next(iter(dataset([silence])))["samples"].any()


def test_unshuffled_crops_are_the_beginnings_in_order(corpus):
    batches = list(dataset(corpus, shuffle=False, num_epochs=1))
    rows = np.concatenate([b["samples"] for b in batches])
    speakers = np.concatenate([b["speakers"] for b in batches])
    # The last batch is filled up from the first.
    for row, speaker, utterance in zip(rows, speakers, [*corpus, corpus[0]], strict=True):
        whole = sound_of(utterance)
        assert not row[:MARGIN].any() and "abc"[speaker] == utterance.speaker
        expected = np.pad(whole[: LENGTH + MARGIN], (0, max(0, LENGTH + MARGIN - len(whole))))
        np.testing.assert_array_equal(row[MARGIN:], expected)


def test_whole_utterances_are_whole_frames(corpus):
    found = list(whole_utterances(corpus, convention=CONVENTION))
    assert [each["name"] for each in found] == [u.name for u in corpus]
    for each, utterance in zip(found, corpus, strict=True):
        whole = sound_of(utterance)
        samples = each["samples"]
        assert len(samples) % HOP == 0 and 0 <= len(samples) - len(whole) < HOP
        np.testing.assert_array_equal(samples[: len(whole)], whole)
        assert not samples[len(whole) :].any()
        assert "abc"[each["speaker"]] == utterance.speaker


def test_other_rates_are_resampled(tmp_path):
    fast = record(tmp_path, "fast", 1.0, rate=48000)
    (whole,) = whole_utterances([fast], convention=CONVENTION)
    assert len(whole["samples"]) == -(-RATE // HOP) * HOP
    expected, _ = audio.read(fast.audio_path, sample_rate=RATE)
    row = next(iter(dataset([fast], shuffle=False, batch_size=1)))["samples"][0]
    np.testing.assert_array_equal(row[MARGIN:], expected[: LENGTH + MARGIN])


def test_numbers_of_speakers_are_kept(corpus):
    assert speaker_names(corpus) == ("a", "b", "c")
    known = ("c", "x", "a", "b")
    data = dataset(corpus, shuffle=False, num_epochs=1, speakers=known)
    assert data.speakers == known
    assert next(iter(data))["speakers"].tolist() == [known.index(u.speaker) for u in corpus[:4]]
    with pytest.raises(ValueError, match=r"u02\.wav: 'c' is none of the 2 known speakers, a, b…"):
        dataset(corpus, speakers=("a", "b"))
    with pytest.raises(ValueError, match="'c' is none of"):
        list(whole_utterances(corpus, convention=CONVENTION, speakers=("a", "b")))


def write_sound(path, seconds=0.5, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.random.default_rng(len(path.name)).standard_normal(round(seconds * rate))
    soundfile.write(path, wave, rate)


def test_every_reader_of_voices_serves(tmp_path):
    write_sound(tmp_path / "prompts_train" / "hello.flac")
    row = {"audio_filepath": "prompts_train/hello.flac", "duration": 0.5, "text": "hello"}
    manifest = tmp_path / "prompts_train.jsonl"
    manifest.write_text(json.dumps(row | {"speaker": "allison", "engine": "recorded"}))
    write_sound(tmp_path / "lj" / "wavs" / "LJ001-0001.wav", rate=22050)
    (tmp_path / "lj" / "metadata.csv").write_text("LJ001-0001|a|a\n")
    write_sound(tmp_path / "v" / "wav48_silence_trimmed/p226/p226_001_mic1.flac", rate=48000)
    corpora = [
        read_manifest(manifest),
        read_ljspeech(tmp_path / "lj", "train"),
        read_vctk(tmp_path / "v", "train"),
    ]
    for utterances, speaker in zip(corpora, ["allison", "LJ", "p226"], strict=True):
        data = dataset(utterances)
        assert data.speakers == (speaker,)
        assert data.report.seconds == pytest.approx(0.5)
        assert next(iter(data))["samples"].any()


def many(tmp_path, count):
    return [record(tmp_path, f"m{i:03d}", 0.2) for i in range(count)]


def test_a_broken_sound_is_replaced_and_listed(tmp_path):
    utterances = many(tmp_path, 100)
    broken = utterances[17]
    broken.audio_path.write_bytes(b"RIFF")
    data = dataset(utterances, num_epochs=1)
    batches = list(data)
    assert len(batches) == data.batches_per_epoch
    assert all(row.any() for batch in batches for row in batch["samples"])
    assert data.report.broken == [f"{broken.name}: not a sound file of a known format"]
    assert "100 of 100 utterances, 0.01 hours; 1 broken (first " in str(data.report)
    names = [each["name"] for each in whole_utterances(utterances, convention=CONVENTION)]
    assert names == [u.name for u in utterances if u is not broken]
    # Found at once where lengths have to be read.
    bare = [dataclasses.replace(u, duration=None) for u in utterances]
    report = dataset(bare).report
    assert (report.num_given, report.num_used, len(report.broken)) == (100, 99, 1)


def test_many_broken_sounds_end_the_training(tmp_path):
    utterances = many(tmp_path, 100)
    for utterance in utterances[10:12]:
        utterance.audio_path.write_bytes(b"RIFF")
    message = "2 of 100 utterances .*, more than 1%; the last: .*wav"
    with pytest.raises(ValueError, match=message):
        list(dataset(utterances, num_epochs=1))
    with pytest.raises(ValueError, match=message):
        dataset([dataclasses.replace(u, duration=None) for u in utterances])
    with pytest.raises(ValueError, match=message):
        list(whole_utterances(utterances, convention=CONVENTION))


@pytest.mark.parametrize("num_threads", [0, 2])
def test_resume_is_exact(corpus, num_threads):
    iterator = iter(dataset(corpus, num_threads=num_threads))
    for _ in range(5):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator) for _ in range(16)]  # over the end of the first epoch
    resumed = iter(dataset(corpus, num_threads=num_threads))
    resumed.set_state(state)
    for one in expected:
        other = next(resumed)
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_batches_follow_from_the_seed_and_epochs_differ(corpus):
    def sums(**changes):
        return [b["samples"].sum(axis=1).tolist() for b in dataset(corpus, num_epochs=2, **changes)]

    first = sums()
    assert sums(num_threads=2) == first
    assert sums(seed=1) != first
    half = len(first) // 2
    assert first[:half] != first[half:]
    still = sums(shuffle=False)
    assert still[: len(still) // 2] == still[len(still) // 2 :]


def test_shards_share_the_batches(corpus):
    whole = list(dataset(corpus, num_epochs=1))
    shards = [
        list(dataset(corpus, num_epochs=1, batch_size=2, shard_index=i, shard_count=2))
        for i in range(2)
    ]
    assert len(whole) == len(shards[0]) == len(shards[1])
    for batch, one, other in zip(whole, *shards, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(value[::2], one[name], err_msg=name)
            np.testing.assert_array_equal(value[1::2], other[name], err_msg=name)


def test_faults_name_the_number(corpus):
    for changes, message in [
        ({"shard_index": 2, "shard_count": 2}, "shard_index=2 of shard_count=2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"crop_frames": 0}, "crop_frames=0"),
        ({"margin": -1}, "margin=-1"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataset(corpus, **changes)
    with pytest.raises(ValueError, match="no utterance can be used: 0 of 0"):
        dataset([])
