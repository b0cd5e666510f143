import pytest

from deepaudio.data import Utterance, read_vctk


def make_vctk(root, speaker, texts, first=1):
    sounds, folder = root / "wav48_silence_trimmed" / speaker, root / "txt" / speaker
    sounds.mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, text in enumerate(texts, start=first):
        for microphone in (1, 2):
            (sounds / f"{speaker}_{number:03d}_mic{microphone}.flac").touch()
        if text is not None:
            (folder / f"{speaker}_{number:03d}.txt").write_text(f"{text}\n", "utf-8")
    return sounds


def test_the_first_microphone_is_read_by_speaker(tmp_path):
    folder = make_vctk(tmp_path, "p226", ["Please call Stella.", "Naïve"])
    make_vctk(tmp_path, "p225", ["Ask her"], first=7)
    make_vctk(tmp_path, "p315", [None], first=3)
    (tmp_path / "wav48_silence_trimmed" / "log.txt").touch()
    # A text without its sound, as some are.
    (tmp_path / "txt" / "p226" / "p226_009.txt").write_text("gone")
    top = tmp_path / "wav48_silence_trimmed"
    assert read_vctk(tmp_path, "train") == [
        Utterance(top / "p225" / "p225_007_mic1.flac", "Ask her", "train", "p225"),
        Utterance(folder / "p226_001_mic1.flac", "Please call Stella.", "train", "p226"),
        Utterance(folder / "p226_002_mic1.flac", "Naïve", "train", "p226"),
        Utterance(top / "p315" / "p315_003_mic1.flac", "", "train", "p315"),
    ]


def test_a_tenth_of_every_speaker_is_held_out(tmp_path):
    for speaker in ("p225", "s5"):
        make_vctk(tmp_path, speaker, ["a"] * 300)
    train, test = read_vctk(tmp_path, "train"), read_vctk(tmp_path, "test")
    assert len({u.audio_path for u in train + test}) == 600
    for speaker in ("p225", "s5"):
        assert 15 <= sum(u.speaker == speaker for u in test) <= 45


def test_faults_name_the_file(tmp_path):
    with pytest.raises(ValueError, match="wav48_silence_trimmed: no such folder"):
        read_vctk(tmp_path, "train")
    (tmp_path / "wav48_silence_trimmed").mkdir()
    with pytest.raises(ValueError, match=r"trimmed: no SPEAKER/\*_mic1\.flac"):
        read_vctk(tmp_path, "train")
    folder = make_vctk(tmp_path, "p225", ["one"])
    with pytest.raises(ValueError, match="split='validation' must be one of train, test"):
        read_vctk(tmp_path, "validation")
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"p225_001\.txt: not in UTF-8"):
        read_vctk(tmp_path, "train")
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_text("one")
    (folder / "p226_001_mic1.flac").touch()
    with pytest.raises(ValueError, match=r"p226_001_mic1\.flac: not p225_NUMBER_mic1\.flac"):
        read_vctk(tmp_path, "train")
