// A small server in place of `smolt serve`, for the checks of the page: its files with the server's headers, and one
// answer, written as slowly as is wished.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const PAGE = fileURLToPath(new URL("../../src/serve/page/", import.meta.url));
export const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/kiosk.css": ["kiosk.css", "text/css; charset=utf-8"],
  "/kiosk.js": ["kiosk.js", "text/javascript; charset=utf-8"],
  "/kiosk-writing.js": ["kiosk-writing.js", "text/javascript; charset=utf-8"],
};

const LOGO = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48"><circle cx="24" cy="24" r="22" fill="#0b5b60"/>
<path d="M13 33V19l11-8 11 8v14M19 33V23m10 10V23m-5 10V23" fill="none" stroke="#f2c879" stroke-width="2.5"/></svg>`;

export const ANSWER =
  "The sky is blue because **sunlight is scattered** by the air. Blue light has a short wavelength, and the small " +
  "molecules of the air send it in all directions. Red light goes straight on.\n\nYou can see it for yourself:\n" +
  "1. At noon the light comes through little air, and the sky is blue.\n2. In the evening it comes through much more, " +
  "and what is left of it is red.\n\nIt is the same light, after 149.6 million km in space.";

export function settings(changes = {}) {
  const languages = JSON.parse(readFileSync(`${PAGE}texts.json`, "utf8"));
  return {
    title: "Museum of Small Things",
    languages,
    idle_seconds: 90,
    warning_seconds: 20,
    unsure_below: null,
    max_message_chars: 400,
    max_turns: 8,
    logo: true,
    big_text: false,
    ...changes,
  };
}

// The answer in pieces as long as a token.
function pieces(answer) {
  return answer.match(/\s*\S{1,5}/g);
}

function event(delta, finish_reason = null) {
  return `data: ${JSON.stringify({ object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
}

// Starts the mock; gives its address and how to end it, with what it was asked, how many answers were not waited for, and
// how long it reads and waits after each piece, in milliseconds, which may be changed.
export async function start(config = settings(), port = 0) {
  const seen = { requests: [], bodies: [], closed: 0, reading: 150, pace: 4 };
  const server = createServer((request, response) => {
    seen.requests.push(request.url);
    const send = (type, body) => {
      response.writeHead(200, {
        "Content-Type": type,
        "Content-Security-Policy": CSP,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
      });
      response.end(body);
    };
    if (FILES[request.url]) send(FILES[request.url][1], readFileSync(PAGE + FILES[request.url][0]));
    else if (request.url === "/kiosk-theme.css") send("text/css; charset=utf-8", "");
    else if (request.url === "/kiosk-logo") send("image/svg+xml", LOGO);
    else if (request.url === "/kiosk.json") send("application/json", JSON.stringify(config));
    else if (request.url === "/v1/chat/completions") answer(request, response, seen);
    else response.writeHead(404).end();
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}/`, seen, end: () => server.close() };
}

async function answer(request, response, seen) {
  let text = "";
  for await (const chunk of request) text += chunk;
  seen.bodies.push(JSON.parse(text));
  let closed = false;
  response.on("close", () => {
    if (!response.writableEnded) seen.closed += 1;
    closed = true;
  });
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(": reading\n\n");
  await wait(seen.reading);
  response.write(event({ role: "assistant", content: "" }));
  for (const piece of pieces(ANSWER)) {
    if (closed) return;
    const bytes = Buffer.from(event({ content: piece }));
    // In two parts, as a network may.
    response.write(bytes.subarray(0, 9));
    response.write(bytes.subarray(9));
    await wait(seen.pace);
  }
  response.end(`${event({}, "stop")}data: [DONE]\n\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await start(settings(), Number(process.argv[2] ?? 0));
  console.log(mock.url);
}
