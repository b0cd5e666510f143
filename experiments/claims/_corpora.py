"""The corpora that claims are measured on; the smallest are made on the spot.

At scale `smoke` a piano corpus is a minute of generated notes, and in place of speech every word is
a tone: enough to see that everything runs, without any program beside Python. Other scales want the
corpora that `experiments.make_piano_corpus` and `experiments.make_speech_corpus` make.
"""

import csv
import json
import os
from pathlib import Path

import numpy as np
import soundfile

from experiments.claims._claim import Setting
from experiments.make_piano_corpus import make_corpus

_RATE = 16000
_LAST_WRITTEN = "whole"
_WORD_SECONDS = 0.4
# What stands for a word, in Hz.
_WORDS = {
    "speech": {"a": 500, "be": 1000, "sea": 2000, "day": 3000},
    "mandarin": {"你": 500, "好": 1000, "天": 2000, "地": 3000},
}
_SPLITS = {
    "train": 16,
    "validation": 8,
    "test_speakers": 8,
    "prompts_train": 12,
    "prompts_test": 4,
    "prompts_validation": 4,
}
# Folder of a corpus, by scale; the recorded prompts of the speech corpus are one voice.
_FOLDERS = {
    "smoke": {"piano": "piano", "speech": "speech", "mandarin": "mandarin", "voice": "speech"},
    "small": {"piano": "piano", "speech": "speech", "mandarin": "mandarin", "voice": "speech"},
    "paper": {
        "piano": "maps",
        "speech": "librispeech",
        "mandarin": "mandarin",
        "voice": "ljspeech",
    },
}
_MADE_BY = {
    "piano": "make it by python -m experiments.make_piano_corpus --output {}",
    "speech": "make it by python -m experiments.make_speech_corpus --output {}",
    "mandarin": (
        "make it by python -m experiments.make_speech_corpus --language cmn --hours 1 --output {}"
    ),
    "maps": "MAPS, as published, belongs there",
    "librispeech": "LibriSpeech, as published, belongs there",
    "ljspeech": "LJSpeech, as published, belongs there",
}


def corpus(setting: Setting, name: str) -> Path:
    """The folder of a corpus: "piano", "speech", "mandarin" or "voice".

    Raises:
        FileNotFoundError: It is not there, and this scale needs a real one.
    """
    kept_in = _FOLDERS[setting.scale][name]
    if setting.scale == "smoke":
        folder = setting.workdir / "corpora" / kept_in
        if not (folder / _LAST_WRITTEN).exists():
            _make(kept_in, folder)
            (folder / _LAST_WRITTEN).touch()
        return folder
    folder = setting.corpora / kept_in
    if not folder.is_dir():
        raise FileNotFoundError(f"no corpus in {folder}: {_MADE_BY[kept_in].format(folder)}")
    return folder


def thinned(setting: Setting, name: str, every: int) -> Path:
    """The folder of a piano corpus that has one of `every` training recordings of another.

    Only its table is written; the files are the other's.
    """
    whole = corpus(setting, name)
    (table,) = whole.glob("*.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    training = [row for row in rows if row["split"] == "train"][::every]
    kept = training + [row for row in rows if row["split"] != "train"]
    folder = setting.workdir / "corpora" / f"{name}_every_{every}"
    folder.mkdir(parents=True, exist_ok=True)
    for row in kept:
        for column in ("midi_filename", "audio_filename"):
            row[column] = os.path.relpath(whole / row[column], folder)
    partial = folder / f"{table.name}.tmp"
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    partial.replace(folder / table.name)
    return folder


def _make(name: str, folder: Path) -> None:
    if name == "piano":
        make_corpus(
            folder,
            hours=0.004,
            seed=0,
            workers=1,
            soundfont_dir=None,
            scores="generated",
            instruments="synthetic",
            max_seconds=10.0,
        )
    else:
        _make_tones(folder, _WORDS[name], " " if name == "speech" else "")


def _make_tones(folder: Path, words: dict[str, int], separator: str) -> None:
    """Manifests of utterances in which every word is a tone."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(_WORD_SECONDS * _RATE)) / _RATE
    for split, count in _SPLITS.items():
        lines = []
        for number in range(count):
            said = rng.choice(list(words), 2 + number % 2)
            sound = [0.3 * np.sin(2 * np.pi * words[word] * time) for word in said]
            path = folder / f"{split}-{number}.wav"
            soundfile.write(path, np.concatenate(sound), _RATE)
            line = {
                "audio_filepath": path.name,
                "duration": len(said) * len(time) / _RATE,
                "text": separator.join(said),
            }
            lines.append(json.dumps(line) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
