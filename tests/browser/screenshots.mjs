/** Takes the pictures in docs/screenshots: `cargo xtask screenshots`. Those of the developer's view show the real server. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { begun, ended, openBrowser, openTab, send } from "./browser.mjs";
import { Mock } from "./mock.mjs";
import { Process } from "./processes.mjs";

const FOLDER = new URL("../../docs/screenshots/", import.meta.url).pathname;
const ANSWER = `Nothing is lost. Here is what happens when you **reload** in the middle:

## In short

1. The agent's events go into a *log* first, and are delivered after.
2. Your browser counts the events that it has taken: that is its cursor.
   - Nothing is stamped on a line.
   - There is no second channel.
3. It comes back with \`?after=N\`, to any server.

> A retry attaches to the same execution. The agent is never run twice.

\`\`\`rust
let (body, driver) = ChatTurn::new(identity, execution_id).start(producer, hooks);
tokio::spawn(driver);
\`\`\`

| layer | keeps | survives a crash |
|:--|:--|--:|
| engine | nothing | – |
| substrate | the log | with a store |

Then the answer is saved, once.`;
const QUESTION = "What happens when I reload this page in the middle of an answer?";
const script = {
  deltas: ANSWER.match(/\S+\s*/g),
  reasoning: ["The reader wonders whether a reload loses the answer. ", "I look into the log first."],
  tool: true,
  pace: 4,
};

const LOST = "And when nobody has the log any more?";
const lost = { ...script, deltas: script.deltas.slice(0, 12), failure: { code: "execution_lost", message: "gone" } };

const browser = await openBrowser();

/** @param {string} name @param {import("playwright-core").BrowserContextOptions} options @param {(tab: any) => Promise<void>} prepare */
async function shoot(name, url, options, prepare) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 920 }, ...options });
  const tab = await openTab(context, url);
  await prepare(tab);
  await tab.mouse.move(0, 0);
  // Two frames: what was drawn is then on the screen.
  await tab.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await tab.screenshot({ path: `${FOLDER}${name}.png` });
  await context.close();
}

/** The page with a scripted answer. */
async function scripted() {
  const mock = await new Mock((message) => (message === LOST ? lost : script)).start();
  const scene = async (name, options, prepare) => {
    mock.sessions.clear();
    for (const earlier of ["Explain epochs and fencing", "Plan a weekend in Lisbon", "Why is my query slow?"]) {
      await mock.begin(mock.newSession(), earlier, earlier).driven;
    }
    await shoot(name, mock.url, { reducedMotion: "reduce", ...options }, prepare);
  };
  const ask = async (tab) => {
    await send(tab, QUESTION);
    await ended(tab, "complete");
  };
  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  await scene("welcome", { colorScheme: "light" }, async (tab) => tab.locator("#sessions a").first().waitFor());
  await scene("light", { colorScheme: "light" }, ask);
  await scene("dark", { colorScheme: "dark" }, ask);
  await scene("phone", { ...phone, colorScheme: "light" }, ask);
  await scene("failure", { colorScheme: "light" }, async (tab) => {
    await send(tab, LOST);
    await ended(tab, "failed");
  });
  await mock.stop();
}

/** The page before a real server, which is killed and started again while the answer is written. */
async function real() {
  const directory = await mkdtemp(join(tmpdir(), "turnkit-screenshots-"));
  const substrate = await new Process("substrate", ["--log-level", "error", "--demo-pace", "25ms"]).start();
  const server = await new Process("serve", ["--data-dir", directory, "--log-level", "error", "--substrate", substrate.url]).start();
  const wide = { viewport: { width: 1440, height: 920 }, reducedMotion: "reduce" };
  await shoot("developer", server.url, { ...wide, colorScheme: "dark" }, async (tab) => {
    await tab.locator("#developer-toggle").click();
    await send(tab, "What happens when I lose the connection?");
    await ended(tab, "complete");
    await tab.locator(".attempt[data-outcome=completed]", { hasText: "trace_flush" }).waitFor();
  });
  await shoot("killed", server.url, { ...wide, colorScheme: "light" }, async (tab) => {
    await tab.locator("#developer-toggle").click();
    await send(tab, "A long answer, please: I am going to kill the server.");
    await begun(tab, 60);
    await server.end("SIGKILL");
    await tab.locator("#lines .dropped").first().waitFor();
    await server.start();
    await ended(tab, "complete");
    await tab.locator(".attempt .outcome", { hasText: "running" }).waitFor({ state: "detached" });
    await tab.locator("#lines .dropped").first().evaluate((row) => row.scrollIntoView({ block: "center" }));
  });
  for (const process of [server, substrate]) await process.end();
  await rm(directory, { recursive: true });
}

try {
  await scripted();
  await real();
} finally {
  await browser.close();
}
