import json

import pytest

from deepaudio.data import Utterance, read_common_voice, read_librispeech, read_manifest


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def make_chapter(root, subset, speaker, chapter, texts):
    folder = root / subset / speaker / chapter
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-{chapter}-{number:04d}"
        touch(folder / f"{name}.flac")
        lines.append(f"{name} {text}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines), "utf-8")
    return folder


def test_librispeech_is_read_by_subset(tmp_path):
    make_chapter(tmp_path, "test-clean", "61", "70968", ["HE BEGAN A COMPLAINT", "IT'S LATE"])
    make_chapter(tmp_path, "test-clean", "1089", "134686", ["HE HOPED"])
    make_chapter(tmp_path, "dev-clean", "84", "121123", ["GO"])
    utterances = read_librispeech(tmp_path, "test-clean")
    folder = tmp_path / "test-clean"
    assert utterances == [
        Utterance(
            folder / "1089/134686/1089-134686-0000.flac", "HE HOPED", "test-clean", speaker="1089"
        ),
        Utterance(
            folder / "61/70968/61-70968-0000.flac", "HE BEGAN A COMPLAINT", "test-clean", "61"
        ),
        Utterance(folder / "61/70968/61-70968-0001.flac", "IT'S LATE", "test-clean", "61"),
    ]
    assert [u.text for u in read_librispeech(tmp_path, "dev-clean")] == ["GO"]
    assert utterances[0].name == "134686/1089-134686-0000.flac"


def test_librispeech_faults_name_the_file_and_the_line(tmp_path):
    with pytest.raises(ValueError, match="test-clean: no such folder"):
        read_librispeech(tmp_path, "test-clean")
    (tmp_path / "test-clean").mkdir()
    with pytest.raises(ValueError, match=r"test-clean: no SPEAKER/CHAPTER/\*.trans.txt"):
        read_librispeech(tmp_path, "test-clean")
    folder = make_chapter(tmp_path, "test-clean", "61", "7", ["ONE", "TWO"])
    (folder / "61-7-0001.flac").unlink()
    with pytest.raises(ValueError, match=r"61-7\.trans\.txt: line 2: no file '61-7-0001\.flac'"):
        read_librispeech(tmp_path, "test-clean")
    (folder / "61-7.trans.txt").write_text("61-7-0000 ONE\n61-7-0001\n")
    with pytest.raises(ValueError, match=r"61-7\.trans\.txt: line 2 is not .* '61-7-0001'"):
        read_librispeech(tmp_path, "test-clean")
    touch(folder / "61-7-0009.flac")
    (folder / "61-7.trans.txt").write_text("61-7-0000 ONE\n")
    with pytest.raises(ValueError, match=r"61-7\.trans\.txt: no line for '61-7-0009\.flac'"):
        read_librispeech(tmp_path, "test-clean")
    (folder / "61-7.trans.txt").write_bytes(b"61-7-0000 \xff\n")
    with pytest.raises(ValueError, match=r"61-7\.trans\.txt: not in UTF-8"):
        read_librispeech(tmp_path, "test-clean")


def make_common_voice(root, rows, split="train"):
    lines = ["client_id\tpath\tsentence\tup_votes\n"]
    for client, path, sentence in rows:
        touch(root / "clips" / path)
        lines.append(f"{client}\t{path}\t{sentence}\t2\n")
    (root / f"{split}.tsv").write_text("".join(lines), "utf-8")


def test_common_voice_is_read_by_table(tmp_path):
    rows = [("ab12", "cv_1.mp3", 'She said, "No.'), ("cd34", "cv_2.mp3", "Déjà vu")]
    make_common_voice(tmp_path, rows)
    make_common_voice(tmp_path, [("ef56", "cv_3.mp3", "Hello")], split="test")
    assert read_common_voice(tmp_path, "train") == [
        Utterance(tmp_path / "clips/cv_1.mp3", 'She said, "No.', "train", "ab12"),
        Utterance(tmp_path / "clips/cv_2.mp3", "Déjà vu", "train", "cd34"),
    ]
    assert [u.text for u in read_common_voice(tmp_path, "test")] == ["Hello"]
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\ncv_2.mp3\t1500\n")
    assert [u.duration for u in read_common_voice(tmp_path, "train")] == [None, 1.5]


def test_common_voice_faults_name_the_file_and_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"train\.tsv: no such file"):
        read_common_voice(tmp_path, "train")
    make_common_voice(tmp_path, [])
    with pytest.raises(ValueError, match=r"train\.tsv: no utterances"):
        read_common_voice(tmp_path, "train")
    make_common_voice(tmp_path, [("a", "1.mp3", "one"), ("b", "2.mp3", "two")])
    (tmp_path / "clips" / "2.mp3").unlink()
    with pytest.raises(ValueError, match=r"train\.tsv: line 3: no file '2\.mp3'"):
        read_common_voice(tmp_path, "train")
    (tmp_path / "train.tsv").write_text("client_id\tpath\tsentence\na\t1.mp3\n")
    with pytest.raises(ValueError, match=r"train\.tsv: line 2 has too many or too few"):
        read_common_voice(tmp_path, "train")
    (tmp_path / "train.tsv").write_text("client_id\tpath\na\t1.mp3\n")
    with pytest.raises(ValueError, match=r"train\.tsv: no column sentence"):
        read_common_voice(tmp_path, "train")
    make_common_voice(tmp_path, [("a", "1.mp3", "one")])
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n1.mp3\tlong\n")
    with pytest.raises(ValueError, match=r"durations\.tsv: line 2: duration 'long' is no number"):
        read_common_voice(tmp_path, "train")


def write_manifest(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_manifest_paths_begin_at_its_folder(tmp_path):
    near, far = touch(tmp_path / "a" / "sound.wav"), touch(tmp_path / "far.wav")
    path = write_manifest(
        tmp_path / "a" / "dev.jsonl",
        {"audio_filepath": "sound.wav", "duration": 2, "text": "Ωμέγα", "speaker": "s"},
        "",
        {"audio_filepath": str(far), "text": "", "kind": "digits", "split": "other"},
    )
    assert read_manifest(path) == [
        Utterance(near, "Ωμέγα", "dev", "s", 2.0),
        Utterance(far, "", "other", kind="digits"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio_filepath": "a.wav"}, "no field text"),
        ({"duration": 1.0}, "no field audio_filepath, text"),
        ("{", "is not JSON"),
        ("[1]", r"is not a JSON object: '\[1\]'"),
        ({"audio_filepath": "a.wav", "text": 7}, "text 7 is no string"),
        ({"audio_filepath": "b.wav", "text": "b"}, r"no file 'b\.wav'"),
        ({"audio_filepath": "a.wav", "text": "b", "duration": "1"}, "duration '1' is no number"),
        ({"audio_filepath": "a.wav", "text": "b", "duration": 0}, "duration 0 is no number above"),
    ],
)
def test_manifest_faults_name_the_file_and_the_line(tmp_path, row, message):
    touch(tmp_path / "a.wav")
    good = {"audio_filepath": "a.wav", "text": "a"}
    path = write_manifest(tmp_path / "m.jsonl", good, row)
    with pytest.raises(ValueError, match=rf"m\.jsonl: line 2:? .*{message}"):
        read_manifest(path)


def test_manifest_must_be_there_and_hold_something(tmp_path):
    with pytest.raises(ValueError, match=r"m\.jsonl: no such file"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"m\.jsonl: no utterances"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"m\.jsonl: not in UTF-8"):
        read_manifest(tmp_path / "m.jsonl")
