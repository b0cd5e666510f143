"""Scores for the made corpus: music21's corpus, and generated polyphony.

A score is a list of notes in beats. Two sources give one: pieces of the corpus that comes with
music21 (an extra: `pip install deepaudio[scores]`), and `piano_generation.generate_score`. The
split by piece stands here too: every piece of the composers in `TEST_COMPOSERS`, and the Bach
chorales from cantatas 1 to 20, are test pieces and nothing else.
"""

import dataclasses
import functools
import re
import warnings
import zlib

import numpy as np

MIN_PITCH = 21
MAX_PITCH = 108

TEST_COMPOSERS = ("joplin", "mozart", "beach", "cpebach", "schumann_clara", "schumann_robert")
# Books of hundreds of tunes in a file take minutes to parse, and exercises are not pieces.
_SKIPPED_FOLDERS = (
    "airdsAirs",
    "demos",
    "essenFolksong",
    "miscFolk",
    "nottingham-dataset",
    "oneills1850",
    "theoryExercises",
)
_SKIPPED_PIECES = ("schumann_robert/opus48no2",)  # the same song as dichterliebe_no2
_SCORE_SUFFIXES = (".mxl", ".xml", ".musicxml", ".krn", ".abc")
_COMPOSERS = {
    "bach": "Johann Sebastian Bach",
    "beach": "Amy Beach",
    "beethoven": "Ludwig van Beethoven",
    "chopin": "Frédéric Chopin",
    "ciconia": "Johannes Ciconia",
    "corelli": "Arcangelo Corelli",
    "cpebach": "Carl Philipp Emanuel Bach",
    "handel": "George Frideric Handel",
    "haydn": "Joseph Haydn",
    "johnson_j_r": "J. Rosamond Johnson",
    "joplin": "Scott Joplin",
    "josquin": "Josquin des Prez",
    "leadSheet": "Lead sheet",
    "liliuokalani": "Liliʻuokalani",
    "lusitano": "Vicente Lusitano",
    "monteverdi": "Claudio Monteverdi",
    "mozart": "Wolfgang Amadeus Mozart",
    "palestrina": "Giovanni Pierluigi da Palestrina",
    "ryansMammoth": "Traditional (Ryan's Mammoth Collection)",
    "schoenberg": "Arnold Schoenberg",
    "schubert": "Franz Schubert",
    "schumann_clara": "Clara Schumann",
    "schumann_robert": "Robert Schumann",
    "trecento": "Trecento",
    "verdi": "Giuseppe Verdi",
    "weber": "Carl Maria von Weber",
    "webern": "Anton Webern",
}
_TRIADS = ((0, 4, 7), (0, 3, 7))


class ScoreError(ValueError):
    """A piece that cannot be read, with the reason in one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A written piece; arrays of one length N, sorted by onset.

    Attributes:
        onsets: (N,) float64, beats (quarter notes) from the start.
        durations: (N,) float64, beats, above 0.
        pitches: (N,) int64, MIDI pitch.
        parts: (N,) int64, 0 for the top part, then downwards.
        beats_per_bar: length of a bar in beats.
        tempo: beats per minute, or None where the score leaves it to the player.
    """

    onsets: np.ndarray
    durations: np.ndarray
    pitches: np.ndarray
    parts: np.ndarray
    beats_per_bar: float = 4.0
    tempo: float | None = None

    def __len__(self) -> int:
        return len(self.onsets)


def make_score(
    notes: list[tuple[float, float, int, int]],
    *,
    beats_per_bar: float = 4.0,
    tempo: float | None = None,
) -> Score:
    """Makes a score of (onset, duration, pitch, part) notes, folded onto the 88 keys.

    Args:
        notes: (onset, duration, pitch, part): beats, beats, MIDI pitch, part number.
        beats_per_bar: length of a bar in beats.
        tempo: beats per minute, or None.

    Returns:
        The score; a pitch outside 21..108 moves by octaves, and of notes that start together on
        one key the longest stays.
    """
    best: dict[tuple[float, int], tuple[float, int]] = {}
    for onset, duration, pitch, part in notes:
        while pitch < MIN_PITCH:
            pitch += 12
        while pitch > MAX_PITCH:
            pitch -= 12
        key = (round(float(onset), 6), int(pitch))
        if duration > 0 and (key not in best or best[key][0] < duration):
            best[key] = (float(duration), int(part))
    rows = sorted((onset, pitch, *rest) for (onset, pitch), rest in best.items())
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Score(
        onsets=np.array(columns[0], np.float64),
        durations=np.array(columns[2], np.float64),
        pitches=np.array(columns[1], np.int64),
        parts=np.array(columns[3], np.int64),
        beats_per_bar=beats_per_bar,
        tempo=tempo,
    )


