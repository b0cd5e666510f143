// Words with their confidence, and the panel part that recognizes a file.

import { upload } from "./api.js";
import { Job, checkSize, element, takeFiles } from "./job.js";
import { clock } from "./sound.js";

const DOUBTFUL = 0.6;

/** A word that says on hover how sure the model is. */
export function wordElement(kind, word, confidence) {
  const made = element(kind, confidence < DOUBTFUL ? "doubtful" : "", {
    title: `confidence ${Math.round(100 * confidence)} %`,
  });
  made.textContent = word;
  return made;
}

export class FileWords {
  constructor(panel) {
    this._audio = document.getElementById("speech-audio");
    this._box = document.getElementById("file-words");
    this._job = new Job(panel.querySelector(".job"));
    this._words = [];
    this._buttons = [];
    takeFiles(panel, (file) => this._take(file));
    this._audio.addEventListener("timeupdate", () => this._mark());
    this._box.addEventListener("keydown", (event) => this._key(event));
  }

  setLimits(limits) {
    this._limits = limits;
  }

  hide() {
    this._audio.pause();
  }

  async _take(file) {
    await this._job.run(async ({ signal, say, sent }) => {
      checkSize(file, this._limits);
      this._show([], "");
      if (this._audio.src) URL.revokeObjectURL(this._audio.src);
      this._audio.src = URL.createObjectURL(file);
      say(`Sending ${file.name}…`);
      const answer = await upload("/v1/recognize", file, {
        signal,
        onSent: (part) => {
          sent(part);
          if (part === 1) say("Listening for words…");
        },
      });
      const { seconds, words } = JSON.parse(await answer.text());
      signal.throwIfAborted();
      this._show(words, "No words were heard.");
      const count = `${words.length} ${words.length === 1 ? "word" : "words"}`;
      return `${file.name}: ${count} in ${clock(seconds)}.`;
    });
  }

  _show(words, otherwise) {
    this._words = words;
    this._buttons = words.map(({ word, start, confidence }, i) => {
      const button = element("button", "word", { type: "button", tabindex: i ? "-1" : "0" });
      const time = element("small", "");
      time.textContent = clock(start);
      button.append(wordElement("span", word, confidence), time);
      button.addEventListener("click", () => {
        this._focus(i);
        this._audio.currentTime = start;
        // Refused if the browser cannot play the format; the player shows that itself.
        this._audio.play().catch(() => {});
      });
      return button;
    });
    const placeholder = element("p", "placeholder");
    placeholder.textContent = otherwise;
    this._box.replaceChildren(...(words.length ? this._buttons : [placeholder]));
  }

  /** One word is in the order of the tabulator; arrow keys choose which. */
  _focus(index) {
    this._buttons.forEach((button, i) => (button.tabIndex = i === index ? 0 : -1));
    this._buttons[index].focus();
  }

  _key(event) {
    const at = this._buttons.indexOf(document.activeElement);
    const last = this._buttons.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    this._focus(Math.min(Math.max(to, 0), last));
  }

  _mark() {
    const now = this._audio.currentTime;
    this._words.forEach(({ start, end }, i) => {
      this._buttons[i].classList.toggle("now", !this._audio.paused && start <= now && now < end);
    });
  }
}
