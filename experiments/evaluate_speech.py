"""Scores a recognition model on a corpus: word and character error rates.

    python -m experiments.evaluate_speech --data_dir=CORPUS                 # the shipped weights
    python -m experiments.evaluate_speech --data_dir=CORPUS --workdir=RUN   # a run's newest
    python -m experiments.evaluate_speech --data_dir=CORPUS --snr=5 --splits=test_engine

The corpus is a folder of manifests, SPLIT.jsonl, as `experiments.make_speech_corpus` makes it;
with `--dataset` LibriSpeech or Common Voice. Texts are normalized by the model's alphabet, both
sides alike; errors are pooled over a split. Each split has a row for the likeliest path and, with a
language model, one for the beam search; `SPLIT:NAME` takes the utterances of one kind or speaker
only, as in prompts_test:digits. With `--record=NAME` the figures also go to
`experiments/records/NAME.json`.
"""

import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from rich.console import Console
from rich.table import Table

from deepaudio import data
from deepaudio.decoding import BeamSearch, load_language_model
from deepaudio.models import shipped_file
from deepaudio.tasks.recognizer import DEFAULT_WEIGHTS, load_model
from experiments import _arguments, _speech_scores, records, restore

_READERS = {
    "manifest": lambda root, split: data.read_manifest(Path(root) / f"{split}.jsonl"),
    "librispeech": data.read_librispeech,
    "common_voice": data.read_common_voice,
}


def read_split(data_dir: str, name: str, dataset: str = "manifest") -> list[data.Utterance]:
    """The utterances of SPLIT, SPLIT:KIND+KIND or SPLIT:SPEAKER.

    Raises:
        ValueError: There are none.
    """
    split, _, wanted = name.partition(":")
    found = _READERS[dataset](data_dir, split)
    if wanted:
        found = [u for u in found if u.kind in wanted.split("+") or u.speaker == wanted]
    if not found:
        raise ValueError(f"{data_dir}: no utterances in {name!r}")
    return found


def evaluate(
    task: Any,
    variables: Any,
    splits: dict[str, list[data.Utterance]],
    *,
    search: BeamSearch | None,
    snrs: list[float | None],
) -> list[dict[str, Any]]:
    """Error rates of a model, a row for each split, noise and way of decoding."""
    rows = []
    frame_seconds = task.config.frame_seconds
    for name, utterances in splits.items():
        for snr in snrs:
            heard = _speech_scores.log_probs_of(task, variables, utterances, snr_db=snr)
            common = {
                "split": name,
                "snr_db": "none" if snr is None else snr,
                "utterances": len(heard),
            }
            greedy = _speech_scores.greedy_texts(heard, task.config.alphabet, frame_seconds)
            rows.append({**common, "decoding": "greedy", **_speech_scores.score(heard, greedy)})
            if search is not None:
                texts = _speech_scores.beam_texts(heard, search, frame_seconds)
                rows.append({**common, "decoding": "beam", **_speech_scores.score(heard, texts)})
    return [{k.removeprefix("metric/"): v for k, v in row.items()} for row in rows]


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    columns = ("split", "snr_db", "decoding", "utterances", "words", "wer", "cer")
    for column in columns:
        left = column in ("split", "decoding")
        table.add_column(column.replace("_", " "), justify="left" if left else "right")
    for row in rows:
        cells = [row[column] for column in columns]
        cells[4] = int(cells[4])
        cells[5:] = [f"{100 * value:.2f} %" for value in cells[5:]]
        table.add_row(*map(str, cells))
    Console().print(table)


def _evaluate() -> None:
    given = flags.FLAGS
    if given.workdir:
        task, variables = restore.restore(given.workdir, given.step)
        decoding = {}
    else:
        task, variables, decoding = load_model(given.weights)
    search = None
    path = given.language_model or decoding.get("language_model")
    if path and given.language_model != "none":
        search = BeamSearch(
            task.config.alphabet,
            load_language_model(shipped_file(path)),
            alpha=decoding.get("alpha", 0.5) if given.alpha is None else given.alpha,
            beta=decoding.get("beta", 1.0) if given.beta is None else given.beta,
            beam_width=given.beam,
        )
    splits = {
        name: read_split(given.data_dir, name, given.dataset)[: given.limit]
        for name in given.splits
    }
    snrs = [None if text == "none" else float(text) for text in given.snr]
    rows = evaluate(task, variables, splits, search=search, snrs=snrs)
    _print_table(Path(given.data_dir).name, rows)
    if given.record:
        records.write_record(
            given.record,
            description="Error rates of speech recognition, pooled over each split",
            command=None,
            results=rows,
        )


def _define_flags() -> None:
    """Defines the command's flags; not on import, as other launchers use the same names."""
    flags.DEFINE_string("data_dir", None, "The corpus's folder.", required=True)
    flags.DEFINE_enum("dataset", "manifest", list(_READERS), "The corpus's layout.")
    flags.DEFINE_list(
        "splits",
        ["test_speakers", "test_engine", "prompts_test"],
        "Which parts of it, with commas between; SPLIT:KIND+KIND or SPLIT:SPEAKER for a part.",
    )
    flags.DEFINE_string("weights", DEFAULT_WEIGHTS, "Shipped weights, or a file.")
    flags.DEFINE_string("workdir", None, "A training run to score instead of weights.")
    flags.DEFINE_integer("step", None, "Which of the run's checkpoints; else the newest.")
    flags.DEFINE_string("language_model", None, 'A file, or "none"; else the weights\' own.')
    flags.DEFINE_float("alpha", None, "Weight of the language model; else the weights' own.")
    flags.DEFINE_float("beta", None, "Bonus a word; else the weights' own.")
    flags.DEFINE_integer("beam", 100, "Prefixes kept.", lower_bound=1)
    flags.DEFINE_list("snr", ["none"], "Noise to add, in dB, with commas between; none for none.")
    flags.DEFINE_integer("limit", None, "Score only so many utterances a split.", lower_bound=1)
    flags.DEFINE_string("record", None, "Also write experiments/records/NAME.json.")


def main(argv: list[str]) -> None:
    """Reads the flags and scores."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        _evaluate()
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate_speech: {error}")


if __name__ == "__main__":
    _arguments.run(main, _define_flags)