@functools.cache
def list_pieces() -> tuple[str, ...]:
    """Lists the pieces of music21's corpus in use, as folder/name without suffix.

    Returns:
        Sorted names such as "bach/bwv66.6"; a piece stored in two formats is listed once.

    Raises:
        ScoreError: music21 is not installed.
    """
    try:
        from music21.corpus import corpora
    except ImportError:
        raise ScoreError(
            "music21 is not installed: pip install music21, or use --scores generated"
        ) from None
    names = set()
    for path in corpora.CoreCorpus().getPaths():
        relative = path.as_posix().rpartition("/music21/corpus/")[2]
        name = relative[: -len(path.suffix)]
        if path.suffix not in _SCORE_SUFFIXES or name in _SKIPPED_PIECES:
            continue
        if relative.split("/")[0] not in _SKIPPED_FOLDERS:
            names.add(name)
    return tuple(sorted(names))


def is_test_piece(name: str) -> bool:
    """Says whether a piece belongs to the test split.

    Args:
        name: folder/name as `list_pieces` gives it.

    Returns:
        True for every piece of the test composers and for chorales of BWV 1 to 20.
    """
    folder, _, rest = name.partition("/")
    number = re.match(r"bwv0*(\d+)(?!\d)", rest)
    is_chorale = folder == "bach" and number is not None and 1 <= int(number.group(1)) <= 20
    return folder in TEST_COMPOSERS or is_chorale


def is_validation_piece(name: str) -> bool:
    """Says whether a piece belongs to the validation split: about one work in 33 of the others.

    Args:
        name: folder/name as `list_pieces` gives it.

    Returns:
        True for a validation piece. Movements of one work fall on the same side.
    """
    if is_test_piece(name):
        return False
    work = "/".join(name.split("/")[:2])
    return zlib.crc32(work.encode()) % 33 == 0


def composer_name(name: str) -> str:
    """Gives the composer's full name of a piece named folder/name."""
    folder = name.split("/")[0]
    return _COMPOSERS.get(folder, folder)


def read_piece(name: str) -> Score:
    """Parses a piece of music21's corpus, ties merged.

    Args:
        name: folder/name as `list_pieces` gives it.

    Returns:
        The score; repeats are not expanded.

    Raises:
        ScoreError: it cannot be parsed, or holds fewer than 16 notes.
    """
    from music21 import chord, corpus, harmony, note, stream

    try:
        with warnings.catch_warnings():
            # It warns of every bar that is too full; the notes are right all the same.
            warnings.simplefilter("ignore")
            score = corpus.parse(name)
        if isinstance(score, stream.Opus):
            score = score.scores[0]
        notes = []
        for part_number, part in enumerate(score.parts or [score]):
            for element in part.stripTies().flatten().notes:
                if isinstance(element, harmony.ChordSymbol) or not isinstance(
                    element, (note.Note, chord.Chord)
                ):
                    continue
                notes.extend(
                    (float(element.offset), float(element.quarterLength), pitch.midi, part_number)
                    for pitch in element.pitches
                )
        signature = score.recurse().getElementsByClass("TimeSignature").first()
        beats_per_bar = float(signature.barDuration.quarterLength) if signature else 4.0
    except Exception as error:  # music21 raises many kinds on a file it cannot read
        raise ScoreError(f"{name}: {type(error).__name__}: {error}") from error
    if len(notes) < 16:
        raise ScoreError(f"{name}: only {len(notes)} notes")
    return make_score(notes, beats_per_bar=min(max(beats_per_bar, 1.0), 8.0))


