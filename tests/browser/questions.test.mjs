/** What an agent asks, on the page: answered from any tab, told in each, and by keyboard. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { begun, ended, send, sessionOf } from "./browser.mjs";
import { PLAIN, QUESTIONS, ScriptedPage } from "./suite.mjs";

const [MAY, WHICH, FORM] = QUESTIONS;

describe("a question of an agent", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  /** A tab in which an agent asks this. */
  async function asked(script) {
    page.scripts.ask = { ...PLAIN, ...script };
    const tab = await page.tab();
    await send(tab, "ask");
    await tab.locator(".question[data-state=pending]").waitFor();
    return tab;
  }

  const announced = (tab, text) => tab.locator("#announcer", { hasText: text }).waitFor();
  const isFocused = (tab, selector) => tab.waitForFunction((selector) => document.activeElement?.matches(selector), selector);

  test("is answered by keyboard in one tab, and is gone in the other, with who said so", async () => {
    const { gate } = page.scripts.gated;
    const tab = await asked({ questions: [MAY], gate, gateAt: 5 });
    await announced(tab, "The agent asks: Delete the folder build?");
    const card = tab.getByRole("group", { name: "Delete the folder build?" });
    assert.equal(await card.ariaSnapshot(), `\
- group "Delete the folder build?":
  - heading "Delete the folder build?" [level=3]
  - paragraph: It was made by the last build.
  - text: bash
  - group "bash": "{ \\"command\\": \\"rm -r build\\" }"
  - button "Approve"
  - button "Deny"`);
    assert.equal(await tab.evaluate(() => document.activeElement.id), "message", "nobody who writes is interrupted");
    const other = await page.tab(`#${sessionOf(tab)}`);
    await other.locator(".question[data-state=pending]").waitFor();
    await tab.reload();
    await tab.getByRole("button", { name: "Approve" }).focus();
    await tab.keyboard.press("Enter");
    for (const each of [tab, other]) {
      await each.locator(".question[data-state=answered]", { hasText: "Approved, by ann" }).waitFor();
      assert.equal(await each.locator(".question button").count(), 0);
    }
    await isFocused(tab, ".outcome");
    await announced(other, "Approved, by ann");
    page.open();
    await Promise.all([ended(tab, "complete"), ended(other, "complete")]);
    await page.holds(tab, other);
  });

  test("has options to choose from, and who comes second hears that somebody was faster", async () => {
    const tab = await asked({ questions: [WHICH] });
    const other = await page.tab(`#${sessionOf(tab)}`);
    await other.locator(".question[data-state=pending]").waitFor();
    // What was answered is on its way to it, and does not come while it answers.
    await other.route("**/interactions/**", async (route) => {
      await tab.getByRole("button", { name: "Green" }).click();
      await tab.locator(".question[data-state=answered]", { hasText: "Answered: Green, by ann" }).waitFor();
      await route.continue();
    });
    await other.getByRole("button", { name: "Red" }).click();
    await other.locator(".question[data-state=answered]", { hasText: "Answered: Green, by ann" }).waitFor();
    await ended(tab, "complete");
    await page.holds(tab, other);
  });

  test("is a form, where what is wrong is told in its place, by the page and by the server", async () => {
    const misfit = ({ floor }) => (floor > 40 ? { field: "data.floor", message: "data.floor must be at most 40" } : null);
    const tab = await asked({ questions: [FORM], misfit });
    const floor = tab.getByRole("textbox", { name: "Floor" });
    const wrong = async (text) => {
      await tab.locator(".answer-field", { has: floor }).locator(".wrong", { hasText: text }).waitFor();
      assert.equal(await floor.getAttribute("aria-invalid"), "true");
      assert.equal(await floor.evaluate((field) => document.getElementById(field.getAttribute("aria-describedby")).textContent), text);
    };
    await tab.getByRole("textbox", { name: "Name" }).fill("Ada");
    await tab.keyboard.press("Enter");
    await isFocused(tab, "input[aria-invalid=true]");
    await wrong("is needed");
    await floor.fill("high");
    await tab.keyboard.press("Enter");
    await wrong("must be a number");
    await floor.fill("41");
    await tab.keyboard.press("Enter");
    await wrong("must be at most 40");
    await floor.fill("3");
    await tab.getByRole("combobox", { name: "Size" }).selectOption("large");
    await tab.getByRole("checkbox", { name: "Wrap it" }).check();
    await tab.getByRole("button", { name: "Answer", exact: true }).click();
    await tab.locator(".question[data-state=answered]").waitFor();
    assert.deepEqual(JSON.parse(await tab.locator(".question pre").textContent()), { name: "Ada", floor: 3, size: "large", gift: true });
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("is answered when the server is back, and what nobody answers is said", async () => {
    const tab = await asked({ questions: [MAY, WHICH, FORM] });
    page.mock.refuseWith = 503;
    await tab.getByRole("button", { name: "Deny" }).click();
    await tab.locator(".question[aria-busy=true]").waitFor();
    page.mock.refuseWith = null;
    await tab.locator(".question", { hasText: "Declined, by ann" }).waitFor();
    await tab.locator(".question[data-state=pending]").waitFor();
    const [turn] = page.mock.sessions.get(sessionOf(tab));
    page.mock.settle(turn, "expired");
    await tab.locator(".question", { hasText: "Nobody answered in time" }).waitFor();
    await tab.getByRole("textbox", { name: "Name" }).waitFor();
    await tab.locator("#stop").click();
    await ended(tab, "stopped");
    await tab.locator(".question[data-state=over]", { hasText: "Not answered" }).waitFor();
    assert.equal(await tab.locator(".question form").count(), 0);
    await page.holds(tab);
  });

  test("a message is sent into the answer where its agent takes any, and waits otherwise", async () => {
    page.scripts.gated = { ...page.scripts.gated, takesInput: true };
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 10);
    assert.equal(await tab.locator("#send-now").isVisible(), false, "nobody writes");
    await tab.locator("#message").fill("be brief");
    await tab.locator("#send-now").waitFor();
    await tab.keyboard.press("Control+Enter");
    await tab.locator(".input[data-state=taken] .bubble", { hasText: "be brief" }).waitFor();
    assert.equal(await tab.locator("#message").inputValue(), "");
    page.open();
    await ended(tab, "complete");
    assert.equal(await tab.locator(".turn").count(), 1, "it is no turn of its own");
    const order = await tab.locator(".parts > :is(.markdown, .input)").evaluateAll((parts) => parts.map(({ className }) => className));
    assert.deepEqual(order, ["markdown", "input", "markdown"], "it stands between two halves of the answer");
    await send(tab, "hello");
    await tab.locator("#message").fill("another");
    await ended(tab, "complete");
    assert.equal(await tab.locator("#send-now").isVisible(), false);
    assert.deepEqual(page.errors, []);
  });
});
