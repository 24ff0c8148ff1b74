// Checks the kiosk's page in browsers, against a small server in place of smolt or against the real one.
//   node scripts/kiosk/check.mjs [URL] [--shots FOLDER]        (ONLY=pattern: the checks of that name)
// Needs Chromium (a Debian package, or CHROMIUM=program), and from npm two packages in a folder that git ignores:
//   npm install --prefix target/kiosk playwright-core axe-core        (KIOSK_MODULES names another folder)
// Firefox ESR is tried where there is one (FIREFOX=program). What is missing is skipped by name. Exit code 1: a check failed.
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CSP, PAGE, start as startMock } from "./mock.mjs";
import { launch as launchFirefox } from "./firefox.mjs";
import { shots } from "./shots.mjs";

const LARGEST = 60 * 1024; // Bytes of all that the page loads, without the operator's logo.
const TARGET = 44; // Least side of what is touched, in pixels.
const WIDTHS = { phone: [390, 844], small: [320, 568], totem: [1080, 1920], wide: [1920, 1080] };
const MARIONETTE = 2947; // A port for Firefox.

const results = { passed: 0, failed: 0, skipped: 0 };

function report(word, name, detail) {
  results[{ ok: "passed", FAILED: "failed", SKIPPED: "skipped" }[word]] += 1;
  console.log(`${word.padEnd(8)}${name}${detail ? `: ${detail}` : ""}`);
}

// Runs a check: it gives a detail to print, or throws.
async function check(name, run) {
  try {
    report("ok", name, await run());
  } catch (error) {
    report(error instanceof Skip ? "SKIPPED" : "FAILED", name, error.message.split("\n")[0]);
  }
}

class Skip extends Error {}

function need(condition, problem) {
  if (!condition) throw new Error(problem);
}

