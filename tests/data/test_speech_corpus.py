import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from deepaudio import data
from deepaudio.data import speech_numbers, speech_prompts, speech_synthesis, speech_texts
from deepaudio.data.alphabet import ENGLISH
from experiments import make_speech_corpus

TINY = {"hours": 0.03, "seed": 7, "workers": 1, "held_out": 8, "text_lines": 300}
SPLITS = ("train", "validation", "test_speakers", "test_engine")
LINES = [f"line {speech_numbers.cardinal(i)}" for i in range(600)]
VOLUME = tuple(speech_texts.Sentence(line, line, "book") for line in LINES)


def contents(root):
    files = (path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def rows_of(root):
    return {
        path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in root.glob("*.jsonl")
    }


@pytest.fixture(scope="module")
def patch():
    """Instead of programs and books, noise that follows from what is said and by whom."""

    def speak(spoken, voice):
        rng = np.random.default_rng(list(repr((spoken, voice)).encode()))
        return rng.uniform(-1, 1, 4800 * (1 + len(spoken.split()))).astype(np.float32)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(speech_synthesis, "speak", speak)
        monkeypatch.setattr(speech_synthesis, "require_engines", lambda engines: None)
        monkeypatch.setattr(speech_texts, "read_library", lambda: {"book": VOLUME})
        yield monkeypatch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, patch):
    root = tmp_path_factory.mktemp("corpus")
    assert make_speech_corpus.make_corpus(root, prompts="off", **TINY) == []
    return root


def test_manifests_tell_what_is_there(corpus):
    rows = rows_of(corpus)
    assert {name: len(split) for name, split in rows.items() if name != "train"} == {
        "validation": 6,
        "test_speakers": 8,
        "test_engine": 8,
    }
    files = {row["audio_filepath"] for split in rows.values() for row in split}
    assert files | {f"{split}.jsonl" for split in SPLITS} | {"texts.txt"} == set(contents(corpus))
    seconds = sum(row["duration"] for row in rows["train"])
    assert 0.03 * 3600 <= seconds < 0.03 * 3600 + 2 * 12 + 120
    for row in (row for split in rows.values() for row in split):
        info = soundfile.info(corpus / row["audio_filepath"])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames / 16000 == row["duration"] and 0.3 <= row["duration"] <= 12.0
        assert ENGLISH.normalize(row["text"]) == (row["text"], {})
        assert row["engine"] == row["speaker"].partition("-")[0]
        assert row["kind"] in ("generated", "book")


def test_the_manifest_reader_reads_it(corpus):
    utterances = data.read_manifest(corpus / "test_engine.jsonl")
    assert len(utterances) == 8 and {u.split for u in utterances} == {"test_engine"}
    assert all(u.speaker.startswith("festival-") for u in utterances)


def test_held_out_sentences_and_voices_are_not_in_training(corpus):
    rows = rows_of(corpus)
    train = {row["text"] for row in rows["train"]}
    lines = set((corpus / "texts.txt").read_text("utf-8").splitlines())
    assert len(lines) > 500 and lines & set(LINES)
    for split in SPLITS[1:]:
        held_out = [row["text"] for row in rows[split]]
        assert len(set(held_out)) == len(held_out) and all(" " in text for text in held_out)
        assert not set(held_out) & (train | lines)
    speakers = {split: {row["speaker"] for row in rows[split]} for split in SPLITS}
    assert not speakers["train"] & (speakers["test_speakers"] | speakers["test_engine"])


def test_silence_and_level_vary(corpus):
    silences, peaks = [], []
    for row in rows_of(corpus)["train"]:
        samples, _ = soundfile.read(corpus / row["audio_filepath"])
        loud = np.flatnonzero(samples)
        silences += [loud[0] / 16000, (len(samples) - 1 - loud[-1]) / 16000]
        peaks.append(20 * np.log10(np.abs(samples).max()))
    assert 0.045 < min(silences) < 0.15 < max(silences) < 0.36
    assert -20.1 < min(peaks) < -15.0 and -6.0 < max(peaks) < -0.9


def test_same_seed_same_bytes_and_another_seed_others(corpus, tmp_path):
    make_speech_corpus.make_corpus(tmp_path / "again", prompts="off", **TINY)
    assert contents(tmp_path / "again") == contents(corpus)
    make_speech_corpus.make_corpus(tmp_path / "other", prompts="off", **TINY | {"seed": 8})
    first, other = contents(corpus), contents(tmp_path / "other")
    assert all(first[f"{split}.jsonl"] != other[f"{split}.jsonl"] for split in SPLITS)


