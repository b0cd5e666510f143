// A piano-like tone, computed: stretched partials, each dying away at its own pace.

const PARTIALS = 24;
const ATTACK_SECONDS = 0.002;
const FADE_SECONDS = 0.05;

export const frequencyOf = (pitch) => 440 * 2 ** ((pitch - 69) / 12);

/** How long a key sounds if it is held, in seconds; low strings sound longer. */
export const lengthOf = (pitch) => 1.2 + 5.3 * (1 - (pitch - 21) / 87) ** 1.5;

function addPartial(samples, rate, { frequency, amplitude, decay, phase }) {
  // A sine by recurrence, as thousands of tones must be ready in a moment.
  const turn = (2 * Math.PI * frequency) / rate;
  const shrink = Math.exp(-decay / rate);
  const [a, b] = [2 * shrink * Math.cos(turn), -shrink * shrink];
  let before = (amplitude * Math.sin(phase - turn)) / shrink;
  let now = amplitude * Math.sin(phase);
  for (let i = 0; i < samples.length; i++) {
    samples[i] += now;
    [before, now] = [now, a * now + b * before];
  }
}

function addHammer(samples, rate, pitch) {
  // A dull knock: noise through a one-pole low-pass, gone in a few hundredths of a second.
  let [seed, dull] = [pitch, 0];
  const count = Math.min(samples.length, Math.round(0.05 * rate));
  for (let i = 0; i < count; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    dull += 0.08 * (seed / 2 ** 31 - dull);
    samples[i] += 0.25 * dull * Math.exp(-i / (0.008 * rate));
  }
}

/** The samples of a key, MIDI pitch 21 to 108, struck hard and held; the loudest is 1. */
export function renderTone(pitch, rate) {
  const samples = new Float32Array(Math.round(lengthOf(pitch) * rate));
  const fundamental = frequencyOf(pitch);
  const stiffness = 0.00012 * 2 ** ((pitch - 45) / 14);
  const slow = 0.55 + 1.9 * ((pitch - 21) / 87) ** 1.5;
  for (let n = 1; n <= PARTIALS; n++) {
    const frequency = n * fundamental * Math.sqrt((1 + stiffness * n * n) / (1 + stiffness));
    if (frequency > 0.42 * rate) break;
    // The hammer strikes at an eighth of the string, where the eighth partial stands still.
    const strike = Math.abs(Math.sin((n * Math.PI) / 8)) + 0.04;
    const amplitude = strike / n ** (0.9 + 0.5 * (pitch / 108));
    const decay = slow * (1 + 0.35 * (n - 1));
    const phase = n * 1.7;
    // Two strings a little apart: the beating, and a fast and a slow decay, of a real piano.
    addPartial(samples, rate, { frequency, amplitude: 0.6 * amplitude, decay: 2.6 * decay, phase });
    addPartial(samples, rate, {
      frequency: frequency * 1.0004, amplitude: 0.4 * amplitude, decay, phase,
    });
  }
  addHammer(samples, rate, pitch);
  softenEnds(samples, rate);
  const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-9);
  return samples.map((sample) => sample / loudest);
}

function softenEnds(samples, rate) {
  const attack = Math.round(ATTACK_SECONDS * rate);
  const fade = Math.round(FADE_SECONDS * rate);
  for (let i = 0; i < attack; i++) samples[i] *= i / attack;
  for (let i = 0; i < fade; i++) samples[samples.length - 1 - i] *= i / fade;
}