function program(variable, names) {
  if (process.env[variable]) return process.env[variable];
  const folders = (process.env.PATH ?? "").split(":");
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

function modules() {
  const folder = process.env.KIOSK_MODULES ?? fileURLToPath(new URL("../../target/kiosk/", import.meta.url));
  const require = createRequire(join(folder, "node_modules", "x.js"));
  try {
    return { chromium: require("playwright-core").chromium, axe: readFileSync(require.resolve("axe-core/axe.min.js"), "utf8") };
  } catch {
    return null;
  }
}

// ---- A page that is watched --------------------------------------------------------------------------------------

const trouble = []; // what no page may do, over the whole run

class Visit {
  static async open(browser, base, { size = "phone", changes = {}, hash = "", ...options } = {}) {
    const [width, height] = typeof size === "string" ? WIDTHS[size] : size;
    const context = await browser.newContext({ viewport: { width, height }, ...options });
    const visit = new Visit();
    Object.assign(visit, { context, base, bytes: 0, loaded: [], aborted: 0, expected: [] });
    visit.page = await context.newPage();
    await visit.watch();
    await visit.page.route("**/kiosk.json", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), ...changes } });
    });
    await visit.page.goto(base + hash);
    await visit.page.waitForSelector('[data-state="start"]');
    return visit;
  }

  async watch() {
    const { page, base } = this;
    await page.exposeFunction("tellTrouble", (what) => this.tell(what));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        window.tellTrouble(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    page.on("pageerror", (error) => this.tell(`exception: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !/Failed to load resource/.test(message.text())) this.tell(`console: ${message.text()}`);
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) this.tell(`request: ${request.url()}`);
    });
    page.on("requestfailed", (request) => {
      if (/ERR_ABORTED/.test(request.failure()?.errorText ?? "")) this.aborted += 1;
    });
  }

  tell(what) {
    (this.expected.some((pattern) => pattern.test(what)) ? this.loaded : trouble).push(what);
  }

  // Answers the next questions in place of the server.
  async script(status, body, headers = {}) {
    await this.page.unroute("**/v1/chat/completions");
    const contentType = status === 200 ? "text/event-stream" : "application/json";
    await this.page.route("**/v1/chat/completions", (route) => route.fulfill({ status, contentType, headers, body }));
  }

  async unscript() {
    await this.page.unroute("**/v1/chat/completions");
  }

  async ask(question) {
    await this.page.fill("#input", question);
    await this.page.press("#input", "Enter");
  }

  async answered() {
    await this.page.waitForSelector("#stop", { state: "hidden", timeout: 60_000 });
  }

  async says(key) {
    await this.page.waitForSelector(`#log [data-text="${key}"]`, { timeout: 5000 });
  }

  count(selector) {
    return this.page.locator(selector).count();
  }

  async close() {
    await this.context.close();
  }
}

function chunk(delta, logprob, finish = null) {
  const logprobs = logprob === undefined ? null : { content: [{ token: "x", logprob }] };
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta, logprobs, finish_reason: finish }] })}\n\n`;
}

function stream(text, { logprob, finish = "stop" } = {}) {
  return `${chunk({ content: text }, logprob)}${chunk({}, undefined, finish)}data: [DONE]\n\n`;
}

function refusal(code, type = "invalid_request_error") {
  return JSON.stringify({ error: { message: "No.", type, code, param: null } });
}

// ---- The checks --------------------------------------------------------------------------------------------------

async function sizeOfPage({ base, mock }) {
  if (mock) {
    const bytes = readdirSync(PAGE).reduce((sum, file) => sum + statSync(join(PAGE, file)).size, 0);
    need(bytes <= LARGEST, `${bytes} bytes`);
    return `${bytes} bytes in src/serve/page, at most ${LARGEST}`;
  }
  let bytes = 0;
  for (const path of ["", "kiosk.css", "kiosk.js", "kiosk-writing.js", "kiosk-theme.css", "kiosk.json"]) {
    const response = await fetch(base + path);
    need(response.ok, `/${path}: ${response.status}`);
    bytes += (await response.arrayBuffer()).byteLength;
  }
  const policy = (await fetch(base)).headers.get("content-security-policy");
  need(policy === CSP, `Content-Security-Policy: ${policy}`);
  need(bytes <= LARGEST, `${bytes} bytes`);
  return `${bytes} bytes loaded, at most ${LARGEST}`;
}

// States that a visitor meets, each from a fresh page.
const STATES = {
  start: async () => {},
  done: async (visit) => {
    await visit.script(200, stream("# A list\n\n1. The **first**.\n2. The second.\n\n- `code` and *more*\n```\nlet a = 1;\n```\nThe end."));
    await visit.ask("What is a fossil?");
    await visit.answered();
  },
  streaming: async (visit) => {
    await visit.page.route("**/v1/chat/completions", () => {});
    await visit.ask("Why is the sky blue?");
    await visit.page.waitForSelector("#stop:not([hidden])");
  },
  stopped: async (visit) => {
    await STATES.streaming(visit);
    await visit.page.keyboard.press("Escape");
    await visit.says("stopped");
  },
  unsure: async (visit) => {
    await visit.script(200, stream("In 1874.", { logprob: -2 }));
    await visit.ask("When was this built?");
    await visit.says("unsure");
  },
  busy: async (visit) => {
    await visit.script(503, refusal("queue_full", "server_error"), { "Retry-After": "3" });
    await visit.ask("Who built this?");
    await visit.says("busy");
  },
  failed: async (visit) => {
    await visit.script(200, `${chunk({ content: "It was built by" })}data: ${refusal(null, "server_error")}\n\n`);
    await visit.ask("Who built this?");
    await visit.says("failed");
  },
  typing: async (visit) => {
    await visit.page.fill("#input", "A question of many words ".repeat(15));
  },
  warning: async (visit) => {
    await STATES.done(visit);
    await visit.page.waitForSelector("#idle[open]", { timeout: 5000 });
  },
};

// Visits each state; the idle warning comes at once in its own.
async function inStates(browser, base, options, use) {
  for (const [name, reach] of Object.entries(STATES)) {
    const changes = { unsure_below: 0.4, idle_seconds: name === "warning" ? 1 : 0, max_message_chars: 400 };
    const visit = await Visit.open(browser, base, { changes, ...options });
    if (options.language) await visit.page.click(`#languages [lang="${options.language}"]`);
    if (options.big) await visit.page.click("#big");
    await reach(visit);
    await use(name, visit);
    await visit.close();
  }
}

