// The waveform and the piano roll: one canvas as wide as the view, in a box that scrolls.

import { peakBetween, sized } from "./sound.js";

const KEYS_WIDTH = 40;
const RULER_HEIGHT = 20;
const WAVE_SHARE = 0.18;
const LEAST_KEYS = 36;
const [LEAST_ZOOM, MOST_ZOOM] = [4, 600]; // pixels a second
const REST_MILLISECONDS = 3000; // the view stays where the user has put it for so long
const STEPS = [0.2, 0.5, 1, 2, 5, 10, 15, 30]; // between times on the ruler, in seconds
const BLACK = new Set([1, 3, 6, 8, 10]);

const isBlack = (pitch) => BLACK.has(pitch % 12);

export class Roll {
  constructor(scroller, onSeek) {
    this._scroller = scroller;
    this._inner = scroller.firstElementChild;
    this._canvas = scroller.querySelector("canvas");
    this._zoom = 80;
    this._time = 0;
    this._touched = -Infinity;
    this._calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.clear();
    scroller.addEventListener("scroll", () => this.refresh());
    for (const kind of ["wheel", "pointerdown", "touchmove", "keydown"]) {
      scroller.addEventListener(kind, () => (this._touched = performance.now()), { passive: true });
    }
    scroller.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    this._canvas.addEventListener("click", (event) => {
      const x = event.clientX - this._canvas.getBoundingClientRect().left;
      if (this._duration && x >= KEYS_WIDTH) onSeek(Math.min(this._timeAt(x), this._duration));
    });
    new ResizeObserver(() => this._layout()).observe(scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this._colours = null;
      this.refresh();
    });
  }

  clear() {
    Object.assign(this, { _notes: [], _peaks: null, _duration: 0, _time: 0 });
    this._scroller.scrollLeft = 0;
    this._fitKeys();
    this._layout();
  }

  /** Shows what is given of `peaks`, `notes` and `duration`. */
  show({ peaks = this._peaks, notes = this._notes, duration = this._duration }) {
    Object.assign(this, { _peaks: peaks, _notes: notes, _duration: duration });
    this._fitKeys();
    this._layout();
  }

  /** Puts the playhead, and the view with it. */
  moveTo(time, follow) {
    this._time = time;
    const rested = performance.now() - this._touched > REST_MILLISECONDS;
    if (follow && rested) this._follow();
    this.refresh();
  }

  zoomBy(factor, x = this._xOf(this._time)) {
    const inView = x >= KEYS_WIDTH && x <= this._width;
    const anchor = inView ? x : (KEYS_WIDTH + this._width) / 2;
    const time = this._timeAt(anchor);
    this._zoom = Math.min(Math.max(this._zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    this._layout();
    this._scroller.scrollLeft = time * this._zoom - (anchor - KEYS_WIDTH);
    this.refresh();
  }

  refresh() {
    this._frame ??= requestAnimationFrame(() => {
      this._frame = null;
      this._draw();
    });
  }

  _wheel(event) {
    if (!event.ctrlKey) return; // plain turns scroll; pinching comes as a turn with Ctrl
    event.preventDefault();
    const x = event.clientX - this._canvas.getBoundingClientRect().left;
    this.zoomBy(Math.exp(-event.deltaY / 200), x);
  }

  _follow() {
    const room = this._width - KEYS_WIDTH;
    const x = this._xOf(this._time) - KEYS_WIDTH;
    if (!this._calm.matches) this._scroller.scrollLeft = this._time * this._zoom - 0.35 * room;
    else if (x < 0 || x > 0.92 * room) {
      // Without motion: a page at a time.
      this._scroller.scrollLeft = this._time * this._zoom - 0.05 * room;
    }
  }

  _fitKeys() {
    const pitches = this._notes.map((note) => note.pitch);
    let low = pitches.reduce((a, b) => Math.min(a, b), 128) - 2;
    let high = pitches.reduce((a, b) => Math.max(a, b), 0) + 2;
    if (!pitches.length) [low, high] = [43, 78];
    while (high - low + 1 < LEAST_KEYS) {
      if (high < 108) high++;
      if (low > 21) low--;
    }
    [this._low, this._high] = [Math.max(low, 21), Math.min(high, 108)];
  }

  _layout() {
    this._width = this._scroller.clientWidth;
    this._height = this._scroller.clientHeight;
    this._canvas.style.width = `${this._width}px`;
    this._canvas.style.height = `${this._height}px`;
    this._inner.style.width = `${KEYS_WIDTH + this._duration * this._zoom}px`;
    this.refresh();
  }

  _xOf(time) {
    return KEYS_WIDTH + time * this._zoom - this._scroller.scrollLeft;
  }

  _timeAt(x) {
    return (x - KEYS_WIDTH + this._scroller.scrollLeft) / this._zoom;
  }

  _palette() {
    const style = getComputedStyle(this._scroller);
    const get = (name) => style.getPropertyValue(name).trim();
    const stops = ["--soft", "--middle", "--loud"].map((name) => rgb(get(name)));
    const byVelocity = Array.from({ length: 128 }, (_, velocity) => {
      const at = Math.min(Math.max((velocity - 35) / 75, 0), 1) * 2;
      const [from, to] = at < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
      const part = at < 1 ? at : at - 1;
      return `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * part)).join(" ")})`;
    });
    const names = ["surface", "row", "line", "muted", "wave", "playhead", "ivory", "ebony"];
    return { byVelocity, ...Object.fromEntries(names.map((name) => [name, get(`--${name}`)])) };
  }

  _draw() {
    if (!this._width) return; // another panel is shown
    this._colours ??= this._palette();
    const pen = sized(this._canvas, this._width, this._height);
    const top = RULER_HEIGHT + Math.round(WAVE_SHARE * this._height);
    const key = (this._height - top) / (this._high - this._low + 1);
    const yOf = (pitch) => top + (this._high - pitch) * key;
    this._drawRows(pen, yOf, key);
    this._drawRuler(pen, top);
    if (this._peaks) this._drawWave(pen, top);
    const sounding = this._drawNotes(pen, yOf, key);
    this._drawPlayhead(pen);
    this._drawKeys(pen, yOf, key, top, sounding);
  }

  _drawRows(pen, yOf, key) {
    pen.fillStyle = this._colours.surface;
    for (let pitch = this._low; pitch <= this._high; pitch++) {
      if (!isBlack(pitch)) pen.fillRect(0, yOf(pitch), this._width, key + 0.5);
    }
    pen.fillStyle = this._colours.line;
    for (let pitch = this._low; pitch <= this._high; pitch++) {
      if (pitch % 12 === 0) pen.fillRect(0, Math.round(yOf(pitch) + key), this._width, 1);
    }
  }

  _drawRuler(pen, top) {
    const step = STEPS.find((seconds) => seconds * this._zoom >= 64);
    const last = Math.min(this._timeAt(this._width), this._duration);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (let i = Math.floor(this._timeAt(0) / step); i * step <= last; i++) {
      if (i < 0) continue;
      const x = Math.round(this._xOf(i * step));
      pen.fillStyle = this._colours.line;
      pen.fillRect(x, RULER_HEIGHT - 5, 1, this._height);
      pen.fillStyle = this._colours.muted;
      pen.fillText(label(i * step, step), x + 4, RULER_HEIGHT / 2);
    }
    pen.fillStyle = this._colours.line;
    pen.fillRect(0, top - 1, this._width, 1);
  }

  _drawWave(pen, top) {
    const middle = (RULER_HEIGHT + top) / 2;
    const half = (top - RULER_HEIGHT) / 2 - 4;
    pen.fillStyle = this._colours.wave;
    for (let x = KEYS_WIDTH; x < this._width; x++) {
      const begin = this._timeAt(x);
      if (begin > this._duration) break;
      const tall = Math.max(0.5, half * peakBetween(this._peaks, begin, this._timeAt(x + 1)));
      pen.fillRect(x, middle - tall, 1, 2 * tall);
    }
  }

  /** Draws the notes in view, and returns the pitches that sound at the playhead. */
  _drawNotes(pen, yOf, key) {
    const sounding = new Map();
    const [first, last] = [this._timeAt(KEYS_WIDTH), this._timeAt(this._width)];
    const inset = key > 6 ? 0.75 : 0;
    for (const note of this._notes) {
      if (note.onset_seconds > last) break;
      if (note.offset_seconds < first) continue;
      const x = this._xOf(note.onset_seconds);
      const wide = Math.max(2, (note.offset_seconds - note.onset_seconds) * this._zoom - 1);
      const colour = this._colours.byVelocity[note.velocity];
      const isOn = note.onset_seconds <= this._time && this._time < note.offset_seconds;
      pen.fillStyle = colour;
      pen.beginPath();
      pen.roundRect(x, yOf(note.pitch) + inset, wide, key - 2 * inset, Math.min(2, key / 3));
      pen.fill();
      if (isOn) {
        sounding.set(note.pitch, colour);
        pen.strokeStyle = this._colours.playhead;
        pen.lineWidth = 1.5;
        pen.stroke();
      }
    }
    return sounding;
  }

  _drawPlayhead(pen) {
    if (!this._duration) return;
    const x = Math.round(this._xOf(this._time));
    pen.fillStyle = this._colours.playhead;
    pen.fillRect(x - 0.5, 0, 2, this._height);
    pen.beginPath();
    pen.moveTo(x - 5, 0);
    pen.lineTo(x + 6, 0);
    pen.lineTo(x + 0.5, 8);
    pen.fill();
  }

  _drawKeys(pen, yOf, key, top, sounding) {
    const { row, playhead, ebony, ivory } = this._colours;
    pen.fillStyle = row;
    pen.fillRect(0, 0, KEYS_WIDTH, top);
    pen.fillStyle = ivory;
    pen.fillRect(0, top, KEYS_WIDTH, this._height);
    for (let pitch = this._low; pitch <= this._high; pitch++) {
      const black = isBlack(pitch);
      if (!black && !sounding.has(pitch)) continue;
      pen.fillStyle = sounding.has(pitch) ? playhead : ebony;
      pen.fillRect(0, yOf(pitch), black ? KEYS_WIDTH * 0.62 : KEYS_WIDTH, key + 0.3);
    }
    pen.font = `${key > 6 ? 11 : 9}px system-ui, sans-serif`;
    pen.textAlign = "right";
    pen.textBaseline = "alphabetic";
    for (let pitch = this._low; pitch <= this._high; pitch++) {
      // Lines between white keys that touch (E and F, B and C), and the names of the Cs.
      pen.fillStyle = this._colours.wave;
      if ([0, 5].includes(pitch % 12)) pen.fillRect(0, yOf(pitch) + key - 0.25, KEYS_WIDTH, 0.5);
      if (pitch % 12 || yOf(pitch) < top + 8) continue;
      pen.fillStyle = ebony;
      pen.fillText(`C${pitch / 12 - 1}`, KEYS_WIDTH - 2, yOf(pitch) + key - 1.5);
    }
    pen.textAlign = "left";
    pen.fillStyle = this._colours.line;
    pen.fillRect(KEYS_WIDTH - 1, 0, 1, this._height);
    pen.fillRect(0, top - 1, KEYS_WIDTH, 1);
  }
}

function label(seconds, step) {
  const rest = seconds % 60;
  const shown = step < 1 ? rest.toFixed(1).padStart(4, "0") : rest.toFixed(0).padStart(2, "0");
  return `${Math.floor(seconds / 60)}:${shown}`;
}

/** "#93c7cf" → [147, 199, 207] */
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
