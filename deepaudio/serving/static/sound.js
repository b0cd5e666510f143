// Sound in the browser: decoding, waveforms, times.

const RATE = 44100;
const BIN = 256; // samples a peak

/** The sound of a file as an AudioBuffer; null where the browser does not know the format. */
export async function decode(file) {
  try {
    return await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
}

/** The loudest sample of every short piece, all channels together, between 0 and 1. */
export function peaksOf(buffer) {
  const count = Math.ceil(buffer.length / BIN);
  const peaks = new Float32Array(count);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let bin = 0; bin < count; bin++) {
      const end = Math.min((bin + 1) * BIN, samples.length);
      let peak = peaks[bin];
      for (let i = bin * BIN; i < end; i++) peak = Math.max(peak, Math.abs(samples[i]));
      peaks[bin] = peak;
    }
  }
  const loudest = peaks.reduce((a, b) => Math.max(a, b), 1e-4);
  return { values: peaks.map((peak) => peak / loudest), perSecond: buffer.sampleRate / BIN };
}

/** The loudest peak between two times, in seconds. */
export function peakBetween(peaks, begin, end) {
  const last = Math.min(Math.ceil(end * peaks.perSecond), peaks.values.length);
  let peak = 0;
  for (let i = Math.max(0, Math.floor(begin * peaks.perSecond)); i < last; i++) {
    peak = Math.max(peak, peaks.values[i]);
  }
  return peak;
}

/** Draws a whole sound on a canvas as wide as its place. */
export function drawWave(canvas, buffer) {
  const { width, height } = canvas.getBoundingClientRect();
  const pen = sized(canvas, width, height);
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue("--wave");
  const peaks = peaksOf(buffer);
  for (let x = 0; x < width; x++) {
    const at = (column) => (column / width) * buffer.duration;
    const tall = Math.max(1, peakBetween(peaks, at(x), at(x + 1)) * height * 0.9);
    pen.fillRect(x, (height - tall) / 2, 1, tall);
  }
}

/** The canvas's context, cleared, in CSS pixels whatever the screen's. */
export function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.width = wide;
    canvas.height = tall;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** 83.25 → "1:23.2" */
export function clock(seconds) {
  const tenths = Math.floor(Math.max(0, seconds) * 10 + 1e-6);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${rest}`;
}

/** Offers a Blob to be saved. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads the address after the click has been dealt with.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "sound";
