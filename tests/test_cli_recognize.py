import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from deepaudio.cli import app
from deepaudio.data.alphabet import ENGLISH, Alphabet
from deepaudio.decoding import BeamSearch, Transcript, Word
from deepaudio.tasks import recognizer
from deepaudio.tasks.recognizer import Heard, Recognition, Segment, Segmenter

RATE = 16000
FRAME = 480  # samples
WORDS = ["zero", "one", "two", "three", "four"]


class ToneListener:
    """Writes the word for the pitch it hears: 1000 Hz is "one", 2000 Hz "two", and so on.

    A word is spelled over the first frames of its tone; a stretch of silence is blank.
    """

    def __init__(self):
        self._rest = np.zeros(0, np.float32)
        self._heard, self._place = 0, 0

    def feed(self, samples):
        self._rest = np.concatenate([self._rest, samples])
        count = len(self._rest) // FRAME
        frames, self._rest = np.split(self._rest, [count * FRAME])
        rows = [self._row(frame) for frame in frames.reshape(-1, FRAME)]
        return np.array(rows, np.float32).reshape(-1, len(ENGLISH))

    def finish(self):
        return self.feed(np.zeros(-len(self._rest) % FRAME, np.float32))

    def _row(self, frame):
        row = np.full(len(ENGLISH), np.log(1e-4))
        spectrum = np.abs(np.fft.rfft(frame))
        pitch = round(np.argmax(spectrum) * RATE / FRAME / 1000) if frame.std() > 1e-3 else 0
        if pitch != self._heard:
            self._heard, self._place = pitch, 0
        # Every other frame is blank, so that a letter may follow itself.
        spelled = f"{WORDS[pitch]} " if pitch else ""
        letter, blank = divmod(self._place, 2)
        said = 0
        if letter < len(spelled) and not blank:
            said = 1 + ENGLISH.units.index(spelled[letter])
        self._place += 1
        row[said] = np.log(0.9)
        return row


@pytest.fixture(autouse=True)
def model(monkeypatch):
    """A stand-in for the trained model."""

    class Stand(recognizer.Recognizer):
        def __init__(self, search, n_best):
            self.sample_rate, self.word_separator, self.streams = RATE, " ", True
            self._search, self._n_best = search, n_best

        def _listener(self, seconds):
            return ToneListener()

        def _segmenter(self):
            return Segmenter(self._search, frame_seconds=FRAME / RATE, n_best=self._n_best)

    def load(weights=None, *, hot_words=None, n_best=1, beam_width=None, **settings):
        if settings["packed"]:
            warnings.warn("no matrix is sparse: it stays dense", stacklevel=1)
        if weights == ["nosuch"]:
            raise ValueError("no model of this name is installed")
        search = BeamSearch(ENGLISH, hot_words=hot_words, beam_width=beam_width or 10)
        return Stand(search, n_best)

    monkeypatch.setattr(recognizer, "load_recognizer", load)


def tones(*pitches, seconds=0.5):
    time = np.arange(int(seconds * RATE)) / RATE
    return np.concatenate([0.5 * np.sin(2 * np.pi * 1000 * p * time) for p in pitches])


def write(path, samples=None, rate=RATE, **more):
    soundfile.write(path, tones(1, 2) if samples is None else samples, rate, **more)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["recognize", *map(str, arguments)])


def assert_fails(result, file, reason):
    """Exit 1 and one line that names the file and the reason."""
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert str(file) in line and reason in line
    assert "Traceback" not in result.stderr


def test_words_are_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav")
    result = run("a.wav")
    assert (result.exit_code, result.stdout) == (0, "one two\n")
    assert os.listdir(tmp_path) == ["a.wav"]
    write(tmp_path / "b.wav", tones(3))
    assert run("a.wav", "b.wav").stdout == "a.wav: one two\nb.wav: three\n"


def test_json_tells_words_times_and_confidences(tmp_path):
    path = write(tmp_path / "a.wav", np.concatenate([tones(1, 2), tones(0, 0, 0), tones(4)]))
    result = run(path, "--json", "--nbest", 2)
    (row,) = json.loads(result.stdout)
    assert list(row)[0] == "file" and row["file"] == str(path)
    assert row["text"] == "one two four"
    assert [word["word"] for word in row["words"]] == ["one", "two", "four"]
    for word, begin in zip(row["words"], (0.0, 0.5, 2.5), strict=True):
        assert begin - 0.05 <= word["start"] < word["end"] <= begin + 0.55
        assert 0.8 < word["confidence"] <= 1.0
    assert [len(s["alternatives"]) for s in row["segments"]] == [2, 2]


