/** The page for those who do not see it, see it dimly, or use no mouse: axe looks at each of its states. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { begun, ended, send, unfold } from "./browser.mjs";
import { PLAIN, QUESTIONS, ScriptedPage } from "./suite.mjs";

const AXE = await readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const MARKDOWN = "# Title\n\nText with `code`, a [link](https://a.example) and **weight**.\n\n> A quote\n\n```sh\nls -l\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n1. one\n   - two\n";
const part = (part) => ({ type: "message.part.updated", data: { part } });
const EVENTS = [
  part({ id: "f", type: "file", url: "https://files.example/report.pdf", filename: "report.pdf" }),
  part({ id: "s", type: "source", url: "https://source.example/", title: "Where it stands" }),
  part({ id: "d", type: "data", name: "chart", data: { points: [1, 2] } }),
  { type: "warning", data: { code: "slow", message: "the disk is slow" } },
  { type: "result", data: { finishReason: "length" } },
];
const WIDTHS = { wide: { width: 1280, height: 860 }, phone: { width: 360, height: 740 } };

describe("the page is accessible", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  /** Each state of the page, reached in a tab. @type {Record<string, (tab: any) => Promise<void>>} */
  const states = {
    "empty": async () => {},
    "an answer, with all that may be in one": async (tab) => {
      await send(tab, "markdown");
      await ended(tab, "complete");
      await unfold(tab, ".tool", ".data", ".reasoning");
    },
    "an answer that is being written": async (tab) => {
      await send(tab, "gated");
      await begun(tab, 10);
    },
    "a failed answer, and the developer's view": async (tab) => {
      await tab.locator("#developer-toggle").click();
      await send(tab, "failing");
      await ended(tab, "failed");
      await tab.locator(".attempt[data-outcome=failed]").waitFor();
    },
    "siblings, a message that waits and one that is edited": async (tab) => {
      await send(tab, "hello");
      await ended(tab, "complete");
      await tab.getByRole("button", { name: "Answer again" }).click();
      await tab.locator(".turn[data-state=complete] .siblings").waitFor();
      await send(tab, "gated");
      await begun(tab, 10);
      await send(tab, "waiting");
      await tab.locator(".turn[data-state=queued]").getByRole("button", { name: "Edit" }).click();
    },
    "questions of an agent: answered, and one that waits, with a wrong value": async (tab) => {
      await send(tab, "asks");
      await tab.getByRole("button", { name: "Approve" }).click();
      await tab.getByRole("button", { name: "Red" }).click();
      await tab.getByLabel("Floor").fill("high");
      await tab.getByRole("button", { name: "Answer", exact: true }).click();
      await tab.locator(".answer-field .wrong:not(:empty)").first().waitFor();
    },
    "a question before a chat is deleted": async (tab) => {
      await send(tab, "hello");
      await ended(tab, "complete");
      if (await tab.locator("#menu").isVisible()) await tab.locator("#menu").click();
      await tab.getByRole("button", { name: "Delete hello" }).click();
      await tab.locator("#delete[open]").waitFor();
    },
    "a lost connection": async (tab) => {
      await send(tab, "gated");
      await begun(tab, 10);
      await page.mock.stop();
      await tab.locator("#network").waitFor();
    },
    "a chooser, and somebody who signs in": async (tab) => {
      page.mock.agents = [{ name: "demo" }, { name: "coder" }];
      page.mock.token = "token";
      await tab.reload();
      await tab.locator("#sign-in[open]").waitFor();
      await passes(tab);
      await tab.locator("#token").fill("token");
      await tab.locator("#token").press("Enter");
      await tab.locator("#agent").waitFor();
    },
  };

  for (const [state, reach] of Object.entries(states)) {
    for (const [name, viewport] of Object.entries(WIDTHS)) {
      test(`${state}, ${name}, light and dark`, async () => {
        page.scripts.markdown = { ...PLAIN, deltas: [MARKDOWN], events: EVENTS };
        page.scripts.asks = { ...PLAIN, questions: QUESTIONS };
        page.scripts.failing = { ...PLAIN, failure: { code: "timeout", message: "too long" } };
        const tab = await page.tab();
        await tab.setViewportSize(viewport);
        await reach(tab);
        await passes(tab);
        const isWide = await tab.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
        assert.equal(isWide, false, "nothing scrolls sideways");
        assert.deepEqual(page.errors, []);
      });
    }
  }

  test("the list of chats on a phone opens and closes by keyboard, and keeps the focus in order", async () => {
    const tab = await page.tab();
    await tab.setViewportSize(WIDTHS.phone);
    await tab.locator("#menu").focus();
    await tab.keyboard.press("Enter");
    await tab.waitForFunction(() => document.activeElement.id === "new-chat");
    await passes(tab);
    await tab.keyboard.press("Escape");
    await tab.waitForFunction(() => document.activeElement.id === "menu");
    assert.equal(await tab.locator("#sidebar").isVisible(), false);
  });

  test("what is under the finger is large enough on a phone", async () => {
    const tab = await page.tab();
    await tab.setViewportSize(WIDTHS.phone);
    await send(tab, "hello");
    await ended(tab, "complete");
    const small = await tab.evaluate(() =>
      [...document.querySelectorAll("main :is(button, summary, select)")]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height < 24)
        .map((element) => element.outerHTML.slice(0, 80)),
    );
    assert.deepEqual(small, [], "WCAG 2.2, 2.5.8");
  });
});

/** Asks axe for what is wrong by WCAG 2.2 A and AA and by good practice, in both colour schemes. */
async function passes(tab) {
  for (const colorScheme of ["light", "dark"]) {
    await tab.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await tab.evaluate(AXE);
    const violations = await tab.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
      return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${help}: ${target}: ${failureSummary}`));
    });
    assert.deepEqual(violations, [], colorScheme);
  }
}
