import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import deepaudio
from deepaudio import _api, _cli_common, _outputs
from deepaudio.cli import app
from deepaudio.data.notes import Notes, read_midi
from deepaudio.tasks import transcriber
from deepaudio.tasks.transcription import Rolls

RATE = 16000


def loudness_rolls(samples):
    """A4 sounds where the sound is loud."""
    batch = samples.shape[0]
    loud = np.sqrt((samples.reshape(batch, -1, 512) ** 2).mean(axis=-1)) * 2
    roll = np.zeros((*loud.shape, 88), np.float32)
    roll[..., 69 - 21] = np.minimum(loud, 1)
    return Rolls(roll, roll, roll, roll)


@pytest.fixture(autouse=True)
def model(monkeypatch):
    """A stand-in for the trained model."""

    def load(weights=None):
        if weights == "nosuch":
            raise ValueError("no model of this name is installed")
        return transcriber.Transcriber(
            loudness_rolls,
            sample_rate=RATE,
            hop_length=512,
            window_frames=100,
            margin_frames=10,
            batch_size=4,
        )

    monkeypatch.setattr(transcriber, "load_transcriber", load, raising=False)
    _api._loaded.cache_clear()
    yield
    _api._loaded.cache_clear()


def tone(seconds=2.0, rate=RATE, begin=0.5, end=1.5, level=0.8):
    time = np.arange(int(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * 440 * time) * ((time >= begin) & (time < end))


def write(path, samples=None, rate=RATE, **more):
    soundfile.write(path, tone(rate=rate) if samples is None else samples, rate, **more)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)])