def excerpt(score: Score, start: float, length: float) -> Score:
    """Cuts the notes that start in [start, start + length) beats and moves them to beat 0.

    Args:
        score: the whole piece.
        start: first beat.
        length: beats.

    Returns:
        The excerpt; notes keep their durations.
    """
    chosen = (score.onsets >= start) & (score.onsets < start + length)
    return dataclasses.replace(
        score,
        onsets=score.onsets[chosen] - start,
        durations=score.durations[chosen],
        pitches=score.pitches[chosen],
        parts=score.parts[chosen],
    )


def _accompaniment(score: Score, rng: np.random.Generator) -> list[tuple[float, float, int, int]]:
    """Left-hand chords under a tune: in every bar the triad that holds most of its notes."""
    bar = score.beats_per_bar
    pattern = rng.choice(["block", "oom-pah", "alberti", "bass"])
    low = int(rng.integers(40, 53))
    notes = []
    previous = (0, _TRIADS[0])
    for start in np.arange(0.0, score.onsets[-1] + 1e-6, bar):
        inside = (score.onsets >= start) & (score.onsets < start + bar)
        weights = np.bincount(
            score.pitches[inside] % 12, weights=score.durations[inside], minlength=12
        )
        choices = [(root, triad) for root in range(12) for triad in _TRIADS]
        if weights.any():
            fits = [
                sum(weights[(root + step) % 12] for step in triad) + 0.2 * weights[root]
                for root, triad in choices
            ]
            previous = choices[int(np.argmax(fits))]
        root, triad = previous
        base = low + (root - low) % 12
        chord = [base + step for step in triad]
        if pattern == "block":
            notes.extend((start, bar, pitch, 9) for pitch in chord)
        elif pattern == "bass":
            notes.append((start, bar, base - 12, 9))
        elif pattern == "oom-pah":
            for beat in np.arange(0.0, bar, 1.0):
                played = [base - 12] if beat == 0 else chord
                notes.extend((start + beat, 0.8, pitch, 9) for pitch in played)
        else:
            order = (0, 2, 1, 2)
            for step, beat in enumerate(np.arange(0.0, bar, 0.5)):
                notes.append((start + beat, 0.5, chord[order[step % 4]], 9))
    return notes


def arrange(score: Score, rng: np.random.Generator) -> Score:
    """Varies a score for training: key, octaves, doublings, a left hand for a lone tune.

    Args:
        score: the piece or an excerpt of it, at least one note.
        rng: random generator.

    Returns:
        The score transposed by up to 6 semitones, parts perhaps spread or doubled in octaves.
    """
    shift = int(rng.integers(-6, 7))
    top, bottom = score.parts.min(), score.parts.max()
    raised = 12 * int(rng.choice([0, 0, 0, 1, 1, 2])) if rng.random() < 0.5 else 0
    lowered = 12 * int(rng.choice([0, 0, 0, 1, 1, 2])) if rng.random() < 0.5 else 0
    double_bass, double_melody = rng.random(2) < (0.3, 0.15)
    alone = len(np.unique(np.round(score.onsets, 3))) > 0.97 * len(score) and top == bottom
    notes = []
    for onset, duration, pitch, part in zip(
        score.onsets, score.durations, score.pitches, score.parts, strict=True
    ):
        moved = int(pitch) + shift
        moved += raised if part == top else 0
        moved -= lowered if part == bottom and bottom != top else 0
        notes.append((onset, duration, moved, int(part)))
        if double_bass and part == bottom and bottom != top:
            notes.append((onset, duration, moved - 12, int(part)))
        if double_melody and part == top:
            notes.append((onset, duration, moved + 12, int(part)))
    if alone and rng.random() < 0.8:
        accompaniment = _accompaniment(score, rng)
        notes.extend(
            (onset, length, pitch + shift, part) for onset, length, pitch, part in accompaniment
        )
    return make_score(notes, beats_per_bar=score.beats_per_bar, tempo=score.tempo)
