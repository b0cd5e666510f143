// The microphone, as chunks of 16-bit mono PCM.

export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the microphone. Allow it, then try again.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "The microphone cannot be used; another program may have it.",
};

async function ask() {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new MicrophoneError(
      "Browsers give the microphone only to pages that come over https or from this machine.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true },
    });
  } catch (error) {
    throw new MicrophoneError(REASONS[error.name] ?? `No microphone: ${error.message}`);
  }
}

/**
 * Begins to listen: `onChunk(Int16Array)` ten times a second, `onLost()` if the device goes away.
 *
 * Resolves with a function that stops, and resolves when the last chunk has been given.
 */
export async function listen({ rate, onChunk, onLost }) {
  const stream = await ask();
  const context = new AudioContext();
  const release = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule("/static/pcm-worklet.js");
    await context.resume();
  } catch (error) {
    await release();
    throw error;
  }
  const node = new AudioWorkletNode(context, "pcm", { processorOptions: { rate } });
  const ended = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => (data ? onChunk(data) : resolve());
  });
  context.createMediaStreamSource(stream).connect(node);
  // The node is silent; without a way to the loudspeaker some browsers do not run it.
  node.connect(context.destination);
  stream.getAudioTracks()[0].addEventListener("ended", onLost);
  return async () => {
    node.port.postMessage("stop");
    // Where the browser has put the sound to sleep, no answer comes.
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000))]);
    await release();
  };
}
