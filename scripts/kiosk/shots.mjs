// Takes the README's screenshots of the page.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const QUALITY = 80; // Of WebP.

async function save(page, folder, name) {
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  const bytes = Buffer.from(data, "base64");
  writeFileSync(join(folder, `${name}.webp`), bytes);
  return `${name} ${(bytes.length / 1024).toFixed(0)} KiB`;
}

async function converse(visit, question, pieces) {
  await visit.page.fill("#input", question);
  await visit.page.press("#input", "Enter");
  if (pieces) await visit.page.waitForFunction((long) => document.querySelector(".turn.live .answer")?.textContent.length > long, pieces);
  else await visit.answered();
}

const SHOTS = {
  totem: { size: "totem", act: async () => {} },
  wide: { size: "wide", colorScheme: "dark", act: (visit) => converse(visit, "Why is the sky blue?") },
  phone: { size: "phone", deviceScaleFactor: 2, act: (visit) => converse(visit, "Why is the sky blue?", 250) },
  arabic: { size: "phone", deviceScaleFactor: 2, act: ({ page }) => page.click('#languages [lang="ar"]') },
};

// Takes them from the mock, whose answers are always the same; `open` makes a visit.
export async function shots(mock, folder, open) {
  mkdirSync(folder, { recursive: true });
  const sizes = [];
  for (const [name, { act, ...options }] of Object.entries(SHOTS)) {
    mock.seen.pace = 40;
    const visit = await open({ reducedMotion: "reduce", ...options });
    await act(visit);
    await visit.page.mouse.move(5, 400);
    sizes.push(await save(visit.page, folder, name));
    await visit.close();
  }
  mock.seen.pace = 4;
  return sizes.join(", ");
}
