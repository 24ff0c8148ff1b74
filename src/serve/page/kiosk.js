// The kiosk's page: asks the server on whose page it runs, and keeps nothing beyond the conversation on the screen.

import { make, Writing } from "./kiosk-writing.js";

const WARNING_LEFT = 80; // Characters left at which their number is shown.
const DOUBLE_TAP = 500; // Milliseconds in which a second tap on "Ask" does not become a "Stop".
const RETRY_START = 3000; // Milliseconds between attempts to reach the server at the start.

const root = document.documentElement;
const $ = (id) => document.getElementById(id);

let config;
let language;
let turns = []; // {question, answer} of the conversation, the oldest first
let running = null; // the answer that is being written
let lastActive = 0;
let token = null; // what the server asks of every request, where it does

// A text of the interface in the visitor's language.
function text(key, count) {
  return (language.texts[key] ?? "").replace("{count}", count === undefined ? "" : count.toLocaleString(language.code));
}

// Makes an element whose text follows the language.
function worded(name, className, key) {
  const element = make(name, className, text(key));
  element.dataset.text = key;
  return element;
}

function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${id}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

// ---- Language and size -------------------------------------------------------------------------------------------

function setLanguage(chosen) {
  language = chosen;
  root.lang = chosen.code;
  root.dir = chosen.dir;
  document.title = config.title;
  for (const element of document.querySelectorAll("[data-text]")) {
    const wanted = text(element.dataset.text);
    if (element.textContent !== wanted) element.textContent = wanted;
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    const label = text(element.dataset.label);
    element.setAttribute("aria-label", label);
    if (element.localName === "button") element.title = label;
  }
  $("input").placeholder = text("placeholder");
  $("greeting").textContent = chosen.greeting;
  $("suggestions").replaceChildren(...chosen.suggestions.map(suggestion));
  $("offers").hidden = chosen.suggestions.length === 0;
  for (const button of $("languages").children) {
    if (button.lang === chosen.code) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  typed();
}

function suggestion(question) {
  const button = make("button", "", make("span", "", question), icon("i-go"));
  button.type = "button";
  button.addEventListener("click", () => ask(question));
  return make("li", "", button);
}

function languageButton(offered) {
  const button = make("button", "", offered.name);
  button.type = "button";
  button.lang = offered.code;
  button.dir = offered.dir;
  button.addEventListener("click", () => {
    setLanguage(offered);
    if (!$("globe").getClientRects().length) return;
    openLanguages(false);
    $("globe").focus();
  });
  return button;
}

function openLanguages(open) {
  $("languages").toggleAttribute("data-open", open);
  $("globe").setAttribute("aria-expanded", String(open));
}

function setBig(big) {
  root.toggleAttribute("data-big", big);
  $("big").setAttribute("aria-pressed", String(big));
  fit();
}

// ---- The question ------------------------------------------------------------------------------------------------

// Follows what is typed: its direction, its height and what may still be typed.
function typed() {
  const input = $("input");
  input.dir = input.value === "" ? root.dir : "auto";
  const left = config.max_message_chars - input.value.length;
  $("left").textContent = left <= Math.min(WARNING_LEFT, config.max_message_chars / 4) ? text("left", left) : "";
  fit();
}

function fit() {
  const input = $("input");
  input.style.height = "auto";
  if (input.value === "") input.removeAttribute("style");
  else input.style.height = `${input.scrollHeight + 3}px`;
}

function submit() {
  const input = $("input");
  const question = input.value.trim();
  if (question === "") input.focus();
  if (question === "" || running) return;
  input.value = "";
  typed();
  ask(question);
}

// ---- The answer --------------------------------------------------------------------------------------------------

// What the server sends, event by event.
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function request(question, signal) {
  const messages = turns.flatMap((turn) => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answer },
  ]);
  messages.push({ role: "user", content: question });
  const body = { messages, stream: true };
  if (config.unsure_below !== null) body.logprobs = true;
  return fetch("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    signal,
  });
}

// Asks until the conversation fits, forgetting its oldest turns. Gives the body, else why there is none.
async function connect(question, signal, forget) {
  for (;;) {
    const response = await request(question, signal);
    if (response.ok) return { body: response.body };
    if (response.status === 429 || response.status === 503) return { why: "busy" };
    const problem = await response.json().catch(() => ({}));
    const tooLong = response.status === 413 || problem.error?.code === "context_length_exceeded";
    if (!tooLong || turns.length === 0) return { why: tooLong ? "too_long" : "failed" };
    forget(Math.ceil(turns.length / 2));
  }
}

