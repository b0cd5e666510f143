"""Cuts long recordings with known texts into utterances for training.

    python -m experiments.align_speech --manifest=BOOKS/long.jsonl --output=CORPUS --split=train

Deep Speech 2's way to data (arXiv 1512.02595, section 5): a model trained before aligns each text
with its recording by CTC's Viterbi path, recordings are cut at long stretches of blanks, and
utterances whose text is hardly what is said are left out. The manifest's lines have
`audio_filepath` and `text`, the whole text of that recording, of any length. Writes
OUTPUT/SPLIT/*.flac and the manifest OUTPUT/SPLIT.jsonl, which `experiments.train` reads; what was
left out stands in OUTPUT/SPLIT_left_out.jsonl with the reason.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile
from absl import app, flags
from rich.console import Console
from rich.progress import track

from deepaudio import audio, data
from deepaudio.decoding import Segment, align, good_segments, split_at_pauses
from deepaudio.tasks.recognizer import DEFAULT_WEIGHTS, Recognizer, load_recognizer
from experiments import _arguments

_BLOCK_SECONDS = 20


def cut(
    recognizer: Recognizer, utterance: data.Utterance, *, pause: float, longest: float
) -> list[Segment]:
    """The pieces of one recording.

    Args:
        recognizer: What aligns.
        utterance: The recording and its whole text.
        pause: Seconds of silence that make a cut.
        longest: Seconds of a piece; longer ones are cut at their longest pause.

    Raises:
        ValueError: The sound cannot be read, or the text does not fit into it.
    """
    text, _ = recognizer.alphabet.normalize(utterance.text)
    if not text:
        raise ValueError("no text that can be spelled")
    rate = recognizer.sample_rate
    blocks = audio.iter_blocks(
        utterance.audio_path, sample_rate=rate, block_samples=_BLOCK_SECONDS * rate
    )
    alignment = align(recognizer.log_probs(blocks), text, recognizer.alphabet)
    return split_at_pauses(
        alignment,
        recognizer.alphabet,
        frame_seconds=recognizer.frame_seconds,
        pause=pause,
        longest=longest,
    )


def align_corpus(
    recognizer: Recognizer,
    utterances: list[data.Utterance],
    output: Path,
    split: str,
    *,
    lowest_score: float,
    pause: float,
    shortest: float,
    longest: float,
) -> dict[str, float]:
    """Cuts, filters and writes all recordings.

    Args:
        recognizer: What aligns.
        utterances: Recordings and their whole texts.
        output: Folder to write to.
        split: Name of the manifest.
        lowest_score: Log probability a unit below which a piece is left out.
        pause: Seconds of silence that make a cut.
        shortest: Seconds; shorter pieces are left out.
        longest: Seconds; longer pieces are left out.

    Returns:
        `recordings`, `failed`, `kept`, `left_out` and `hours` kept.
    """
    folder = output / split
    folder.mkdir(parents=True, exist_ok=True)
    kept, left_out, failed = [], [], 0
    for number, utterance in enumerate(track(utterances, "aligning", console=Console(stderr=True))):
        try:
            segments = cut(recognizer, utterance, pause=pause, longest=longest)
        except ValueError as error:
            failed += 1
            left_out.append({"audio_filepath": str(utterance.audio_path), "reason": str(error)})
            continue
        good = good_segments(
            segments, lowest_score=lowest_score, shortest=shortest, longest=longest
        )
        for segment in segments:
            if segment not in good:
                left_out.append(
                    {
                        "audio_filepath": str(utterance.audio_path),
                        **_row(segment),
                        "reason": "score or length",
                    }
                )
        kept += _write(utterance, good, folder, number, recognizer.sample_rate)
    _write_lines(output / f"{split}.jsonl", kept)
    _write_lines(output / f"{split}_left_out.jsonl", left_out)
    return {
        "recordings": len(utterances),
        "failed": failed,
        "kept": len(kept),
        "left_out": len(left_out) - failed,
        "hours": sum(row["duration"] for row in kept) / 3600,
    }


def _row(segment: Segment) -> dict[str, Any]:
    return {
        "text": segment.text,
        "start": round(segment.start, 3),
        "duration": round(segment.end - segment.start, 3),
        "score": round(segment.score, 4),
    }


def _write(utterance, segments, folder, number, rate) -> Iterator[dict[str, Any]]:
    """Writes the pieces of one recording; yields their lines."""
    for piece, segment in enumerate(segments):
        count = round((segment.end - segment.start) * rate)
        samples = audio.read_span(
            utterance.audio_path,
            start=max(segment.start, 0.0),
            num_samples=count,
            sample_rate=rate,
        )
        path = folder / f"{number:05}-{piece:04}.flac"
        soundfile.write(path, samples, rate, subtype="PCM_16")
        yield {
            "audio_filepath": f"{folder.name}/{path.name}",
            **_row(segment),
            "duration": len(samples) / rate,
            "speaker": utterance.speaker,
        }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("manifest", None, "Recordings and their texts.", required=True)
    flags.DEFINE_string("output", None, "Folder to write to.", required=True)
    flags.DEFINE_string("split", "train", "Name of the manifest written.")
    flags.DEFINE_string("weights", DEFAULT_WEIGHTS, "Shipped weights, or a file.")
    flags.DEFINE_float("lowest_score", -1.5, "Log probability a unit of what is kept.")
    flags.DEFINE_float("pause", 0.5, "Seconds without a letter that make a cut.", lower_bound=0.0)
    flags.DEFINE_float("shortest", 0.5, "Seconds of the shortest piece kept.", lower_bound=0.0)
    flags.DEFINE_float("longest", 12.0, "Seconds of the longest piece.", lower_bound=1.0)


def main(argv: list[str]) -> None:
    """Reads the flags and cuts."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    given = flags.FLAGS
    try:
        found = align_corpus(
            load_recognizer(given.weights, use_language_model=False),
            data.read_manifest(given.manifest),
            Path(given.output),
            given.split,
            lowest_score=given.lowest_score,
            pause=given.pause,
            shortest=given.shortest,
            longest=given.longest,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"align_speech: {error}")
    print(
        f"{found['kept']} utterances, {found['hours']:.2f} hours, of {found['recordings']} "
        f"recordings; {found['left_out']} pieces left out, {found['failed']} recordings failed"
    )


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
