"""A server with small networks of random weights, compiled once for all tests of this folder."""

import json
import time

import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

from deepaudio import audio, models
from deepaudio.data.alphabet import ENGLISH
from deepaudio.models import Convolution, DeepSpeech2Config, OnsetsAndFramesConfig
from deepaudio.serving import services
from deepaudio.serving.app import Server
from deepaudio.serving.settings import Access, Limits
from deepaudio.tasks import vocoding
from deepaudio.tasks.recognition import RecognitionConfig, RecognitionTask
from deepaudio.tasks.recognizer import load_recognizer
from deepaudio.tasks.transcription import TranscriptionConfig, TranscriptionTask

RATE = 16000
LIMITS = Limits(max_body_bytes=2**20, max_seconds=20.0, max_streams=8, requests_per_minute=0)


def drawn(task, scale=0.1):
    """Variables from numpy alone, as compiling `init` would take longer than all the rest."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def recognizer_weights(path):
    """A network that says letters where it is loud and nothing where it is silent."""
    config = RecognitionConfig(
        front_end=audio.LogMelConfig(n_mels=8),
        model=DeepSpeech2Config(
            num_outputs=len(ENGLISH),
            num_bands=8,
            convolutions=(Convolution(2, 5, 3, 3, 2),),
            cell="gru",
            layers=1,
            units=16,
            bidirectional=False,
            lookahead=2,
            dense_units=0,
            batch_norm=False,
        ),
        alphabet=ENGLISH,
    )
    variables = drawn(RecognitionTask(config), 0.6)
    params = variables["params"]
    # Without sound nothing but these biases is left, and without them nothing.
    params["convolution_0"]["conv"]["bias"][:] = 0
    params["recurrent_0"]["input"]["bias"][:] = 0
    params["logits"]["bias"][:] = 0
    params["logits"]["bias"][0] = 2.0
    decoding = {"beam_width": 8, "alpha": 0.0, "beta": 0.0}
    models.save_weights(path, variables, {**config.to_dict(), "decoding": decoding})


def transcriber_weights(path):
    config = TranscriptionConfig(
        front_end=audio.LogMelConfig(n_mels=32),
        model=OnsetsAndFramesConfig(num_bands=32, channels=(2, 2, 2), dense_units=8, lstm_units=4),
    )
    models.save_weights(path, drawn(TranscriptionTask(config)), config.to_dict())


def vocoder_weights(path):
    model = vocoding.make_model_config(
        "parallel_wavenet", conditioning=4, upsample=(16, 16), context=1, filter_width=2,
        cycle=3, residual=6, gate=6, flows=(3,), source=6, source_layers=1,
    )  # fmt: skip
    task = vocoding.StudentTask(vocoding.VocodingConfig(model=model))
    models.save_weights(path, drawn(task), task.config.to_dict())


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """The models' files."""
    folder = tmp_path_factory.mktemp("weights")
    made = {
        "recognizer": recognizer_weights,
        "transcriber": transcriber_weights,
        "vocoder": vocoder_weights,
    }
    for name, make in made.items():
        make(folder / f"{name}.safetensors")
    return {name: str(folder / f"{name}.safetensors") for name in made}


@pytest.fixture(scope="session")
def loaded(weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "_LIVE_SIZES", (1, 4))
        patch.setattr(services, "_FILE_SIZES", (1, 2))
        made = services.Services(services.Models(**weights, decoders=0), LIMITS)
        yield made
        made.stop()


@pytest.fixture(scope="session")
def single(weights):
    """The recognizer of one stream, to compare with."""
    return load_recognizer(weights["recognizer"])


@pytest.fixture
def client(loaded):
    """A function from limits and access to a client of a server."""
    clients = []

    def make(limits=LIMITS, access=None):
        clients.append(TestClient(Server(loaded, limits, access or Access()).app))
        return clients[-1].__enter__()

    yield make
    for one in clients:
        one.__exit__(None, None, None)


@pytest.fixture
def noise(rng):
    """A function from seconds to a sound that is loud for a while, then silent, and so on."""

    def make(seconds):
        samples = rng.normal(0, 0.2, round(seconds * RATE))
        swell = np.sin(np.arange(len(samples)) * 2 * np.pi / (4 * RATE)) > 0
        return (np.clip(samples * swell, -1, 1) * 32767).astype("<i2")

    return make


@pytest.fixture
def eventually():
    """Waits until a condition holds."""

    def wait(condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    return wait


def converse(socket, pcm, size, rate=RATE, **config):
    """Speaks by vosk-server's protocol, in lock step; returns all answers."""
    socket.send_text(json.dumps({"config": {"sample_rate": rate, **config}}))
    answers = []
    for first in range(0, len(pcm), size):
        socket.send_bytes(pcm[first : first + size].tobytes())
        answers.append(json.loads(socket.receive_text()))
    socket.send_text('{"eof" : 1}')
    answers.append(json.loads(socket.receive_text()))
    return answers