// Writes the answer; gives the keys of what there is to say about it.
async function write(body, writing, signal) {
  let finish = null;
  let sum = 0;
  let count = 0;
  for await (const event of events(body)) {
    signal.throwIfAborted();
    if (event.error) return ["failed"];
    const choice = event.choices?.[0];
    if (!choice) continue;
    finish = choice.finish_reason ?? finish;
    const piece = choice.delta?.content;
    if (!piece) continue;
    if (writing.text === "") say("");
    writing.add(piece);
    follow();
    for (const token of choice.logprobs?.content ?? []) {
      sum += token.logprob;
      count += 1;
    }
  }
  if (finish === null) return ["failed"];
  if (writing.text.trim() === "") return ["empty"];
  const unsure = config.unsure_below !== null && count > 0 && Math.exp(sum / count) < config.unsure_below;
  return [...(finish === "length" ? ["cut"] : []), ...(unsure ? ["unsure"] : [])];
}

const OFFER_RETRY = ["busy", "failed"];
const QUIET = ["stopped", "cut", "forgotten"];

async function ask(question) {
  if (running) return;
  const { turn, box } = begin(question);
  const writing = new Writing(box);
  const mine = { controller: new AbortController(), since: performance.now() };
  const signal = mine.controller.signal;
  running = mine;
  setAnswering(true);
  say("thinking");
  let remarks;
  try {
    const forget = (count) => forgetTurns(count, box);
    if (config.max_turns > 0 && turns.length >= config.max_turns) forget(turns.length - config.max_turns + 1);
    const { body, why } = await connect(question, signal, forget);
    remarks = why ? [why] : await write(body, writing, signal);
  } catch {
    remarks = [signal.aborted ? "stopped" : "failed"];
  }
  if (running !== mine) return; // all was erased meanwhile
  running = null;
  writing.end();
  turn.classList.remove("live");
  say(remarks.includes("stopped") ? "stopped" : "");
  turn.append(...remarks.map((key) => remark(key, () => again(turn, question))));
  const lost = remarks.some((key) => OFFER_RETRY.includes(key)) || writing.text.trim() === "";
  if (!lost) turns.push({ question, answer: writing.text });
  setAnswering(false);
  active();
  follow();
}

function forgetTurns(count, box) {
  turns.splice(0, count);
  if (!document.querySelector('[data-text="forgotten"]')) box.before(remark("forgotten"));
}

// Shows a question, and a place for its answer.
function begin(question) {
  openLanguages(false);
  root.dataset.state = "talk";
  for (const button of document.querySelectorAll(".said button")) button.remove();
  const you = worded("span", "unseen", "you");
  you.dir = root.dir;
  const heading = make("h2", question.length > 120 ? "question long" : "question", you, question);
  heading.dir = "auto";
  const box = make("div", "answer");
  const turn = make("article", "turn live", heading, box);
  $("log").append(turn);
  following = true;
  follow();
  return { turn, box };
}

// A remark on an answer. The one on a stopped answer is announced by the status.
function remark(key, retry) {
  const said = make("div", QUIET.includes(key) ? "said" : "said card", worded("p", "", key));
  if (key === "stopped") said.setAttribute("aria-live", "off");
  if (OFFER_RETRY.includes(key)) {
    const button = worded("button", "", "retry");
    button.type = "button";
    button.addEventListener("click", retry);
    said.append(button);
  }
  return said;
}

function again(turn, question) {
  turn.remove();
  ask(question);
}

function stop() {
  running?.controller.abort();
}

function setAnswering(answering) {
  const [shown, hidden] = answering ? [$("stop"), $("send")] : [$("send"), $("stop")];
  shown.hidden = false;
  const moves = answering ? document.activeElement !== $("input") : document.activeElement === hidden;
  if (moves) shown.focus({ preventScroll: true });
  hidden.hidden = true;
  $("form").toggleAttribute("data-answering", answering);
}

// Says what goes on, under the conversation.
function say(key) {
  const status = $("status");
  status.toggleAttribute("data-thinking", key === "thinking");
  if (key) status.dataset.text = key;
  else delete status.dataset.text;
  status.textContent = key ? text(key) : "";
}

// ---- Scrolling ---------------------------------------------------------------------------------------------------

let following = true;
let scrolledTo = 0;

// Keeps the end of the answer in view, as far as its question stays in view too.
function follow() {
  const turn = $("log").lastElementChild;
  if (!following || !turn) return;
  const header = $("languages").parentElement;
  const covered = getComputedStyle(header).position === "sticky" ? header.offsetHeight : 0;
  const top = turn.getBoundingClientRect().top + scrollY - covered;
  scrollTo(0, Math.min(root.scrollHeight - innerHeight, Math.max(0, top)));
}

