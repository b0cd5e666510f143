"""How a recognition model reads its words: chosen on validation, kept with its weights."""

from typing import Any

from deepaudio import data, evaluation
from deepaudio.decoding import BeamSearch, choose_weights, load_language_model
from deepaudio.models import shipped_file
from deepaudio.tasks.recognition import RecognitionTask
from experiments import _speech_scores

_ALPHAS = (0.4, 0.6, 0.8, 1.0, 1.3)
_BETAS = (-0.5, 0.0, 0.5, 1.0, 1.5)
# Narrow, for the grid has dozens of points.
_GRID_BEAM = 30
# In quiet a validation split of known voices is easier than what is to come, and wants too little
# of the language model; so it is also heard in noise.
_SNRS_DB = (None, 10.0)


def best_decoding(
    task: RecognitionTask,
    variables: Any,
    utterances: list[data.Utterance],
    *,
    language_model: str,
) -> dict[str, Any]:
    """The weights of a language model with the lowest word error rate on some utterances.

    Each is heard in quiet and in noise, and the errors of both are pooled.

    Args:
        task: The model.
        variables: Its variables.
        utterances: On which to choose; not those on which the choice is judged.
        language_model: A file, or the name of a shipped one; kept by this name.

    Returns:
        What `load_recognizer` reads from the weights: `language_model`, `alpha`, `beta`.
    """
    heard = [
        pair
        for snr_db in _SNRS_DB
        for pair in _speech_scores.log_probs_of(task, variables, utterances, snr_db=snr_db)
    ]
    model = load_language_model(shipped_file(language_model))
    found = choose_weights(
        BeamSearch(task.config.alphabet, model, beam_width=_GRID_BEAM),
        heard,
        _word_error_rate,
        alphas=_ALPHAS,
        betas=_BETAS,
    )
    return {"language_model": language_model, "alpha": found.alpha, "beta": found.beta}


def _word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    return evaluation.score_texts(references, hypotheses)["metric/wer"]
