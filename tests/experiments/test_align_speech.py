"""Long recordings are cut where nothing is said, and wrong texts are left out."""

import json

import numpy as np
import pytest
import soundfile

from deepaudio import data
from deepaudio.data.alphabet import ENGLISH
from experiments.align_speech import align_corpus

RATE, FRAME = 16000, 480
PAUSE = "_" * 30  # 0.9 s


class Stand:
    """A stand-in for a recognizer: what it hears of a recording is written in its samples."""

    sample_rate, alphabet, frame_seconds = RATE, ENGLISH, FRAME / RATE

    def log_probs(self, blocks):
        samples = np.concatenate(list(blocks))
        numbers = np.rint(samples[::FRAME] * 64).astype(int)
        rows = np.full((len(numbers), len(ENGLISH)), np.log(0.1 / 28))
        rows[np.arange(len(numbers)), numbers] = np.log(0.9)
        return rows.astype(np.float32)


def record(folder, name, script):
    """A recording in which every frame is a character of the script, "_" being blank."""
    numbers = [0 if c == "_" else 1 + ENGLISH.units.index(c) for c in script]
    soundfile.write(folder / name, np.repeat(np.array(numbers) / 64, FRAME), RATE)
    return name


@pytest.fixture
def corpus(tmp_path):
    said = f"__on_e_ _tw_o_ {PAUSE}_thre_e_ {PAUSE}__fou_r__"
    rows = [
        {"audio_filepath": record(tmp_path, "a.wav", said), "text": "One two, three four."},
        {"audio_filepath": record(tmp_path, "b.wav", said), "text": "one two sixty four"},
        {"audio_filepath": record(tmp_path, "c.wav", "_a_"), "text": "much too long a text"},
    ]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data.read_manifest(tmp_path / "long.jsonl")


def test_recordings_become_utterances(corpus, tmp_path):
    settings = {"lowest_score": -1.0, "pause": 0.5, "shortest": 0.05, "longest": 10.0}
    found = align_corpus(Stand(), corpus, tmp_path / "out", "train", **settings)
    kept = data.read_manifest(tmp_path / "out" / "train.jsonl")
    texts = [utterance.text for utterance in kept]
    # "sixty" was never said; what stands around it was.
    assert texts == ["one two", "three", "four", "one two", "four"]
    lines = (tmp_path / "out" / "train_left_out.jsonl").read_text().splitlines()
    left_out = [json.loads(line) for line in lines]
    assert [row.get("text") for row in left_out] == ["sixty", None]
    assert "units" in left_out[1]["reason"] and left_out[1]["audio_filepath"].endswith("c.wav")
    assert (found["recordings"], found["failed"], found["kept"]) == (3, 1, 5)
    # A piece holds its own letters and no others'.
    for utterance in kept:
        samples, _ = soundfile.read(utterance.audio_path)
        heard = {ENGLISH.units[n - 1] for n in np.unique(np.rint(samples * 64).astype(int)) if n}
        assert heard - {" "} == set(utterance.text) - {" "}
        assert utterance.duration == pytest.approx(len(samples) / RATE)
    hours = sum(utterance.duration for utterance in kept) / 3600
    assert found["hours"] == pytest.approx(hours)
