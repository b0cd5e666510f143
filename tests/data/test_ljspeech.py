import pytest

from deepaudio.data import Utterance, read_ljspeech


def make_ljspeech(root, rows):
    (root / "wavs").mkdir(exist_ok=True)
    for identifier, *_ in rows:
        (root / "wavs" / f"{identifier}.wav").touch()
    lines = "".join("|".join(row) + "\n" for row in rows)
    (root / "metadata.csv").write_text(lines, "utf-8")


def names(count):
    return [f"LJ{1 + i // 100:03d}-{1 + i % 100:04d}" for i in range(count)]


def test_the_table_is_read_without_quoting(tmp_path):
    rows = [
        ("LJ001-0001", 'He said, "No', 'He said, "No'),
        ("LJ001-0003", "in 1465", "in fourteen sixty-five, à"),
    ]
    make_ljspeech(tmp_path, rows)
    assert read_ljspeech(tmp_path, "train") == [
        Utterance(tmp_path / "wavs/LJ001-0001.wav", 'He said, "No', "train", "LJ"),
        Utterance(tmp_path / "wavs/LJ001-0003.wav", "in fourteen sixty-five, à", "train", "LJ"),
    ]
    assert read_ljspeech(tmp_path, "test") == []


def test_a_tenth_is_held_out_whatever_else_is_there(tmp_path):
    make_ljspeech(tmp_path, [(name, "a", "a") for name in names(600)])
    train, test = read_ljspeech(tmp_path, "train"), read_ljspeech(tmp_path, "test")
    assert sorted(u.audio_path.stem for u in train + test) == names(600)
    assert 40 <= len(test) <= 80
    assert {u.split for u in test} == {"test"}
    make_ljspeech(tmp_path, [(name, "b", "b") for name in reversed(names(300))])
    fewer = [u.audio_path for u in read_ljspeech(tmp_path, "test")]
    assert fewer == [u.audio_path for u in reversed(test) if u.audio_path.stem in names(300)]
    # What was held out once must stay so.
    assert fewer[-1].stem == "LJ001-0002"


def test_faults_name_the_file_and_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"metadata\.csv: no such file"):
        read_ljspeech(tmp_path, "train")
    make_ljspeech(tmp_path, [])
    with pytest.raises(ValueError, match=r"metadata\.csv: no utterances"):
        read_ljspeech(tmp_path, "train")
    make_ljspeech(tmp_path, [("LJ001-0001", "a", "a"), ("LJ001-0002", "b")])
    with pytest.raises(ValueError, match=r"csv: line 2 is not ID\|text\|.*: 'LJ001-0002\|b'"):
        read_ljspeech(tmp_path, "train")
    make_ljspeech(tmp_path, [("LJ001-0001", "a", "a"), ("LJ001-0002", "b", "b")])
    with pytest.raises(ValueError, match="split='dev' must be one of train, test"):
        read_ljspeech(tmp_path, "dev")
    (tmp_path / "wavs" / "LJ001-0002.wav").unlink()
    with pytest.raises(ValueError, match=r"csv: line 2: no file 'LJ001-0002\.wav' in wavs"):
        read_ljspeech(tmp_path, "train")
    (tmp_path / "metadata.csv").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"metadata\.csv: not in UTF-8"):
        read_ljspeech(tmp_path, "train")
