/** What agents and models say, as the page draws it before the real server. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ended, saved, send } from "./browser.mjs";
import { SmallModel } from "./model.mjs";
import { ServedPage } from "./suite.mjs";

/** What real programs have printed (`tests/vectors/agents`). */
const SAMPLES = join(import.meta.dirname, "../vectors/agents");
const LISTED = ["bash", "done"];
/** Each with the format that it is read by, and what is drawn of it. */
const PROGRAMS = {
  "claude-code": { format: "claude", tools: [["Bash", "done"]], thoughts: ["I list the files first."], usage: "model-under-test · 50 tokens in · 42 out · 0.6 s" },
  "codex-exec": { format: "codex", tools: [LISTED], thoughts: ["**Listing** the files."], warnings: /Model metadata for/, usage: "50 tokens in · 24 out" },
  "gemini-cli": { format: "gemini", tools: [["list_directory", "done"]], usage: "gemini-2.5-flash · 65 tokens in · 20 out · 0.3 s" },
  opencode: { format: "opencode", tools: [LISTED], usage: "50 tokens in · 24 out" },
  "acp-gemini": { format: "acp", tools: [["search", "done"]], thoughts: ["**Listing**\nI list the files."], usage: "gemini-2.5-flash · 65 tokens in · 20 out" },
};

describe("agents on the page", { timeout: 600_000 }, () => {
  const page = ServedPage.ofSuite();
  const { serve, tabAt, holds } = page;

  test("five agents of a file are offered, and what each prints is drawn, live and at rest", async () => {
    const command = (name, format) => (format === "acp" ? ["python3", join(SAMPLES, "replay.py")] : ["cat"]).concat(join(SAMPLES, `${name}.jsonl`));
    const entries = Object.entries(PROGRAMS).map(
      ([name, { format }]) => `[[agent]]\nname = "${name}"\nkind = "command"\nformat = "${format}"\ncommand = ${JSON.stringify(command(name, format))}\n`,
    );
    const file = join(page.directory, "turnkit.toml");
    await writeFile(file, entries.join("\n"));
    const tab = await tabAt(await serve("--config", file));
    assert.deepEqual(await tab.locator("#agent option").allTextContents(), Object.keys(PROGRAMS).sort());
    for (const [name, { tools, thoughts = [], warnings, usage }] of Object.entries(PROGRAMS)) {
      await tab.locator("#new-chat").click();
      await tab.locator("#agent").selectOption(name);
      await send(tab, `what does ${name} see?`);
      for (const isLive of [true, false]) {
        if (!isLive) await tab.reload();
        await ended(tab, "complete");
        assert.equal(await tab.locator(".markdown").innerText(), "The directory has one file: hello.txt.", name);
        assert.equal(await tab.locator(".markdown strong").textContent(), "one");
        assert.deepEqual(await tab.locator(".tool summary").evaluateAll((calls) => calls.map((call) => [call.querySelector(".name").textContent, call.querySelector(".status").textContent])), tools, name);
        assert.deepEqual((await tab.locator(".thought").allTextContents()).map((thought) => thought.trim()), thoughts, name);
        assert.match((await tab.locator(".warning").allTextContents()).join(), warnings ?? /^$/, name);
        assert.equal(await tab.locator("footer").getAttribute("data-usage"), usage, name);
      }
      await holds(tab);
    }
  });

  test("a conversation that is too long for its model goes on, and says what was left out", async (each) => {
    const model = await new SmallModel((told) => (told.at(-1) === "say nothing" ? ["\n", "\n"] : [`I was told ${told.length} messages.`])).start();
    each.after(() => model.stop());
    const tab = await tabAt(await serve("--openai-base-url", model.url, "--openai-model", "small"));
    let count = 0;
    const say = async (message) => {
      await send(tab, message);
      await tab.locator(`.turn:nth-child(${(count += 1)})[data-state=complete]`).waitFor();
      return tab.locator(".turn:last-child .warning").allTextContents();
    };
    const paste = "a word of a long log ".repeat(15_000);
    for (const message of ["The secret word is swordfish.", "Is it long?", paste]) assert.deepEqual(await say(message), []);
    // The paste is cut, and what came before it stays.
    const [cut, ...none] = await say("say nothing");
    assert.match(cut, /bytes of a long message did not fit/);
    assert.deepEqual(none, []);
    const [first, , , , long] = model.told.at(-1);
    assert.equal(first, "The secret word is swordfish.");
    assert.match(long, /^a word of a long log [^]*\n\[\d+ bytes of this message were left out\]$/);
    // A model that takes an eighth of that: what it was told is less, and that is said beside what was left out before.
    model.limit = 16_000;
    const warnings = await say("And now?");
    assert.equal(warnings.length, 2);
    assert.match(warnings[1], /too long for this model/);
    assert.equal(model.refused, 1, "it was asked once more, and never a blank message");
    assert.ok(model.told.at(-1).includes("And now?") && model.told.at(-1).length > 1);
    for (let turn = 0; turn < 4; turn += 1) assert.notDeepEqual(await say(`more ${turn} ${"words ".repeat(300)}`), []);
    const live = await tab.locator(".warning").allTextContents();
    await tab.reload();
    await tab.locator(`.turn:nth-child(${count})[data-state=complete]`).waitFor();
    assert.deepEqual(await tab.locator(".warning").allTextContents(), live);
    assert.equal((await saved(tab)).filter(({ status }) => status !== "complete").length, 0);
    await holds(tab);
  });
});
