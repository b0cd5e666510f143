import csv

import numpy as np
import pytest

from deepaudio.data import (
    Notes,
    Recording,
    read_maestro,
    read_maps,
    read_maps_text,
    read_truth,
    write_midi,
)

TRAIN_PIANOS = "AkPnBcht AkPnBsdf AkPnCGdD AkPnStgb SptkBGAm SptkBGCl StbgTGd2".split()
ONE_NOTE = Notes([0.5], [1.0], [60], [80])


def make_piece(root, piano, piece, suffixes=("wav", "mid", "txt")):
    folder = root / piano / "MUS"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        (folder / f"MAPS_MUS-{piece}_{piano}.{suffix}").touch()


def make_maps(root):
    """A tree with the numbers of the real one: 9 pianos of 30 pieces each.

    The Disklaviers share 7 pieces, so that the test set holds 53; of the 210 training files, 71
    are of those.
    """
    test = [f"tst_{i}-p{i % 7}_x" for i in range(53)]
    for piano, pieces in (("ENSTDkCl", test[:30]), ("ENSTDkAm", test[23:])):
        for piece in pieces:
            make_piece(root, piano, piece)
    for i, piano in enumerate(TRAIN_PIANOS):
        shared = 11 if i == 0 else 10
        for piece in test[i : i + shared]:
            make_piece(root, piano, piece)
        for j in range(30 - shared):
            make_piece(root, piano, f"trn_{i}_{j}")


@pytest.mark.parametrize("below", ["", "MAPS_disk"])
def test_maps_has_the_papers_split(tmp_path, below):
    make_maps(tmp_path / below)
    test, train = read_maps(tmp_path, "test"), read_maps(tmp_path, "train")
    assert len(list(tmp_path.rglob("*.wav"))) == 270
    assert len(test) == 60 and len({r.piece for r in test}) == 53
    assert len(train) == 139
    assert {r.instrument for r in test} == {"ENSTDkCl", "ENSTDkAm"}
    assert {r.instrument for r in train} == set(TRAIN_PIANOS)
    assert not {r.piece for r in train} & {r.piece for r in test}
    assert read_maps(tmp_path) == train + test
    assert {r.split for r in train} == {"train"} and {r.split for r in test} == {"test"}


def test_maps_piece_names_and_truth(tmp_path):
    make_piece(tmp_path, "ENSTDkCl", "chpn-p19")
    make_piece(tmp_path, "ENSTDkAm", "bach_846", ("wav", "txt"))
    assert [(r.piece, r.midi_path.suffix) for r in read_maps(tmp_path, "test")] == [
        ("bach_846", ".txt"),
        ("chpn-p19", ".mid"),
    ]


def test_maps_faults(tmp_path):
    with pytest.raises(ValueError, match="not 'validation'"):
        read_maps(tmp_path, "validation")
    make_piece(tmp_path, "AkPnBcht", "a")
    make_piece(tmp_path, "ENSTDkAm", "a")
    with pytest.raises(ValueError, match="no recordings ENSTDkCl"):
        read_maps(tmp_path, "train")
    make_piece(tmp_path, "ENSTDkCl", "a")
    with pytest.raises(ValueError, match="no training recordings"):
        read_maps(tmp_path, "train")
    make_piece(tmp_path, "ENSTDkCl", "b", ("wav",))
    with pytest.raises(ValueError, match="neither a .mid nor a .txt"):
        read_maps(tmp_path, "test")
    (tmp_path / "ENSTDkCl" / "MUS" / "MAPS_MUS-b_ENSTDkCl.wav").rename(
        tmp_path / "ENSTDkCl" / "MUS" / "other.wav"
    )
    with pytest.raises(ValueError, match=r"other\.wav: not a name"):
        read_maps(tmp_path, "test")


def test_maps_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "OnsetTime\tOffsetTime\tMidiPitch\n1.5\t2.25\t60\n0.5\t1\t108\n3\t3\t50\n4\t5\t20\n\n"
    )
    notes = read_maps_text(path)
    assert notes.onsets.tolist() == [0.5, 1.5] and notes.offsets.tolist() == [1.0, 2.25]
    assert notes.pitches.tolist() == [108, 60]
    path.write_text("OnsetTime\tOffsetTime\tMidiPitch\n")
    assert len(read_maps_text(path)) == 0
    path.write_text("OnsetTime\tOffsetTime\tMidiPitch\n1.5\tx\t60\n")
    with pytest.raises(ValueError, match="a.txt: line 2"):
        read_maps_text(path)