def assert_fails(result, file, reason):
    """Exit 1 and one line that names the file and the reason."""
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert str(file) in line and reason in line
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_recording_becomes_midi(tmp_path):
    result = run(write(tmp_path / "a.wav"), "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == ""
    notes = read_midi(tmp_path / "out" / "a.mid")
    assert notes.pitches.tolist() == [69]
    assert notes.onsets[0] == pytest.approx(0.5, abs=0.04)
    assert notes.offsets[0] == pytest.approx(1.5, abs=0.04)
    assert "a.mid (1 note)" in result.stderr


def test_output_goes_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.wav")
    assert run("in/a.wav").exit_code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mid", "in"]


def test_all_formats(tmp_path):
    result = run(
        write(tmp_path / "a.wav"), "-o", tmp_path, "--format", "mid,csv,json,png", "--sonify"
    )
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    columns = ["onset_seconds", "offset_seconds", "pitch", "name", "velocity"]
    assert list(row) == columns
    assert (row["pitch"], row["name"]) == ("69", "A4")
    assert float(row["onset_seconds"]) == pytest.approx(0.5, abs=0.04)
    (note,) = json.loads((tmp_path / "a.json").read_text())["notes"]
    assert {name: str(value) for name, value in note.items()} == row
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    sound, rate = soundfile.read(tmp_path / "a.notes.wav")
    assert (rate, sound.shape) == (RATE, (2 * RATE, 2))
    assert np.abs(sound[: RATE // 3, 1]).max() == 0
    spectrum = np.abs(np.fft.rfft(sound[9000:20000, 1]))
    assert np.argmax(spectrum) * RATE / 11000 == pytest.approx(440, abs=2)
    expected = {"a.wav", "a.mid", "a.csv", "a.json", "a.png", "a.notes.wav"}
    assert {file.name for file in tmp_path.iterdir()} == expected


def test_json_is_all_of_stdout_and_one_object_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav")
    result = run("a.wav", "no.wav", "--json")
    assert result.exit_code == 1
    missing, found = json.loads(result.stdout)
    assert missing == {"file": "no.wav", "error": "no such file"}
    assert list(found) == ["file", "notes"]
    assert found["file"] == "a.wav"
    assert found["notes"][0]["pitch"] == 69
    assert not (tmp_path / "a.mid").exists()
    assert run("a.wav", "--json", "-o", "out").exit_code == 0
    assert (tmp_path / "out" / "a.mid").exists()


def test_folders_are_searched_in_order(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("b.wav", "deep/a.flac", ".hidden.wav", "c.notes.wav"):
        write(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    result = run(tmp_path / "in", tmp_path / "in" / "b.wav", "--json")
    names = [item["file"] for item in json.loads(result.stdout)]
    assert names == [str(tmp_path / "in" / name) for name in ("b.wav", "deep/a.flac")]
    (tmp_path / "none").mkdir()
    assert_fails(run(tmp_path / "none"), tmp_path / "none", "no sound files")


def test_one_stem_twice_gives_two_files(tmp_path):
    for name in ("x", "y", "z"):
        (tmp_path / name).mkdir()
    write(tmp_path / "x" / "a.wav")
    write(tmp_path / "y" / "A.flac", np.zeros(RATE))
    write(tmp_path / "z" / "a-2.wav")
    assert run(tmp_path, "-o", tmp_path / "out").exit_code == 0
    counts = {file.name: len(read_midi(file)) for file in (tmp_path / "out").iterdir()}
    assert counts == {"a.mid": 1, "A-3.mid": 0, "a-2.mid": 1}


def test_an_input_is_never_overwritten(tmp_path):
    first, second = write(tmp_path / "a.wav"), write(tmp_path / "a.notes.wav")
    before = second.read_bytes()
    result = run(first, second, "-o", tmp_path, "--sonify")
    assert result.exit_code == 1
    assert "would be overwritten" in result.stderr
    assert second.read_bytes() == before


def test_one_bad_file_among_ten(tmp_path):
    for index in range(10):
        write(tmp_path / f"{index}.wav")
    (tmp_path / "4.wav").write_text("these are words, not sound")
    result = run(tmp_path, "-o", tmp_path / "out")
    assert_fails(result, tmp_path / "4.wav", "not a sound file")
    assert len(list((tmp_path / "out").glob("*.mid"))) == 9


def make_bad(path, kind):
    if kind == "missing":
        return
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "no samples":
        write(path, np.zeros(0))
    elif kind == "text":
        path.write_text("RIFF is how it might begin")
    elif kind == "truncated":
        write(path)
        path.write_bytes(path.read_bytes()[:20_000])
    else:
        samples = tone().astype(np.float32)
        samples[5000] = {"nan": np.nan, "infinite": np.inf}[kind]
        write(path, samples, subtype="FLOAT")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("no samples", "no samples"),
        ("text", "not a sound file"),
        ("truncated", "truncated"),
        ("nan", "NaN or infinite"),
        ("infinite", "NaN or infinite"),
    ],
)
def test_bad_input_is_one_line(tmp_path, kind, reason):
    path = tmp_path / "bad.wav"
    make_bad(path, kind)
    assert_fails(run(path, "-o", tmp_path / "out"), path, reason)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_decoders_do_not_print(tmp_path, capfd):
    path = write(tmp_path / "a.mp3", tone(seconds=20.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_fails(run(path, "-o", tmp_path), path, "truncated")
    assert capfd.readouterr().err == ""


def test_silence_is_an_empty_midi_and_said_so(tmp_path):
    result = run(write(tmp_path / "a.wav", np.zeros(RATE)), "-o", tmp_path)
    assert result.exit_code == 0
    assert "silence, no notes" in result.stderr
    assert len(read_midi(tmp_path / "a.mid")) == 0


def test_quiet_says_nothing_and_clipping_is_a_warning(tmp_path):
    path = write(tmp_path / "a.wav", np.clip(tone(level=4.0), -1, 1))
    result = run(path, "-o", tmp_path)
    assert result.exit_code == 0
    assert "warning" in result.stderr and "clipped" in result.stderr
    result = run(path, "-o", tmp_path, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert "clipped" not in run(write(tmp_path / "b.wav"), "-o", tmp_path).stderr


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 192000])
def test_any_rate_and_channels(tmp_path, rate):
    path = write(
        tmp_path / "a.wav", np.stack([tone(rate=rate)] * 3, axis=1), rate, subtype="PCM_24"
    )
    (item,) = json.loads(run(path, "--json").stdout)
    assert item["notes"][0]["onset_seconds"] == pytest.approx(0.5, abs=0.04)
    assert item["notes"][0]["offset_seconds"] == pytest.approx(1.5, abs=0.04)


def test_output_folder_that_cannot_be(tmp_path):
    path = write(tmp_path / "a.wav")
    assert_fails(run(path, "-o", path), path, "not a folder")
    assert_fails(run(path, "-o", path / "below"), path / "below", "Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_write_permission(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir(mode=0o500)
    assert_fails(run(write(tmp_path / "a.wav"), "-o", folder), folder, "permission")


def test_refused_write_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "a.wav")
    monkeypatch.setattr(os, "replace", refuse)
    result = run(path, "-o", tmp_path / "out", "--format", "csv")
    assert_fails(result, path, f"cannot write {tmp_path / 'out' / 'a.csv'}: Permission denied")


def test_output_is_replaced_only_when_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    old = tmp_path / "a.csv"
    old.write_text("old")

    def broken(notes):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_outputs, "note_rows", broken)
        assert_fails(run(path, "-o", tmp_path, "--format", "csv"), path, "No space left")
    assert old.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"a.wav", "a.csv"}
    assert run(path, "-o", tmp_path, "--format", "csv").exit_code == 0
    assert old.read_text().startswith("onset_seconds")


def test_outputs_have_the_permissions_of_other_files(tmp_path):
    run(write(tmp_path / "a.wav"), "-o", tmp_path, "--format", "csv")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "a.csv").stat().st_mode == plain.stat().st_mode


def test_a_model_that_is_not_there(tmp_path):
    result = run(write(tmp_path / "a.wav"), "-o", tmp_path, "--model", "nosuch")
    assert_fails(result, "nosuch", "no model of this name")
    assert not (tmp_path / "a.mid").exists()


def test_debug_gives_the_traceback(tmp_path):
    path = tmp_path / "bad.wav"
    make_bad(path, "text")
    result = run(path, "-o", tmp_path, "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_thresholds_reach_the_decoder(tmp_path):
    path = write(tmp_path / "a.wav", tone(level=0.5))  # probability 0.7
    assert len(json.loads(run(path, "--json").stdout)[0]["notes"]) == 1
    result = run(path, "--json", "--onset-threshold", "0.9")
    assert json.loads(result.stdout)[0]["notes"] == []
    assert "no notes found" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.wav", "--format", "mp4"],
        ["a.wav", "--format", "mid,"],
        ["a.wav", "--onset-threshold", "1.5"],
        ["a.wav", "--frame-threshold", "nan"],
        ["a.wav", "--unknown"],
    ],
)
def test_wrong_usage_is_exit_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("total", [4.0, None])
def test_progress_is_drawn_on_a_terminal(monkeypatch, capsys, total):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    reporter = _cli_common.Reporter(quiet=False, debug=False)
    with reporter.progress("a.wav", total) as progress:
        progress(3.0)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a.wav" in printed.err and ("3 of 4 s" if total else "3 s") in printed.err
    with _cli_common.Reporter(quiet=True, debug=False).progress("b.wav", total) as progress:
        progress(3.0)
    assert capsys.readouterr().err == ""


