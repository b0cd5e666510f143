// The page: tabs, the server's state, the token.

import { getToken, health, isTokenRight, setToken } from "./api.js";
import { megabytes } from "./job.js";
import { Live } from "./live.js";
import { Piano } from "./piano.js";
import { Vocoder } from "./vocoder.js";
import { FileWords } from "./words.js";

const AGAIN_MILLISECONDS = 15_000;

const get = (id) => document.getElementById(id);
const live = new Live();
const parts = {
  piano: [new Piano(get("piano"))],
  speech: [live, new FileWords(get("speech"))],
  voice: [new Vocoder(get("voice"))],
};
const TASKS = { piano: "transcribe", speech: "recognize", voice: "vocode" };

// Tabs: one in the order of the tabulator, arrow keys choose (the ARIA pattern).

const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab) {
  for (const one of tabs) {
    const isChosen = one === tab;
    const name = one.getAttribute("aria-controls");
    one.setAttribute("aria-selected", String(isChosen));
    one.tabIndex = isChosen ? 0 : -1;
    get(name).hidden = !isChosen;
    for (const part of parts[name]) {
      if (isChosen) part.shown?.();
      else part.hide?.();
    }
  }
}

function chooseByAddress() {
  const tab = tabs.find((one) => `#${one.getAttribute("aria-controls")}` === location.hash);
  if (tab) choose(tab);
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => {
    choose(tab);
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  });
  tab.addEventListener("keydown", (event) => {
    const to = {
      ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[to % tabs.length];
    next.click();
    next.focus();
  });
});
window.addEventListener("hashchange", chooseByAddress);
chooseByAddress();

// The server's state, asked again now and then.

function showTask(panel, { available, model, reason }) {
  const line = panel.querySelector(".model");
  line.textContent = available
    ? `Model: ${model.split(/[\\/]/).at(-1)}` // a file's place is nobody's business
    : `Not available on this server: ${reason}.`;
  line.classList.toggle("missing", !available);
  for (const fieldset of panel.querySelectorAll("fieldset:not(#transport)")) {
    fieldset.disabled = !available;
  }
}

function showState(text, isGood) {
  if (get("server-state").textContent !== text) get("server-state").textContent = text;
  get("server-dot").className = `dot ${isGood ? "good" : "bad"}`;
}

const STATES = { ok: "ready", draining: "stopping", failed: "failed, must be started again" };

async function refresh() {
  let state;
  try {
    state = await health();
  } catch {
    showState("not reachable", false);
    return null;
  }
  showState(STATES[state.status], state.status === "ok");
  get("version").textContent = state.version;
  get("token-open").hidden = !state.token_required;
  const { max_body_bytes: bytes, max_seconds: seconds } = state.limits;
  const long = seconds >= 120 ? `${Math.floor(seconds / 60)} minutes` : `${seconds} seconds`;
  for (const [name, task] of Object.entries(TASKS)) {
    showTask(get(name), state.tasks[task]);
    for (const part of parts[name]) part.setLimits?.(state.limits);
    get(name).querySelector(".limits").textContent = `${long} and ${megabytes(bytes)}`;
  }
  live.setRate(state.tasks.recognize.sample_rate);
  return state;
}

// The token.

const dialog = get("token");

function askForToken() {
  if (!dialog.open) dialog.showModal();
}

get("token-open").addEventListener("click", askForToken);
get("token-cancel").addEventListener("click", () => dialog.close());
document.addEventListener("token-needed", askForToken);
get("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setToken(get("token-value").value.trim());
  let error = "";
  try {
    if (!(await isTokenRight())) error = "The server does not take this token.";
  } catch (failure) {
    error = failure.message;
  }
  get("token-error").textContent = error;
  if (!error) dialog.close();
});

const state = await refresh();
if (state?.token_required && !getToken()) askForToken();
setInterval(() => document.hidden || refresh(), AGAIN_MILLISECONDS);
