import numpy as np
import pytest

from deepaudio.data import piano_generation, piano_plans, piano_scores


def _score(notes, **kwargs):
    return piano_scores.make_score(notes, **kwargs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bach/bwv1.6", True),
        ("bach/bwv10.7", True),
        ("bach/bwv18.5-lz", True),
        ("bach/bwv20.11", True),
        ("bach/bwv21.9", False),
        ("bach/bwv101.7", False),
        ("bach/bwv166.6", False),
        ("bach/bwv200", False),
        ("bach/bwv253", False),
        ("palestrina/bwv1.6", False),
        ("cpebach/h186", True),
        ("joplin/maple_leaf_rag", True),
        ("mozart/k155/movement1", True),
        ("beach/prayer_of_a_tired_child", True),
        ("schumann_clara/opus17/movement3", True),
        ("schumann_robert/opus41no1/movement1", True),
        ("beethoven/opus74", False),
    ],
)
def test_test_pieces_are_those_of_the_test_composers_and_chorales(name, expected):
    assert piano_scores.is_test_piece(name) is expected
    if expected:
        assert not piano_scores.is_validation_piece(name)


def test_movements_of_one_work_are_on_the_same_side():
    for opus in range(200):
        sides = {
            piano_scores.is_validation_piece(f"haydn/opus{opus}/movement{number}")
            for number in range(5)
        }
        assert len(sides) == 1


