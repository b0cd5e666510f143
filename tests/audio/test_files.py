import pathlib

import numpy as np
import pytest
import soundfile

from deepaudio import audio


def tone(rate, seconds=1.0, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1e-2),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 1e-6),
        ("a.wav", "DOUBLE", 1e-6),
        ("a.flac", "PCM_16", 1e-4),
        ("a.flac", "PCM_24", 1e-6),
        ("a.ogg", "VORBIS", 5e-2),
        ("a.mp3", "MPEG_LAYER_III", 5e-2),
        ("a.aiff", "PCM_16", 1e-4),
    ],
)
def test_reads_every_format_and_depth(tmp_path, name, subtype, tolerance):
    wave = tone(16000)
    soundfile.write(tmp_path / name, wave, 16000, subtype=subtype)
    samples, rate = audio.read(tmp_path / name)
    assert rate == 16000 and samples.dtype == np.float32 and samples.shape == wave.shape
    np.testing.assert_allclose(samples[200:-200], wave[200:-200], atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
def test_resamples_every_rate_to_the_one_wanted(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype="FLOAT")
    samples, got = audio.read(tmp_path / "a.wav", sample_rate=16000)
    assert got == 16000 and abs(len(samples) - 16000) <= 1
    np.testing.assert_allclose(samples[500:15000], tone(16000)[500:15000], atol=2e-3)


def test_channels_are_averaged(tmp_path):
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 3))
    soundfile.write(tmp_path / "a.wav", channels, 16000, subtype="FLOAT")
    samples, _ = audio.read(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, channels.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("block", [1000, 16000, 10**6])
def test_blocks_joined_are_the_whole(tmp_path, rate, block):
    soundfile.write(tmp_path / "a.wav", tone(rate, seconds=5), rate, subtype="FLOAT")
    blocks = list(audio.iter_blocks(tmp_path / "a.wav", sample_rate=16000, block_samples=block))
    assert all(len(b) == block for b in blocks[:-1]) and 0 < len(blocks[-1]) <= block
    whole, _ = audio.read(tmp_path / "a.wav", sample_rate=16000)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_a_long_file_is_never_held_whole(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(400_000), 16000)
    largest = []
    real = soundfile.SoundFile.read

    def watched(self, frames=-1, **keywords):
        largest.append(frames)
        return real(self, frames, **keywords)

    monkeypatch.setattr(soundfile.SoundFile, "read", watched)
    first = next(audio.iter_blocks(tmp_path / "a.wav", sample_rate=16000, block_samples=1000))
    assert len(first) == 1000 and len(largest) == 1 and 0 < largest[0] < 100_000


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_span_is_that_part_of_the_whole(tmp_path, rate):
    noise = np.cumsum(np.random.default_rng(0).standard_normal(rate * 2)) / 1000
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    whole, _ = audio.read(tmp_path / "a.wav", sample_rate=16000)
    span = audio.read_span(tmp_path / "a.wav", start=0.5, num_samples=4000, sample_rate=16000)
    # The ends of a resampled span do not know what lies beyond them.
    np.testing.assert_allclose(span[200:-200], whole[8200:11800], atol=2e-3 if rate != 16000 else 0)
    beyond = audio.read_span(tmp_path / "a.wav", start=1.9, num_samples=4000, sample_rate=16000)
    assert len(beyond) == 1600
    none = audio.read_span(tmp_path / "a.wav", start=3.0, num_samples=4000, sample_rate=16000)
    assert len(none) == 0
    assert audio.duration(tmp_path / "a.wav") == 2.0


def bad_files(folder):
    good = folder / "good"
    good.mkdir()
    wave = np.random.default_rng(0).standard_normal(32000) * 0.1
    cases = {}
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff"):
        soundfile.write(good / f"a.{suffix}", wave, 16000)
        data = (good / f"a.{suffix}").read_bytes()
        cases[f"cut.{suffix}"] = (data[: len(data) // 2], "truncated")
    cases["empty.wav"] = (b"", "an empty file")
    cases["text.wav"] = (b"This is no sound at all.\n" * 100, "not a sound file")
    cases["head.wav"] = ((good / "a.wav").read_bytes()[:20], "not a sound file")
    cases["headerless.raw"] = (b"\0" * 1000, "not a sound file")
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        broken = wave.copy()
        broken[30000] = value
        soundfile.write(good / "b.wav", broken, 16000, subtype="FLOAT")
        cases[f"{name}.wav"] = ((good / "b.wav").read_bytes(), "NaN or infinite")
    soundfile.write(good / "c.wav", np.zeros(0), 16000)
    cases["none.wav"] = ((good / "c.wav").read_bytes(), "holds no samples")
    return cases


CASES = [f"cut.{s}" for s in ("wav", "flac", "ogg", "mp3", "aiff")]
CASES += ["empty.wav", "text.wav", "head.wav", "headerless.raw", "nan.wav", "infinite.wav"]
CASES += ["none.wav"]


@pytest.mark.parametrize("name", CASES)
def test_bad_files_are_named_for_what_they_are(tmp_path, name):
    data, reason = bad_files(tmp_path)[name]
    (tmp_path / name).write_bytes(data)
    for use in (
        lambda: audio.read(tmp_path / name),
        lambda: audio.read(tmp_path / name, sample_rate=8000),
        lambda: list(audio.iter_blocks(tmp_path / name, sample_rate=16000, block_samples=500)),
        lambda: audio.read_span(tmp_path / name, start=0, num_samples=32000, sample_rate=16000),
    ):
        with pytest.raises(audio.AudioError, match=reason) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_missing_folder_and_forbidden(tmp_path, monkeypatch):
    with pytest.raises(audio.AudioError, match="no such file"):
        audio.read(tmp_path / "none.wav")
    with pytest.raises(audio.AudioError, match="a folder"):
        audio.read(tmp_path)
    with pytest.raises(audio.AudioError, match="cannot be read"):
        audio.read(tmp_path / ("x" * 5000))
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 16000)

    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(audio.AudioError, match="permission"):
        audio.read(tmp_path / "a.wav")


def test_too_short_to_resample(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 192000)
    with pytest.raises(audio.AudioError, match="too short"):
        audio.read(tmp_path / "a.wav", sample_rate=8000)
    with pytest.raises(audio.AudioError, match="too short"):
        list(audio.iter_blocks(tmp_path / "a.wav", sample_rate=8000, block_samples=10))


def test_length_left_open_by_a_pipe_is_no_truncation(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    data[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    samples, _ = audio.read(tmp_path / "a.wav")
    assert len(samples) == 16000


def test_block_length_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="block_samples=0"):
        next(audio.iter_blocks(tmp_path / "a.wav", sample_rate=16000, block_samples=0))
