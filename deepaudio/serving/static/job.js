// Files in: choosing, dropping, and the line that tells how the work on one goes.

import { ServerError } from "./api.js";

/** The line below a drop zone: what is being done, for how long, a way to cancel, an error. */
export class Job {
  constructor(box) {
    this._box = box;
    this._text = element("div", "job-text");
    this._status = element("span", "", { role: "status" });
    this._elapsed = element("span", "elapsed", { "aria-hidden": "true" });
    this._error = element("div", "error", { role: "alert" });
    this._text.append(this._status, " ", this._elapsed, this._error);
    this._bar = element("progress", "", { "aria-label": "Progress", max: "1" });
    this._cancel = element("button", "quiet job-cancel", { type: "button" });
    this._cancel.textContent = "Cancel";
    this._cancel.addEventListener("click", () => this._aborter?.abort());
    box.append(this._text, this._bar, this._cancel);
  }

  /** Runs `work({signal, sent, say})`; another file in the meantime takes its place. */
  async run(work) {
    this._aborter?.abort();
    const aborter = (this._aborter = new AbortController());
    const current = () => this._aborter === aborter;
    const begin = performance.now();
    const clock = setInterval(() => {
      this._elapsed.textContent = `${Math.round((performance.now() - begin) / 1000)} s`;
    }, 1000);
    this._error.textContent = this._elapsed.textContent = "";
    this._box.classList.add("busy");
    try {
      const message = await work({
        signal: aborter.signal,
        say: (text) => current() && (this._status.textContent = text),
        sent: (part) => current() && this._sent(part),
      });
      if (current()) this._status.textContent = message;
    } catch (error) {
      if (current()) this._fail(error);
    } finally {
      clearInterval(clock);
      if (current()) {
        this._elapsed.textContent = "";
        this._box.classList.remove("busy");
      }
    }
  }

  _sent(part) {
    if (part < 1) this._bar.value = part;
    else this._bar.removeAttribute("value"); // how long the work will take is not known
  }

  _fail(error) {
    this._status.textContent = "";
    if (error.name === "AbortError") this._status.textContent = "Cancelled.";
    else if (error instanceof ServerError) this._error.textContent = error.message;
    else {
      this._error.textContent = `The page has failed: ${error.message}`;
      console.error(error);
    }
  }
}

export function element(name, className, attributes = {}) {
  const made = document.createElement(name);
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Has `take(file)` called with what is chosen or dropped anywhere on the panel. */
export function takeFiles(panel, take) {
  const zone = panel.querySelector(".drop");
  const input = zone.querySelector("input");
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  input.addEventListener("keydown", (event) => {
    // Looks like a button, so Enter must do what it does there; browsers only know the space bar.
    if (event.key !== "Enter") return;
    event.preventDefault();
    input.click();
  });
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  // On the whole document: a file dropped beside the zone would replace the page.
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!isFile(event) || panel.hidden) return;
      event.preventDefault();
      zone.classList.toggle("over", !input.matches(":disabled"));
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!isFile(event) || panel.hidden) return;
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file && !input.matches(":disabled")) take(file);
  });
}

/** Throws a readable error if the server would not take the file; saves sending it. */
export function checkSize(file, limits) {
  const most = limits.max_body_bytes;
  if (file.size > most) {
    throw new ServerError(
      `The file is too large: ${megabytes(file.size)}, and the server takes ${megabytes(most)}.`,
    );
  }
}

export const megabytes = (bytes) => `${Math.round((bytes / 2 ** 20) * 10) / 10} MB`;
