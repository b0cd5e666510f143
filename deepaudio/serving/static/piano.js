// The panel for piano recordings: file in, notes out, shown, heard and saved.

import { upload } from "./api.js";
import { Job, checkSize, element, takeFiles } from "./job.js";
import { toMidi } from "./midi.js";
import { Player } from "./player.js";
import { Roll } from "./roll.js";
import { clock, decode, peaksOf, save, stem } from "./sound.js";

const MOST_ROWS = 5000; // of the table; more would make the page slow
const ZOOM = 1.5;

const get = (id) => document.getElementById(id);

export class Piano {
  constructor(panel) {
    this._player = new Player();
    this._roll = new Roll(get("roll"), (time) => this._player.seek(time));
    this._job = new Job(panel.querySelector(".job"));
    this._notes = [];
    this._name = "";
    takeFiles(panel, (file) => this._take(file));
    this._wireTransport();
    this._wireMixer();
    get("midi").addEventListener("click", () => {
      save(new Blob([toMidi(this._notes)], { type: "audio/midi" }), `${stem(this._name)}.mid`);
    });
    get("note-list").addEventListener("toggle", () => this._fillTable());
  }

  setLimits(limits) {
    this._limits = limits;
  }

  /** Has the panel drawn again after it was hidden. */
  shown() {
    this._roll.show({});
  }

  hide() {
    this._player.pause();
  }

  async _take(file) {
    await this._job.run(async ({ signal, say, sent }) => {
      checkSize(file, this._limits);
      this._reset(file);
      say(`Reading ${file.name}…`);
      const buffer = await decode(file);
      signal.throwIfAborted();
      if (buffer) this._roll.show({ peaks: peaksOf(buffer), duration: buffer.duration });
      get("roll-empty").hidden = buffer !== null;
      say(`Sending ${file.name}…`);
      const answer = await upload("/v1/transcribe?format=json", file, {
        signal,
        onSent: (part) => {
          sent(part);
          if (part === 1) say("Listening for notes…");
        },
      });
      const { seconds, notes } = JSON.parse(await answer.text());
      signal.throwIfAborted();
      this._show(buffer, notes, seconds);
      const count = `${notes.length} ${notes.length === 1 ? "note" : "notes"}`;
      const heard = `${file.name}: ${count} in ${clock(seconds)}.`;
      return buffer ? heard : `${heard} This browser cannot play the recording itself.`;
    });
  }

  _reset(file) {
    this._player.load({ buffer: null, notes: [], duration: 0 });
    this._roll.clear();
    this._notes = [];
    this._name = file.name;
    get("roll-empty").hidden = false;
    get("transport").disabled = true;
    get("note-list").open = false;
    get("length").textContent = clock(0);
    this._describe("No notes yet");
    this._update();
  }

  _show(buffer, notes, seconds) {
    const last = notes.reduce((end, note) => Math.max(end, note.offset_seconds), 0);
    const duration = Math.max(seconds, buffer?.duration ?? 0, last);
    this._notes = notes;
    this._player.load({ buffer, notes, duration });
    this._roll.show({ notes, duration });
    get("roll-empty").hidden = true;
    get("transport").disabled = false;
    get("seek").max = String(duration);
    get("length").textContent = clock(duration);
    this._describe(`Piano roll of ${this._name}: ${notes.length} notes in ${clock(duration)}`);
    this._update();
  }

  _describe(text) {
    get("roll").querySelector("canvas").setAttribute("aria-label", text);
  }

  _wireTransport() {
    const player = this._player;
    const toggle = () => (player.playing ? player.pause() : player.play());
    get("play").addEventListener("click", toggle);
    get("seek").addEventListener("input", () => player.seek(Number(get("seek").value)));
    get("zoom-in").addEventListener("click", () => this._roll.zoomBy(ZOOM));
    get("zoom-out").addEventListener("click", () => this._roll.zoomBy(1 / ZOOM));
    get("roll").addEventListener("keydown", (event) => {
      const actions = {
        " ": toggle,
        "+": () => this._roll.zoomBy(ZOOM),
        "=": () => this._roll.zoomBy(ZOOM), // the + key without Shift
        "-": () => this._roll.zoomBy(1 / ZOOM),
      };
      if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[event.key]();
    });
    player.addEventListener("change", () => {
      get("play").textContent = player.playing ? "Pause" : "Play";
      if (player.playing) this._animate();
      this._update(true);
    });
  }

  _wireMixer() {
    for (const name of ["recording", "notes"]) {
      const volume = get(`${name}-volume`);
      volume.addEventListener("input", () => {
        this._player.setLevel(name, { volume: Number(volume.value) / 100 });
      });
      const mute = get(`${name}-mute`);
      mute.addEventListener("click", () => {
        const muted = mute.getAttribute("aria-pressed") !== "true";
        mute.setAttribute("aria-pressed", String(muted));
        this._player.setLevel(name, { muted });
      });
    }
  }

  _animate() {
    this._frame ??= requestAnimationFrame(() => {
      this._frame = null;
      this._update(true);
      if (this._player.playing) this._animate();
    });
  }

  _update(follow = false) {
    const time = this._player.time;
    get("seek").value = String(time);
    get("seek").setAttribute("aria-valuetext", `${clock(time)} of ${clock(this._player.duration)}`);
    get("clock").textContent = clock(time);
    this._roll.moveTo(time, follow);
  }

  _fillTable() {
    const box = get("note-list").querySelector(".table-box");
    if (!get("note-list").open) return;
    const table = element("table", "");
    const row = (kind, cells) => {
      const line = element("tr", "");
      for (const cell of cells) {
        line.append(element(kind, "", kind === "th" ? { scope: "col" } : {}));
        line.lastChild.textContent = cell;
      }
      return line;
    };
    table.append(row("th", ["Note", "Begin (s)", "End (s)", "Velocity"]));
    for (const note of this._notes.slice(0, MOST_ROWS)) {
      const times = [note.onset_seconds, note.offset_seconds].map((time) => time.toFixed(2));
      table.append(row("td", [note.name, ...times, String(note.velocity)]));
    }
    box.replaceChildren(table);
    if (this._notes.length > MOST_ROWS) {
      box.append(`The first ${MOST_ROWS}; the MIDI file has all.`);
    }
  }
}