def test_synthesis_joins_without_a_seam():
    notes = Notes(*(np.array(v) for v in ([0.1, 0.3], [0.4, 0.9], [60, 76], [80, 110])))
    whole = _outputs.synthesize(notes, RATE, 0, RATE)
    parts = [_outputs.synthesize(notes, RATE, first, 3000) for first in range(0, RATE, 3000)]
    np.testing.assert_allclose(np.concatenate(parts)[:RATE], whole, atol=1e-6)
    assert 0.05 < np.abs(whole).max() <= 1


def test_picture_spectrogram_has_no_seams(tmp_path):
    from deepaudio import audio

    samples = np.random.default_rng(0).normal(0, 0.1, RATE * 35).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    found = _outputs._log_mel_of(path, audio.LogMelConfig())
    expected = np.asarray(audio.log_mel(samples))
    assert len(found) == -(-len(samples) // 512)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-2)


def test_python_function_takes_channels_integers_and_rates():
    floats = deepaudio.transcribe(tone(), RATE)
    integers = deepaudio.transcribe(
        np.stack([np.round(tone(rate=44100) * 32767)] * 2, axis=1).astype(np.int16), 44100
    )
    for notes in (floats, integers):
        assert notes.pitches.tolist() == [69]
        assert notes.onsets[0] == pytest.approx(0.5, abs=0.04)
    assert isinstance(floats, deepaudio.Notes)
    assert len(deepaudio.transcribe(tone(), RATE, onset_threshold=0.999)) == 1
    assert len(deepaudio.transcribe(0.5 * tone(), RATE, onset_threshold=0.9)) == 0


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(0), RATE, "empty"),
        (np.zeros((2, 2, 2)), RATE, r"\(2, 2, 2\)"),
        (np.zeros((2, 1000)), RATE, r"\(channels, n\)"),
        (np.array([0, np.nan]), RATE, "NaN"),
        (np.array([0, np.inf]), RATE, "infinite"),
        (np.zeros(10), 0, "not 0"),
        (np.zeros(10), float("nan"), "not nan"),
        (np.zeros(10, np.uint8), RATE, "uint8"),
        (np.array(["a"]), RATE, "signed integers"),
    ],
)
def test_python_function_tells_what_is_wrong(samples, rate, message):
    with pytest.raises(ValueError, match=message) as error:
        deepaudio.transcribe(samples, rate)
    assert "\n" not in str(error.value)


def test_python_function_checks_thresholds():
    with pytest.raises(ValueError, match="onset_threshold must be between 0 and 1, not 2"):
        deepaudio.transcribe(tone(), RATE, onset_threshold=2)


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **more
    )


def test_help_and_wrong_usage_do_not_load_jax(repository):
    program = (
        "import sys; from deepaudio.cli import app; app({!r}, standalone_mode=False)\n"
        "heavy = {{'jax', 'numpy', 'matplotlib', 'soundfile'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments in (["--help"], ["transcribe", "--help"]):
        result = command("-c", program.format(arguments), cwd=repository)
        assert result.returncode == 0, result.stderr
        assert "deepaudio transcribe sonata.wav" in result.stdout or "Examples" in result.stdout


def test_version_and_missing_file_in_a_real_process(repository, tmp_path):
    result = command("-m", "deepaudio.cli", "--version", cwd=repository)
    assert result.stdout == f"deepaudio {deepaudio.__version__}\n"
    result = command("-m", "deepaudio.cli", "transcribe", "no.wav", cwd=repository)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: no.wav: no such file\n"


def test_info_lists_versions_and_devices():
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    assert deepaudio.__version__ in result.stdout and "jax" in result.stdout
    facts = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert facts["deepaudio"] == deepaudio.__version__
    assert facts["devices"][0].startswith("cpu")


def test_replacing_leaves_the_old_file_when_interrupted(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with _cli_common.replacing(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
