import csv
import json
import pathlib
import subprocess
import sys
import wave

import numpy as np
import pytest

from deepaudio import data
from deepaudio.data import soundfont
from experiments import make_piano_corpus

TINY = {
    "hours": 0.004,
    "seed": 7,
    "workers": 1,
    "scores": "generated",
    "instruments": "synthetic",
    "max_seconds": 8.0,
}
COLUMNS = [
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
    "instrument",
]


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    assert make_piano_corpus.make_corpus(root, **TINY) == []
    return root


def test_layout_is_maestros(corpus):
    rows = list(csv.DictReader((corpus / "corpus.csv").read_text("utf-8").splitlines()))
    assert list(rows[0]) == COLUMNS
    splits = [row["split"] for row in rows]
    assert {split: splits.count(split) for split in splits} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    files = {row[name] for row in rows for name in ("midi_filename", "audio_filename")}
    assert files | {"corpus.csv"} == set(contents(corpus))
    for row in rows:
        with wave.open(str(corpus / row["audio_filename"])) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (
                16000,
                1,
                2,
            )
            assert sound.getnframes() / 16000 == pytest.approx(float(row["duration"]))
            assert sound.getnframes() <= 8.1 * 16000


def test_the_maestro_reader_reads_it(corpus):
    recordings = data.read_maestro(corpus)
    assert len(recordings) == 6
    assert len(data.read_maestro(corpus, "test")) == 2
    instruments = {
        split: {recording.instrument for recording in recordings if recording.split == split}
        for split in ("train", "validation", "test")
    }
    assert not instruments["train"] & instruments["test"]
    assert not instruments["train"] & instruments["validation"]


def test_sound_rises_where_the_truth_says_notes_begin(corpus):
    rises, elsewhere = [], []
    for recording in data.read_maestro(corpus):
        notes = data.read_midi(recording.midi_path)
        with wave.open(str(recording.audio_path)) as sound:
            samples = np.frombuffer(sound.readframes(-1), "<i2").astype(np.float64)
        power = np.convolve(samples**2, np.ones(160) / 160, mode="full")[159:] + 1.0

        def rise(time, power=power):
            sample = round(time * 16000)
            return 10.0 * np.log10(power[sample] / power[sample - 240])

        first = notes.onsets[0]
        assert rise(first) > 6.0
        rises += [rise(time) for time in notes.onsets if time > 0.05]
        gaps = np.diff(np.unique(notes.onsets))
        starts = np.unique(notes.onsets)[:-1][gaps > 0.2]
        elsewhere += [rise(time + 0.1) for time in starts]
    assert np.mean(rises) > np.mean(elsewhere) + 3.0


def test_same_seed_same_bytes_with_any_number_of_workers(corpus, tmp_path, repository):
    flags = [f"--{name}={value}" for name, value in {**TINY, "workers": 2}.items()]
    result = subprocess.run(
        [sys.executable, "-m", "experiments.make_piano_corpus", f"--output={tmp_path}", *flags],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path) == contents(corpus)


def test_another_seed_gives_another_corpus(corpus, tmp_path):
    make_piano_corpus.make_corpus(tmp_path, **{**TINY, "seed": 8, "hours": 0.001})
    first, other = contents(corpus), contents(tmp_path)
    for name in ("train/00000.wav", "test/00000.midi", "validation/00001.wav"):
        assert first[name] != other[name]


def test_a_stopped_run_continues_and_keeps_what_is_there(corpus, tmp_path):
    make_piano_corpus.make_corpus(tmp_path, **{**TINY, "hours": 0.001})
    kept = tmp_path / "train" / "00000.wav"
    before = kept.stat().st_mtime_ns
    # Stopped between the sound and the record of it.
    (tmp_path / ".cache" / "items" / "test-00001.json").unlink()
    (tmp_path / "test" / "00001.midi").unlink()
    make_piano_corpus.make_corpus(tmp_path, **TINY)
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(corpus)


def test_another_corpus_in_the_same_folder_is_refused(corpus):
    with pytest.raises(ValueError, match="'seed': 7"):
        make_piano_corpus.make_corpus(corpus, **{**TINY, "seed": 8})


def test_missing_fluidsynth_is_told_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(soundfont.SoundFontError, match="--instruments synthetic"):
        make_piano_corpus.make_corpus(tmp_path, **{**TINY, "instruments": "all"})
    assert not list(tmp_path.iterdir())


def test_pieces_that_cannot_be_read_are_replaced_and_told(monkeypatch, tmp_path):
    pieces = ("haydn/bad", "haydn/good")

    def read_piece(name):
        if name.endswith("bad"):
            raise make_piano_corpus.piano_scores.ScoreError(f"{name}: broken")
        return make_piano_corpus.piano_scores.make_score(
            [(beat / 2.0, 0.5, 50 + beat % 20, 0) for beat in range(200)]
        )

    scores = make_piano_corpus.piano_scores
    monkeypatch.setattr(scores, "list_pieces", lambda: pieces)
    monkeypatch.setattr(scores, "is_validation_piece", lambda name: False)
    monkeypatch.setattr(scores, "read_piece", read_piece)
    failures = make_piano_corpus.make_corpus(tmp_path, **{**TINY, "hours": 0.02, "scores": "all"})
    assert failures == ["haydn/bad: broken"]
    rows = list(csv.DictReader((tmp_path / "corpus.csv").read_text("utf-8").splitlines()))
    titles = {row["canonical_title"] for row in rows if row["split"] == "train"}
    assert "haydn/good" in titles and "haydn/bad" not in titles
    assert {row["canonical_composer"] for row in rows} == {"Joseph Haydn", "Generated"}
    records = [
        json.loads(path.read_text()) for path in pathlib.Path(tmp_path).glob(".cache/items/*")
    ]
    assert len(records) == len(rows)
