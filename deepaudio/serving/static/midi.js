// Notes to a MIDI file, byte for byte what the server writes (data.notes.write_midi).

const TICKS_PER_BEAT = 960;
const MICROSECONDS_PER_BEAT = 500_000;
const TICKS_PER_SECOND = (TICKS_PER_BEAT * 1e6) / MICROSECONDS_PER_BEAT;

/** A number in groups of seven bits, all but the last marked. */
function variableLength(number) {
  const bytes = [number & 0x7f];
  for (let rest = number >> 7; rest; rest >>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}

const big = (number, count) =>
  Array.from({ length: count }, (_, i) => (number >>> (8 * (count - 1 - i))) & 0xff);
const text = (word) => [...word].map((letter) => letter.charCodeAt(0));

/** The file's bytes. */
export function toMidi(notes) {
  const events = [];
  for (const note of notes) {
    const start = Math.round(note.onset_seconds * TICKS_PER_SECOND);
    const end = Math.max(Math.round(note.offset_seconds * TICKS_PER_SECOND), start + 1);
    events.push([start, 1, note.pitch, note.velocity], [end, 0, note.pitch, 64]);
  }
  // Ends before starts of the same tick, so that a repeated note is not cut at once.
  events.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3]);
  const track = [
    [0, 0xff, 0x51, 3, ...big(MICROSECONDS_PER_BEAT, 3)],
    [0, 0xff, 0x58, 4, 4, 2, 24, 8],
    [0, 0xc0, 0],
  ].flat();
  let [now, kind] = [0, null];
  for (const [tick, isStart, pitch, velocity] of events) {
    for (const byte of variableLength(tick - now)) track.push(byte);
    if (isStart !== kind) track.push(isStart ? 0x90 : 0x80); // said once for all that follow
    track.push(pitch, velocity);
    [now, kind] = [tick, isStart];
  }
  track.push(0, 0xff, 0x2f, 0);
  const header = [big(6, 4), big(0, 2), big(1, 2), big(TICKS_PER_BEAT, 2)].flat();
  const begin = [text("MThd"), header, text("MTrk"), big(track.length, 4)].flat();
  return Uint8Array.from(begin.concat(track));
}
