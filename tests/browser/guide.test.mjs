/** What docs/guide/page.md prints works as printed. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { ScriptedPage, words, PLAIN } from "./suite.mjs";

const GUIDE = await readFile(new URL("../../docs/guide/page.md", import.meta.url), "utf8");

describe("the guide", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  test("its program draws an answer, finds what runs and what was said, and sends what was not taken", async () => {
    const blocks = [...GUIDE.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
    assert.ok(blocks.length >= 3);
    page.scripts.Hello = PLAIN;
    const tab = await page.tab();
    const imported = blocks.join("\n").replace(/^import (.*) from "\.\/(.*)";$/gm, 'const $1 = await import("/assets/$2");');
    const result = await tab.evaluate(`(async () => {
      document.body.append(Object.assign(document.createElement("p"), { id: "answer" }));
      const followed = [];
      const follow = (updates) => followed.push((async () => { for await (const { kind } of updates) if (kind === "completed") return kind; })());
      ${imported}
      return { drawn: document.querySelector("#answer").textContent, followed: await Promise.all(followed), messages };
    })()`);
    assert.equal(result.drawn, words(60).join(""));
    assert.deepEqual(result.followed, ["completed"]);
    assert.deepEqual(result.messages.map(({ role, status }) => `${role} ${status}`), ["user complete", "assistant complete"]);
    assert.deepEqual(page.errors, []);
  });
});
