import collections
import json

import numpy as np
import pytest
import soundfile

from deepaudio import audio
from deepaudio.data import Notes, Recording, write_midi
from deepaudio.data.augment import AugmentConfig
from deepaudio.data.labels import LabelConfig, rolls
from deepaudio.data.piano_pipeline import chunks, make_dataset

RATE = 16000
LABELS = LabelConfig()


def record(folder, name, notes, seconds, *, rate=RATE, seed=0):
    """Write a recording of noise, every stretch of which is told from every other."""
    rng = np.random.default_rng(seed)
    wave = 0.05 * rng.standard_normal(int(seconds * rate))
    soundfile.write(folder / f"{name}.wav", wave, rate, subtype="FLOAT")
    write_midi(folder / f"{name}.mid", notes)
    return Recording(
        folder / f"{name}.wav", folder / f"{name}.mid", "train", name, "", "piano", seconds
    )


def phrases(seconds, *, gap, length):
    """One long note after another with a gap between."""
    onsets = np.arange(0.0, seconds - length, length + gap)
    count = len(onsets)
    return Notes(onsets, onsets + length, 60 + np.arange(count) % 12, np.full(count, 90))


@pytest.fixture
def corpus(tmp_path):
    return [
        record(tmp_path, f"r{i}", phrases(9 + i, gap=0.2, length=0.7), 9.0 + i, seed=i)
        for i in range(4)
    ]


def dataset(recordings, **changes):
    settings = {
        "batch_size": 2,
        "num_frames": 50,
        "seed": 0,
        "shuffle": True,
        "augment": None,
        "labels": LABELS,
        "num_threads": 0,
    }
    return make_dataset(recordings, **(settings | changes))


def test_chunks_are_cut_where_no_note_sounds(corpus):
    pieces = chunks(corpus, min_seconds=1.0, max_seconds=3.0)
    by_recording = collections.defaultdict(list)
    for piece in pieces:
        by_recording[piece.recording].append(piece)
    assert list(by_recording) == corpus
    for recording, parts in by_recording.items():
        assert parts[0].start == 0 and parts[-1].stop == recording.duration == parts[-1].end
        for before, after in zip(parts, parts[1:], strict=False):
            assert before.stop == after.start and 1.0 <= before.stop - before.start <= 3.0
            # Notes sound in the first 0.7 s of every 0.9 s.
            assert before.stop % 0.9 > 0.7 and before.stop - before.start > 2.0


def test_chunks_without_silence_are_cut_at_a_zero_crossing(tmp_path):
    recording = record(tmp_path, "a", Notes([0.0], [10.0], [60], [90]), 10.0)
    wave = np.cos(2 * np.pi * 100 * np.arange(10 * RATE) / RATE + 0.5).astype(np.float32)
    soundfile.write(recording.audio_path, wave, RATE, subtype="FLOAT")
    pieces = chunks([recording], min_seconds=1.0, max_seconds=3.0)
    assert len(pieces) == 4
    for piece in pieces[:-1]:
        at = round(piece.stop * RATE)
        assert np.signbit(wave[at - 1]) != np.signbit(wave[at])
        assert 2.98 <= piece.stop - piece.start <= 3.0
    soundfile.write(recording.audio_path, np.ones(10 * RATE), RATE, subtype="FLOAT")
    assert chunks([recording], min_seconds=1.0, max_seconds=3.0)[0].stop == 3.0


def test_a_short_recording_is_one_chunk(tmp_path):
    recording = record(tmp_path, "a", Notes([], [], [], []), 0.5)
    (piece,) = chunks([recording], min_seconds=1.0, max_seconds=3.0)
    assert (piece.start, piece.stop) == (0.0, 0.5)


