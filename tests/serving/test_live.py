import json

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect

from deepaudio.serving.settings import Access, Limits

from .conftest import LIMITS, RATE, converse


def finals(answers):
    return [answer for answer in answers if "text" in answer and answer["text"]]


def test_many_streams_at_once_say_what_each_says_alone(client, single, noise, loaded, eventually):
    """Through the whole server, each beginning and ending at another place."""
    import threading

    served = client()
    sounds = [noise(3 + 0.7 * number) for number in range(6)]
    said = [None] * len(sounds)

    def speak(number):
        with served.websocket_connect("/") as socket:
            said[number] = converse(socket, sounds[number], 3000 + 500 * number)

    threads = [threading.Thread(target=speak, args=(n,)) for n in range(len(sounds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spoken = 0
    for pcm, answers in zip(sounds, said, strict=True):
        expected = single.recognize([pcm.astype(np.float32) / 32768])
        found = finals(answers)
        assert " ".join(answer["text"] for answer in found) == expected.text
        words = [word for answer in found for word in answer["result"]]
        spoken += len(words)
        assert [word["word"] for word in words] == [word.text for word in expected.words]
        for name, attribute, decimals in (("start",) * 2 + (3,), ("end",) * 2 + (3,)):
            times = [word[name] for word in words]
            np.testing.assert_allclose(
                times, [getattr(w, attribute) for w in expected.words], atol=10.0**-decimals
            )
        np.testing.assert_allclose(
            [w["conf"] for w in words], [w.confidence for w in expected.words], atol=1e-4
        )
    assert spoken
    eventually(lambda: loaded.live.dispatch.streams == loaded.live.dispatch.waiting == 0)


def test_every_message_has_one_answer_and_pauses_end_utterances(client, noise):
    with client().websocket_connect("/") as socket:
        answers = converse(socket, noise(9), 3200)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1000
    assert len(answers) == 9 * RATE // 3200 + 1
    assert all(set(a) in ({"partial"}, {"text", "result"}, {"text"}) for a in answers)
    assert len(finals(answers)) >= 2
    assert any(answer.get("partial") for answer in answers)
    starts = [word["start"] for answer in finals(answers) for word in answer["result"]]
    assert starts == sorted(starts)


def test_sound_of_another_rate_is_resampled(client, noise):
    pcm = noise(4)
    with client().websocket_connect("/") as socket:
        # Every sample twice: the same sound at twice the rate.
        answers = converse(socket, np.repeat(pcm, 2), 6400, rate=2 * RATE)
    assert finals(answers)
    ends = [word["end"] for answer in finals(answers) for word in answer["result"]]
    assert max(ends) < 4.2


def test_words_and_alternatives_come_as_configured(client, noise):
    served = client()
    with served.websocket_connect("/") as socket:
        assert all("result" not in answer for answer in converse(socket, noise(3), 8000, words=0))
    with served.websocket_connect("/") as socket:
        answers = converse(socket, noise(3), 8000, max_alternatives=3)
    (last,) = [answer for answer in answers if "alternatives" in answer]
    rows = last["alternatives"]
    assert 1 < len(rows) <= 3
    assert [row["confidence"] for row in rows] == sorted(r["confidence"] for r in rows)[::-1]
    assert len({row["text"] for row in rows}) == len(rows)


def test_a_reset_ends_the_utterance_and_goes_on(client, noise):
    pcm = noise(2)
    with client().websocket_connect("/") as socket:
        socket.send_text(json.dumps({"config": {"sample_rate": RATE}}))
        firsts = []
        for _ in range(2):
            socket.send_bytes(pcm.tobytes())
            socket.receive_text()
            socket.send_text('{"reset" : 1}')
            firsts.append(json.loads(socket.receive_text()))
    assert firsts[0]["text"] == firsts[1]["text"] != ""
    first, second = (answer["result"][0]["start"] for answer in firsts)
    assert second == pytest.approx(first + 2, abs=2e-3)


def test_an_end_without_sound_is_an_empty_text(client):
    with client().websocket_connect("/") as socket:
        socket.send_text('{"eof" : 1}')
        assert json.loads(socket.receive_text()) == {"text": ""}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "must be JSON"),
        ("[" * 5000, "must be JSON"),
        ("[]", "JSON object"),
        ("{}", "one of config, eof and reset"),
        ('{"config": 3}', "config must be an object"),
        ('{"config": {"sample_rate": "fast"}}', "sample_rate must be a number"),
        ('{"config": {"sample_rate": NaN}}', "sample_rate must be a number"),
        ('{"config": {"sample_rate": 7000}}', "from 8000 to 192000"),
        ('{"config": {"max_alternatives": 1000}}', "from 0 to 10"),
        (b"\x00", "no whole number of 16-bit samples"),
    ],
)
def test_a_useless_message_is_told_and_ends_the_connection(client, loaded, message, reason):
    with client().websocket_connect("/") as socket:
        (socket.send_bytes if isinstance(message, bytes) else socket.send_text)(message)
        assert reason in json.loads(socket.receive_text())["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1003
    assert loaded.live.dispatch.streams == 0


def test_a_configuration_after_sound_is_refused(client, noise):
    with client().websocket_connect("/") as socket:
        socket.send_bytes(noise(0.1).tobytes())
        socket.receive_text()
        socket.send_text('{"config": {"sample_rate": 16000}}')
        assert "before sound" in json.loads(socket.receive_text())["error"]


def test_clients_that_vanish_leave_nothing_behind(client, loaded, noise, eventually):
    served = client()
    for _ in range(2 * LIMITS.max_streams):
        with served.websocket_connect("/") as socket:
            socket.send_text(json.dumps({"config": {"sample_rate": RATE}}))
            socket.send_bytes(noise(3).tobytes())
    eventually(lambda: loaded.live.dispatch.streams == loaded.live.dispatch.waiting == 0)


def test_when_all_streams_are_taken_a_handshake_is_refused(client):
    served = client()
    taken = [served.websocket_connect("/") for _ in range(LIMITS.max_streams)]
    for one in taken:
        one.__enter__()
    with pytest.raises(Exception) as refused, served.websocket_connect("/"):
        pass
    assert refused.value.status_code == 503
    for one in taken:
        one.__exit__(None, None, None)


def test_an_idle_connection_is_closed(client):
    with client(Limits(idle_seconds=0.05)).websocket_connect("/") as socket:
        assert "no message within 0.05 s" in json.loads(socket.receive_text())["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1008


def test_a_token_comes_in_a_header_or_as_a_subprotocol(client):
    served = client(access=Access(token="s3cret"))
    for headers in ({}, {"authorization": "Bearer wrong"}):
        with pytest.raises(Exception) as refused, served.websocket_connect("/", headers=headers):
            pass
        assert refused.value.status_code == 401
    with served.websocket_connect("/", headers={"authorization": "Bearer s3cret"}) as socket:
        assert socket.accepted_subprotocol is None
    with served.websocket_connect("/", subprotocols=["deepaudio.bearer", "s3cret"]) as socket:
        assert socket.accepted_subprotocol == "deepaudio.bearer"


def test_pages_of_other_origins_may_not_listen(client):
    served = client(access=Access(origins=("https://friend.example",)))
    with pytest.raises(Exception) as refused:
        with served.websocket_connect("/", headers={"origin": "https://other.example"}):
            pass
    assert refused.value.status_code == 403
    for origin in ("https://friend.example", "http://testserver"):
        with served.websocket_connect("/", headers={"origin": origin}):
            pass
