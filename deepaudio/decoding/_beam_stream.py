"""The beam search itself, a frame at a time."""

from typing import Any, NamedTuple

import numpy as np

from deepaudio.data.alphabet import BLANK
from deepaudio.decoding._ctc import Spans, Transcript, check_log_probs, make_transcript
from deepaudio.decoding._prefixes import Growth, Prefixes, Scoring, Table

# Prefixes remembered before those are forgotten that nothing in the beam has come of.
_FEW_PREFIXES = 20_000
# Rows of a path: its log probability; the place, in the table of traces, of its units but for the
# last; first and last frame of the last unit's run, and the unit's highest log probability there.
_SCORE, _TRACE, _FIRST, _LAST, _PEAK = range(5)


class Limits(NamedTuple):
    """What keeps a beam search short.

    Attributes:
        width: Prefixes that are kept from frame to frame.
        mass: Share of the probability of a frame's symbols that may extend prefixes.
        most: How many symbols these may be.
    """

    width: int
    mass: float
    most: int


class _Beam(NamedTuple):
    """The prefixes that are kept, B of them.

    Attributes:
        nodes: (B,) their numbers in the tree of prefixes.
        blank: (B,) sum of the probabilities of the paths that read so and end in a blank, relative
            to a number that all have in common.
        other: (B,) the same of those that end in a unit.
        blank_paths: (5, B) the likeliest path of those that end in a blank.
        other_paths: (5, B) of the others.
    """

    nodes: np.ndarray
    blank: np.ndarray
    other: np.ndarray
    blank_paths: np.ndarray
    other_paths: np.ndarray

    def paths(self) -> np.ndarray:
        """(5, B) the likeliest path of all."""
        blank = self.blank_paths[_SCORE] >= self.other_paths[_SCORE]
        return np.where(blank, self.blank_paths, self.other_paths)


class _Frame(NamedTuple):
    """What one frame says, and of every prefix in the beam what that needs to know.

    Attributes:
        log_row: (symbols,) log probabilities.
        row: (symbols,) probabilities.
        last: (B,) last unit of each prefix.
        whole: (B,) bool, this is a separator.
        total: (B,) probability of each prefix before this frame.
        paths: (5, B) its likeliest path before this frame.
    """

    log_row: np.ndarray
    row: np.ndarray
    last: np.ndarray
    whole: np.ndarray
    total: np.ndarray
    paths: np.ndarray


class _Joins(NamedTuple):
    """Paths that come from a shorter prefix in the beam to a longer one in it.

    Attributes:
        targets: (N,) places of the longer ones in the beam.
        sources: (N,) places of the shorter ones.
        sums: (N,) their probabilities.
    """

    targets: np.ndarray
    sources: np.ndarray
    sums: np.ndarray