def test_a_stopped_run_continues_and_keeps_what_is_there(corpus, tmp_path):
    make_speech_corpus.make_corpus(tmp_path, prompts="off", **TINY | {"hours": 0.001})
    kept = tmp_path / "validation" / "00000-000.flac"
    before = kept.stat().st_mtime_ns
    # Stopped within a block.
    (tmp_path / ".cache" / "test_engine-00000.json").unlink()
    (tmp_path / "test_engine" / "00000-003.flac").unlink()
    make_speech_corpus.make_corpus(tmp_path, prompts="off", **TINY)
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(corpus)


def test_another_corpus_in_the_same_folder_is_refused(corpus):
    with pytest.raises(ValueError, match="'seed': 7"):
        make_speech_corpus.make_corpus(corpus, prompts="off", **TINY | {"seed": 8})


def test_without_books_the_grammar_speaks_and_the_maker_is_told(patch, tmp_path):
    with patch.context() as monkeypatch:
        monkeypatch.setattr(speech_texts, "read_library", dict)
        notes = make_speech_corpus.make_corpus(tmp_path, prompts="off", **TINY | {"hours": 0.001})
    assert len(notes) == 1 and "grammar only" in notes[0]
    assert {row["kind"] for split in rows_of(tmp_path).values() for row in split} == {"generated"}


@pytest.fixture
def prompts(tmp_path, patch, require):
    """Twelve prompts, one of them too long."""
    require("ffmpeg")
    found = []
    for i in range(12):
        path = tmp_path / f"p{i}.wav"
        samples = 0.5 * np.sin(np.arange(20 * 8000 if i == 5 else 4000))
        soundfile.write(path, samples, 8000)
        split = ("train", "validation", "test")[i % 3]
        text = "seven" if i % 4 == 0 else LINES[i]
        found.append(speech_prompts.Prompt(path, f"digits/{i}", text, "digits", split))
    with patch.context() as monkeypatch:
        monkeypatch.setattr(speech_prompts, "read_prompts", lambda: (found, {"no words": 2}))
        yield found


def test_prompts_are_converted_and_held_out(prompts, tmp_path):
    root = tmp_path / "corpus"
    notes = make_speech_corpus.make_corpus(root, **TINY | {"text_lines": 5000})
    assert notes == ["2 prompts left out: no words", "1 prompts left out: longer than 16 s"]
    rows = rows_of(root)
    splits = {f"prompts_{name}" for name in ("train", "validation", "test")}
    assert set(rows) == splits | set(SPLITS)
    told = {(split, row["text"]) for split in splits for row in rows[split]}
    assert told == {(f"prompts_{p.split}", p.text) for i, p in enumerate(prompts) if i != 5}
    for row in (row for split in splits for row in rows[split]):
        samples, rate = soundfile.read(root / row["audio_filepath"])
        assert rate == 16000 and len(samples) / rate == pytest.approx(0.5, abs=0.01)
        assert (row["engine"], row["kind"], row["duration"]) == (
            "recorded",
            "digits",
            len(samples) / rate,
        )
    held_out = {p.text for i, p in enumerate(prompts) if p.split != "train" and i != 5}
    lines = set((root / "texts.txt").read_text("utf-8").splitlines())
    train = {row["text"] for row in rows["train"]}
    # Words alone are vocabulary; sentences are held out.
    assert not (held_out - {"seven"}) & (lines | train)
    assert "seven" in held_out & lines


def test_prompts_asked_for_must_be_there(patch, tmp_path):
    with patch.context() as monkeypatch:
        monkeypatch.setattr(speech_prompts, "read_prompts", lambda: ([], {}))
        with pytest.raises(ValueError, match="install Debian's ffmpeg, asterisk-core-sounds-en-"):
            make_speech_corpus.make_corpus(tmp_path, prompts="on", **TINY)
    assert not list(tmp_path.iterdir())


def run(repository, output, **settings):
    options = [f"--{name}={value}" for name, value in settings.items()]
    return subprocess.run(
        [sys.executable, "-m", "experiments.make_speech_corpus", f"--output={output}", *options],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )


def test_mandarin_is_the_same_with_any_number_of_workers(require, tmp_path, repository):
    require("espeak-ng")
    settings = TINY | {"language": "cmn", "hours": 0.001}
    for workers in (1, 2):
        result = run(repository, tmp_path / str(workers), **settings | {"workers": workers})
        assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    rows = rows_of(tmp_path / "1")
    assert set(rows) == {"train", "validation", "test_speakers"}
    assert {row["engine"] for row in rows["train"]} == {"espeak"}
    assert all("\u4e00" <= c <= "\u9fff" for row in rows["train"] for c in row["text"])


def test_wrong_usage_and_missing_programs_are_one_line(tmp_path, repository, monkeypatch):
    result = run(repository, tmp_path, language="fr")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    monkeypatch.setenv("PATH", "")
    result = run(repository, tmp_path, hours=0.001)
    assert result.returncode == 1 and not list(tmp_path.iterdir())
    assert result.stderr.startswith("make_speech_corpus: needs espeak-ng: install")