async function accessible({ browser, base, axe }, options) {
  let states = 0;
  let undecided = 0;
  await inStates(browser, base, { reducedMotion: "reduce", ...options }, async (name, { page }) => {
    // The light behind the start page keeps axe from judging contrast; `contrastOnLight` judges it.
    await page.evaluate(() => document.styleSheets[0].insertRule("body::before, body::after { display: none }"));
    await page.evaluate(axe);
    const { violations, incomplete } = await page.evaluate(() => window.axe.run());
    const bad = violations.map(({ id, impact, nodes }) => `${id} (${impact}) at ${nodes[0].target}`);
    need(bad.length === 0, `${name}: ${bad.join(", ")}`);
    undecided += incomplete.filter(({ id }) => id === "color-contrast").flatMap(({ nodes }) => nodes).length;
    states += 1;
  });
  return `axe-core finds nothing of any impact in ${states} states (contrast of ${undecided} elements left to the eye)`;
}

// The least contrast of the secondary text on the page with its light at full strength.
async function contrastOnLight({ browser, base }) {
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    const visit = await Visit.open(browser, base, { colorScheme });
    found.push(
      await visit.page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
        const luminance = (color) => {
          const [r, g, b] = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const opacity = Number(getComputedStyle(document.body, "::before").opacity);
        const paper = rgb("--paper");
        const ground = ["--warm", "--accent"].map((name) => rgb(name).map((part, i) => part * opacity + paper[i] * (1 - opacity)));
        const text = luminance(rgb("--soft"));
        return Math.min(...ground.map((color) => {
          const [low, high] = [text, luminance(color)].sort((a, b) => a - b);
          return (high + 0.05) / (low + 0.05);
        }));
      }),
    );
    await visit.close();
  }
  need(Math.min(...found) >= 4.5, `${found}`);
  return `light ${found[0].toFixed(1)}, dark ${found[1].toFixed(1)}, at least 4.5`;
}

