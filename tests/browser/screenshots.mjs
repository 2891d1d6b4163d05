/** Takes the pictures in docs/screenshots: `node screenshots.mjs`. */
import { openBrowser, openTab, send } from "./browser.mjs";
import { Mock } from "./mock.mjs";

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

let open;
const gate = new Promise((resolve) => (open = resolve));
const scripts = {
  "And when the server is killed?": { ...script, gate, gateAt: 40 },
  "And when nobody has the log any more?": { ...script, deltas: script.deltas.slice(0, 12), failure: { code: "execution_lost", message: "gone" } },
};
const mock = await new Mock((message) => scripts[message] ?? script).start();
const browser = await openBrowser();

async function shoot(name, options, prepare) {
  mock.sessions.clear();
  for (const earlier of ["Explain epochs and fencing", "Plan a weekend in Lisbon", "Why is my query slow?"]) {
    await mock.begin(mock.newSession(), earlier, earlier).driven;
  }
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const tab = await openTab(context, mock.url);
  await send(tab, QUESTION);
  await tab.locator(".turn[data-state=complete]").waitFor();
  await prepare?.(tab);
  // Two frames: what was drawn is then on the screen.
  await tab.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await tab.screenshot({ path: `${FOLDER}${name}.png` });
  await context.close();
}

const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
await shoot("light", { colorScheme: "light" });
await shoot("dark", { colorScheme: "dark" });
await shoot("phone", { ...phone, colorScheme: "light" });
await shoot("failure", { colorScheme: "light" }, async (tab) => {
  await send(tab, "And when nobody has the log any more?");
  await tab.locator(".failure").waitFor();
});
await shoot("wire", { colorScheme: "dark", viewport: { width: 1440, height: 860 } }, async (tab) => {
  await tab.locator("#developer-toggle").click();
  await send(tab, "And when the server is killed?");
  await tab.locator("#lines .line .cursor", { hasText: "44" }).waitFor();
  await mock.stop();
  await tab.locator("#lines .dropped").nth(1).waitFor();
  await mock.start();
  open();
  await tab.locator(".turn:last-child[data-state=complete]").waitFor();
  await tab.locator("#lines .dropped").first().evaluate((row) => row.scrollIntoView({ block: "center" }));
  await tab.locator("#lines").hover();
});
await browser.close();
await mock.stop();
