"""Makes a piano corpus with exact truth, in MAESTRO's layout.

    python -m experiments.make_piano_corpus --output DIR [--hours 10] [--seed 0] [--workers 2]

DIR/corpus.csv has MAESTRO's columns and `instrument`; DIR/train, DIR/validation and DIR/test hold
16 kHz mono 16-bit WAV files and MIDI files (pedal as controller 64). The same seed gives the same
corpus; a run that was stopped continues; a longer run begins with the items of a shorter one.
`--scores generated --instruments synthetic` needs neither music21 nor fluidsynth.

Which pieces and instruments make up which split: see `deepaudio.data.piano_plans`.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import multiprocessing
import os
import pathlib
import wave

import numpy as np
from absl import app, flags

from deepaudio.data import (
    piano_generation,
    piano_performance,
    piano_plans,
    piano_scores,
    piano_synthesis,
    recording_chain,
    soundfont,
)

SAMPLE_RATE = 16000
_TAIL = 1.5
_COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
    "instrument",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every worker needs to know."""

    output: str
    seed: int
    soundfont_dir: str | None


def _read_score(name: str, cache: pathlib.Path) -> piano_scores.Score:
    """A parsed piece, from the cache where it has been parsed before."""
    path = cache / (hashlib.sha1(name.encode()).hexdigest()[:16] + ".npz")
    if path.exists():
        with np.load(path) as stored:
            if "error" in stored:
                raise piano_scores.ScoreError(str(stored["error"]))
            values = {key: stored[key] for key in ("onsets", "durations", "pitches", "parts")}
            return piano_scores.Score(**values, beats_per_bar=float(stored["beats_per_bar"]))
    beside = path.with_suffix(f".{os.getpid()}.npz")
    try:
        score = piano_scores.read_piece(name)
    except piano_scores.ScoreError as error:
        np.savez(beside, error=str(error))
        os.replace(beside, path)
        raise
    np.savez(
        beside,
        onsets=score.onsets,
        durations=score.durations,
        pitches=score.pitches,
        parts=score.parts,
        beats_per_bar=score.beats_per_bar,
    )
    os.replace(beside, path)
    return score


def _play(plan: piano_plans.Plan, score: piano_scores.Score, rng: np.random.Generator):
    """Chooses the passage, arranges and performs it."""
    lead_in = float(rng.uniform(0.1, 1.5))
    tempo = piano_performance.choose_tempo(score, rng)
    if plan.split != "test" and plan.piece:
        beats = plan.seconds * tempo / 60.0
        latest = max(float(score.onsets[-1]) - beats, 0.0)
        start = math.floor(rng.uniform(0.0, latest) / score.beats_per_bar) * score.beats_per_bar
        passage = piano_scores.excerpt(score, start, beats)
        if len(passage) >= 8:
            score = passage
    if plan.split == "train" and plan.piece:
        score = piano_scores.arrange(score, rng)
    return piano_performance.perform(
        score, rng, tempo=tempo, seconds=plan.seconds - _TAIL, lead_in=lead_in
    )


def _sound(
    plan: piano_plans.Plan, performance, settings: Settings, rng: np.random.Generator
) -> np.ndarray:
    """Renders and records a performance."""
    gentle = plan.split == "test"
    if plan.instrument.soundfont:
        effects = rng.random(2) < 0.3
        tuning = float(np.clip(rng.normal(0.0, 4.0 if gentle else 10.0), -30.0, 30.0))
        dry = soundfont.render(
            performance,
            soundfont.find_soundfont(plan.instrument.soundfont, settings.soundfont_dir),
            program=plan.instrument.number,
            sample_rate=SAMPLE_RATE,
            tuning_cents=tuning,
            reverb=bool(effects[0]) and not gentle,
            chorus=bool(effects[1]) and not gentle,
            tail=_TAIL,
        )
    else:
        piano = piano_synthesis.random_piano(plan.instrument.number)
        dry = piano_synthesis.render(performance, piano, rng, SAMPLE_RATE, _TAIL)
    return recording_chain.record(dry, rng, gentle=gentle, sample_rate=SAMPLE_RATE)


def _write_wav(path: pathlib.Path, samples: np.ndarray) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32767.0).astype("<i2").tobytes())
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(buffer.getvalue())
    os.replace(beside, path)


def make_item(plan: piano_plans.Plan, settings: Settings) -> tuple[dict | None, list[str]]:
    """Makes one item unless it is there already.

    Args:
        plan: what to make.
        settings: where, and from which seed.

    Returns:
        Its row of corpus.csv (None when no piece could be read), and the pieces that failed.
    """
    root = pathlib.Path(settings.output)
    record = root / ".cache" / "items" / f"{plan.split}-{plan.index:05d}.json"
    if record.exists():
        return json.loads(record.read_text()), []
    rng = np.random.default_rng(
        [settings.seed, 10 + piano_plans.SPLITS.index(plan.split), plan.index]
    )
    failures = []
    score, piece = None, ""
    for piece in (plan.piece, *plan.alternatives) if plan.piece else ():
        try:
            score = _read_score(piece, root / ".cache" / "scores")
            break
        except piano_scores.ScoreError as error:
            failures.append(str(error))
    if plan.piece and score is None:
        return None, failures
    if score is None:
        score = piano_generation.generate_score(rng, plan.seconds)
    performance = _play(plan, score, rng)
    _write_wav(root / f"{plan.stem}.wav", samples := _sound(plan, performance, settings, rng))
    piano_performance.write_performance(root / f"{plan.stem}.midi", performance)
    composer = piano_scores.composer_name(piece) if piece else "Generated"
    row = {
        "canonical_composer": composer,
        "canonical_title": piece or f"Generated {plan.split} {plan.index}",
        "split": plan.split,
        "year": 2026,
        "midi_filename": f"{plan.stem}.midi",
        "audio_filename": f"{plan.stem}.wav",
        "duration": len(samples) / SAMPLE_RATE,
        "instrument": str(plan.instrument),
    }
    beside = record.with_suffix(".part")
    beside.write_text(json.dumps(row))
    os.replace(beside, record)
    return row, failures


