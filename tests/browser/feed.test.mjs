/** What other devices do with the user's chats, on a page that nobody reloads; and chats that go. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { begun, ended, openTab, send, sessionOf } from "./browser.mjs";
import { ScriptedPage } from "./suite.mjs";

describe("what other devices do", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  /** A tab of another device: it shares nothing with the others. */
  async function elsewhere(each, path = "") {
    const context = await page.browser.newContext();
    each.after(() => context.close());
    return openTab(context, page.mock.url + path, page.errors);
  }

  test("a chat, its messages, answers and what waits are seen there while they happen", async (each) => {
    const watching = await elsewhere(each);
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    await watching.locator("#sessions a", { hasText: "gated" }).click();
    await begun(watching, 20);
    await send(tab, "first");
    await tab.getByRole("button", { name: "Remove" }).waitFor();
    await send(tab, "second");
    await watching.locator(".turn:nth-child(3)[data-state=queued]", { hasText: "second" }).waitFor();
    await watching.locator(".turn", { hasText: "first" }).getByRole("button", { name: "Remove" }).click();
    await tab.locator(".turn", { hasText: "first" }).waitFor({ state: "detached" });
    await watching.keyboard.press("Escape");
    await tab.locator(".paused").waitFor();
    await send(watching, "third");
    for (const each of [tab, watching]) await each.locator(".turn:nth-child(3)[data-state=complete]", { hasText: "third" }).waitFor();
    assert.deepEqual(await tab.locator(".bubble").allTextContents(), ["gated", "second", "third"]);
    await page.holds(tab, watching);
  });

  test("nothing is missed while the connection was away", async (each) => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    const watching = await elsewhere(each, `#${sessionOf(tab)}`);
    await ended(watching, "complete");
    await page.mock.stop();
    page.mock.begin(sessionOf(tab), "meanwhile", "and again");
    await page.mock.start();
    for (const each of [tab, watching]) await each.locator(".turn:nth-child(2)[data-state=complete]", { hasText: "and again" }).waitFor();
    await page.holds(tab, watching);
  });

  test("a chat is deleted after a question, by keyboard too, and is gone everywhere", async (each) => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    const watching = await elsewhere(each, `#${sessionOf(tab)}`);
    await begun(watching, 20);
    const remove = tab.getByRole("button", { name: "Delete gated" });
    await remove.focus();
    await tab.keyboard.press("Enter");
    await tab.getByRole("button", { name: "Keep it" }).press("Enter");
    assert.equal(page.mock.sessions.size, 1);
    await remove.press("Enter");
    await tab.locator("#delete[open]").getByRole("button", { name: "Delete" }).click();
    for (const each of [tab, watching]) await each.locator("#welcome").waitFor();
    await watching.locator("#notice", { hasText: "deleted" }).waitFor();
    for (const each of [tab, watching]) {
      await each.locator("#sessions li").waitFor({ state: "detached" });
      assert.equal(await each.locator(".turn").count(), 0);
      assert.equal(sessionOf(each), "");
    }
    assert.equal(page.mock.sessions.size, 0);
    assert.deepEqual(page.errors, []);
  });

  test("of a first message that is refused nothing stays but its text in the field", async () => {
    const tab = await page.tab();
    await tab.route("**/turns", (route) => route.fulfill({ status: 413, json: { success: false, error: { code: "payload_too_large", message: "it is too long" } } }));
    await send(tab, "too long");
    await tab.locator("#notice", { hasText: "it is too long" }).waitFor();
    await tab.locator("#sessions li").waitFor({ state: "detached" });
    assert.equal(await tab.locator("#message").inputValue(), "too long");
    assert.equal(sessionOf(tab), "");
    assert.equal(page.mock.sessions.size, 0);
    await tab.unroute("**/turns");
    await tab.locator("#message").press("Enter");
    await ended(tab, "complete");
    await page.holds(tab);
  });
});
