"""Makes a corpus of speech with exact transcripts, from free synthesizers and recorded prompts.

    python -m experiments.make_speech_corpus --output DIR [--hours 6] [--seed 0] [--workers 2]
        [--language en|cmn] [--prompts auto|on|off] [--held_out 200] [--text_lines 100000]

DIR/SPLIT.jsonl are manifests (JSON lines with `audio_filepath` relative to the manifest,
`duration`, `text`, `speaker`, `engine`, `kind`), DIR/SPLIT/ their 16 kHz mono 16-bit FLAC files,
DIR/texts.txt the text for language models. The same seed and the same programs give the same
corpus, but for the last bits of pico's samples; a run that was stopped continues; a longer run
begins with the items of a shorter one.

| split | sentences | voices |
|---|---|---|
| train | for training | espeak-ng, flite and pico (the extra `speech`) by 2 : 2 : 1 |
| validation | held out | those of training |
| test_speakers | held out | espeak-ng variants that training never hears |
| test_engine | held out | festival: ked, unheard, and kal and slt, two of flite's speakers |
| prompts_train, prompts_validation, prompts_test | Asterisk's | a woman, recorded |

Sentences belong to a split by their hash. Single words are spoken alone in training even where
prompts_test has them, by another voice, and stand in texts.txt, which has none of the held-out
sentences.
Mandarin (`--language cmn`) has train, validation and test_speakers, by espeak-ng alone.
"""

import collections
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import zlib

import numpy as np
from absl import flags

from deepaudio.data import speech_prompts, speech_synthesis, speech_texts
from experiments import _arguments

SAMPLE_RATE = speech_synthesis.SAMPLE_RATE
# What a split's sentences are, and its number in the seed.
_SPLITS = {
    "train": ("train", 0),
    "validation": ("validation", 1),
    "test_speakers": ("test", 2),
    "test_engine": ("test", 3),
}
_PROMPT_SPLITS = ("train", "validation", "test")
_BLOCK_SECONDS = 120.0
_BLOCK_UTTERANCES = 25
_SHORTEST, _LONGEST = 0.3, 12.0
_LONGEST_PROMPT = 16.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every worker needs to know."""

    output: str
    seed: int
    language: str
    without: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Block:
    """Utterances made together: a number of them, or in training two minutes.

    Attributes:
        split: of the corpus.
        index: within the split, from 0.
        count: of utterances; None in training.
        blocks: of the split; held-out sentences go to one of them each, so that none comes twice.
    """

    split: str
    index: int
    count: int | None
    blocks: int

    def takes(self, text: str) -> bool:
        """Whether a sentence may stand in this block."""
        return self.count is None or zlib.crc32(text.encode()) % self.blocks == self.index


def _write(path: pathlib.Path, samples: np.ndarray) -> None:
    import soundfile

    beside = path.with_name(path.name + ".part")
    soundfile.write(beside, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    os.replace(beside, path)


def _write_lines(path: pathlib.Path, lines) -> None:
    beside = path.with_name(path.name + ".part")
    with open(beside, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(beside, path)


def _recorded(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts silence around an utterance and sets its level."""
    before, after = (rng.uniform(0.05, 0.35, 2) * SAMPLE_RATE).astype(int)
    peak = 10.0 ** (rng.uniform(-20.0, -1.0) / 20.0)
    return np.pad(samples * np.float32(peak / np.abs(samples).max()), (before, after))


def _utterance(
    block: Block, settings: Settings, rng: np.random.Generator, said: set[str]
) -> tuple[np.ndarray, dict]:
    """Draws sentences and voices until one has a fit length and is not in `said`."""
    while True:
        sentence = speech_texts.draw(
            rng,
            _SPLITS[block.split][0],
            language=settings.language,
            without=settings.without,
        )
        if sentence.text in said or not block.takes(sentence.text):
            continue
        voice = speech_synthesis.draw_voice(rng, block.split, settings.language)
        samples = _recorded(speech_synthesis.speak(sentence.spoken, voice), rng)
        duration = len(samples) / SAMPLE_RATE
        if _SHORTEST <= duration <= _LONGEST:
            return samples, {
                "duration": duration,
                "text": sentence.text,
                "speaker": voice.speaker,
                "engine": voice.engine,
                "kind": sentence.kind,
            }