def test_batches_have_the_agreed_shapes(corpus):
    batch = next(iter(dataset(corpus, augment=AugmentConfig())))
    shapes = {"samples": (2, 50 * 512), "paddings": (2, 50), "ids": (2,)}
    shapes |= dict.fromkeys(
        ["onsets", "frames", "offsets", "velocities", "frame_weights"], (2, 50, 88)
    )
    assert {name: value.shape for name, value in batch.items()} == shapes
    dtypes = {name: value.dtype for name, value in batch.items()}
    assert dtypes.pop("ids").kind == "U"
    assert set(dtypes.values()) == {np.dtype(np.float32)}


def test_ids_say_where_a_chunk_was_cut(corpus):
    batch = next(iter(dataset(corpus)))
    for samples, name in zip(batch["samples"], batch["ids"], strict=True):
        file, start = str(name).removesuffix(" s").split(" at ")
        recording = next(r for r in corpus if str(r.audio_path).endswith(file))
        whole, _ = audio.read(recording.audio_path)
        # The second is rounded to a hundredth.
        first = round(float(start) * RATE)
        near = whole[max(first - 80, 0) : first + 80 + 400]
        assert any(np.array_equal(near[i : i + 400], samples[:400]) for i in range(161))


def test_unshuffled_batches_are_the_chunks_in_order(corpus):
    pieces = chunks(corpus, min_seconds=0.4, max_seconds=1.6)
    batches = list(dataset(corpus, shuffle=False, num_epochs=1))
    assert sum(len(b["samples"]) for b in batches) == len(pieces)
    rows = [{k: v[i] for k, v in b.items()} for b in batches for i in range(len(b["samples"]))]
    for piece, row in zip(pieces, rows, strict=True):
        whole, _ = audio.read(piece.recording.audio_path)
        start, stop = round(piece.start * RATE), round(piece.stop * RATE)
        count = stop - start
        np.testing.assert_array_equal(row["samples"][:count], whole[start:stop])
        assert not row["samples"][count:].any()
        valid = -(-count // 512)
        np.testing.assert_array_equal(row["paddings"], np.arange(50) >= valid)
        notes = phrases(piece.recording.duration, gap=0.2, length=0.7)
        expected = rolls(notes, start=start / RATE, num_frames=valid, config=LABELS)
        for name, roll in expected.items():
            # Times in a MIDI file are rounded to a quarter of a millisecond: 1 frame in 100.
            assert np.mean(np.abs(row[name][:valid] - roll) > 0.01) < 2e-3
            assert (row[name][valid:] == (1 if name == "frame_weights" else 0)).all()


def clicks(folder, rate, seconds=30.0):
    """Clicks at known places: the sound tells where the labels should be."""
    times = np.arange(0.5, seconds - 0.5, 0.37)
    wave = np.zeros(int(seconds * rate))
    for time in times:
        at = round(time * rate)
        wave[at : at + rate // 100] = 0.8 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    notes = Notes(times, times + 0.1, np.full(len(times), 60), np.full(len(times), 90))
    recording = record(folder, f"click{rate}", notes, seconds, rate=rate)
    soundfile.write(recording.audio_path, wave, rate, subtype="FLOAT")
    return recording


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("semitones", [None, (1.9, 2.0), (-2.0, -1.9)])
def test_labels_stay_with_the_sound_when_moved_and_shifted(tmp_path, rate, semitones):
    config = AugmentConfig(None, semitones, None, None, reverberance=None, gain_db=None)
    batches = iter(dataset([clicks(tmp_path, rate)], augment=config, num_frames=200))
    for _ in range(5):
        batch = next(batches)
        for samples, onsets in zip(batch["samples"], batch["onsets"][:, :, 39], strict=True):
            loud = np.flatnonzero(np.abs(samples) > 0.2)
            starts = loud[np.concatenate([[True], np.diff(loud) > 1600])]
            labelled = np.flatnonzero(np.diff(np.concatenate([[0], onsets])) > 0)
            if starts[0] < 1000:  # a click cut by the chunk's start has no onset in it
                starts, labelled = starts[1:], labelled[labelled * 512 > 1000]
            assert abs(len(starts) - len(labelled)) <= 1
            for begin in starts[:10]:
                assert np.abs(labelled - (begin - 10) / 512).min() <= 1.0


def test_pitch_shift_gives_chunks_of_full_length(tmp_path):
    config = AugmentConfig(None, (1.9, 2.0), None, None, reverberance=None, gain_db=None)
    batches = iter(dataset([clicks(tmp_path, 16000)], augment=config, num_frames=200))
    assert all(not next(batches)["paddings"].any() for _ in range(5))


def fingerprints(iterator, count):
    return [next(iterator)["samples"].sum(axis=1).round(4).tolist() for _ in range(count)]


@pytest.mark.parametrize("num_threads", [0, 2])
def test_resume_is_exact(corpus, num_threads):
    settings = {"augment": AugmentConfig(), "num_threads": num_threads}
    iterator = iter(dataset(corpus, **settings))
    for _ in range(3):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator) for _ in range(12)]  # over the end of the first epoch
    resumed = iter(dataset(corpus, **settings))
    resumed.set_state(state)
    for one in expected:
        other = next(resumed)
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_batches_follow_from_the_seed_whatever_the_threads(corpus):
    settings = {"augment": AugmentConfig()}
    first = fingerprints(iter(dataset(corpus, **settings)), 6)
    assert fingerprints(iter(dataset(corpus, num_threads=2, **settings)), 6) == first
    assert fingerprints(iter(dataset(corpus, seed=1, **settings)), 6) != first


