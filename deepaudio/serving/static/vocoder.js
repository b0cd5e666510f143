// The panel for the vocoder: a voice sample and what the model makes of it, side by side.

import { upload } from "./api.js";
import { Job, checkSize, takeFiles } from "./job.js";
import { clock, decode, drawWave, stem } from "./sound.js";

export class Vocoder {
  constructor(panel) {
    this._job = new Job(panel.querySelector(".job"));
    this._sides = Object.fromEntries(
      ["original", "vocoded"].map((name) => [name, new Side(name)]),
    );
    this._save = document.getElementById("vocoded-save");
    takeFiles(panel, (file) => this._take(file));
    // One at a time, so that they can be compared.
    const players = Object.values(this._sides).map((side) => side.audio);
    for (const one of players) {
      one.addEventListener("play", () => {
        for (const other of players) if (other !== one) other.pause();
      });
    }
  }

  setLimits(limits) {
    this._limits = limits;
  }

  shown() {
    for (const side of Object.values(this._sides)) side.draw();
  }

  hide() {
    for (const side of Object.values(this._sides)) side.audio.pause();
  }

  async _take(file) {
    await this._job.run(async ({ signal, say, sent }) => {
      checkSize(file, this._limits);
      this._sides.vocoded.clear();
      this._save.hidden = true;
      await this._sides.original.set(file);
      say(`Sending ${file.name}…`);
      const wav = await upload("/v1/vocode", file, {
        signal,
        onSent: (part) => {
          sent(part);
          if (part === 1) say("Making the sound anew…");
        },
      });
      signal.throwIfAborted();
      await this._sides.vocoded.set(wav);
      this._save.href = this._sides.vocoded.audio.src;
      this._save.download = `${stem(file.name)}_vocoded.wav`;
      this._save.hidden = false;
      return `${file.name}: ready, ${clock(this._sides.vocoded.seconds)}.`;
    });
  }
}

class Side {
  constructor(name) {
    this._name = name;
    this.audio = document.getElementById(name);
    this._canvas = document.getElementById(`${name}-wave`);
    this._buffer = null;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this._canvas);
  }

  get seconds() {
    return this._buffer?.duration ?? 0;
  }

  async set(blob) {
    this.clear();
    const address = (this.audio.src = URL.createObjectURL(blob));
    const buffer = await decode(blob);
    if (this.audio.src !== address) return; // another sound has been chosen
    this._buffer = buffer;
    this._canvas.setAttribute("aria-label", `Waveform, ${this._name}: ${clock(this.seconds)}`);
    this.draw();
  }

  clear() {
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.audio.load();
    this._buffer = null;
    this._canvas.setAttribute("aria-label", `Waveform, ${this._name}: none yet`);
    this._canvas.getContext("2d").clearRect(0, 0, this._canvas.width, this._canvas.height);
  }

  draw() {
    if (this._buffer && this._canvas.offsetWidth) drawWave(this._canvas, this._buffer);
  }
}
