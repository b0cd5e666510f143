"""What the made corpus consists of: the items, their pieces and their instruments.

The split is by piece (see `deepaudio.data.piano_scores`) and by instrument:

- training: TimGM6mb programs 0, 3, 4, 5; FluidR3 GM programs 0, 3, 4, 5; own pianos, one drawn
  for every item from seeds below 900,000.
- validation: TimGM6mb program 2 and four own pianos from seeds 900,000 on.
- test: FluidR3 GM programs 1 (bright grand) and 2 (electric grand), TimGM6mb program 1, and four
  own pianos from seeds 950,000 on.

What "held out" means for the presets: each SoundFont has one set of acoustic samples, and all its
acoustic presets play it (TimGM6mb 0-3: nine "Piano" samples, and program 2 layers CP70 samples;
FluidR3 GM 0, 1, 3: forty "P200 Piano" samples). A test preset of an acoustic piano is therefore
another voicing (filter, envelope, layering, tuning) of samples that training has heard; holding a
whole set out would leave one sampled piano to learn from. FluidR3 GM program 2 and the test's own
pianos share no sample or parameter with training. A wholly foreign sampled piano has to come from
another SoundFont, and none is used here so that they stay fit for that.
"""

import dataclasses
import math

import numpy as np

SPLITS = ("train", "validation", "test")
_LONGEST_EXCERPT = 90.0
_TEST_ITEMS_GENERATED = 50
_VALIDATION_ITEMS = 20


@dataclasses.dataclass(frozen=True)
class Instrument:
    """A preset of a SoundFont, or an own piano when `soundfont` is empty (`number`: its seed)."""

    soundfont: str
    number: int

    def __str__(self) -> str:
        """The name that corpus.csv gives."""
        if self.soundfont:
            return f"{self.soundfont.removesuffix('.sf2')} program {self.number}"
        return f"synthetic piano {self.number}"


TIM, FLUID = "TimGM6mb.sf2", "FluidR3_GM.sf2"
# (instrument, weight): real sampled acoustic pianos lead.
TRAIN_PRESETS = (
    (Instrument(FLUID, 0), 9.0),
    (Instrument(FLUID, 3), 1.0),
    (Instrument(FLUID, 4), 0.7),
    (Instrument(FLUID, 5), 0.7),
    (Instrument(TIM, 0), 7.0),
    (Instrument(TIM, 3), 1.0),
    (Instrument(TIM, 4), 0.3),
    (Instrument(TIM, 5), 0.3),
)
_SYNTHETIC_SHARE = 0.5
TRAIN_PIANO_SEEDS = 900_000
VALIDATION_INSTRUMENTS = (
    Instrument(TIM, 2),
    *(Instrument("", 900_000 + index) for index in range(4)),
)
TEST_INSTRUMENTS = (
    Instrument(FLUID, 1),
    Instrument(TIM, 1),
    Instrument("", 950_000),
    Instrument(FLUID, 1),
    Instrument(TIM, 1),
    Instrument("", 950_001),
    Instrument(FLUID, 2),
    Instrument(TIM, 1),
    Instrument("", 950_002),
    Instrument(FLUID, 1),
    Instrument("", 950_003),
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an item is to be; `piece` is a music21 name, or empty for generated polyphony."""

    split: str
    index: int
    piece: str
    alternatives: tuple[str, ...]
    instrument: Instrument
    seconds: float

    @property
    def stem(self) -> str:
        """Path of the item's files in the corpus, without suffix."""
        return f"{self.split}/{self.index:05d}"


def _piece_weights(pieces: list[str]) -> np.ndarray:
    """Square root of the group's size shared by its pieces; folk tunes less, as they are thin."""
    groups = [name.split("/")[0] for name in pieces]
    sizes = {group: groups.count(group) for group in set(groups)}
    weights = np.array(
        [sizes[group] ** -0.5 * (0.35 if group == "ryansMammoth" else 1.0) for group in groups]
    )
    return weights / weights.sum()


def _synthetic(instruments: tuple[Instrument, ...]) -> tuple[Instrument, ...]:
    return tuple(instrument for instrument in instruments if not instrument.soundfont)


def plan_training(
    *, hours: float, seed: int, pieces: list[str], sampled: bool, max_seconds: float
) -> list[Plan]:
    """Plans the training items.

    Args:
        hours: their total length.
        seed: of the corpus.
        pieces: music21 names to draw from; empty for generated polyphony only.
        sampled: whether SoundFonts are used.
        max_seconds: longest item.

    Returns:
        Items of 30 to 90 s, until the hours are full.
    """
    weights = _piece_weights(pieces) if pieces else None
    presets, shares = zip(*TRAIN_PRESETS, strict=True)
    shares = np.array(shares) / sum(shares)
    plans: list[Plan] = []
    left = hours * 3600.0
    while left > 0.0:
        index = len(plans)
        rng = np.random.default_rng([seed, 0, index])
        seconds = min(float(rng.uniform(30.0, _LONGEST_EXCERPT)), max_seconds)
        use_piece = rng.random() < 0.5
        own = Instrument("", int(rng.integers(TRAIN_PIANO_SEEDS)))
        preset = presets[rng.choice(len(presets), p=shares)]
        instrument = preset if sampled and rng.random() >= _SYNTHETIC_SHARE else own
        chosen: list[str] = []
        if pieces and use_piece:
            chosen = [pieces[i] for i in rng.choice(len(pieces), 4, p=weights)]
        plans.append(Plan("train", index, *_first(chosen), instrument, seconds))
        left -= seconds
    return plans


def _first(pieces: list[str]) -> tuple[str, tuple[str, ...]]:
    return (pieces[0], tuple(pieces[1:])) if pieces else ("", ())


def plan_held_out(
    split: str, *, hours: float, seed: int, pieces: list[str], sampled: bool, max_seconds: float
) -> list[Plan]:
    """Plans validation or test items; a corpus under 5 hours of training has fewer of them.

    Args:
        split: "validation" or "test".
        hours: of training sound.
        seed: of the corpus.
        pieces: music21 names of the split; empty for generated polyphony only.
        sampled: whether SoundFonts are used.
        max_seconds: longest item.

    Returns:
        Each piece once at most, on the split's instruments in turn.
    """
    is_test = split == "test"
    instruments = TEST_INSTRUMENTS if is_test else VALIDATION_INSTRUMENTS
    if not sampled:
        instruments = _synthetic(instruments)
    rng = np.random.default_rng([seed, 1 + is_test])
    order = []
    if pieces:
        weights = _piece_weights(pieces)
        order = [pieces[i] for i in rng.choice(len(pieces), len(pieces), False, weights)]
    most = (len(pieces) or _TEST_ITEMS_GENERATED) if is_test else _VALIDATION_ITEMS
    count = min(most, max(2, math.ceil(hours / 5.0 * most)))
    seconds = max_seconds if is_test else min(max_seconds, _LONGEST_EXCERPT)
    if not pieces:
        seconds = min(seconds, 60.0)
    plans = []
    for index in range(min(count, len(pieces) or count)):
        instrument = instruments[index % len(instruments)]
        piece, others = (order[index], tuple(order[-3:])) if pieces else ("", ())
        plans.append(Plan(split, index, piece, () if is_test else others, instrument, seconds))
    return plans