def test_every_format_is_written(tmp_path):
    path = write(tmp_path / "a.wav", np.concatenate([tones(1, 2), tones(0, 0, 0), tones(4)]))
    result = run(path, "-o", tmp_path / "out", "--format", "txt,json,srt,vtt,ctm")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    out = {file.suffix: file.read_text() for file in (tmp_path / "out").iterdir()}
    assert out[".txt"] == "one two\nfour\n"
    assert json.loads(out[".json"])["text"] == "one two four"
    cue = r"\d\d:\d\d:\d\d{}\d\d\d --> \d\d:\d\d:\d\d{}\d\d\d\n"
    srt = rf"1\n{cue.format(',', ',')}one two\n\n2\n{cue.format(',', ',')}four\n"
    assert re.fullmatch(srt, out[".srt"])
    assert re.fullmatch(
        rf"WEBVTT\n\n{cue.format('[.]', '[.]')}one two\n\n{cue.format('[.]', '[.]')}four\n",
        out[".vtt"],
    )
    rows = [line.split() for line in out[".ctm"].splitlines()]
    assert [row[4] for row in rows] == ["one", "two", "four"]
    assert all(row[:2] == ["a", "1"] and float(row[3]) > 0 for row in rows)


def test_a_model_that_cannot_be_packed_is_told_of_in_a_line(tmp_path):
    path = write(tmp_path / "a.wav")
    result = run(path, "--packed")
    assert (result.exit_code, result.stdout) == (0, "one two\n")
    assert result.stderr == "warning: no matrix is sparse: it stays dense\n"
    assert run(path, "--packed", "--quiet").stderr == ""
    assert run(path).stderr == ""


def test_hot_words_are_heard_for(tmp_path):
    path = write(tmp_path / "a.wav", tones(1))
    assert run(path, "--hotword", "ona:12", "--beam", 200).stdout == "ona\n"
    result = run(path, "--hotword", "ona:much")
    assert result.exit_code == 2 and "no number" in result.stderr


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("words"), ""),
        (lambda path: write(path, np.zeros(0)), "no samples"),
        (lambda path: write(path, np.full(100, np.nan), subtype="FLOAT"), "NaN"),
    ],
)
def test_bad_input_is_one_line(tmp_path, make, reason):
    path = tmp_path / "bad.wav"
    make(path)
    assert_fails(run(path), path, reason)


def test_one_bad_file_does_not_stop_the_others(tmp_path):
    good = [write(tmp_path / f"{i}.wav", tones(i)) for i in (1, 2)]
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    result = run(good[0], bad, good[1], "--json")
    assert_fails(result, bad, "")
    rows = json.loads(result.stdout)
    assert [row.get("text") for row in rows] == ["one", None, "two"]
    assert rows[1]["error"]


def test_silence_has_no_words_and_is_no_error(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(RATE))
    result = run(path, "-o", tmp_path)
    assert result.exit_code == 0
    assert "silence, no words" in result.stderr
    assert (tmp_path / "a.txt").read_text() == ""


@pytest.mark.parametrize("rate", [8000, 44100, 192000])
def test_any_rate(tmp_path, rate):
    time = np.arange(rate // 2) / rate
    write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), rate)
    assert run(tmp_path / "a.wav").stdout == "one\n"


def test_wrong_usage_ends_with_2(tmp_path):
    path = write(tmp_path / "a.wav")
    for options in (
        ["--format", "doc"], ["--beam", 0], ["--lm", "x.arpa", "--no-lm"], ["--nbest", 0],
    ):  # fmt: skip
        result = run(path, *options)
        assert result.exit_code == 2, options
    assert run().exit_code == 2


def test_a_model_that_is_missing_is_named(tmp_path):
    assert_fails(run(write(tmp_path / "a.wav"), "--model", "nosuch"), "nosuch", "no model")


def test_help_keeps_its_examples_apart(repository):
    program = (
        "import sys; from deepaudio.cli import app; app({!r}, standalone_mode=False)\n"
        "heavy = {{'jax', 'numpy', 'matplotlib', 'soundfile'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for name in ("recognize", "transcribe"):
        done = subprocess.run(
            [sys.executable, "-c", program.format([name, "--help"])],
            cwd=repository, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "\\b" not in done.stdout
        examples = [line for line in done.stdout.splitlines() if f"  deepaudio {name} " in line]
        assert len(examples) == 5


def of_words(*times, separator=" "):
    words = tuple(Word(f"w{i}", start, end, 0.9) for i, (start, end) in enumerate(times))
    transcript = Transcript(separator.join(w.text for w in words), -1.0, words, ())
    return Recognition((Segment(words[0].start, words[-1].end, (transcript,)),), separator)


def test_subtitles_are_short_and_in_order():
    from deepaudio._recognition_outputs import cues_of

    cues = list(cues_of(of_words(*[(0.5 * i, 0.5 * i + 0.6) for i in range(60)])))
    assert len(cues) >= 5
    for (start, end, text), following in zip(cues, [*cues[1:], (1e9, 0, "")], strict=True):
        assert start < end <= following[0]
        assert end - start < 7 and len(text) <= 84
    joined = [word for _, _, text in cues for word in text.split()]
    assert joined == [f"w{i}" for i in range(60)]


def test_characters_that_are_words_have_no_spaces():
    found = of_words((0, 1), (1, 2), separator="")
    assert found.text == "w0w1"
    assert Heard((), "").partial == ""
    assert Alphabet(("我",), "").word_separator == found.word_separator