def test_make_score_folds_onto_the_keyboard_and_keeps_the_longest_of_equals():
    score = _score([(1.0, 1.0, 60, 0), (0.0, 1.0, 10, 1), (1.0, 2.0, 60, 3), (0.0, 1.0, 120, 0)])
    np.testing.assert_array_equal(score.onsets, [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(score.pitches, [22, 108, 60])
    np.testing.assert_array_equal(score.durations, [1.0, 1.0, 2.0])
    np.testing.assert_array_equal(score.parts, [1, 0, 3])


def test_excerpt_is_the_notes_that_start_inside():
    score = _score([(float(beat), 3.0, 60 + beat, 0) for beat in range(10)])
    part = piano_scores.excerpt(score, 4.0, 3.0)
    np.testing.assert_array_equal(part.pitches, [64, 65, 66])
    np.testing.assert_array_equal(part.onsets, [0.0, 1.0, 2.0])


def test_arrange_transposes_by_one_interval_up_to_octaves():
    notes = [
        (float(beat), 1.0, 60 + (beat * 5) % 13, part) for beat in range(16) for part in (0, 1)
    ]
    score = _score(
        [(onset, length, pitch - 12 * part, part) for onset, length, pitch, part in notes]
    )
    shifts = set()
    for seed in range(40):
        arranged = piano_scores.arrange(score, np.random.default_rng(seed))
        assert arranged.pitches.min() >= 21 and arranged.pitches.max() <= 108
        possible = [
            shift
            for shift in range(12)
            if all(
                set((score.pitches[score.onsets == beat] + shift) % 12)
                == set(arranged.pitches[arranged.onsets == beat] % 12)
                for beat in range(16)
            )
        ]
        assert len(possible) == 1
        shifts.update(possible)
    assert len(shifts) >= 10


def test_a_lone_tune_gets_a_left_hand():
    tune = _score([(beat * 0.5, 0.5, 72 + (beat * 3) % 8, 0) for beat in range(64)])
    with_chords = [
        len(np.unique(piano_scores.arrange(tune, np.random.default_rng(seed)).parts)) > 1
        for seed in range(40)
    ]
    assert 0.6 < np.mean(with_chords) < 0.95


def test_generated_scores_depend_on_the_seed_alone():
    first, again, other = (
        piano_generation.generate_score(np.random.default_rng(seed), 30.0) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.pitches, again.pitches)
    np.testing.assert_array_equal(first.onsets, again.onsets)
    assert len(first) != len(other) or (first.pitches != other.pitches).any()


def test_generated_scores_reach_every_key_and_many_densities():
    keys, densities, sizes = set(), [], []
    for seed in range(100):
        score = piano_generation.generate_score(np.random.default_rng(seed), 40.0)
        keys.update(score.pitches.tolist())
        seconds = (score.onsets * 60.0 / score.tempo).astype(int)
        densities.extend(np.bincount(seconds, minlength=40)[:40].tolist())
        sizes.append(np.unique(score.onsets, return_counts=True)[1].max())
        assert (score.durations > 0.0).all()
        assert score.onsets.max() <= 40.0 * score.tempo / 60.0
    assert keys == set(range(21, 109))
    assert min(densities) <= 1 and max(densities) >= 25
    assert 3.0 < np.mean(densities) < 14.0
    assert max(sizes) >= 10


@pytest.mark.parametrize("name", list(piano_generation.TEXTURES))
def test_every_texture_fills_its_stretch_and_no_other(name):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        notes = piano_generation.TEXTURES[name][1](
            rng, piano_generation._Harmony(rng), 8.0, 16.0, 100.0
        )
        onsets = np.array([note[0] for note in notes])
        assert len(notes) >= 3
        assert onsets.min() >= 8.0 and onsets.max() < 24.0 + 1e-6


def test_splits_share_no_instrument():
    training = {instrument for instrument, _ in piano_plans.TRAIN_PRESETS}
    validation, test = (
        set(piano_plans.VALIDATION_INSTRUMENTS),
        set(piano_plans.TEST_INSTRUMENTS),
    )
    assert not training & validation and not training & test and not validation & test
    for instrument in validation | test:
        assert instrument.soundfont or instrument.number >= piano_plans.TRAIN_PIANO_SEEDS


def test_training_plan_fills_the_hours_and_a_longer_one_begins_alike():
    pieces = ["bach/bwv66.6", "bach/bwv67.7", "haydn/opus1no1/movement1"]
    common = {"seed": 3, "pieces": pieces, "sampled": True, "max_seconds": 120.0}
    short = piano_plans.plan_training(hours=1.0, **common)
    long = piano_plans.plan_training(hours=4.0, **common)
    assert long[: len(short)] == short
    assert 4.0 <= sum(plan.seconds for plan in long) / 3600.0 < 4.03
    generated = np.mean([not plan.piece for plan in long])
    sampled = np.mean([bool(plan.instrument.soundfont) for plan in long])
    assert 0.4 < generated < 0.6 and 0.4 < sampled < 0.6
    other = piano_plans.plan_training(hours=1.0, **{**common, "seed": 4})
    assert other != short


def test_without_soundfonts_every_instrument_is_an_own_piano():
    common = {"hours": 5.0, "seed": 0, "pieces": [], "sampled": False, "max_seconds": 60.0}
    plans = piano_plans.plan_training(**common)
    plans += piano_plans.plan_held_out("test", **common)
    assert not any(plan.instrument.soundfont for plan in plans)


def test_a_full_corpus_tests_every_piece_once():
    pieces = [f"mozart/k{number}" for number in range(51)]
    common = {"seed": 0, "pieces": pieces, "sampled": True, "max_seconds": 120.0}
    plans = piano_plans.plan_held_out("test", hours=10.0, **common)
    assert sorted(plan.piece for plan in plans) == sorted(pieces)
    assert {plan.instrument for plan in plans} == set(piano_plans.TEST_INSTRUMENTS)
    assert len(piano_plans.plan_held_out("test", hours=0.1, **common)) == 2


def test_music21_pieces_split_without_a_test_composer_in_training():
    pytest.importorskip("music21", reason="needs music21 (the extra `scores`)")
    names = piano_scores.list_pieces()
    held_out = [name for name in names if piano_scores.is_test_piece(name)]
    rest = [name for name in names if not piano_scores.is_test_piece(name)]
    assert {name.split("/")[0] for name in held_out} == {"bach", *piano_scores.TEST_COMPOSERS}
    assert not {name.split("/")[0] for name in rest} & set(piano_scores.TEST_COMPOSERS)
    assert 45 <= len(held_out) <= 60
    validation = [name for name in rest if piano_scores.is_validation_piece(name)]
    assert 0.01 < len(validation) / len(rest) < 0.06


def test_read_piece_agrees_with_music21s_own_sounding_notes():
    corpus = pytest.importorskip("music21.corpus", reason="needs music21 (the extra `scores`)")
    score = piano_scores.read_piece("bach/bwv66.6")
    # Sounding pitches at the middle of every half beat, by music21's own salami slices.
    chords = corpus.parse("bach/bwv66.6").chordify().flatten().getElementsByClass("Chord")
    for chord in chords:
        middle = float(chord.offset) + float(chord.quarterLength) / 2.0
        sounding = (score.onsets <= middle) & (score.onsets + score.durations > middle)
        assert set(score.pitches[sounding]) == {pitch.midi for pitch in chord.pitches}
    assert score.beats_per_bar == 4.0
    assert set(score.parts) == {0, 1, 2, 3}


def test_a_piece_that_does_not_exist_is_one_line():
    pytest.importorskip("music21", reason="needs music21 (the extra `scores`)")
    with pytest.raises(piano_scores.ScoreError, match="bach/nothing"):
        piano_scores.read_piece("bach/nothing")
