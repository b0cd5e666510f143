import collections
import gzip

import pytest

from deepaudio.data import speech_prompts

TEXTS = {
    "activated": "Activated.",
    "beep": "[this is a simple beep tone]",
    "confbridge-join": "<beep ascending>",
    "silence/1": "(1 second of silence)",
    "conf-usermenu": "Press 1 to mute or umute yourself, or # to exit...",
    "vm-tocancel": "... or * to cancel.",
    "vm-reenterpassword": "Please re-enter your password",
    "vm-login": "Comedian Mail.  Mailbox?",
    "spy-h323": "H.323",
    "spy-misdn": "M I S D N",
    "spy-usbradio": "USB Radio",
    "spy-sip": "SIP",
    "spy-iax2": 'IAX (note: does not say "2")',
    "demo-moreinfo": "For more information, visit www.asterisk.org.",
    "demo-instruct": "Dial 500 now.",
    "long": "word " * 41,
    "digits/7": "seven",
    "digits/a-m": "A.M.",
    "digits/oclock": "o'clock",
    "letters/b": "b",
    "letters/at": "at [@]",
    "letters/exclaimation-point": "exclaimation-point [!]",
    "letters/space": "space [ ]",
    "phonetic/9_p": "niner",
    "phonetic/x_p": "xray",
}
EXPECTED = {
    "activated": "activated",
    "conf-usermenu": "press one to mute or unmute yourself or pound to exit",
    "vm-tocancel": "or star to cancel",
    "vm-reenterpassword": "please reenter your password",
    "vm-login": "comedian mail mailbox",
    "spy-misdn": "m i s d n",
    "spy-usbradio": "u s b radio",
    "spy-sip": "sip",
    "spy-iax2": "i a x",
    "digits/7": "seven",
    "digits/a-m": "a m",
    "digits/oclock": "o'clock",
    "letters/b": "b",
    "letters/at": "at",
    "letters/exclaimation-point": "exclamation point",
    "letters/space": "space",
    "phonetic/9_p": "niner",
    "phonetic/x_p": "x ray",
}


def make_tree(root, texts, unlisted=()):
    for name in [*texts, *unlisted]:
        path = root / "sounds" / f"{name}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lines = ["; Sounds", "", *(f"{name}: {text}" for name, text in texts.items())]
    with gzip.open(root / "list.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return root / "sounds", root / "list.txt.gz"


def test_prompts_have_the_words_that_are_said(tmp_path):
    prompts, left_out = speech_prompts.read_prompts(*make_tree(tmp_path, TEXTS, ["unlisted"]))
    assert {prompt.name: prompt.text for prompt in prompts} == EXPECTED
    assert left_out == {
        "no words": 3,
        "a number or address that can be said in several ways": 3,
        "more than 40 words": 1,
        "no text in the list": 1,
    }
    assert all(prompt.path.is_file() for prompt in prompts)
    kinds = collections.defaultdict(set)
    for prompt in prompts:
        kinds[prompt.kind].add(prompt.name)
    assert kinds["digits"] == {"digits/7", "digits/a-m", "digits/oclock"}
    assert kinds["phonetic"] == {"phonetic/9_p", "phonetic/x_p"}
    assert len(kinds["letters"]) == 4 and len(kinds["other"]) == 9


def test_a_third_is_for_test_and_the_same_words_stay_together(tmp_path):
    names = "abcdefghijklmnopqrst"
    texts = {f"{a}{b}": f"words {a} {b}" for a in names for b in names}
    texts |= {f"again-{name}": text.title() for name, text in texts.items()}
    prompts, _ = speech_prompts.read_prompts(*make_tree(tmp_path, texts))
    splits = collections.Counter(prompt.split for prompt in prompts)
    assert splits["test"] / 800 == pytest.approx(1 / 3, abs=0.06)
    assert splits["validation"] / 800 == pytest.approx(0.1, abs=0.04)
    by_text = collections.defaultdict(set)
    for prompt in prompts:
        by_text[prompt.text].add(prompt.split)
    assert len(by_text) == 400 and all(len(found) == 1 for found in by_text.values())


def test_nothing_installed_gives_nothing(tmp_path):
    assert speech_prompts.read_prompts(tmp_path / "no", tmp_path / "none.gz") == ([], {})


def test_the_package_is_read():
    if not speech_prompts.TEXTS.is_file() or not speech_prompts.SOUNDS.is_dir():
        pytest.skip("needs Debian's asterisk-core-sounds-en and asterisk-core-sounds-en-g722")
    prompts, left_out = speech_prompts.read_prompts()
    texts = {prompt.name: prompt.text for prompt in prompts}
    assert len(texts) == 536 and left_out.total() == 32
    assert texts["digits/0"] == "zero" and texts["phonetic/a_p"] == "alpha"
    assert texts["vm-goodbye"] == "goodbye" and "silence/1" not in texts
