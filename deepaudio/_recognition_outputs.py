"""What a recognition is written as: text, JSON, subtitles, CTM."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from deepaudio._cli_common import replacing
from deepaudio.decoding import Word
from deepaudio.tasks.recognizer import Recognition

# A subtitle: what can be read in the time that it stands.
_CUE_SECONDS = 6.0
_CUE_CHARACTERS = 84
_SHORTEST_CUE_SECONDS = 0.5


def as_row(found: Recognition) -> dict:
    """JSON types: `text`, `words`, and `segments` with their alternatives.

    Times are seconds to the millisecond; confidences lie in [0, 1].
    """
    return {
        "text": found.text,
        "words": [_word_row(word) for word in found.words],
        "segments": [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "alternatives": [
                    {"text": transcript.text, "score": round(transcript.score, 4)}
                    for transcript in segment.transcripts
                ],
            }
            for segment in found.segments
        ],
    }


def _word_row(word: Word) -> dict:
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "confidence": round(word.confidence, 4),
    }


def write_txt(path: Path, found: Recognition, source: Path) -> None:
    """Writes the text, a line a segment."""
    lines = [segment.transcripts[0].text + "\n" for segment in found.segments]
    _write(path, "".join(lines))


def write_json(path: Path, found: Recognition, source: Path) -> None:
    """Writes what `--json` prints of the file."""
    row = {"file": str(source), **as_row(found)}
    _write(path, json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def write_srt(path: Path, found: Recognition, source: Path) -> None:
    """Writes SubRip subtitles."""
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(cues_of(found), start=1)
    ]
    _write(path, "\n".join(cues))


def write_vtt(path: Path, found: Recognition, source: Path) -> None:
    """Writes WebVTT subtitles."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n"
        for start, end, text in cues_of(found)
    ]
    _write(path, "\n".join(["WEBVTT\n", *cues]))


def write_ctm(path: Path, found: Recognition, source: Path) -> None:
    """Writes NIST's time-marked format: file, channel, begin, duration, word, confidence."""
    name = source.stem.replace(" ", "_")
    lines = [
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.3f}\n"
        for word in found.words
    ]
    _write(path, "".join(lines))


WRITERS: dict[str, Callable[[Path, Recognition, Path], None]] = {
    "txt": write_txt,
    "json": write_json,
    "srt": write_srt,
    "vtt": write_vtt,
    "ctm": write_ctm,
}


def cues_of(found: Recognition) -> Iterator[tuple[float, float, str]]:
    """Subtitles: (start, end) in seconds, in order and not overlapping, and text."""
    cues: list[list[Word]] = []
    for segment in found.segments:
        cue: list[Word] = []
        for word in segment.transcripts[0].words:
            text = found.word_separator.join(w.text for w in [*cue, word])
            too_long = cue and word.end - cue[0].start > _CUE_SECONDS
            if cue and (too_long or len(text) > _CUE_CHARACTERS):
                cues.append(cue)
                cue = []
            cue.append(word)
        if cue:
            cues.append(cue)
    for cue, following in zip(cues, [*cues[1:], None], strict=True):
        start = max(cue[0].start, 0.0)
        end = max(cue[-1].end, start + _SHORTEST_CUE_SECONDS)
        if following:
            end = max(min(end, following[0].start), start)
        yield start, end, found.word_separator.join(word.text for word in cue)


def _clock(seconds: float, comma: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{comma}{milliseconds % 1000:03}"


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
