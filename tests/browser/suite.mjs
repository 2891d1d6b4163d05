/** For each test of a suite: a browser with a profile of its own, and a server, scripted or real. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { openBrowser, openTab, shownAndSaved } from "./browser.mjs";
import { keptIn } from "./database.mjs";
import { Mock } from "./mock.mjs";
import { Process } from "./processes.mjs";

export const words = (count) => Array.from({ length: count }, (_, at) => (at % 40 === 39 ? `**${at}**.\n\n` : `word${at} `));

/** What the agent says to a message that no script names. */
export const PLAIN = { deltas: words(60), reasoning: ["I think, ", "therefore I answer."], tool: true };

/** A question of each kind that a page can answer by itself. */
export const QUESTIONS = [
  { id: "may", kind: "approval", title: "Delete the folder build?", message: "It was made by the last build.", callId: "c1", tool: "bash", input: { command: "rm -r build" } },
  { id: "which", kind: "question", title: "Which colour?", options: [{ id: "r", label: "Red" }, { id: "g", label: "Green" }] },
  {
    id: "form",
    kind: "question",
    title: "Where shall it go?",
    schema: {
      type: "object",
      properties: {
        name: { type: "string", title: "Name" },
        floor: { type: "integer", title: "Floor" },
        size: { enum: ["small", "large"], title: "Size" },
        gift: { type: "boolean", title: "Wrap it" },
      },
      required: ["name", "floor"],
    },
  },
];

export class ScriptedPage {
  /** What the agent says to a message; `gated` waits in the middle until `open`. @type {Record<string, import("./mock.mjs").Script>} */
  scripts = {};
  errors = [];

  /** Registers this with the suite that is being described. @param {string[]} [flags]  of the browser */
  static ofSuite(flags) {
    const page = new ScriptedPage();
    before(async () => (page.browser = await openBrowser(flags)));
    after(() => page.browser?.close());
    beforeEach(() => page.#begin());
    afterEach(() => page.#end());
    return page;
  }

  async #begin() {
    const gate = new Promise((resolve) => (this.open = resolve));
    this.errors = [];
    this.scripts = { gated: { ...PLAIN, gate, gateAt: 20 } };
    this.mock = await new Mock((message) => this.scripts[message] ?? PLAIN).start();
    this.context = await this.browser.newContext();
  }

  async #end() {
    this.open();
    await this.context.close();
    await this.mock.stop();
  }

  tab(path = "") {
    return openTab(this.context, this.mock.url + path, this.errors);
  }

  /** What holds at the end of each test: the answers are those that are saved, and no agent ran twice. */
  async holds(...tabs) {
    for (const tab of tabs) {
      const { shown, saved } = await shownAndSaved(tab);
      assert.deepEqual(shown, saved);
    }
    assert.deepEqual([...this.mock.runs.values()].filter((runs) => runs !== 1), [], "agent runs");
    assert.deepEqual(this.errors, []);
  }
}

/** The real server, as processes that end with their test, and its page. */
export class ServedPage {
  errors = [];

  /** Registers this with the suite that is being described. */
  static ofSuite() {
    const page = new ServedPage();
    before(async () => (page.browser = await openBrowser()));
    after(() => page.browser?.close());
    beforeEach(() => page.#begin());
    afterEach(() => page.#end());
    return page;
  }

  async #begin() {
    [this.errors, this.processes] = [[], []];
    this.context = await this.browser.newContext();
    this.directory = await mkdtemp(join(tmpdir(), "turnkit-browser-"));
  }

  async #end() {
    await this.context.close();
    for (const process of this.processes) await process.end();
    await rm(this.directory, { recursive: true });
  }

  start = async (command, ...args) => {
    const process = await new Process(command, args).start();
    this.processes.push(process);
    return process;
  };

  serve = (...args) => this.start("serve", ...keptIn(this.directory), "--log-level", "error", ...args);

  tabAt = (server, path = "") => openTab(this.context, server.url + path, this.errors);

  /** A tab of a browser that shares nothing with the others. */
  elsewhere = async (each, server, path = "") => {
    const browser = await openBrowser();
    each.after(() => browser.close());
    return openTab(await browser.newContext(), server.url + path, this.errors);
  };

  /** What holds at the end of each test: the answers are those that are saved, and no script threw. */
  holds = async (...tabs) => {
    for (const tab of tabs) {
      const { shown, saved } = await shownAndSaved(tab);
      assert.deepEqual(shown, saved);
    }
    assert.deepEqual(this.errors, []);
  };
}
