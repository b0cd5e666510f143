"""The page in a real browser: Debian's chromium, driven by Playwright."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
import wave
from urllib.parse import urlsplit

import numpy as np
import pretty_midi
import pytest
import soundfile
from mir_eval.transcription import precision_recall_f1_overlap

from deepaudio.data.notes import Notes, write_midi
from deepaudio.serving.services import Task
from deepaudio.serving.settings import Access, Limits

from .conftest import LIMITS, RATE
from .test_process import PROGRAM, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: see extra test")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the program chromium, which is not installed"
)

SENTENCE = "the light of the morning was upon the house"
PATIENCE = 60_000  # milliseconds; a busy machine is slow
# Counts what Web Audio is told to play, as nothing can be heard here, and how much the page jumps.
WATCH = """
window.started = 0; window.jumps = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...when) {
  window.started++;
  return start.apply(this, when);
};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput && entry.value > 0.001) {
      window.jumps.push([entry.value, ...entry.sources.map((one) => one.node?.outerHTML)]);
    }
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def utterance(tmp_path_factory):
    """Someone says `SENTENCE`, in a file; None where no program can speak."""
    path = str(tmp_path_factory.mktemp("speech") / "said.wav")
    if shutil.which("flite"):
        subprocess.run(["flite", "-voice", "rms", "-t", SENTENCE, "-o", path], check=True)
    elif shutil.which("espeak-ng"):
        subprocess.run(["espeak-ng", "-v", "en-us", "-w", path, SENTENCE], check=True)
    else:
        return None
    return path


@pytest.fixture(scope="module")
def browser(utterance):
    """Chromium, whose microphone plays the utterance once."""
    flags = [
        "--no-sandbox",  # which root may not have
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    if utterance:
        flags.append(f"--use-file-for-fake-audio-capture={utterance}%noloop")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """A function from an address to its page; in the end, nothing may have gone wrong there."""
    contexts, complaints, hosts, addresses = [], [], set(), set()

    def open_page(address, *, faults_expected=False, **settings):
        context = browser.new_context(
            permissions=["microphone"], **{"viewport": {"width": 1100, "height": 900}, **settings}
        )
        contexts.append(context)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))
        if not faults_expected:
            page.on(
                "console",
                lambda message: (
                    complaints.append(message.text) if message.type in ("error", "warning") else 0
                ),
            )
        addresses.add(urlsplit(address).netloc)
        page.goto(address)
        until(page, "document.querySelector('#server-dot').classList.length > 1")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    # Sound that the page has made has an address without a host.
    assert hosts - {""} == addresses


@pytest.fixture(scope="module")
def shipped():
    """The address of `deepaudio serve` in a process of its own, with the models that it ships."""
    words = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--decoders", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = None
            while not found and (line := process.stderr.readline()):
                found = re.search(r"serving on (http://\S+)", line)
            assert found, "the server has not begun"
            yield found[1]
        finally:
            process.kill()


