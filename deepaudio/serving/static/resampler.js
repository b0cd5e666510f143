// Changes the rate of a sound that comes in pieces: a windowed sinc, as low as the lower rate asks.

const CROSSINGS = 16; // of zero, on each side
const STEPS = 256; // of the table, between two crossings
const BETA = 8.6; // of the Kaiser window: what is out of the band is 80 dB down
const ROLL_OFF = 0.92;

function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function makeTable() {
  const table = new Float32Array(CROSSINGS * STEPS + 2);
  for (let i = 0; i <= CROSSINGS * STEPS; i++) {
    const x = i / STEPS;
    const window = bessel(BETA * Math.sqrt(1 - (x / CROSSINGS) ** 2)) / bessel(BETA);
    table[i] = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window;
  }
  return table;
}

export class Resampler {
  /** From one rate to another, both in Hz. */
  constructor(from, to) {
    this._step = from / to;
    this._cutoff = ROLL_OFF * Math.min(1, to / from);
    this._reach = Math.ceil(CROSSINGS / this._cutoff);
    this._table = makeTable();
    // Silence before the beginning, so that the first output lies at the first input.
    this._held = new Float32Array(this._reach);
    this._at = this._reach; // where the next output lies in what is held
    this._same = from === to;
  }

  /** Takes samples, and gives those that can be told by now. */
  push(samples) {
    if (this._same) return samples;
    const held = new Float32Array(this._held.length + samples.length);
    held.set(this._held);
    held.set(samples, this._held.length);
    const count = Math.max(0, Math.ceil((held.length - this._reach - this._at) / this._step));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = this._sample(held, this._at + i * this._step);
    this._at += count * this._step;
    const done = Math.min(Math.max(0, Math.floor(this._at) - this._reach), held.length);
    this._held = held.slice(done);
    this._at -= done;
    return out;
  }

  /** The rest, after the last samples. */
  finish() {
    return this.push(new Float32Array(this._same ? 0 : this._reach));
  }

  _sample(held, at) {
    const first = Math.max(0, Math.ceil(at - this._reach));
    const last = Math.min(held.length - 1, Math.floor(at + this._reach));
    let sum = 0;
    for (let i = first; i <= last; i++) {
      const place = Math.min(Math.abs(at - i) * this._cutoff, CROSSINGS) * STEPS;
      const low = Math.floor(place);
      const weight = this._table[low] + (place - low) * (this._table[low + 1] - this._table[low]);
      sum += held[i] * weight;
    }
    return sum * this._cutoff;
  }
}
