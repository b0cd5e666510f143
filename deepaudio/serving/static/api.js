// Talks to the server: its state, uploads, the token, and errors in plain words.

const KEY = "deepaudio.token";

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const getToken = () => sessionStorage.getItem(KEY) ?? "";
export const setToken = (value) => sessionStorage.setItem(KEY, value);

const UNREACHABLE = "The server cannot be reached. Is it still running, and is the network up?";

function authorization() {
  const token = getToken();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** What the server can do and its limits; also when it says that it is stopping. */
export async function health() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store" });
    return await answer.json();
  } catch {
    throw new ServerError(UNREACHABLE);
  }
}

/** Whether the server takes the token; its metrics ask for it and cost little. */
export async function isTokenRight() {
  try {
    const answer = await fetch("/metrics", { cache: "no-store", headers: authorization() });
    return answer.status !== 401;
  } catch {
    throw new ServerError(UNREACHABLE);
  }
}

function explain(status, reason, retryAfter) {
  const later = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  switch (status) {
    case 401:
      document.dispatchEvent(new Event("token-needed"));
      return "The server asks for a token, and the one given is missing or wrong.";
    case 413:
      return `The file is too large for this server: ${reason}.`;
    case 422:
      return `${reason[0].toUpperCase()}${reason.slice(1)}.`;
    case 429:
      return `Too many requests.${later}`;
    case 503:
      return retryAfter ? `The server is busy: ${reason}.${later}` : `Not available: ${reason}.`;
    case 504:
      return `The server took too long: ${reason}. Try a shorter recording.`;
    default:
      return `The server refused this: ${reason} (${status}).`;
  }
}

async function failure(request) {
  let reason = request.statusText || "no reason given";
  try {
    reason = JSON.parse(await request.response.text()).error;
  } catch {
    // Something between here and the server has answered in its stead.
  }
  const message = explain(request.status, reason, request.getResponseHeader("Retry-After"));
  return new ServerError(message, request.status);
}

/**
 * Sends a file and resolves with the answer as a Blob.
 *
 * XMLHttpRequest, because fetch does not tell how much has been sent.
 */
export function upload(path, file, { signal, onSent }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorization())) {
      request.setRequestHeader(name, value);
    }
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "blob";
    request.upload.addEventListener("progress", (event) => onSent(event.loaded / event.total));
    request.upload.addEventListener("load", () => onSent(1));
    request.addEventListener("error", () => reject(new ServerError(UNREACHABLE)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("load", async () => {
      if (request.status === 200) resolve(request.response);
      else reject(await failure(request));
    });
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** A WebSocket to the live recognizer; a browser can send the token as a subprotocol only. */
export function openLive() {
  const url = new URL("/", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const token = getToken();
  return new WebSocket(url, token ? ["deepaudio.bearer", token] : []);
}

/** Why a WebSocket was not let in: the browser does not say, so the server's state is asked. */
export async function whyRefused() {
  const state = await health();
  if (state.status !== "ok") return "The server is stopping.";
  if (state.token_required && !(await isTokenRight())) return explain(401);
  return "The server refused the connection: too many are listening. Try again in a few seconds.";
}