def make_block(block: Block, settings: Settings) -> list[dict]:
    """Makes one block unless it is there already.

    Args:
        block: what to make.
        settings: where, and from which seed.

    Returns:
        Its lines of the manifest.
    """
    root = pathlib.Path(settings.output)
    record = root / ".cache" / f"{block.split}-{block.index:05d}.json"
    if record.exists():
        return json.loads(record.read_text("utf-8"))
    rng = np.random.default_rng([settings.seed, _SPLITS[block.split][1], block.index])
    rows, seconds = [], 0.0
    while seconds < _BLOCK_SECONDS if block.count is None else len(rows) < block.count:
        said = set() if block.count is None else {row["text"] for row in rows}
        samples, row = _utterance(block, settings, rng, said)
        name = f"{block.split}/{block.index:05d}-{len(rows):03d}.flac"
        _write(root / name, samples)
        rows.append({"audio_filepath": name, **row})
        seconds += row["duration"]
    _write_lines(record, [json.dumps(rows, ensure_ascii=False)])
    return rows


def _make_block(arguments: tuple[Block, Settings]) -> tuple[str, list[dict]]:
    return arguments[0].split, make_block(*arguments)


def _plan(hours: float, held_out: int, language: str) -> list[Block]:
    """Lists the blocks, those of training last."""
    counts = {"validation": 3 * held_out // 4, "test_speakers": held_out, "test_engine": held_out}
    if language != "en":
        del counts["test_engine"]
    blocks = []
    for split, count in counts.items():
        starts = range(0, count, _BLOCK_UTTERANCES)
        blocks += [
            Block(split, index, min(_BLOCK_UTTERANCES, count - start), len(starts))
            for index, start in enumerate(starts)
        ]
    number = math.ceil(hours * 3600.0 / _BLOCK_SECONDS)
    return blocks + [Block("train", index, None, number) for index in range(number)]


def _check_same_corpus(root: pathlib.Path, settings: dict) -> None:
    """Refuses to mix two corpora in one folder; only the hours may differ."""
    path = root / ".cache" / "settings.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored != settings:
            raise ValueError(f"{root} holds a corpus made with {stored}, not {settings}")
    path.write_text(json.dumps(settings))


def _decode(path: pathlib.Path) -> np.ndarray:
    run = subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            path,
            "-ar",
            str(SAMPLE_RATE),
            "-ac",
            "1",
            "-f",
            "s16le",
            "-",
        ],
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise ValueError(f"{path}: {run.stderr.decode(errors='replace').strip()}")
    return np.frombuffer(run.stdout, "<i2").astype(np.float32) / np.float32(32768.0)


def _copy_prompts(
    root: pathlib.Path, prompts: list[speech_prompts.Prompt]
) -> tuple[dict[str, list[dict]], int]:
    """Converts the prompts; returns the manifests' lines by split and how many were too long."""
    rows = {f"prompts_{split}": [] for split in _PROMPT_SPLITS}
    too_long = 0
    for split in rows:
        (root / split).mkdir(exist_ok=True)
    for prompt in prompts:
        split = f"prompts_{prompt.split}"
        name = f"{split}/{prompt.name.replace('/', '-')}.flac"
        samples = _decode(prompt.path)
        if len(samples) > _LONGEST_PROMPT * SAMPLE_RATE:
            too_long += 1
            continue
        _write(root / name, samples)
        rows[split].append(
            {
                "audio_filepath": name,
                "duration": len(samples) / SAMPLE_RATE,
                "text": prompt.text,
                "speaker": "allison",
                "engine": "recorded",
                "kind": prompt.kind,
            }
        )
    return rows, too_long


