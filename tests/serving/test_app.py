import io
import json
import re
import struct

import jax
import numpy as np
import pytest
import soundfile

from deepaudio.data.notes import read_midi
from deepaudio.serving import services
from deepaudio.serving._accept import preferred
from deepaudio.serving._guard import Rate
from deepaudio.serving.settings import Access, Limits
from deepaudio.tasks.transcriber import load_transcriber
from deepaudio.tasks.vocoder import load_vocoder

from .conftest import LIMITS, RATE, converse

MIDI_PATH = "/v1/transcribe?onset_threshold=0.49&frame_threshold=0.49"


def wav(samples, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_floats(pcm):
    return pcm.astype(np.float32) / 32768


def test_recognize_says_what_the_recognizer_says(client, single, noise):
    pcm = noise(7)
    answer = client().post("/v1/recognize?n_best=2", content=wav(pcm))
    assert answer.status_code == 200
    found, expected = answer.json(), single.recognize([as_floats(pcm)])
    assert found["seconds"] == 7.0
    assert found["text"] == expected.text != ""
    assert [word["word"] for word in found["words"]] == [word.text for word in expected.words]
    assert [len(segment["alternatives"]) for segment in found["segments"]] == [2] * len(
        expected.segments
    )


def test_transcribe_gives_json_or_midi(client, weights, noise, tmp_path):
    pcm, served = noise(3), client()
    expected = load_transcriber(weights["transcriber"]).notes(
        [as_floats(pcm)], onset_threshold=0.49, frame_threshold=0.49
    )
    found = served.post(MIDI_PATH, content=wav(pcm)).json()
    assert found["seconds"] == 3.0
    assert [row["pitch"] for row in found["notes"]] == expected.pitches.tolist() != []
    for how in ({"headers": {"accept": "audio/midi"}}, {"params": {"format": "midi"}}):
        parameters = {"onset_threshold": 0.49, "frame_threshold": 0.49} | how.pop("params", {})
        answer = served.post("/v1/transcribe", params=parameters, content=wav(pcm), **how)
        assert answer.headers["content-type"] == "audio/midi"
        (tmp_path / "found.mid").write_bytes(answer.content)
        assert len(read_midi(tmp_path / "found.mid")) == len(expected)
    refused = served.post("/v1/transcribe", content=wav(pcm), headers={"accept": "text/html"})
    assert refused.status_code == 406


def test_a_multipart_file_is_as_good_as_a_body(client, noise):
    served, sound = client(), wav(noise(2))
    whole = served.post("/v1/recognize", content=sound).json()
    assert served.post("/v1/recognize", files={"file": ("x.wav", sound)}).json() == whole


def test_vocode_resynthesizes_and_reads_mel(client, weights, noise):
    pcm, served = noise(6), client()  # two pieces, between which a phase is handed on
    vocoder = load_vocoder(weights["vocoder"])
    mel = vocoder.mel(as_floats(pcm))
    expected = vocoder.vocode(mel, seed=3, temperature=0.5)
    for body in (wav(pcm), npy(mel)):
        answer = served.post("/v1/vocode?seed=3&temperature=0.5", content=body)
        assert answer.headers["content-type"] == "audio/wav"
        samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        assert rate == vocoder.convention.sample_rate
        np.testing.assert_allclose(samples, expected[: len(samples)], atol=1e-2)


def test_requests_together_are_answered_as_alone(client, noise):
    import concurrent.futures

    served = client()
    sounds = [wav(noise(1 + number)) for number in range(6)]
    paths = ["/v1/recognize", MIDI_PATH, "/v1/vocode"]
    jobs = [(path, sound) for sound in sounds for path in paths]

    def ask(job):
        answer = served.post(job[0], content=job[1])
        assert answer.status_code == 200, answer.text
        return answer.content

    alone = [ask(job) for job in jobs]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        together = list(pool.map(ask, jobs))
    for (path, _), one, other in zip(jobs, alone, together, strict=True):
        if path == "/v1/recognize":
            assert json.loads(one)["text"] == json.loads(other)["text"]
        elif path == "/v1/vocode":
            first, second = (np.frombuffer(c[44:], "<i2").astype(int) for c in (one, other))
            # A hundredth of full scale: pulses are steep, and batches round their phase.
            np.testing.assert_allclose(first, second, atol=330)
        else:
            assert len(json.loads(one)["notes"]) == len(json.loads(other)["notes"])


def test_nothing_is_compiled_while_serving(client, noise):
    served, compiled = client(), []
    served.post("/v1/vocode", content=wav(noise(1)))  # the front end of a sound is compiled once

    def listen(name, seconds, **_):
        if name.endswith("backend_compile_duration"):
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for seconds in (1.0, 5.3):
            for path in ("/v1/recognize", "/v1/transcribe", "/v1/vocode"):
                assert served.post(path, content=wav(noise(seconds))).status_code == 200
        with served.websocket_connect("/") as socket:
            converse(socket, noise(4), 5000)
        assert not compiled
        jax.jit(lambda x: x * 3 + 1)(np.arange(3))
        assert compiled  # or the listener would hear nothing
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/recognize", b"", 400, "empty"),
        ("/v1/recognize", b"no sound at all", 422, "not a sound file"),
        ("/v1/recognize", wav(np.zeros(0)), 422, "holds no samples"),
        ("/v1/recognize", wav(np.zeros(4000))[:3000], 422, "truncated"),
        ("/v1/recognize", wav(np.zeros(21 * 8000), 8000), 422, "longer than 20 s"),
        ("/v1/transcribe", wav(np.zeros(21 * 8000), 8000), 422, "longer than 20 s"),
        ("/v1/vocode", wav(np.zeros(21 * 8000), 8000), 422, "longer than 20 s"),
        ("/v1/recognize?n_best=0", wav(np.zeros(100)), 400, "n_best='0' must be a whole number"),
        ("/v1/recognize?n_best=1e9", wav(np.zeros(100)), 400, "n_best"),
        ("/v1/transcribe?format=xml", wav(np.zeros(100)), 400, "is not one of json, midi"),
        ("/v1/transcribe?onset_threshold=1", wav(np.zeros(100)), 400, "onset_threshold='1'"),
        ("/v1/transcribe?frame_threshold=nan", wav(np.zeros(100)), 400, "frame_threshold"),
        ("/v1/vocode?speaker=7", wav(np.zeros(1000)), 422, "speaker"),
        ("/v1/vocode?temperature=-1", wav(np.zeros(1000)), 400, "temperature"),
        ("/v1/vocode", b"\x93NUMPY\x01\x00", 422, "not an array"),
        ("/v1/vocode", npy(np.zeros((3, 3))), 422, "bands"),
        ("/v1/vocode", npy(np.zeros((10**5, 80), np.float32))[:2000], 422, "not an array"),
        ("/v1/vocode", npy(np.array([{}])), 422, "not an array"),
        ("/v1/recognize", bytes(2**20 + 1), 413, "larger than 1048576 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(client, path, body, status, reason):
    answer = client().post(path, content=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert reason in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_body_of_unknown_length_is_counted(client):
    answer = client().post("/v1/recognize", content=(bytes(2**16) for _ in range(17)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no boundary at all", "multipart body"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n", "no file"),
    ],
)
def test_a_broken_multipart_body_is_refused(client, body, reason):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client().post("/v1/recognize", content=body, headers=headers)
    assert answer.status_code == 400 and reason in answer.json()["error"]


def test_without_a_vocoder_the_reason_is_told(client, loaded, monkeypatch):
    monkeypatch.setattr(loaded, "vocode", services.Task(None, None, "no vocoder is installed"))
    served = client()
    answer = served.post("/v1/vocode", content=wav(np.zeros(100)))
    assert (answer.status_code, answer.json()["error"]) == (503, "no vocoder is installed")
    task = served.get("/healthz").json()["tasks"]["vocode"]
    assert task == {
        "available": False,
        "model": None,
        "reason": "no vocoder is installed",
        "sample_rate": None,
    }


def test_a_deadline_is_kept(client, loaded, noise, eventually):
    served = client(Limits(deadline_seconds=0.001, requests_per_minute=0))
    answer = served.post("/v1/recognize", content=wav(noise(10)))
    assert answer.status_code == 504
    eventually(lambda: loaded.recognize.service.dispatch.streams == 0)


def test_the_token_guards_all_that_costs(client):
    served = client(access=Access(token="s3cret"))
    for path in ("/", "/healthz", "/openapi.json"):
        assert served.get(path).status_code == 200
    assert served.get("/healthz").json()["token_required"]
    good = {"authorization": "Bearer s3cret"}
    for headers in ({}, {"authorization": "Bearer s3cre"}, {"authorization": "Basic s3cret"}):
        refused = served.get("/metrics", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert served.post("/v1/recognize", headers=headers).status_code == 401
    assert served.get("/metrics", headers=good).status_code == 200
    assert served.post("/v1/recognize", headers=good).status_code == 400


def test_the_rate_is_limited_for_each_client(client):
    served = client(Limits(requests_per_minute=3))
    statuses = [served.post("/v1/recognize").status_code for _ in range(5)]
    assert statuses == [400] * 3 + [429] * 2
    assert 0 < int(served.post("/v1/recognize").headers["retry-after"]) <= 20
    assert served.get("/healthz").status_code == 200


def test_a_bucket_fills_steadily_and_holds_a_minute():
    now = 0.0
    rate = Rate(60, clock=lambda: now)
    assert [rate.take("a") for _ in range(60)] == [0.0] * 60
    assert rate.take("a") == pytest.approx(1.0)
    assert rate.take("b") == 0.0
    now = 1.0
    assert rate.take("a") == 0.0
    assert rate.take("a") == pytest.approx(1.0)
    now = 1000.0
    assert [rate.take("a") for _ in range(61)][-1] > 0


def test_other_origins_are_refused_unless_allowed(client):
    other, friend = {"origin": "https://other.example"}, {"origin": "https://friend.example"}
    closed = client()
    assert closed.post("/v1/recognize", headers=friend).status_code == 403
    assert "access-control-allow-origin" not in closed.get("/healthz", headers=friend).headers
    opened = client(access=Access(origins=("https://friend.example",)))
    assert opened.post("/v1/recognize", headers=other).status_code == 403
    answer = opened.post("/v1/recognize", headers=friend)
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == "https://friend.example"
    asked = friend | {"access-control-request-method": "POST"}
    assert opened.options("/v1/recognize", headers=asked).status_code == 200


def test_metrics_are_prometheus_text(client, noise):
    served = client()
    served.post("/v1/recognize", content=wav(noise(1)))
    with served.websocket_connect("/") as socket:
        converse(socket, noise(3), 4000)
        text = served.get("/metrics").text
    for line in (
        'deepaudio_requests_total{endpoint="/v1/recognize",status="200"}',
        'deepaudio_queue_length{task="live"} 0.0',
        'deepaudio_streams{task="live"}',
        'deepaudio_batch_size_bucket{le="1.0",task="live"}',
        'deepaudio_wait_seconds_bucket{le="0.005",task="live"}',
        'deepaudio_live_seconds_count{kind="partial"}',
        'deepaudio_request_seconds_sum{endpoint="/v1/recognize"}',
        "deepaudio_live_connections",
    ):
        assert line in text, line
    assert re.search(r'live_seconds_count\{kind="final"\} [1-9]', text)


def test_every_answer_has_a_strict_policy_and_the_page_is_there(client):
    served = client()
    for path in ("/", "/healthz", "/static/index.html", "/nothing"):
        headers = served.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert served.get("/").headers["content-type"].startswith("text/html")
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/nothing"):
        answer = served.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert served.get("/v1/recognize").status_code == 405


def test_the_description_names_every_route_and_answer(client):
    served = client()
    document = served.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    routes = {route.path for route in served.app.routes if route.path not in ("", "/static")}
    assert set(document["paths"]) == routes
    for path, item in document["paths"].items():
        for operation in item.values():
            for code, response in operation["responses"].items():
                name = response.get("$ref", "").removeprefix("#/components/responses/")
                assert not name or name in document["components"]["responses"], (path, code)


def test_health_tells_limits_and_models(client, weights):
    health = client().get("/healthz").json()
    assert health["status"] == "ok"
    assert health["limits"]["max_body_bytes"] == LIMITS.max_body_bytes
    assert health["limits"]["max_streams"] == LIMITS.max_streams
    assert health["tasks"]["recognize"] == {
        "available": True,
        "model": weights["recognizer"],
        "reason": None,
        "sample_rate": RATE,
    }


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ([], "json"),
        (["*/*"], "json"),
        (["audio/midi"], "midi"),
        (["audio/*"], "midi"),
        (["audio/x-midi, application/json;q=0.5"], "midi"),
        (["audio/midi;q=0.2, */*;q=0.1"], "midi"),
        (["audio/midi;q=0, */*"], "json"),
        (["text/html"], None),
        (["application/json;q=0"], None),
        (["application/json;q=what"], None),
    ],
)
def test_the_type_that_the_client_likes_best_is_given(accept, given):
    known = {"application/json": "json", "audio/midi": "midi", "audio/x-midi": "midi"}
    assert preferred(accept, known) == given


def test_a_hostile_length_costs_no_memory(client):
    """A mel spectrogram that says it is a terabyte."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3435973836, 80), }\n"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)
    answer = client().post("/v1/vocode", content=body)
    assert answer.status_code == 422


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_limits_nothing_is_refused(value):
    with pytest.raises(ValueError, match="max_seconds"):
        Limits(max_seconds=value)
