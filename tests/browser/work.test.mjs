/** The work for an answer, counted: twice the parts may take twice the work, and not more. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ended, send } from "./browser.mjs";
import { ScriptedPage, words } from "./suite.mjs";

/** Half and whole of an answer. */
const PARTS = [5000, 10_000];
/** What doubles; a buffer that grows may add a little. What is quadratic would quadruple. */
const DOUBLED = 2.2;
/** The same where the browser chooses how many frames to draw, and the network how many chunks to send. */
const ROUGHLY_DOUBLED = 3;

const text = (id, delta, type = "text") => ({ part: { id, type }, delta });

/** Each part of an answer, by its number. @type {Record<string, (at: number) => object>} */
const SHAPES = {
  "paragraphs": () => text("p", "w ".repeat(9) + "w.\n\n"),
  "one paragraph": () => text("p", "some **bold** words "),
  "one line without a space": () => text("p", "x".repeat(50)),
  "code": (at) => text("p", at === 0 ? "```\n" : "x = 1;\n"),
  "a list": () => text("p", "- item\n"),
  "a table": (at) => text("p", at === 0 ? "| a | b |\n|---|---|\n" : "| 1 | 2 |\n"),
  "text parts of their own": (at) => text(`p${at}`, "some words. "),
  "tools": (at) => ({ part: { id: `t${at}`, type: "tool", tool: "bash", state: { status: "completed", output: "done" } } }),
  "thoughts and text in turn": (at) => text(`p${at}`, "some words. ", at % 2 ? "text" : "reasoning"),
};

describe("the work of the page", { timeout: 600_000 }, () => {
  // Compiled code does not count all that it runs.
  const page = ScriptedPage.ofSuite(["--js-flags=--no-opt --no-maglev"]);

  for (const [shape, partAt] of Object.entries(SHAPES)) {
    test(`doubles when the parts double: ${shape}`, async (each) => {
      const tab = await page.tab();
      const steps = await stepCounter(tab);
      const counted = [];
      for (const count of PARTS) {
        const parts = Array.from({ length: count }, (_, at) => partAt(at));
        counted.push({ ...(await tab.evaluate(draw, parts)), steps: await steps() });
      }
      compare(each, counted);
      await page.holds(tab);
    });
  }

  test("doubles when the parts double: from the first byte to the last, with the developer's view open", async (each) => {
    const tab = await page.tab();
    await tab.locator("#developer-toggle").click();
    const steps = await stepCounter(tab);
    const counted = [];
    for (const parts of PARTS) {
      page.scripts.gated = { deltas: words(parts) };
      const start = performance.now();
      await send(tab, "gated");
      await ended(tab, "complete");
      counted.push({ milliseconds: Math.round(performance.now() - start), steps: await steps() });
      await page.holds(tab);
      await tab.locator("#new-chat").click();
      await tab.locator("#welcome").waitFor();
    }
    compare(each, counted, ROUGHLY_DOUBLED);
  });
});

/**
 * @param {Record<string, number>[]} counted  of half and of the whole
 * @param {number} [most]  times as much for the whole
 */
function compare(each, [half, whole], most = DOUBLED) {
  for (const what of Object.keys(half)) {
    each.diagnostic(`${what}: ${half[what]} for ${PARTS[0]} parts, ${whole[what]} for ${PARTS[1]}`);
    // Time is told and not judged: other programs run, too.
    if (what === "milliseconds") continue;
    assert.ok(whole[what] <= most * half[what] + 100, `${what}: ${half[what]}, then ${whole[what]}`);
  }
}

/** Counts how many blocks of the page's own scripts ran since it was asked last: a loop in a loop cannot hide from that. */
async function stepCounter(tab) {
  const devtools = await tab.context().newCDPSession(tab);
  await devtools.send("Profiler.enable");
  await devtools.send("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  return async () => {
    const { result } = await devtools.send("Profiler.takePreciseCoverage");
    const own = result.filter(({ url }) => url.includes("/assets/"));
    const blocks = own.flatMap(({ functions }) => functions.flatMap(({ ranges }) => ranges));
    return blocks.reduce((sum, { count }) => sum + count, 0);
  };
}

/** Runs in the page: draws after each part, as if each had a frame of its own, and counts what is written into the page. */
async function draw(parts) {
  const { Answer } = await import("/assets/answer.js");
  const counted = { characters: 0, nodes: 0, milliseconds: 0 };
  const count = (prototype, method, take) => {
    const original = prototype[method];
    prototype[method] = function (...given) {
      take.call(this, ...given);
      return original.apply(this, given);
    };
    return () => (prototype[method] = original);
  };
  const written = (...nodes) => nodes.forEach((node) => typeof node === "string" && (counted.characters += node.length));
  const undo = [
    count(CharacterData.prototype, "appendData", function (text) {
      counted.characters += this.length + text.length;
    }),
    count(Document.prototype, "createTextNode", written),
    count(Element.prototype, "append", written),
    count(Document.prototype, "createElement", () => (counted.nodes += 1)),
  ];
  const answer = new Answer(document.createElement("div"), "");
  const start = performance.now();
  for (const data of parts) {
    answer.take({ type: "message.part.updated", data });
    answer.draw();
  }
  answer.end();
  counted.milliseconds = Math.round(performance.now() - start);
  for (const restore of undo) restore();
  return counted;
}