def _make_item(arguments: tuple[piano_plans.Plan, Settings]) -> tuple[dict | None, list[str]]:
    return make_item(*arguments)


def _write_csv(path: pathlib.Path, rows: list[dict]) -> None:
    beside = path.with_name(path.name + ".part")
    with open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(beside, path)


def _check_same_corpus(root: pathlib.Path, settings: dict) -> None:
    """Refuses to mix two corpora in one folder; only the hours may differ."""
    path = root / ".cache" / "settings.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored != settings:
            raise ValueError(f"{root} holds a corpus made with {stored}, not {settings}")
    path.write_text(json.dumps(settings))


def _progress():
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )


def make_corpus(
    output: str | os.PathLike,
    *,
    hours: float,
    seed: int = 0,
    workers: int = 2,
    soundfont_dir: str | None = None,
    scores: str = "all",
    instruments: str = "all",
    max_seconds: float = 120.0,
) -> list[str]:
    """Makes the corpus, or what is missing of it.

    Args:
        output: folder, made if need be.
        hours: of training sound; held-out items come on top.
        seed: of everything.
        workers: processes; 1 works in this one.
        soundfont_dir: folder to look for SoundFonts in first.
        scores: "all" or "generated".
        instruments: "all" or "synthetic".
        max_seconds: longest item.

    Returns:
        Reasons of the pieces that could not be read and were replaced or left out.

    Raises:
        piano_scores.ScoreError: music21 is missing.
        soundfont.SoundFontError: fluidsynth or a SoundFont is missing.
        ValueError: the folder holds a corpus made with other settings.
    """
    sampled = instruments == "all"
    if sampled:
        soundfont.require_fluidsynth()
        for name in (piano_plans.TIM, piano_plans.FLUID):
            soundfont.find_soundfont(name, soundfont_dir)
    names = piano_scores.list_pieces() if scores == "all" else ()
    test = [name for name in names if piano_scores.is_test_piece(name)]
    validation = [name for name in names if piano_scores.is_validation_piece(name)]
    train = sorted(set(names) - set(test) - set(validation))
    root = pathlib.Path(output)
    for folder in (*piano_plans.SPLITS, ".cache/items", ".cache/scores"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    common = {"hours": hours, "seed": seed, "sampled": sampled, "max_seconds": max_seconds}
    kept = {"seed": seed, "scores": scores, "instruments": instruments, "max_seconds": max_seconds}
    _check_same_corpus(root, kept)
    plans = [
        *piano_plans.plan_held_out("test", pieces=test, **common),
        *piano_plans.plan_held_out("validation", pieces=validation, **common),
        *piano_plans.plan_training(pieces=train, **common),
    ]
    settings = Settings(str(root), seed, soundfont_dir)
    rows, failures = [], []
    jobs = [(plan, settings) for plan in plans]
    for row, failed in _run(jobs, workers):
        failures.extend(failed)
        if row is not None:
            rows.append(row)
    rows.sort(key=lambda row: (piano_plans.SPLITS.index(row["split"]), row["midi_filename"]))
    _write_csv(root / "corpus.csv", rows)
    return sorted(set(failures))


def _run(jobs: list, workers: int):
    """Yields the results of `_make_item` under a progress bar."""
    with _progress() as bar:
        task = bar.add_task("items", total=len(jobs))
        if workers == 1:
            for job in jobs:
                yield _make_item(job)
                bar.advance(task)
            return
        # One thread a process: the matrix products are small, and the processes fill the cores.
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = "1"
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for result in pool.imap_unordered(_make_item, jobs):
                yield result
                bar.advance(task)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("output", None, "Folder to write the corpus to.", required=True)
    flags.DEFINE_float("hours", 10.0, "Hours of training sound.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "The same seed gives the same corpus.", lower_bound=0)
    flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
    flags.DEFINE_string("soundfont_dir", None, "Folder to look for SoundFonts in first.")
    flags.DEFINE_enum(
        "scores",
        "all",
        ["all", "generated"],
        "all: music21's corpus and generated polyphony in equal parts.",
    )
    flags.DEFINE_enum(
        "instruments",
        "all",
        ["all", "synthetic"],
        "all: SoundFonts and the project's own pianos in equal parts.",
    )
    flags.DEFINE_float("max_seconds", 120.0, "Longest item.", lower_bound=5.0)


def main(_: list[str]) -> None:
    """Runs the command."""
    try:
        failures = make_corpus(
            flags.FLAGS.output,
            hours=flags.FLAGS.hours,
            seed=flags.FLAGS.seed,
            workers=flags.FLAGS.workers,
            soundfont_dir=flags.FLAGS.soundfont_dir,
            scores=flags.FLAGS.scores,
            instruments=flags.FLAGS.instruments,
            max_seconds=flags.FLAGS.max_seconds,
        )
    except (piano_scores.ScoreError, soundfont.SoundFontError, ValueError, OSError) as error:
        raise SystemExit(f"make_piano_corpus: {error}") from None
    if failures:
        print(f"{len(failures)} pieces could not be read and were replaced: {failures[0]}")
    print(f"Corpus: {pathlib.Path(flags.FLAGS.output) / 'corpus.csv'}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