class BeamStream:
    """A beam search that is given its frames in pieces; `BeamSearch.stream` makes it.

    However the frames are cut into pieces, what comes out is the same.
    """

    def __init__(self, scoring: Scoring, limits: Limits, frame_seconds: float, start: float):
        self._scoring, self._limits = scoring, limits
        self._frame_seconds, self._start = frame_seconds, start
        self._most_gain = scoring.most()
        self._prefixes = Prefixes(scoring)
        self._traces = Table(first=np.int64, last=np.int64, peak=np.float64)
        self._most_remembered = _FEW_PREFIXES
        # Nothing was said, and the likeliest path to that is none.
        path = np.array([[0.0], [-1.0], [-1.0], [-1.0], [0.0]])
        never = path.copy()
        never[_SCORE] = -np.inf
        self._beam = _Beam(np.zeros(1, np.int64), np.ones(1), np.zeros(1), path, never)
        self._num_frames = 0
        # Log of the number that the beam's probabilities are relative to.
        self._common = 0.0

    def feed(self, log_probs: Any) -> None:
        """Takes the next frames.

        Args:
            log_probs: (frames, symbols) natural logarithms of probabilities.

        Raises:
            ValueError: They are no log probabilities over the alphabet.
        """
        # -inf is the logarithm of what cannot be.
        with np.errstate(divide="ignore"):
            for log_row in check_log_probs(log_probs, self._scoring.alphabet):
                self._advance(log_row)

    def best(self) -> Transcript:
        """The likeliest prefix so far, its last word finished or not.

        Its score is the search's own: an unfinished word counts with what it promises, and the
        sentence is not ended.
        """
        nodes = self._beam.nodes
        standing = self._prefixes["fixed"][nodes] + self._prefixes["hoped"][nodes]
        scores = self._log_sums() + standing
        place = int(np.argmax(scores))
        return self._transcript(place, float(scores[place]))

    def finish(self, n_best: int = 1) -> list[Transcript]:
        """The likeliest transcripts of all that was fed; more may be fed afterwards.

        Args:
            n_best: The most to return.

        Returns:
            Transcripts by falling score, no two texts the same. Prefixes that read the same (with
            a separator at the end and without, or with other pairs of characters) are one
            transcript and their probabilities are added.

        Raises:
            ValueError: `n_best` is not positive.
        """
        if n_best < 1:
            raise ValueError(f"{n_best=} must be at least 1")
        scores = self._log_sums() + self._prefixes.finished(self._beam.nodes)
        same: dict[Any, list[int]] = {}
        for place, reading in enumerate(self._readings()):
            same.setdefault(reading, []).append(place)
        sums = [float(np.logaddexp.reduce(scores[places])) for places in same.values()]
        ranked = sorted(zip(sums, same.values(), strict=True), key=lambda item: -item[0])
        likeliest = self._beam.paths()[_SCORE]
        return [
            self._transcript(max(places, key=likeliest.__getitem__), score)
            for score, places in ranked[:n_best]
        ]

    def _log_sums(self):
        """(B,) log probability of each prefix given the sound."""
        return np.log(self._beam.blank + self._beam.other) + self._common

    def _readings(self):
        """For each prefix something that is equal for those that read the same."""
        prefixes, units = self._prefixes, self._scoring.alphabet.units
        nodes = self._beam.nodes
        spaced = prefixes["unit"][nodes] == self._scoring.separator
        nodes = np.where(spaced, prefixes["parent"][nodes], nodes).tolist()
        if all(len(unit) == 1 for unit in units):
            return nodes
        return ["".join(units[n - 1 - BLANK] for n in prefixes.units(node)) for node in nodes]

    def _transcript(self, place: int, score: float) -> Transcript:
        """The transcript of a prefix of the beam, by its likeliest path."""
        units = self._prefixes.units(int(self._beam.nodes[place]))
        _, trace, first, last, peak = self._beam.paths()[:, place].tolist()
        rows, trace = [(int(first), int(last), peak)], int(trace)
        columns = self._traces.columns
        while trace >= 0:
            rows.append(tuple(columns[name][trace].item() for name in ("first", "last", "peak")))
            trace = int(columns["parent"][trace])
        spans = Spans(units, *zip(*rows[::-1], strict=True)) if units else Spans((), (), (), ())
        return make_transcript(
            spans,
            self._scoring.alphabet,
            score=score,
            num_frames=self._num_frames,
            frame_seconds=self._frame_seconds,
            start=self._start,
        )

    def _advance(self, log_row):
        """Takes one frame, (symbols,) float64 log probabilities."""
        beam, row = self._beam, np.exp(log_row)
        last = self._prefixes["unit"][beam.nodes]
        whole = last == self._scoring.separator
        frame = _Frame(log_row, row, last, whole, beam.blank + beam.other, beam.paths())
        # Without a new unit: by a blank, or by the last unit once more. A separator that follows a
        # separator, even after blanks, adds nothing either.
        blank_paths = frame.paths.copy()
        blank_paths[_SCORE] += log_row[BLANK]
        other_paths = np.where(whole, frame.paths, beam.other_paths)
        other_paths[_SCORE] += log_row[last]
        other_paths[_LAST] = self._num_frames
        other_paths[_PEAK] = np.maximum(other_paths[_PEAK], log_row[last])
        stayed = _Beam(
            nodes=beam.nodes,
            blank=frame.total * row[BLANK],
            other=np.where(whole, frame.total, beam.other) * row[last],
            blank_paths=blank_paths,
            other_paths=other_paths,
        )
        symbols = self._symbols(row)
        beam = self._extend(frame, stayed, symbols) if len(symbols) else stayed
        most = float((beam.blank + beam.other).max())
        self._beam = beam._replace(blank=beam.blank / most, other=beam.other / most)
        self._common += float(np.log(most))
        self._num_frames += 1
        if max(len(self._prefixes), self._traces.count) > self._most_remembered:
            self._forget()

    def _symbols(self, row):
        """Units that may extend prefixes in a frame of the probabilities `row`."""
        _, mass, most = self._limits
        # With half of the probability it is the likeliest for certain.
        if row[BLANK] >= max(mass, 0.5):
            return np.zeros(0, np.int64)
        if len(row) > 4 * most:
            likely = np.argpartition(row, len(row) - most)[len(row) - most :]
            likely = likely[np.argsort(-row[likely])]
        else:
            likely = np.argsort(-row)[:most]
        if mass < 1:
            likely = likely[: np.searchsorted(np.cumsum(row[likely]), mass) + 1]
        return likely[likely != BLANK]

    def _extend(self, frame: _Frame, stayed: _Beam, symbols: np.ndarray) -> _Beam:
        """The beam after a frame in which some units may be added.

        Args:
            frame: What it says.
            stayed: The beam's prefixes without a new unit.
            symbols: (S,) the units.

        Returns:
            The best of the prefixes there were and those longer by a unit.
        """
        prefixes, nodes, width = self._prefixes, stayed.nodes, self._limits.width
        sums, joins = self._arrivals(frame, stayed, symbols)
        joined = stayed.other.copy()
        # A prefix has one shorter one, so that no target stands twice.
        joined[joins.targets] += joins.sums
        worth = np.log(stayed.blank + joined)
        worth += prefixes["fixed"][nodes] + prefixes["hoped"][nodes]
        longer, growth, worth = self._longer(sums, symbols, nodes, worth)
        if len(worth) > width:
            chosen = np.sort(np.argpartition(worth, -width)[-width:])
        else:
            chosen = np.arange(len(worth))
        chosen = chosen[worth[chosen] > -np.inf]
        old = chosen[chosen < len(nodes)]
        new = chosen[len(old) :] - len(nodes)
        growth = Growth(*(column[new] for column in growth))
        longer = longer[new]
        other_paths = self._join_paths(frame, stayed, joins)
        new_paths = self._longer_paths(frame, longer // len(symbols), growth.unit)
        nothing = np.full_like(new_paths, -np.inf)
        return _Beam(
            nodes=np.append(nodes[old], prefixes.add(growth)),
            blank=np.append(stayed.blank[old], np.zeros(len(new))),
            other=np.append(joined[old], sums.flat[longer]),
            blank_paths=np.concatenate([stayed.blank_paths[:, old], nothing], axis=1),
            other_paths=np.concatenate([other_paths[:, old], new_paths], axis=1),
        )

    def _arrivals(self, frame: _Frame, stayed: _Beam, symbols: np.ndarray):
        """Probabilities of all prefixes that are longer by one of `symbols`.

        Returns:
            (B, S) float64, zero where such a prefix is in the beam already, and these as `_Joins`.
        """
        nodes, last = stayed.nodes, frame.last
        column_of = np.full(len(frame.row), -1)
        column_of[symbols] = np.arange(len(symbols))
        sums = frame.total[:, None] * frame.row[symbols]
        # The last unit anew only after a blank; a separator never.
        columns = column_of[last]
        again = np.flatnonzero(columns >= 0)
        after_blank = self._beam.blank[again] * frame.row[last[again]]
        sums[again, columns[again]] = np.where(frame.whole[again], 0.0, after_blank)
        # A prefix may have its own beginning in the beam.
        order = np.argsort(nodes)
        parents = self._prefixes["parent"][nodes]
        places = np.searchsorted(nodes[order], parents)
        places = order[np.minimum(places, len(nodes) - 1)]
        targets = np.flatnonzero((nodes[places] == parents) & (columns >= 0))
        sources, columns = places[targets], columns[targets]
        joining = sums[sources, columns]
        sums[sources, columns] = 0.0
        some = joining > 0
        return sums, _Joins(targets[some], sources[some], joining[some])

    def _longer(self, sums, symbols, nodes, worth):
        """Those prefixes longer by a unit that may be among the best.

        What a whole word is worth takes a look into the language model. So these come last, the
        most promising first, until no other can be good enough even if the model likes it.

        Args:
            sums: (B, S) their probabilities.
            symbols: (S,) the units.
            nodes: (B,) the prefixes that they come of.
            worth: (B,) what these are worth as they are.

        Returns:
            (N,) their places in `sums`, flattened; themselves; and (B + N,) what all are worth.
        """
        prefixes, width = self._prefixes, self._limits.width
        log_sums = np.log(sums).ravel()
        most = prefixes["fixed"][nodes] + self._most_gain
        bounds = log_sums + np.repeat(most, len(symbols))
        left = np.flatnonzero(bounds > (worth.min() if len(nodes) >= width else -np.inf))
        whole = prefixes.scoring.completes(symbols)[left % len(symbols)]
        now, left = left[~whole], left[whole]
        found, growths = [], []
        while True:
            rows, columns = np.divmod(now, len(symbols))
            growth = prefixes.grow(nodes[rows], symbols[columns])
            worth = np.append(worth, log_sums[now] + growth.fixed + growth.hoped)
            found.append(now)
            growths.append(growth)
            if len(left) and len(worth) >= width:
                left = left[bounds[left] > np.partition(worth, -width)[-width]]
            if not len(left):
                break
            order = np.argsort(-bounds[left])
            now, left = left[order[: 2 * width]], left[order[2 * width :]]
        growth = Growth(*(np.concatenate(column) for column in zip(*growths, strict=True)))
        return np.concatenate(found), growth, worth

    def _join_paths(self, frame: _Frame, stayed: _Beam, joins: _Joins) -> np.ndarray:
        """The likeliest paths to the beam's prefixes that end in a unit, with those that join."""
        units = frame.last[joins.targets]
        paths = stayed.other_paths.copy()
        arriving = self._before_unit(frame, joins.sources, units)[_SCORE] + frame.log_row[units]
        better = arriving > paths[_SCORE, joins.targets]
        sources, units = joins.sources[better], units[better]
        paths[:, joins.targets[better]] = self._longer_paths(frame, sources, units)
        return paths

    def _longer_paths(self, frame: _Frame, sources: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The likeliest paths from the beam's places `sources` by one more unit each, (5, N)."""
        paths = self._before_unit(frame, sources, units)
        _, parents, first, last, peaks = paths
        traces = np.full(len(units), -1)
        said = np.flatnonzero(first >= 0)
        traces[said] = self._traces.append(
            len(said),
            parent=parents[said].astype(np.int64),
            first=first[said].astype(np.int64),
            last=last[said].astype(np.int64),
            peak=peaks[said],
        )
        log_probs = frame.log_row[units]
        now = np.full(len(units), self._num_frames)
        return np.stack([paths[_SCORE] + log_probs, traces, now, now, log_probs])

    def _before_unit(self, frame: _Frame, sources: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The likeliest paths at the beam's places `sources` that `units` may follow, (5, N)."""
        same = frame.last[sources] == units
        return np.where(same, self._beam.blank_paths[:, sources], frame.paths[:, sources])

    def _forget(self) -> None:
        """Drops the prefixes and traces that nothing in the beam has come of."""
        beam = self._beam
        nodes = self._prefixes.keep(beam.nodes)
        both = np.concatenate([beam.blank_paths, beam.other_paths], axis=1)
        # A path that cannot be has no trace.
        traces = np.where(np.isfinite(both[_SCORE]), both[_TRACE], -1.0).astype(np.int64)
        both[_TRACE] = self._traces.keep(traces)[traces]
        blank_paths, other_paths = np.split(both, 2, axis=1)
        self._beam = beam._replace(nodes=nodes, blank_paths=blank_paths, other_paths=other_paths)
        remembered = max(len(self._prefixes), self._traces.count)
        self._most_remembered = max(_FEW_PREFIXES, 2 * remembered)