@pytest.fixture
def small(loaded):
    """The address of a server with small networks of random weights."""
    with serving(loaded) as (_, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def sound(tmp_path, rng):
    """Two seconds of noise in a file."""
    path = tmp_path / "some noise.wav"
    soundfile.write(path, rng.normal(0, 0.1, 2 * RATE), RATE)
    return path


DROP = """
async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector(".panel:not([hidden]) .drop").dispatchEvent(event);
  }
}
"""


def until(page, condition):  # JavaScript
    """Playwright's own would have the page evaluate a string, which its policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def drop(page, path):
    page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])


def is_transcribed(page):
    page.wait_for_selector("#transport:not([disabled])")


def position(page):
    return float(page.input_value("#seek"))


def plays_on(page):
    begin = position(page)
    until(page, f"document.querySelector('#seek').value > {begin + 0.5}")


def saved(page, act):
    with page.expect_download() as download:
        act()
    return download.value


def test_a_recording_becomes_notes_to_see_hear_and_keep(shipped, visit, example):
    recording, midi = example
    truth = pretty_midi.PrettyMIDI(str(midi)).instruments[0].notes
    page = visit(shipped)
    assert page.is_disabled("#play")
    drop(page, recording)
    is_transcribed(page)
    told = page.inner_text("#piano .job")
    count = int(re.search(r": (\d+) notes in 0:30.0", told)[1])
    assert count == pytest.approx(len(truth), rel=0.15)
    assert f"{count} notes" in page.get_attribute("#roll canvas", "aria-label")

    # Both voices are heard, and the playhead moves.
    page.click("#play")
    plays_on(page)
    assert page.inner_text("#play") == "Pause"
    before = page.evaluate("started")
    assert before > 3
    page.click("#recording-mute")
    assert page.get_attribute("#recording-mute", "aria-pressed") == "true"
    # A click in the roll goes there; 80 pixels are a second, and the keyboard has 40.
    page.click("#roll canvas", position={"x": 40 + 80 * 8, "y": 300})
    until(page, "document.querySelector('#seek').value > 7.9")
    plays_on(page)
    assert page.evaluate("started") > before + 3
    page.click("#play")
    stood = position(page)
    page.wait_for_timeout(200)
    assert position(page) == stood

    download = saved(page, lambda: page.click("#midi"))
    assert download.suggested_filename == f"{recording.stem}.mid"
    notes = pretty_midi.PrettyMIDI(str(download.path())).instruments[0].notes
    assert len(notes) == count
    sides = [
        side
        for some in (truth, notes)
        for side in (
            np.array([(note.start, note.end) for note in some]),
            np.array([pretty_midi.note_number_to_hz(note.pitch) for note in some]),
        )
    ]
    assert precision_recall_f1_overlap(*sides, offset_ratio=None)[2] > 0.8


def test_words_appear_while_one_speaks(shipped, visit, utterance):
    if utterance is None:
        pytest.skip("needs the program flite or espeak-ng, and neither is installed")
    page = visit(f"{shipped}/#speech")
    page.click("#listen")
    # The first words are there before the last is said.
    until(page, "document.querySelector('#live-partial').textContent.length > 8")
    assert page.inner_text("#listen") == "Stop"
    until(page, "document.querySelector('#speech .transcript').textContent.includes('house')")
    page.click("#listen")
    page.wait_for_selector("#live-final span")
    until(page, "document.querySelector('#listen-state').textContent === ''")
    said = page.inner_text("#live-final").split()
    assert len(set(said) & set(SENTENCE.split())) >= 6
    assert re.fullmatch(r"confidence \d+ %", page.get_attribute("#live-final span", "title"))
    page.click("#live-final span >> nth=0")
    assert page.inner_text("#listen-state").startswith(f"{said[0]}: confidence ")
    assert page.inner_text("#live-partial") == page.inner_text("#listen-error") == ""
    page.click("#clear")
    assert page.is_visible("#live-empty")

    # The same from a file, with times.
    page.set_input_files("#speech-file", utterance)
    page.wait_for_selector("#file-words .word")
    words = page.eval_on_selector_all(
        "#file-words .word", "(all) => all.map((one) => one.innerText.split('\\n'))"
    )
    assert len({word for word, _ in words} & set(SENTENCE.split())) >= 6
    times = [float(shown.removeprefix("0:")) for _, shown in words]
    assert times == sorted(times)
    with wave.open(utterance) as file:
        assert 0.5 < times[-1] < file.getnframes() / file.getframerate()


def test_everything_can_be_done_by_keyboard(small, visit, sound):
    page = visit(small)
    choosers = []
    # From the start, as expecting one only then comes too late now and then.
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    focused = "document.activeElement.id || document.activeElement.className"
    for expected in ("skip", "tab-piano", "piano-file"):
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == expected
        until(
            page,
            "(document.activeElement.id === 'piano-file' ?"
            " document.activeElement.nextElementSibling : document.activeElement)"
            ".computedStyleMap().get('outline-style').value === 'solid'",
        )
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(50)
    choosers.pop().set_files(sound)
    is_transcribed(page)
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "roll"
    # Wide enough to scroll.
    for _ in range(6):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#roll').scrollLeft > 0")
    page.keyboard.press("Space")
    plays_on(page)
    page.keyboard.press("Space")
    assert page.inner_text("#play") == "Play"
    order = ["seek", "play", "zoom-out", "zoom-in", "midi", "recording-volume", "recording-mute"]
    for expected in [*order, "notes-volume", "notes-mute"]:
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == expected
        if expected == "seek":
            page.keyboard.press("Home")
            assert position(page) == 0
        if expected == "midi":
            notes = saved(page, lambda: page.keyboard.press("Enter"))
            assert pretty_midi.PrettyMIDI(str(notes.path()))
        if expected == "notes-mute":
            page.keyboard.press("Space")
            assert page.get_attribute("#notes-mute", "aria-pressed") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#note-list table")
    # Tabs go by arrows, and around.
    page.focus("#tab-piano")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#speech") and not page.is_visible("#piano")
    assert page.evaluate(focused) == "tab-speech"
    page.set_input_files("#speech-file", sound)
    page.wait_for_selector("#file-words .word")
    page.focus("#file-words .word")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement === document.querySelector('.word:last-child')")
    page.focus("#tab-speech")
    page.keyboard.press("End")
    assert page.is_visible("#voice")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#piano")


@pytest.mark.parametrize("width", [320, 360])
def test_a_narrow_screen_holds_all_without_jumps(small, visit, sound, width):
    page = visit(small, viewport={"width": width, "height": 740}, color_scheme="dark")
    page.set_input_files("#piano-file", sound)
    is_transcribed(page)
    for tab in ("piano", "speech", "voice"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = page.evaluate(
            "[...document.querySelectorAll('main *:not(canvas)')].filter((one) =>"
            " one.getClientRects().length && !one.closest('.roll') &&"
            " one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML)"
        )
        assert beyond == []
    page.wait_for_timeout(100)
    assert page.evaluate("jumps") == []


def test_tabs_keep_their_places(small, visit):
    page = visit(small, viewport={"width": 1000, "height": 740})
    edges = "[...document.querySelectorAll('[role=tab]')].map((one) => one.offsetLeft)"
    first = page.evaluate(edges)
    for tab in ("speech", "voice"):
        page.click(f"#tab-{tab}")
        assert page.evaluate(edges) == first
    # As on a slow net, where the last one is not there yet when the others are drawn.
    page.set_viewport_size({"width": 360, "height": 740})
    narrow = page.evaluate(edges)
    assert narrow != first
    page.evaluate("document.querySelector('#tab-voice').remove()")
    assert page.evaluate(edges) == narrow[:2]


def test_voices_side_by_side(small, visit, sound):
    page = visit(f"{small}#voice")
    page.set_input_files("#voice-file", sound)
    page.wait_for_selector("#vocoded-save")
    until(page, "['original', 'vocoded'].every((id) => document.getElementById(id).duration > 1.9)")
    # Playing one silences the other.
    page.evaluate("document.querySelector('#original').play()")
    page.evaluate("document.querySelector('#vocoded').play()")
    until(page, "document.querySelector('#original').paused")
    wav = saved(page, lambda: page.click("#vocoded-save"))
    assert wav.suggested_filename == "some noise_vocoded.wav"
    assert soundfile.info(wav.path()).duration == pytest.approx(2, abs=0.1)


def test_a_recording_that_the_browser_cannot_play(small, visit, rng, tmp_path):
    path = tmp_path / "noise.aiff"
    soundfile.write(path, rng.normal(0, 0.1, 6 * RATE), RATE)
    page = visit(small)
    page.set_input_files("#piano-file", path)
    is_transcribed(page)
    assert page.inner_text("#piano .job").endswith("cannot play the recording itself.")
    page.click("#play")
    plays_on(page)


def test_what_the_server_lacks_is_said_and_switched_off(small, visit, loaded, monkeypatch):
    monkeypatch.setattr(loaded, "vocode", Task(None, None, "the vocoder is not installed"))
    page = visit(f"{small}#voice")
    assert page.inner_text("#voice .model") == (
        "Not available on this server: the vocoder is not installed."
    )
    assert page.is_disabled("#voice-file")
    assert page.is_enabled("#piano-file")


def test_errors_are_told_in_words(small, visit, sound, tmp_path):
    page = visit(small, faults_expected=True)

    def told(path):
        page.set_input_files("#piano-file", path)
        page.wait_for_selector("#piano .job:not(.busy) .error:not(:empty)")
        return page.inner_text("#piano .job .error")

    text = tmp_path / "letter.wav"
    text.write_text("Dear all")
    assert told(text).startswith("The sound cannot be used: ")
    long = tmp_path / "long.flac"
    soundfile.write(long, np.zeros(int(LIMITS.max_seconds + 2) * RATE), RATE)
    assert told(long) == f"The sound is longer than {LIMITS.max_seconds:g} s."
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(LIMITS.max_body_bytes + 2**19))
    assert told(large) == "The file is too large: 1.5 MB, and the server takes 1 MB."
    busy = {"status": 503, "headers": {"Retry-After": "3"}, "body": json.dumps({"error": "full"})}
    page.route("**/v1/transcribe*", lambda route: route.fulfill(**busy))
    assert told(sound) == "The server is busy: full. Try again in 3 s."
    page.unroute("**/v1/transcribe*")
    page.context.set_offline(True)
    assert told(sound).startswith("The server cannot be reached.")
    page.context.set_offline(False)
    # And after all that it still works.
    page.set_input_files("#piano-file", sound)
    is_transcribed(page)
    assert page.inner_text("#piano .job .error") == ""


def test_a_token_is_asked_for_and_kept(loaded, visit, sound, monkeypatch):
    from . import test_process

    monkeypatch.setattr(test_process, "Access", lambda: Access(token="s3cret"))
    with serving(loaded) as (_, port):
        page = visit(f"http://127.0.0.1:{port}/", faults_expected=True)
        page.wait_for_selector("#token[open]")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-error:not(:empty)")
        page.fill("#token-value", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token", state="hidden")
        page.reload()
        page.set_input_files("#piano-file", sound)
        is_transcribed(page)
        assert not page.is_visible("#token")
        page.click("#tab-speech")
        page.click("#listen")
        until(page, "document.querySelector('#listen').textContent === 'Stop'")
        page.click("#listen")
        until(page, "document.querySelector('#listen-state').textContent === ''")
        assert page.inner_text("#listen-error") == ""


def test_a_refused_microphone_stream_is_explained(loaded, visit):
    with serving(loaded, Limits(requests_per_minute=1)) as (_, port):
        page = visit(f"http://127.0.0.1:{port}/#speech", faults_expected=True)
        page.evaluate("fetch('/v1/recognize', { method: 'POST' })")
        page.click("#listen")
        page.wait_for_selector("#listen-error:not(:empty)")
        assert page.inner_text("#listen-error").startswith("The server refused the connection")
        assert page.inner_text("#listen") == "Start listening"


NAMELESS = """
() => [...document.querySelectorAll(
    "button, input, audio, canvas, meter, progress, [role], [tabindex]")]
  .filter((one) => !one.closest("[role=status], [role=alert]"))
  .filter((one) => {
    const by = (one.getAttribute("aria-labelledby") ?? "").split(" ").filter(Boolean);
    const texts = [one.getAttribute("aria-label"), one.matches("button") && one.textContent,
      ...[...(one.labels ?? [])].map((label) => label.textContent),
      ...by.map((id) => document.getElementById(id).textContent)];
    return !texts.some((text) => text && text.trim());
  }).map((one) => one.outerHTML)
"""
MISSING = """
() => ["aria-controls", "aria-labelledby", "aria-describedby", "for"].flatMap((name) =>
  [...document.querySelectorAll(`[${name}]`)].map((one) => one.getAttribute(name)))
  .filter((id) => !document.getElementById(id))
"""
# Contrast by WCAG 2 of every visible element that holds text itself and is not switched off.
PALE = """
() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) =>
      c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const colour = parse(getComputedStyle(one).backgroundColor);
    return colour[3] === 0 && one.parentElement ? behind(one.parentElement) : colour;
  };
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const isText = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!isText || !one.getClientRects().length || one.closest(":disabled")) continue;
    const [a, b] = [parse(getComputedStyle(one).color), behind(one)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([one.outerHTML, ratio]);
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_labels_and_contrast(small, visit, scheme):
    page = visit(small, color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(MISSING) == []
    ids = page.eval_on_selector_all("[id]", "(all) => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("h1").count() == 1
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("img:not([alt])").count() == 0
    for tab in ("piano", "speech", "voice"):
        page.click(f"#tab-{tab}")
        page.mouse.move(0, 0)
        assert page.evaluate(PALE) == []
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter((one) =>"
        " parseFloat(getComputedStyle(one).transitionDuration) > 0).length"
    )
    assert moving == 0


def call(page, module, expression, *given):
    """What an expression of a module's names and `given` comes to, in the page."""
    return page.evaluate(
        f"async ([module, given]) => {{ const m = await import(module); return {expression}; }}",
        [f"/static/{module}", list(given)],
    )


def test_modules(small, visit, rng, tmp_path):
    page = visit(small)

    # MIDI: byte for byte what the command writes.
    onsets = np.round(np.sort(rng.uniform(0, 300, 400)), 4)
    notes = Notes(
        onsets=onsets,
        offsets=np.round(onsets + rng.uniform(0.0002, 3, 400), 4),
        pitches=rng.integers(21, 109, 400),
        velocities=rng.integers(1, 128, 400),
    )
    columns = zip(
        onsets.tolist(),
        notes.offsets.tolist(),
        notes.pitches.tolist(),
        notes.velocities.tolist(),
        strict=True,
    )
    names = ("onset_seconds", "offset_seconds", "pitch", "velocity")
    rows = [dict(zip(names, row, strict=True)) for row in columns]
    write_midi(tmp_path / "notes.mid", notes)
    made = bytes(call(page, "midi.js", "Array.from(m.toMidi(given[0]))", rows))
    assert made == (tmp_path / "notes.mid").read_bytes()

    # The tone: in tune, dying away, of full height.
    for pitch in (33, 69, 100):
        tone = np.array(call(page, "tone.js", "Array.from(m.renderTone(given[0], 22050))", pitch))
        spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone))))
        hertz = np.arange(len(spectrum)) * 22050 / len(tone)
        expected = pretty_midi.note_number_to_hz(pitch)
        near = abs(hertz - expected) < 0.04 * expected
        assert hertz[near][spectrum[near].argmax()] == pytest.approx(expected, rel=0.006)
        assert np.abs(tone).max() == pytest.approx(1)
        energy = [float(np.square(part).sum()) for part in np.array_split(tone, 4)]
        assert energy == sorted(energy, reverse=True)
        assert np.median(spectrum[near]) * 50 < spectrum[near].max()

    # The resampler, fed in pieces: keeps what the lower rate can hold, and nothing else.
    for given_rate, frequency, kept in (
        (48000, 1000, 1),
        (44100, 6000, 1),
        (48000, 12000, 0),
        (8000, 1000, 1),
    ):
        times = np.arange(given_rate // 4) / given_rate
        pieces = np.split(np.sin(2 * np.pi * frequency * times), [128, 129, 1000])
        out = call(
            page,
            "resampler.js",
            "(() => { const r = new m.Resampler(given[0], 16000);"
            " return [...given[1].map((x) => r.push(Float32Array.from(x))), r.finish()]"
            ".flatMap((x) => Array.from(x)); })()",
            given_rate,
            [piece.tolist() for piece in pieces],
        )
        expected = kept * np.sin(2 * np.pi * frequency * np.arange(4000) / 16000)
        assert len(out) == pytest.approx(4000, abs=2)
        np.testing.assert_allclose(out[100:3900], expected[100:3900], atol=2e-3)