def test_every_epoch_cuts_and_orders_anew(corpus):
    count = len(chunks(corpus, min_seconds=0.4, max_seconds=1.6))
    epochs = list(dataset(corpus, num_epochs=2, batch_size=1))
    assert len(epochs) == 2 * count
    starts = [batch["samples"][0, :100].tobytes() for batch in epochs]
    # Chunks moved past a recording's beginning or end stop there, and so may agree.
    assert len(set(starts[:count]) & set(starts[count:])) <= 2 * len(corpus)
    still = list(dataset(corpus, num_epochs=2, batch_size=1, shuffle=False))
    for one, other in zip(still[:count], still[count:], strict=True):
        np.testing.assert_array_equal(one["samples"], other["samples"])


def test_shards_share_nothing_and_miss_nothing(corpus):
    settings = {"shuffle": False, "num_epochs": 1, "batch_size": 1}
    whole = {b["samples"].tobytes() for b in dataset(corpus, **settings)}
    shards = [
        {b["samples"].tobytes() for b in dataset(corpus, shard_index=i, shard_count=3, **settings)}
        for i in range(3)
    ]
    assert set.union(*shards) == whole and sum(map(len, shards)) == len(whole)


def test_a_truth_is_parsed_once(corpus, monkeypatch):
    from deepaudio.data import piano_pipeline

    parsed = collections.Counter()
    real = piano_pipeline.read_truth

    def watched(recording):
        parsed[recording.piece] += 1
        return real(recording)

    monkeypatch.setattr(piano_pipeline, "read_truth", watched)
    iterator = iter(dataset(corpus))
    for _ in range(10):
        next(iterator)
    assert parsed == {"r0": 1, "r1": 1, "r2": 1, "r3": 1}


def test_faults_name_the_file_or_the_number(corpus):
    with pytest.raises(ValueError, match="shard_index=2 of shard_count=2"):
        dataset(corpus, shard_index=2, shard_count=2)
    with pytest.raises(ValueError, match="shard 99 of 100 has no chunk"):
        dataset(corpus, shard_index=99, shard_count=100)
    with pytest.raises(ValueError, match="min_seconds=3"):
        chunks(corpus, min_seconds=3, max_seconds=2)
    data = corpus[0].audio_path.read_bytes()
    corpus[0].audio_path.write_bytes(data[:5000])
    with pytest.raises(audio.AudioError, match=r"r0\.wav: truncated"):
        dataset(corpus)