def test_truth_is_read_by_its_kind(tmp_path):
    (tmp_path / "a.txt").write_text("h\n0.5\t1\t60\n")
    write_midi(tmp_path / "a.mid", ONE_NOTE)
    for name in ("a.txt", "a.mid"):
        recording = Recording(tmp_path / "a.wav", tmp_path / name, "train", "", "", "", None)
        notes = read_truth(recording)
        np.testing.assert_allclose([notes.onsets[0], notes.offsets[0]], [0.5, 1.0], atol=1e-3)


COLUMNS = "canonical_composer canonical_title split year midi_filename audio_filename duration"


def make_maestro(root, *, name="maestro-v3.0.0.csv", suffix="midi", extra=(), rows=None):
    columns = [*COLUMNS.split(), *extra]
    (root / "2004").mkdir(parents=True)
    if rows is None:
        rows = []
        for i, split in enumerate(["train", "train", "validation", "test"]):
            base = f"2004/piece {i}"
            title = f'Sonata "No. {i}", in C, Op. 1 – Adagio'
            rows.append(
                [
                    "Gabriel Fauré",
                    title,
                    split,
                    "2004",
                    f"{base}.{suffix}",
                    f"{base}.wav",
                    f"{i + 0.25}",
                ]
            )
            rows[-1] += [f"piano {i}"] * len(extra)
            (root / f"{base}.{suffix}").touch()
            (root / f"{base}.wav").touch()
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return root


@pytest.mark.parametrize(
    "name", ["maestro-v1.0.0.csv", "maestro-v2.0.0.csv", "maestro-v3.0.0.csv", "corpus.csv"]
)
def test_maestro_versions(tmp_path, name):
    root = make_maestro(tmp_path / "m", name=name, suffix="mid" if name == "corpus.csv" else "midi")
    everything = read_maestro(root)
    assert [r.split for r in everything] == ["train", "train", "validation", "test"]
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        part = read_maestro(root, split)
        assert part == [r for r in everything if r.split == split] and len(part) == count
    first = everything[0]
    assert first.composer == "Gabriel Fauré" and first.piece.startswith('Sonata "No. 0", in C')
    assert first.audio_path == root / "2004/piece 0.wav" and first.duration == 0.25
    assert first.midi_path.parent == root / "2004" and first.instrument == "Disklavier"


def test_instrument_column_is_read(tmp_path):
    root = make_maestro(tmp_path / "m", name="corpus.csv", extra=("instrument",))
    assert [r.instrument for r in read_maestro(root)] == [f"piano {i}" for i in range(4)]


def test_maestro_faults(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read_maestro(tmp_path / "none")
    with pytest.raises(ValueError, match="found none"):
        read_maestro(tmp_path)
    root = make_maestro(tmp_path / "a")
    with pytest.raises(ValueError, match="split 'dev'"):
        read_maestro(root, "dev")
    (root / "second.csv").touch()
    with pytest.raises(ValueError, match=r"found maestro-v3\.0\.0\.csv, second\.csv"):
        read_maestro(root)
    root = make_maestro(tmp_path / "b")
    (root / "2004/piece 1.wav").unlink()
    with pytest.raises(ValueError, match=r"line 3: no file '2004/piece 1\.wav'"):
        read_maestro(root)
    assert len(read_maestro(root, "test")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column canonical_composer, canonical_title"),
        ("canonical_composer,split\na,b\n", "no column canonical_title, midi_filename"),
        (COLUMNS.replace(" ", ",") + "\na,b\n", "line 2 has too many or too few"),
        (COLUMNS.replace(" ", ",") + "\na,b,c,d,e,f,1,2\n", "line 2 has too many or too few"),
        (COLUMNS.replace(" ", ",") + "\na,b,train,1,x.mid,x.wav,long\n", "duration 'long'"),
        (COLUMNS.replace(" ", ",") + "\na,b,train,1,,x.wav,1\n", "no file ''"),
        (COLUMNS.replace(" ", ",") + '\na,"b,train,1,x.mid,x.wav,1\n', "not a CSV file"),
        ("\xff\xfe", "not a CSV file"),
        (COLUMNS.replace(" ", ",") + "\n", "no recordings of split 'any'"),
    ],
)
def test_malformed_csv_is_one_line(tmp_path, text, message):
    for name in ("x.mid", "x.wav"):
        (tmp_path / name).touch()
    (tmp_path / "maestro.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        read_maestro(tmp_path)
    assert "\n" not in str(caught.value)
