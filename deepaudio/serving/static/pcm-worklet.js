// Beside the page's own thread: the microphone's sound to 16-bit mono PCM at the wanted rate.

import { Resampler } from "./resampler.js";

const CHUNK_SECONDS = 0.1;

class Pcm extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this._resampler = new Resampler(sampleRate, rate);
    this._chunk = new Int16Array(Math.round(CHUNK_SECONDS * rate));
    this._filled = 0;
    this._over = false;
    this.port.onmessage = () => {
      this._add(this._resampler.finish());
      if (this._filled) this._send();
      this._over = true;
      this.port.postMessage(null);
    };
  }

  process([channels]) {
    if (this._over) return false;
    if (channels.length) this._add(this._resampler.push(mono(channels)));
    return true;
  }

  _add(samples) {
    for (const sample of samples) {
      this._chunk[this._filled++] = Math.round(32767 * Math.min(Math.max(sample, -1), 1));
      if (this._filled === this._chunk.length) this._send();
    }
  }

  _send() {
    this.port.postMessage(this._chunk.slice(0, this._filled));
    this._filled = 0;
  }
}

function mono(channels) {
  if (channels.length === 1) return channels[0];
  const sum = (i) => channels.reduce((total, channel) => total + channel[i], 0);
  return channels[0].map((_, i) => sum(i) / channels.length);
}

registerProcessor("pcm", Pcm);