def make_corpus(
    output: str | os.PathLike,
    *,
    hours: float,
    seed: int = 0,
    workers: int = 2,
    language: str = "en",
    prompts: str = "auto",
    held_out: int = 200,
    text_lines: int = 100_000,
) -> list[str]:
    """Makes the corpus, or what is missing of it.

    Args:
        output: folder, made if need be.
        hours: of training sound; held-out items come on top.
        seed: of everything.
        workers: processes; 1 works in this one.
        language: "en" or "cmn".
        prompts: "on" for the recorded prompts, "auto" for those where they are installed, "off".
        held_out: utterances of each test split; validation has three quarters of that.
        text_lines: generated sentences in texts.txt.

    Returns:
        What its maker should know: texts that are not installed, prompts left out.

    Raises:
        speech_synthesis.SpeechSynthesisError: a synthesizer is missing or failed.
        ValueError: the folder holds a corpus made with other settings, or prompts are missing.
    """
    english = language == "en"
    engines = ("espeak", "flite", "pico", "festival") if english else ("espeak",)
    speech_synthesis.require_engines(engines)
    recorded, notes = _find_prompts(prompts if english else "off")
    # Words alone are vocabulary; sentences are what is held out.
    without = frozenset(p.text for p in recorded if p.split != "train" and " " in p.text)
    library = list(speech_texts.read_library()) if english else []
    if english and not library:
        notes.append("no texts (bible-kjv, wordnet-base, fortunes) are installed: grammar only")
    root = pathlib.Path(output)
    blocks = _plan(hours, held_out, language)
    for folder in (*{block.split for block in blocks}, ".cache"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    kept = {"seed": seed, "language": language, "held_out": held_out}
    kept |= {"prompts": len(recorded), "texts": library}
    _check_same_corpus(root, kept)
    manifests = collections.defaultdict(list)
    settings = Settings(str(root), seed, language, without)
    for split, rows in _run([(block, settings) for block in blocks], workers):
        manifests[split] += rows
    if recorded:
        copied, too_long = _copy_prompts(root, recorded)
        manifests.update(copied)
        if too_long:
            notes.append(f"{too_long} prompts left out: longer than {_LONGEST_PROMPT:g} s")
    for split, rows in manifests.items():
        rows.sort(key=lambda row: row["audio_filepath"])
        _write_lines(root / f"{split}.jsonl", (json.dumps(row, ensure_ascii=False) for row in rows))
    # A language model with "seven" alone but not "eight", a test item, would rule "eight" out.
    unseen = {
        row["text"]
        for split, rows in manifests.items()
        for row in rows
        if "train" not in split and (row["engine"] != "recorded" or " " in row["text"])
    }
    rng = np.random.default_rng([seed, len(_SPLITS)])
    lines = speech_texts.training_lines(rng, text_lines, language=language, without=unseen)
    _write_lines(root / "texts.txt", lines)
    return notes


def _find_prompts(wanted: str) -> tuple[list[speech_prompts.Prompt], list[str]]:
    """Lists the prompts, and says what was left out of them and why."""
    if wanted == "off":
        return [], []
    prompts, left_out = speech_prompts.read_prompts()
    if not prompts or shutil.which("ffmpeg") is None:
        reason = (
            f"no prompts from {speech_prompts.SOUNDS}: install Debian's ffmpeg, "
            "asterisk-core-sounds-en-g722 and asterisk-core-sounds-en"
        )
        if wanted == "on":
            raise ValueError(reason)
        return [], [reason]
    return prompts, [f"{count} prompts left out: {why}" for why, count in left_out.items()]


def _run(jobs: list, workers: int):
    """Yields the results of `_make_block` under a progress bar."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar:
        task = bar.add_task("blocks", total=len(jobs))
        if workers == 1:
            for job in jobs:
                yield _make_block(job)
                bar.advance(task)
            return
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for result in pool.imap_unordered(_make_block, jobs):
                yield result
                bar.advance(task)


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("output", None, "Folder to write the corpus to.", required=True)
    flags.DEFINE_float("hours", 6.0, "Hours of training sound.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "The same seed gives the same corpus.", lower_bound=0)
    flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
    flags.DEFINE_enum("language", "en", ["en", "cmn"], "English or Mandarin.")
    flags.DEFINE_enum(
        "prompts", "auto", ["auto", "on", "off"], "Recorded prompts; auto: where installed."
    )
    flags.DEFINE_integer(
        "held_out", 200, "Utterances of each test split; validation: 3/4.", lower_bound=4
    )
    flags.DEFINE_integer("text_lines", 100_000, "Generated lines of texts.txt.", lower_bound=0)


def main(_: list[str]) -> None:
    """Runs the command."""
    names = ("hours", "seed", "workers", "language", "prompts", "held_out", "text_lines")
    try:
        notes = make_corpus(flags.FLAGS.output, **{name: flags.FLAGS[name].value for name in names})
    except (speech_synthesis.SpeechSynthesisError, ValueError, OSError) as error:
        raise SystemExit(f"make_speech_corpus: {error}") from None
    for note in notes:
        print(note)
    print(f"Corpus: {flags.FLAGS.output}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