function scrolled() {
  if (scrollY < scrolledTo - 2) following = false;
  if (scrollY + innerHeight > root.scrollHeight - 4) following = true;
  scrolledTo = scrollY;
}

// ---- Nobody there ------------------------------------------------------------------------------------------------

function active() {
  lastActive = performance.now();
}

function used() {
  return root.dataset.state === "talk" || $("input").value !== "" || language !== config.languages[0] ||
    root.hasAttribute("data-big") !== config.big_text;
}

function tick() {
  if (config.idle_seconds === 0) return;
  if (running || !used()) active();
  const idle = (performance.now() - lastActive) / 1000;
  if ($("idle").open) count(warnedAt + config.warning_seconds - performance.now() / 1000);
  else if (idle >= config.idle_seconds) warn();
}

let warnedAt = 0;

function warn() {
  warnedAt = performance.now() / 1000;
  $("idle-left").textContent = text("idle_left", config.warning_seconds);
  count(config.warning_seconds);
  $("idle").showModal();
}

function count(left) {
  if (left <= 0) return reset();
  $("count").textContent = Math.ceil(left).toLocaleString(language.code);
  $("count").style.setProperty("--part", `${(100 * left) / config.warning_seconds}%`);
}

function stay() {
  active();
  closeWarning();
}

function closeWarning() {
  $("idle").close();
  $("count").textContent = "";
  $("count").removeAttribute("style");
  $("idle-left").textContent = "";
}

// Makes the page as it was before anybody came.
function reset() {
  stop();
  running = null;
  turns = [];
  closeWarning();
  setAnswering(false);
  say("");
  $("log").replaceChildren();
  // A new field: the old one remembers what "undo" brings back.
  const fresh = $("input").cloneNode(false);
  fresh.value = "";
  $("input").replaceWith(fresh);
  openLanguages(false);
  setBig(config.big_text);
  root.dataset.state = "start";
  setLanguage(config.languages[0]);
  getSelection().removeAllRanges();
  document.activeElement.blur();
  scrollTo(0, 0);
  following = true;
  active();
}

// ---- The start ---------------------------------------------------------------------------------------------------

// Takes the token of an address that ends in #token=…, and takes it out of the address: it stays on this page alone.
function takeToken() {
  token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

// Keys that work wherever the focus is: typing goes to the question, Escape stops the answer.
function key(event) {
  if (event.target.id === "input" && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  } else if (event.key === "Escape" && !$("idle").open) {
    stop();
    openLanguages(false);
  } else if (event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey && !$("idle").open) {
    $("input").focus();
  }
}

function listen() {
  for (const name of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "input"]) {
    addEventListener(name, () => $("idle").open || active(), { passive: true });
  }
  addEventListener("keydown", key);
  addEventListener("scroll", scrolled, { passive: true });
  addEventListener("resize", fit);
  // What is dropped beside the field would be opened in place of the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  // A page that comes back from the browser's memory has an old visitor's conversation.
  addEventListener("pageshow", (event) => event.persisted && reset());
  $("form").addEventListener("input", typed);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("stop").addEventListener("click", (event) => {
    const second = event.detail > 0 && running && performance.now() - running.since < DOUBLE_TAP;
    if (!second) stop();
  });
  $("big").addEventListener("click", () => setBig(!root.hasAttribute("data-big")));
  $("globe").addEventListener("click", () => openLanguages(!$("languages").hasAttribute("data-open")));
  $("new").addEventListener("click", () => {
    const [chosen, big] = [language, root.hasAttribute("data-big")];
    reset();
    setBig(big);
    setLanguage(chosen);
    $("greeting").focus();
  });
  $("idle").addEventListener("cancel", (event) => {
    event.preventDefault();
    stay();
  });
  $("idle").addEventListener("click", (event) => (event.target.closest("#leave") ? reset() : stay()));
}

async function start() {
  const response = await fetch("kiosk.json", { cache: "no-store", credentials: "omit" });
  if (!response.ok) throw new Error(`kiosk.json: ${response.status}`);
  config = await response.json();
  $("title").textContent = config.title;
  if (config.logo) {
    $("logo").src = "kiosk-logo";
    $("logo").hidden = false;
  }
  $("input").maxLength = config.max_message_chars;
  $("languages").replaceChildren(...config.languages.map(languageButton));
  $("languages").hidden = config.languages.length < 2;
  $("globe").hidden = config.languages.length < 2;
  listen();
  reset();
  setInterval(tick, 250);
}

function tryStart() {
  start().catch(() => setTimeout(tryStart, RETRY_START));
}

takeToken();
tryStart();