async function targets({ browser, base }) {
  let measured = 0;
  for (const [size, big] of [["small", false], ["small", true], ["phone", false], ["totem", false], ["wide", true]]) {
    await inStates(browser, base, { size, big }, async (name, { page }) => {
      const boxes = await page.evaluate(() =>
        [...document.querySelectorAll("button, textarea, a, select")]
          .filter((element) => element.getClientRects().length)
          .map((element) => {
            const { width, height } = element.getBoundingClientRect();
            return { what: element.id || element.textContent, width, height };
          }),
      );
      const small = boxes.filter(({ width, height }) => Math.min(width, height) < TARGET - 0.01);
      need(small.length === 0, `${size}, ${name}: ${JSON.stringify(small[0])}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      need(wide <= 0, `${size}${big ? ", large text" : ""}, ${name}: ${wide} pixels too wide`);
      measured += boxes.length;
    });
  }
  return `${measured} measured, each at least ${TARGET} x ${TARGET}; nothing wider than the screen`;
}

// 1280 x 1024 magnified twice and four times.
async function zoomed({ browser, base }) {
  for (const [size, deviceScaleFactor] of [[[640, 512], 2], [[320, 256], 4]]) {
    await inStates(browser, base, { size, deviceScaleFactor }, async (name, { page }) => {
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      need(wide <= 0, `${size}, ${name}: ${wide} pixels too wide`);
      const selector = name === "warning" ? "#stay" : "#input";
      await page.locator(selector).scrollIntoViewIfNeeded();
      const seen = await page.evaluate((selector) => {
        const box = document.querySelector(selector).getBoundingClientRect();
        const hit = document.elementFromPoint(box.left + box.width / 3, box.top + box.height / 2);
        return hit?.matches(selector);
      }, selector);
      need(seen, `${size}, ${name}: ${selector} cannot be reached`);
    });
  }
  return "200 % and 400 %: no sideways scrolling, the field and the dialog's button reachable";
}

async function keyboardOnly({ browser, base }) {
  const visit = await Visit.open(browser, base, { size: "wide", changes: { idle_seconds: 0 } });
  const { page } = visit;
  await visit.script(200, stream("By keyboard."));
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return {
      id: element.id || element.textContent,
      body: element === document.body,
      ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
      visible: element === hit || element.contains(hit),
    };
  });
  const tabTo = async (id) => {
    for (let i = 0; i < 30; i += 1) {
      await page.keyboard.press("Tab");
      const now = await focused();
      if (now.body) continue;
      need(now.ring, `no visible focus on ${now.id}`);
      need(now.visible, `${now.id} is covered while it has the focus`);
      if (now.id === id) return;
    }
    throw new Error(`Tab does not come to ${id}`);
  };
  await tabTo("Deutsch");
  await page.keyboard.press("Enter");
  need((await page.getAttribute("html", "lang")) === "de", "the language does not change");
  await tabTo("big");
  await page.keyboard.press("Space");
  need((await page.getAttribute("#big", "aria-pressed")) === "true", "the text does not grow");
  await tabTo("input");
  await page.keyboard.type("Wer war das?");
  await page.keyboard.press("Enter");
  await visit.answered();
  need((await page.textContent("#log")).includes("By keyboard."), "no answer");
  await tabTo("new");
  await page.keyboard.press("Enter");
  need((await page.getAttribute("html", "data-state")) === "start", "no new conversation");
  await tabTo(await page.textContent("#suggestions button"));
  await page.keyboard.press("Enter");
  await visit.answered();
  await page.keyboard.press("x");
  need((await page.inputValue("#input")) === "x", "typing does not go to the field");
  await visit.close();
  return "language, size, question, new conversation, suggestion; each stop of Tab ringed and uncovered";
}

// What a screen reader hears: whole sentences, together the whole answer; nothing of the one that is being written.
async function announced({ browser, base, mock }) {
  if (!mock) throw new Skip("needs the answers of the mock");
  mock.seen.pace = 6;
  const visit = await Visit.open(browser, base);
  const { page } = visit;
  await page.evaluate(() => {
    window.heard = [];
    const hear = (place, node) => {
      if (place.closest("[aria-hidden='true'], h2") || node.className === "tail") return;
      if (node.nodeType === Node.TEXT_NODE || node.localName === "span") window.heard.push(node.textContent);
    };
    new MutationObserver((records) => {
      for (const { target, addedNodes } of records) addedNodes.forEach((node) => hear(target, node));
    }).observe(document.getElementById("log"), { childList: true, subtree: true, characterData: true });
  });
  await visit.ask("Why is the sky blue?");
  await page.waitForFunction(() => document.querySelector(".tail")?.textContent.length > 4);
  need((await visit.count('#log[role="log"] .tail[aria-hidden="true"][aria-busy="true"]')) === 1, "the tail is not apart");
  await visit.answered();
  const heard = await page.evaluate(() => window.heard);
  const cut = heard.filter((piece) => !/[.!?:]\s*$/.test(piece));
  need(cut.length === 0, `not a sentence: ${JSON.stringify(cut[0])}`);
  const shown = (await page.textContent(".answer")).replace(/\s+/g, "");
  need(heard.join("").replace(/\s+/g, "") === shown, `heard ${JSON.stringify(heard)}`);
  mock.seen.pace = 4;
  await visit.close();
  return `${heard.length} sentences, once each`;
}

async function stops({ browser, base, mock }) {
  const visit = await Visit.open(browser, base);
  if (mock) Object.assign(mock.seen, { pace: 80, closed: 0 });
  await visit.ask("Tell me a very long story about the sea and all who live in it.");
  await visit.page.waitForSelector(".tail:not(:empty), .answer span:not(.tail)");
  await visit.page.waitForTimeout(600);
  if (!(await visit.page.isVisible("#stop"))) throw new Skip("the answer ended sooner than it could be stopped");
  const before = await visit.page.textContent(".answer");
  const asked = Date.now();
  await visit.page.click("#stop");
  await visit.says("stopped");
  const after = await visit.page.textContent(".answer");
  await visit.page.waitForTimeout(300);
  need(visit.aborted === 1, `${visit.aborted} requests aborted`);
  need(before.length > 0 && after.startsWith(before.trim()), `what was written is gone: ${before} / ${after}`);
  need((await visit.page.textContent(".answer")) === after, "it goes on");
  if (mock) {
    need(mock.seen.closed === 1, "the server does not see the end");
    // While it reads, by the Escape key.
    mock.seen.reading = 5000;
    await visit.ask("Again?");
    await visit.page.waitForSelector("#status[data-thinking]");
    await visit.page.keyboard.press("Escape");
    await visit.page.waitForTimeout(300);
    need(mock.seen.closed === 2, "the server does not see the end while it reads");
    Object.assign(mock.seen, { pace: 4, reading: 150 });
  }
  await visit.close();
  return `the request ends (seen after at most ${Date.now() - asked} ms), the text so far stays`;
}

// What an observer could find of a visitor.
function traces(page) {
  return page.evaluate(async () => ({
    page: document.documentElement.outerHTML,
    fields: [...document.querySelectorAll("input, textarea")].map((field) => field.value).join(),
    focus: document.activeElement.localName,
    scrolled: scrollY,
    history: history.length,
    cookies: document.cookie,
    local: localStorage.length,
    session: sessionStorage.length,
    databases: (await indexedDB.databases()).length,
    caches: (await caches.keys()).length,
    selected: String(getSelection()),
  }));
}

async function forgets({ browser, base, mock }) {
  const visit = await Visit.open(browser, base, { changes: { idle_seconds: 2, warning_seconds: 20 } });
  const { page } = visit;
  const before = await traces(page);
  if (!mock) await visit.script(200, stream("A secret answer."));
  await page.click('#languages [lang="fr"]');
  await page.click("#big");
  await visit.ask("My secret question");
  await visit.answered();
  await page.keyboard.type("half a secre");
  await page.waitForSelector("#idle[open]");
  need((await page.evaluate(() => document.activeElement.id)) === "stay", "the focus is not on the button that stays");
  for (let i = 0; i < 4; i += 1) {
    await page.keyboard.press("Tab");
    need(await page.evaluate(() => !document.activeElement.closest("header, main, footer")), "Tab leaves the dialog");
  }
  await page.click("#stay");
  need(!(await page.isVisible("#idle")), "one tap does not keep the conversation");
  need((await page.textContent("#log")).includes("secret"), "the conversation is gone");
  await page.waitForSelector("#idle[open]");
  await page.keyboard.press("Escape");
  need(!(await page.isVisible("#idle")), "Escape does not keep the conversation");
  await page.waitForSelector("#idle[open]");
  const warned = Date.now();
  await page.waitForSelector("#idle:not([open])", { state: "attached", timeout: 30_000 });
  const seconds = (Date.now() - warned) / 1000;
  need(seconds >= 19.5, `warned for ${seconds} s only`);
  const after = await traces(page);
  for (const key of Object.keys(before)) need(before[key] === after[key], `${key} differs: ${String(after[key]).slice(0, 200)}`);
  await page.focus("#input");
  await page.keyboard.press("Control+z");
  need((await page.inputValue("#input")) === "", "undo brings the old question back");
  if (mock) {
    await visit.ask("The next visitor");
    await visit.answered();
    need(mock.seen.bodies.at(-1).messages.length === 1, "the next visitor's request carries the old conversation");
  }
  need((await visit.context.cookies()).length === 0, "a cookie");
  await visit.close();
  return `warned ${seconds.toFixed(1)} s; page, fields, focus, history, cookies, storages, undo as at the start`;
}

async function languages({ browser, base }) {
  const visit = await Visit.open(browser, base, { size: "small", changes: { idle_seconds: 0 } });
  const { page } = visit;
  const offered = await page.evaluate(() => fetch("kiosk.json").then((response) => response.json()).then((all) => all.languages));
  need(offered.length >= 5, `${offered.length} languages`);
  need(offered.some(({ dir }) => dir === "rtl"), "none is written from right to left");
  const keys = new Set(offered.flatMap(({ texts }) => Object.keys(texts)));
  for (const { code, dir, texts, greeting } of offered) {
    for (const key of keys) need(key in texts, `${code}: no text ${key}`);
    await page.click(`#languages [lang="${code}"]`);
    const shown = await page.evaluate(() => ({
      lang: document.documentElement.lang,
      dir: document.documentElement.dir,
      side: document.getElementById("send").getBoundingClientRect().left > innerWidth / 2 ? "ltr" : "rtl",
      greeting: document.getElementById("greeting").textContent,
      placeholder: document.getElementById("input").placeholder,
      wide: document.documentElement.scrollWidth - innerWidth,
      words: [...document.querySelectorAll("[data-text]")].map((element) => [element.dataset.text, element.textContent]),
      labels: [...document.querySelectorAll("[data-label]")].map((element) => [element.dataset.label, element.getAttribute("aria-label")]),
    }));
    need(shown.lang === code && shown.dir === dir && shown.side === dir, `${code}: ${JSON.stringify(shown).slice(0, 120)}`);
    need(shown.greeting === greeting && shown.placeholder === texts.placeholder && shown.wide <= 0, `${code}: greeting, field or width`);
    for (const [key, word] of [...shown.words, ...shown.labels]) need(word === texts[key], `${code}: ${key} is ${word}`);
  }
  await visit.close();
  return offered.map(({ name }) => name).join(", ");
}

async function neverMarkup({ browser, base }) {
  const visit = await Visit.open(browser, base, { changes: { idle_seconds: 0 } });
  const evil = '<img src="x" onerror="alert(1)"><script>alert(2)</script><b>bold</b>';
  await visit.script(200, stream(`Here: ${evil} **${evil}**`));
  await visit.ask(evil);
  await visit.answered();
  need((await visit.count("#log img, #log script, #log b")) === 0, "markup became elements");
  need((await visit.page.textContent(".question")).includes(evil), "the question is changed");
  need((await visit.page.textContent(".answer")).includes(evil), "the answer is changed");
  await visit.close();
  return "questions and answers with tags are shown as they are";
}

async function unsure({ browser, base }) {
  const visit = await Visit.open(browser, base, { changes: { unsure_below: 0.5, idle_seconds: 0 } });
  for (const [logprob, expected] of [[Math.log(0.49), 1], [Math.log(0.51), 0]]) {
    await visit.script(200, stream("Perhaps.", { logprob }));
    await visit.ask("Are you sure?");
    await visit.answered();
    const said = await visit.count('.turn:last-child [data-text="unsure"]');
    need(said === expected, `probability ${Math.exp(logprob).toFixed(2)}: said ${said} times`);
  }
  await visit.close();
  return "said at 0.49, not at 0.51, with a threshold of 0.5";
}

async function kindly({ browser, base }) {
  const visit = await Visit.open(browser, base, { changes: { max_turns: 3, idle_seconds: 0 } });
  const { page } = visit;
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.postDataJSON().messages));
  await visit.script(429, refusal("rate_limited"), { "Retry-After": "1" });
  await visit.ask("one");
  await visit.says("busy");
  await visit.script(200, stream("Now."));
  await page.click(".said button");
  await visit.answered();
  need((await visit.count(".turn")) === 1 && (await visit.count(".said")) === 0, "the refused turn stays");
  for (const question of ["two", "three", "four"]) {
    await visit.ask(question);
    await visit.answered();
  }
  need(sent.at(-1).length === 5 && sent.at(-1)[0].content === "two", `sent ${JSON.stringify(sent.at(-1))}`);
  need((await visit.count('[data-text="forgotten"]')) === 1, "nothing is said about what is forgotten");
  await visit.script(400, refusal("context_length_exceeded"));
  sent.length = 0;
  await visit.ask("five");
  await visit.says("too_long");
  need(sent.map((messages) => messages.length).join() === "5,3,1", `sent ${sent.map((messages) => messages.length)}`);
  await visit.script(200, stream("", { finish: "stop" }));
  await visit.ask("six");
  await visit.says("empty");
  await visit.script(200, stream("Long.", { finish: "length" }));
  await visit.ask("seven");
  await visit.says("cut");
  await page.unroute("**/v1/chat/completions");
  await page.route("**/v1/chat/completions", (route) => route.abort("connectionrefused"));
  await visit.ask("eight");
  await visit.says("failed");
  await visit.close();
  return "busy and again, oldest turns dropped, context exceeded, too long, empty, cut, no connection";
}

async function media({ browser, base }) {
  const ground = [];
  for (const colorScheme of ["light", "dark"]) {
    const visit = await Visit.open(browser, base, { colorScheme, reducedMotion: "reduce", changes: { idle_seconds: 0 } });
    ground.push(await visit.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
    await STATES.streaming(visit);
    await visit.page.waitForTimeout(100);
    const moving = await visit.page.evaluate(() => document.getAnimations().filter((animation) => animation.playState === "running").length);
    need(moving === 0, `${moving} animations with reduced motion`);
    await visit.close();
  }
  need(ground[0] !== ground[1], "dark is as light");
  const visit = await Visit.open(browser, base, { forcedColors: "active" });
  const edges = await visit.page.evaluate(() => ["#send", "#big", "#suggestions button", "#input"].map((selector) => getComputedStyle(document.querySelector(selector)).borderTopStyle));
  need(edges.every((style) => style === "solid"), `borders in forced colours: ${edges}`);
  await visit.close();
  return "light and dark differ, nothing moves with reduced motion, borders in forced colours";
}

// That a token in the address goes with the question, and is left in no address.
async function tokens({ browser, base }) {
  const visit = await Visit.open(browser, base, { hash: "#token=0123456789abcdef" });
  const asked = visit.page.waitForRequest("**/v1/chat/completions");
  await visit.script(200, stream("Yes."));
  await visit.ask("Is it open?");
  const given = (await asked).headers().authorization;
  need(given === "Bearer 0123456789abcdef", `Authorization: ${given}`);
  const left = await visit.page.evaluate(() => location.href + history.length);
  need(left === `${base}1` || left === `${base}2`, `the address is left: ${left}`);
  await visit.close();
  return "sent with the question, gone from the address";
}

// That the watching sees what it should: an inline style and a foreign image are reported.
async function watching({ browser, base }) {
  const visit = await Visit.open(browser, base);
  visit.expected = [/^CSP: style-src/, /^CSP: img-src/, /^request: https:\/\/example/, /^console: .*Content Security Policy/];
  await visit.page.evaluate(() => {
    document.body.setAttribute("style", "color: red");
    document.body.append(Object.assign(new Image(), { src: "https://example.invalid/x.png" }));
  });
  await visit.page.waitForTimeout(300);
  const seen = (pattern) => visit.loaded.some((what) => pattern.test(what));
  need(seen(/^CSP: style-src/) && seen(/^CSP: img-src/), `seen only ${visit.loaded}`);
  await visit.close();
  return "an inline style and a foreign image would be seen";
}

async function firefox({ base }) {
  const path = program("FIREFOX", ["firefox-esr", "firefox"]);
  if (!path) throw new Skip("no Firefox");
  const { call, end } = await launchFirefox(path, MARIONETTE);
  try {
    const run = async (script, ...args) => (await call("ExecuteScript", { script, args })).value;
    const until = async (script) => {
      for (let i = 0; i < 200; i += 1) {
        if (await run(`return Boolean(${script})`)) return;
        await new Promise((done) => setTimeout(done, 100));
      }
      throw new Error(`waited in vain for ${script}`);
    };
    const element = async (value) => Object.values((await call("FindElement", { using: "css selector", value })).value)[0];
    await call("SetWindowRect", { width: 500, height: 900 });
    await call("Navigate", { url: base });
    await until("document.documentElement.dataset.state === 'start'");
    await run("window.bad = []; document.addEventListener('securitypolicyviolation', (e) => bad.push(e.violatedDirective)); addEventListener('error', (e) => bad.push(e.message))");
    const before = await run("return document.documentElement.outerHTML");
    await call("ElementClick", { id: await element('#languages [lang="ar"]') });
    need((await run("return document.documentElement.dir")) === "rtl", "right to left");
    await call("ElementSendKeys", { id: await element("#input"), text: "Why is the sky blue?\uE007" });
    await until("document.querySelector('.answer')?.textContent && document.querySelector('#stop').hidden");
    need((await run("return document.querySelectorAll('.answer > *').length")) > 0, "no answer");
    need((await run("return document.documentElement.scrollWidth <= innerWidth")), "too wide");
    await call("ElementClick", { id: await element("#new") });
    await call("ElementClick", { id: await element('#languages [lang="en"]') });
    need((await run("return document.documentElement.outerHTML")) === before, "a new conversation differs from the start");
    need((await run("return history.length + localStorage.length + sessionStorage.length + document.cookie.length")) <= 2, "traces");
    need((await run("return bad.length")) === 0, `${await run("return bad.join()")}`);
    return `${(await run("return navigator.userAgent")).split(" ").at(-1)}: language, conversation, new conversation`;
  } finally {
    await end();
  }
}

async function main() {
  const values = process.argv.slice(2);
  const folder = values.includes("--shots") ? values.splice(values.indexOf("--shots"), 2)[1] : null;
  const found = modules();
  const executablePath = program("CHROMIUM", ["chromium", "chromium-browser", "google-chrome"]);
  if (!found || !executablePath) {
    report("SKIPPED", "the kiosk's page", found ? "no Chromium" : "no playwright-core and axe-core (see the head of this file)");
    return;
  }
  const mock = values.length ? null : await startMock();
  const base = mock?.url ?? values[0].replace(/\/*$/, "/");
  const browser = await found.chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const given = { browser, base, mock, axe: found.axe };
  console.log(`Chromium ${browser.version()}, ${base}`);
  const run = (name, what, ...options) =>
    (!process.env.ONLY || name.match(process.env.ONLY)) && check(name, async () => {
      const started = Date.now();
      const detail = await what(given, ...options);
      return `${detail} (${((Date.now() - started) / 1000).toFixed(1)} s)`;
    });
  await run("size", sizeOfPage);
  await run("accessible, phone", accessible, { colorScheme: "light" });
  await run("accessible, phone, dark, large text", accessible, { colorScheme: "dark", big: true });
  await run("accessible, wide, dark", accessible, { size: "wide", colorScheme: "dark" });
  await run("accessible, totem, Arabic", accessible, { size: "totem", language: "ar" });
  await run("contrast on the light", contrastOnLight);
  await run("touch targets", targets);
  await run("zoom", zoomed);
  await run("keyboard only", keyboardOnly);
  await run("screen reader", announced);
  await run("stop", stops);
  await run("idle reset", forgets);
  await run("languages", languages);
  await run("text is never markup", neverMarkup);
  await run("not sure", unsure);
  await run("limits and errors", kindly);
  await run("media", media);
  await run("token", tokens);
  await run("the watching", watching);
  if (folder && mock) await run("screenshots", () => shots(mock, folder, (options) => Visit.open(browser, base, options)));
  await check("requests, policy and exceptions", () => {
    need(trouble.length === 0, trouble.join("; "));
    return "no foreign request, no violation, no exception in all of the above";
  });
  await browser.close();
  await run("Firefox", firefox);
  mock?.end();
}

await main();
console.log(`${results.passed} passed, ${results.failed} failed, ${results.skipped} skipped`);
process.exit(results.failed === 0 ? 0 : 1);
