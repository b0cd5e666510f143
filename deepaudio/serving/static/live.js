// Live recognition: the microphone to the server, its words to the page.

import { ServerError, openLive, whyRefused } from "./api.js";
import { MicrophoneError, listen } from "./microphone.js";
import { wordElement } from "./words.js";

const LAST_MILLISECONDS = 15_000; // to wait for the last words
const MOST_BEHIND_SECONDS = 5; // of sound that the network has not taken yet

const get = (id) => document.getElementById(id);

export class Live {
  constructor() {
    this._rate = 16_000;
    this._state = "idle";
    get("listen").addEventListener("click", () => {
      if (this._state === "idle") this._start();
      else if (this._state === "listening") this.stop();
    });
    get("clear").addEventListener("click", () => {
      get("live-final").replaceChildren();
      this._update();
      get("listen").focus(); // this button is disabled now
    });
    // A finger cannot point at a word, but touch it.
    get("live-final").addEventListener("click", ({ target }) => {
      if (target.title) get("listen-state").textContent = `${target.textContent}: ${target.title}`;
    });
    get("copy").addEventListener("click", () => this._copy());
  }

  setRate(rate) {
    this._rate = rate ?? this._rate;
  }

  /** Nobody expects a microphone to be on in a panel that is not shown. */
  hide() {
    this.stop();
  }

  /** Ends the sound; the last words may still come. */
  async stop() {
    if (this._state !== "listening") return;
    this._enter("finishing");
    await this._endMicrophone();
    if (this._socket.readyState !== WebSocket.OPEN) return;
    this._socket.send(JSON.stringify({ eof: 1 }));
    const socket = this._socket;
    setTimeout(() => socket.close(), LAST_MILLISECONDS);
  }

  async _start() {
    get("listen-error").textContent = "";
    this._enter("starting");
    this._socket = null;
    try {
      // First, as no place at the server should be held while someone reads the browser's question.
      this._endSound = await listen({
        rate: this._rate,
        onChunk: (chunk) => this._send(chunk),
        onLost: () => this.stop(),
      });
      this._socket = await this._connect();
      this._enter("listening");
      if (get("speech").hidden) await this.stop();
    } catch (error) {
      await this._endMicrophone();
      this._fail(error);
    }
  }

  async _connect() {
    const socket = openLive();
    socket.addEventListener("message", ({ data }) => this._hear(JSON.parse(data)));
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve, { once: true });
      socket.addEventListener("close", reject, { once: true });
    }).catch(async () => {
      throw new ServerError(await whyRefused());
    });
    socket.addEventListener("close", (event) => this._closed(event));
    socket.send(JSON.stringify({ config: { sample_rate: this._rate, words: true } }));
    return socket;
  }

  _send(chunk) {
    const peak = chunk.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) / 32768;
    get("level").value = Math.sqrt(peak);
    if (this._socket?.readyState !== WebSocket.OPEN) return;
    if (this._socket.bufferedAmount > 2 * this._rate * MOST_BEHIND_SECONDS) {
      this._fail(new ServerError("The connection is too slow for live sound."));
      this._socket.close();
      return;
    }
    this._socket.send(chunk);
  }

  _hear(answer) {
    if (answer.error) this._fail(new ServerError(`The server stopped listening: ${answer.error}.`));
    else if ("partial" in answer) get("live-partial").textContent = answer.partial;
    else {
      get("live-partial").textContent = "";
      if (answer.text) get("live-final").append(paragraph(answer));
    }
    this._update();
    const box = get("live-final").parentElement;
    box.scrollTop = box.scrollHeight;
  }

  async _closed({ code }) {
    await this._endMicrophone();
    get("live-partial").textContent = "";
    if (code === 1012) this._fail(new ServerError("The server is stopping."));
    else if (code !== 1000 && this._state !== "idle") {
      this._fail(new ServerError("The connection to the server was lost."));
    } else this._enter("idle");
  }

  async _endMicrophone() {
    const end = this._endSound;
    this._endSound = null;
    await end?.();
    get("level").value = 0;
  }

  _fail(error) {
    const known = error instanceof ServerError || error instanceof MicrophoneError;
    if (!known) console.error(error);
    get("listen-error").textContent = error.message;
    this._enter("idle");
  }

  _enter(state) {
    this._state = state;
    const button = get("listen");
    button.textContent = state === "listening" ? "Stop" : "Start listening";
    button.classList.toggle("on", state === "listening");
    const texts = {
      idle: "", starting: "Waiting for the microphone…", listening: "Listening",
      finishing: "Waiting for the last words…",
    };
    get("listen-state").textContent = texts[state];
    this._update();
  }

  _update() {
    const empty = !get("live-final").childElementCount;
    get("live-empty").hidden = !empty || get("live-partial").textContent !== "";
    get("copy").disabled = get("clear").disabled = empty;
  }

  async _copy() {
    const lines = [...get("live-final").children].map((line) => line.textContent);
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      get("listen-state").textContent = "Copied";
    } catch {
      get("listen-error").textContent = "The browser does not let the page copy; select the text.";
    }
  }
}

function paragraph({ text, result }) {
  const made = document.createElement("p");
  if (!result?.length) made.textContent = text;
  else {
    for (const { word, conf } of result) {
      made.append(made.childNodes.length ? " " : "", wordElement("span", word, conf));
    }
  }
  return made;
}
