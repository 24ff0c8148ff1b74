// Drives Firefox over Marionette, its own protocol for tests: messages "length:json" on a socket.
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const START = 60_000; // Milliseconds until Firefox has to listen.

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function socketTo(port) {
  return new Promise((done, failed) => {
    const socket = connect(port, "127.0.0.1", () => done(socket));
    socket.once("error", failed);
  });
}

// Starts Firefox without a window; gives `call(command, parameters)` and `end()`.
export async function launch(program, port) {
  const profile = mkdtempSync(join(tmpdir(), "kiosk-firefox-"));
  writeFileSync(join(profile, "user.js"), `user_pref("marionette.port", ${port});\n`);
  const child = spawn(program, ["--headless", "--marionette", "--no-remote", "--profile", profile], { stdio: "ignore" });
  const end = async () => {
    child.kill();
    await new Promise((done) => (child.exitCode === null && child.signalCode === null ? child.once("exit", done) : done()));
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  const until = Date.now() + START;
  for (;;) {
    try {
      const call = await session(await socketTo(port));
      return { call, end };
    } catch (error) {
      if (Date.now() > until || child.exitCode !== null) {
        await end();
        throw error;
      }
      await pause(250);
    }
  }
}

async function session(socket) {
  const waiting = new Map();
  let bytes = Buffer.alloc(0);
  let number = 0;
  socket.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    for (;;) {
      const colon = bytes.indexOf(":");
      const length = Number(bytes.subarray(0, Math.max(colon, 0)).toString());
      if (colon < 0 || bytes.length < colon + 1 + length) return;
      const message = JSON.parse(bytes.subarray(colon + 1, colon + 1 + length).toString());
      bytes = bytes.subarray(colon + 1 + length);
      if (!Array.isArray(message)) continue; // the greeting
      const [, id, error, result] = message;
      const { done, failed } = waiting.get(id);
      waiting.delete(id);
      if (error) failed(new Error(error.message));
      else done(result);
    }
  });
  const lost = () => {
    for (const { failed } of waiting.values()) failed(new Error("Firefox is gone"));
  };
  socket.on("error", lost);
  socket.on("close", lost);
  const call = (command, parameters = {}) =>
    new Promise((done, failed) => {
      number += 1;
      waiting.set(number, { done, failed });
      const message = JSON.stringify([0, number, `WebDriver:${command}`, parameters]);
      socket.write(`${Buffer.byteLength(message)}:${message}`);
    });
  await call("NewSession", {});
  return call;
}
