// Plays a recording and its notes together, on one clock, each with its own volume.

import { lengthOf, renderTone } from "./tone.js";

// Timers of a page in the background run once a second, so notes are set further ahead.
const AHEAD_SECONDS = 1.6;
const TURN_MILLISECONDS = 200;
const START_SECONDS = 0.06;
const RELEASE_SECONDS = 0.09;
const PAUSE_SECONDS = 0.015;

export class Player extends EventTarget {
  constructor() {
    super();
    this._levels = {
      recording: { volume: 0.8, muted: false },
      notes: { volume: 0.6, muted: false },
    };
    this._buffer = null;
    this._notes = [];
    this.duration = 0;
    this._offset = 0; // where it stands, or stood when it began to play
    this._session = null;
    this._tones = new Map();
  }

  load({ buffer, notes, duration }) {
    this.pause();
    Object.assign(this, { _buffer: buffer, _notes: notes, duration, _offset: 0 });
    this._prepare(new Set(notes.map((note) => note.pitch)));
  }

  get playing() {
    return this._session !== null;
  }

  get time() {
    if (!this._session) return this._offset;
    const heard = this._context.currentTime - (this._context.outputLatency || 0);
    const time = this._offset + heard - this._session.begin;
    return Math.min(Math.max(time, this._offset), this.duration);
  }

  async play() {
    if (this._session || !this.duration) return;
    if (this._offset >= this.duration - 0.01) this._offset = 0;
    this._context ??= new AudioContext();
    this._gains ??= this._makeGains();
    await this._context.resume();
    if (!this._session) this._begin();
    this._changed();
  }

  pause() {
    if (!this._session) return;
    this._offset = this.time;
    this._end();
    this._changed();
  }

  seek(time) {
    const wasPlaying = this.playing;
    if (wasPlaying) this._end();
    this._offset = Math.min(Math.max(time, 0), this.duration);
    if (wasPlaying) this._begin();
    this._changed();
  }

  setLevel(name, change) {
    const level = Object.assign(this._levels[name], change);
    if (!this._gains) return;
    const gain = level.muted ? 0 : loudness(level.volume);
    this._gains[name].gain.setTargetAtTime(gain, this._context.currentTime, 0.02);
  }

  _changed() {
    this.dispatchEvent(new Event("change"));
  }

  _makeGains() {
    const [recording, notes] = [this._context.createGain(), this._context.createGain()];
    for (const [name, gain] of Object.entries({ recording, notes })) {
      const level = this._levels[name];
      gain.gain.value = level.muted ? 0 : loudness(level.volume);
    }
    // Many notes at once would be cut off at full scale.
    const limiter = new DynamicsCompressorNode(this._context, { threshold: -12, ratio: 6 });
    notes.connect(limiter).connect(this._context.destination);
    recording.connect(this._context.destination);
    return { recording, notes };
  }

  _begin() {
    // Tones that are not there yet take a slow machine seconds, so they come before the time starts.
    const soon = this._offset + AHEAD_SECONDS;
    for (const { onset_seconds, offset_seconds, pitch } of this._notes) {
      if (onset_seconds <= soon && offset_seconds > this._offset) this._tone(pitch);
    }
    const begin = this._context.currentTime + START_SECONDS;
    const out = this._context.createGain(); // silences the notes under way at once
    out.connect(this._gains.notes);
    const session = { begin, out, next: 0, recording: null };
    if (this._buffer && this._offset < this._buffer.duration) {
      session.recording = new AudioBufferSourceNode(this._context, { buffer: this._buffer });
      session.recording.connect(this._gains.recording);
      session.recording.start(begin, this._offset);
    }
    this._session = session;
    // Before the first turn, which may be the last.
    session.timer = setInterval(() => this._turn(), TURN_MILLISECONDS);
    this._turn();
  }

  _end() {
    const { timer, recording, out } = this._session;
    clearInterval(timer);
    recording?.stop();
    out.gain.setTargetAtTime(0, this._context.currentTime, PAUSE_SECONDS);
    setTimeout(() => out.disconnect(), 200);
    this._session = null;
  }

  _turn() {
    const { _session: session, _context: context, _notes: notes } = this;
    const until = this._offset + context.currentTime - session.begin + AHEAD_SECONDS;
    for (; session.next < notes.length; session.next++) {
      const note = notes[session.next];
      if (note.onset_seconds > until) break;
      if (note.offset_seconds > this._offset) this._strike(note, session);
    }
    if (this.time >= this.duration) {
      this._offset = this.duration;
      this._end();
      this._changed();
    }
  }

  _strike(note, session) {
    const late = Math.max(0, this._offset - note.onset_seconds);
    if (late >= lengthOf(note.pitch)) return;
    const begin = session.begin + note.onset_seconds + late - this._offset;
    const end = session.begin + note.offset_seconds - this._offset;
    const force = note.velocity / 127;
    const context = this._context;
    const source = new AudioBufferSourceNode(context, { buffer: this._tone(note.pitch) });
    // A soft touch is dull as well as quiet.
    const felt = new BiquadFilterNode(context, {
      type: "lowpass", frequency: Math.min(18_000, 500 + 9000 * force ** 2), Q: 0.3,
    });
    const gain = new GainNode(context, { gain: 0.45 * force ** 1.5 });
    source.connect(felt).connect(gain).connect(session.out);
    source.start(begin, late);
    gain.gain.setTargetAtTime(0, Math.max(begin, end), RELEASE_SECONDS);
    source.stop(Math.max(begin, end) + 8 * RELEASE_SECONDS);
  }

  _tone(pitch) {
    if (!this._tones.has(pitch)) {
      const samples = renderTone(pitch, 44100);
      const buffer = new AudioBuffer({ length: samples.length, sampleRate: 44100 });
      buffer.copyToChannel(samples, 0);
      this._tones.set(pitch, buffer);
    }
    return this._tones.get(pitch);
  }

  /** Computes the tones one by one, and lets the page breathe in between. */
  async _prepare(pitches) {
    for (const pitch of pitches) {
      this._tone(pitch);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
}

/** The ear hears powers, so an even slider needs a curve. */
const loudness = (volume) => volume ** 2;
