"""Onsets and Frames: notes with their ends, with onsets and without."""

from experiments.claims import _piano
from experiments.claims._claim import Check, Claim, Outcome, Panel, Setting, mean, spread, values_of
from experiments.claims._runs import train_all

_KEY = "note_with_offset/f1"
_ALONE = {
    "model.onset_head": False,
    "model.offset_head": False,
    "model.velocity_head": False,
}
_ARMS = ("onsets and frames", "frames alone")


def _measure(setting: Setting) -> Outcome:
    runs = [
        *_piano.runs(setting, _ARMS[0], {}),
        *_piano.runs(setting, _ARMS[1], _ALONE),
    ]
    rows = train_all(runs, setting.jobs)
    full, alone = (values_of(rows, arm, _KEY) for arm in _ARMS)
    # Of the means: a single seed of the weaker arm may come near nothing.
    gain = mean(full) / max(mean(alone), 1e-9) - 1.0
    check = Check(
        "note-with-offset F1 more than doubles on unseen pieces and instruments",
        f"{spread(full, 100)} against {spread(alone, 100)} by frames alone, {100 * gain:+.0f} %",
        gain > 1.0,
    )
    panels = [
        Panel(f"{title} F1", {arm: values_of(rows, arm, name) for arm in _ARMS})
        for title, name in (("note-with-offset", _KEY), ("note", "note/f1"), ("frame", "frame/f1"))
    ]
    return Outcome(rows, [check], panels)


CLAIM = Claim(
    name="onsets_and_frames",
    paper="arXiv 1710.11153",
    sentence=(
        "This technique results in over a 100% relative improvement in note with offset score on "
        "the MAPS dataset."
    ),
    instead=(
        "The same network with and without the onset detector, its conditioning and its rule, on "
        "pieces and instruments of the corpus that training did not hear; the decoding of each is "
        "chosen on validation pieces"
    ),
    measure=_measure,
)
