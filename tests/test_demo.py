"""The demo's own parts; the programs that it runs have their tests elsewhere."""

import numpy as np
import pytest

from deepaudio.data import write_midi
from deepaudio.data.notes import Notes
from experiments import demo


def notes(shift=0.0):
    onsets = np.array([0.5, 1.0, 1.5, 2.0])
    return Notes(
        onsets=onsets,
        offsets=onsets + 0.4 + shift,
        pitches=np.array([60, 64, 67, 72]),
        velocities=np.array([60, 70, 80, 90]),
    )


def test_only_recordings_with_truth_are_taken(tmp_path):
    for name in ("b.flac", "b.mid", "a.flac", "a.mid", "alone.flac", "other.mid", "c.wav"):
        (tmp_path / name).touch()
    pairs = demo.find_examples(tmp_path)
    assert [(s.name, t.name) for s, t in pairs] == [("a.flac", "a.mid"), ("b.flac", "b.mid")]


def test_what_the_command_wrote_is_scored(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pairs = []
    for name, shift in (("right", 0.0), ("late_ends", 1.0)):
        write_midi(tmp_path / f"{name}.mid", notes())
        write_midi(out / f"{name}.mid", notes(shift))
        pairs.append((tmp_path / f"{name}.flac", tmp_path / f"{name}.mid"))
    scores = demo.score_folder(pairs, out)
    assert [s["metric/note/f1"] for s in scores] == [1.0, 1.0]
    assert [s["metric/note_with_offset/f1"] for s in scores] == [1.0, 0.0]
    table = demo.score_table(pairs, scores)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [
        ["right.flac", "late_ends.flac", "mean"],
        ["1.000", "1.000", "1.000"],
        ["1.000", "0.000", "0.500"],
    ]


def test_losses_are_read_and_drawn(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "step,name,value\n10,loss/total,2.0\n10,loss/onset,9.0\n20,loss/total,1.0\n30,f1,0.5\n"
    )
    losses = demo.read_losses(path)
    assert losses == [(10, 2.0), (20, 1.0)]
    first, second = demo.loss_plot(losses).splitlines()
    assert first.count("█") == 2 * second.count("█") > 0


def test_demo_stops_when_a_program_fails(monkeypatch):
    monkeypatch.setattr(demo.Console, "print", lambda *args, **kwargs: None)
    with pytest.raises(SystemExit, match="status 3"):
        demo._run(demo.Console(), "python", "-c", "raise SystemExit(3)")
