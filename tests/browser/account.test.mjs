/** Users that sign in, agents to choose from, and what the server tells of a turn. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { begun, ended, send } from "./browser.mjs";
import { ScriptedPage } from "./suite.mjs";

describe("who uses the page", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  async function signIn(tab, token) {
    await tab.locator("#token").fill(token);
    await tab.locator("#token").press("Enter");
  }

  test("is asked for a token once, told when it is wrong, and signs out in every tab", async () => {
    page.mock.token = "right";
    const [first, second] = [await page.tab(), await page.tab()];
    for (const tab of [first, second]) await tab.locator("#sign-in[open]").waitFor();
    await signIn(first, "wrong");
    await first.locator("#sign-in-error", { hasText: "does not know this token" }).waitFor();
    await signIn(first, "right");
    for (const tab of [first, second]) await tab.locator("#user", { hasText: "ada" }).waitFor();
    assert.equal(await first.evaluate(() => document.cookie), "", "no script reads it");
    await send(first, "hello");
    await ended(first, "complete");
    await first.reload();
    await ended(first, "complete");
    assert.equal(await first.locator("#sign-in").isVisible(), false);
    await first.locator("#message").fill("a draft of mine");
    await first.locator("#sign-out").click();
    for (const tab of [first, second]) await tab.locator("#sign-in[open]").waitFor();
    assert.deepEqual(await first.evaluate(() => [sessionStorage.length, location.hash]), [0, ""], "nothing of it is left for the next one");
    assert.equal(await first.locator(".turn, #sessions li").count(), 0);
    assert.deepEqual(page.errors, []);
  });

  test("does not lose a message when a sign-in ends: it is in the field after the next one", async () => {
    page.mock.token = "old";
    const tab = await page.tab();
    await signIn(tab, "old");
    await tab.locator("#user", { hasText: "ada" }).waitFor();
    page.mock.token = "new";
    await send(tab, "what I had to say");
    await tab.locator("#sign-in[open]").waitFor();
    await signIn(tab, "new");
    await tab.locator("#user", { hasText: "ada" }).waitFor();
    assert.equal(await tab.locator("#message").inputValue(), "what I had to say");
    await tab.locator("#message").press("Enter");
    await ended(tab, "complete");
    assert.deepEqual(page.errors, []);
  });

  test("goes on with a running answer when a sign-in ended in its middle", async () => {
    page.mock.token = "old";
    const tab = await page.tab();
    await signIn(tab, "old");
    await tab.locator("#user", { hasText: "ada" }).waitFor();
    await send(tab, "gated");
    await begun(tab, 20);
    page.mock.token = "new";
    await page.mock.stop();
    await page.mock.start();
    await tab.locator("#sign-in[open]").waitFor();
    await signIn(tab, "new");
    page.open();
    await ended(tab, "complete");
    assert.equal([...page.mock.runs.values()].join(), "1");
    assert.deepEqual(page.errors, []);
  });

  test("sees no chooser where there is one agent, and no account where nobody signs in", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    assert.equal(await tab.locator("#agent").isVisible(), false);
    assert.equal(await tab.locator("#account").isVisible(), false);
    await page.holds(tab);
  });

  test("chooses among agents, and keeps the choice", async () => {
    page.mock.agents = [{ name: "demo" }, { name: "coder", description: "Writes programs" }, { name: "<b>" }];
    const tab = await page.tab();
    await tab.locator("#agent").selectOption("coder");
    await send(tab, "hello");
    await ended(tab, "complete");
    await tab.reload();
    await tab.locator("#agent").waitFor();
    assert.equal(await tab.locator("#agent").inputValue(), "coder");
    await send(tab, "again");
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    const asked = [...page.mock.sessions.values()].flat().map(({ agent }) => agent);
    assert.deepEqual(asked, ["coder", "coder"]);
    page.mock.agents = [{ name: "other" }, { name: "demo" }];
    page.mock.defaultAgent = "demo";
    await tab.reload();
    await tab.locator("#agent").waitFor();
    assert.equal(await tab.locator("#agent").inputValue(), "demo", "the one that was chosen is gone");
    await page.holds(tab);
  });

  test("sees the attempts at a turn and their hooks while they happen", async () => {
    const tab = await page.tab();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await tab.locator(".attempt[data-outcome=running]").waitFor();
    await tab.reload();
    await tab.locator(".attempt:nth-child(2)[data-outcome=running] .kind", { hasText: "resumed" }).waitFor();
    page.open();
    await tab.locator(".attempt:nth-child(2)[data-outcome=completed]").waitFor();
    const hooks = await tab.locator(".attempt:nth-child(1) .hooks li").allInnerTexts();
    assert.deepEqual(hooks.map((hook) => hook.split(/\s+/)), [["find_completed", "0.4", "ms"], ["persist_assistant_message", "7.0", "ms"]]);
    await page.holds(tab);
  });
});
