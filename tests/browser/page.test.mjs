/** The page in a real browser, before a server that can be told what to break. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { begun, ended, saved, send, sessionOf } from "./browser.mjs";
import { PLAIN, ScriptedPage, words } from "./suite.mjs";

describe("the page", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  test("shows reasoning, the tool call and the answer, and what is saved is what is shown", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    assert.match(await tab.locator(".thought").textContent(), /^I think, therefore I answer\.$/);
    assert.match(await tab.locator(".tool summary").textContent(), /bash.*Count the words.*done/);
    assert.equal(await tab.locator(".markdown strong").count(), 1);
    assert.equal(await tab.locator(".bubble").textContent(), "hello");
    assert.match(await tab.locator("#sessions a[aria-current]").textContent(), /hello/);
    await page.holds(tab);
  });

  test("shows the answer while it is written", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    assert.equal(await tab.locator(".assistant").getAttribute("aria-busy"), "true");
    assert.equal((await saved(tab)).length, 1, "nothing is saved yet");
    page.open();
    await ended(tab, "complete");
    assert.equal(await tab.locator(".assistant").getAttribute("aria-busy"), "false");
    await page.holds(tab);
  });

  test("what was drawn does not jump while more is written", async () => {
    const markdown = "A paragraph that is **long** enough to need a second line, on a screen of this width at least.\n\n## Title\n\n- one\n- `two`\n\n```sh\nls\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n";
    // Without reasoning: that folds up while the answer begins, which moves what is below it.
    page.scripts.hello = { deltas: markdown.repeat(4).match(/\S+\s*/g), pace: 2 };
    const tab = await page.tab();
    await tab.evaluate(() => {
      globalThis.shifts = [];
      new PerformanceObserver((list) => globalThis.shifts.push(...list.getEntries().map(({ value }) => value))).observe({ type: "layout-shift" });
    });
    await send(tab, "hello");
    await ended(tab, "complete");
    const shifted = await tab.evaluate(() => globalThis.shifts.reduce((sum, value) => sum + value, 0));
    assert.ok(shifted < 0.02, `layout shift of ${shifted}`);
    await page.holds(tab);
  });

  test("stops by the button and by Escape, and keeps what there was", async () => {
    const tab = await page.tab();
    for (const stop of [() => tab.locator("#stop").click(), () => tab.keyboard.press("Escape")]) {
      await send(tab, "gated");
      await begun(tab, 20);
      await stop();
      await ended(tab, "stopped");
    }
    assert.equal(await tab.locator(".status", { hasText: "Stopped" }).count(), 2);
    await page.holds(tab);
  });

  test("goes on after a reload in the middle", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    await tab.reload();
    await begun(tab, 20);
    assert.equal(await tab.locator(".thought").count(), 1);
    page.open();
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("goes on when the network comes back", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    await page.context.setOffline(true);
    await tab.locator("#network").waitFor();
    page.open();
    await page.context.setOffline(false);
    await ended(tab, "complete");
    assert.equal(await tab.locator("#network").isHidden(), true);
    await page.holds(tab);
  });

  test("goes on when the server was away, and says so meanwhile", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    await page.mock.stop();
    await tab.locator("#network", { hasText: "Connection lost" }).waitFor();
    page.open();
    await page.mock.start();
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("a second tab shows the same answer while it is written, and to its end", async () => {
    const first = await page.tab();
    await send(first, "gated");
    await begun(first, 20);
    const second = await page.tab(`#${sessionOf(first)}`);
    await begun(second, 20);
    page.open();
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    await send(second, "and now here");
    await first.locator(".turn", { hasText: "and now here" }).waitFor();
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    await first.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    await page.holds(first, second);
  });

  test("shows what another device asks in this chat", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    page.mock.begin(sessionOf(tab), "other-device", "gated");
    await tab.locator(".turn", { hasText: "gated" }).waitFor();
    page.open();
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("a connection that is cut at random bytes, again and again, loses and doubles nothing", async () => {
    page.scripts.gated = { deltas: words(600), pace: 1 };
    page.mock.mustCut = (written) => written > 2000 + Math.random() * 8000;
    const tab = await page.tab();
    await send(tab, "gated");
    await ended(tab, "complete");
    assert.ok(page.mock.cuts >= 5, `${page.mock.cuts} cuts`);
    await page.holds(tab);
  });

  test("an answer that comes from the database replaces what was drawn", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    page.mock.replays = true;
    await page.mock.stop();
    page.open();
    await page.mock.start();
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("says honestly that an answer is lost, also after a reload", async () => {
    const tab = await page.tab();
    page.scripts.lost = { ...PLAIN, deltas: words(10), failure: { code: "execution_lost", message: "the substrate does not know it" } };
    await send(tab, "lost");
    await ended(tab, "failed");
    const failure = tab.locator(".failure", { hasText: "was not run a second time" });
    await failure.waitFor();
    assert.match(await failure.textContent(), /execution_lost/);
    await tab.reload();
    await failure.waitFor();
    await page.holds(tab);
  });

  test("a message that no server took survives a reload and is sent once", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    page.mock.refuseWith = 503;
    await send(tab, "second");
    await tab.locator("#network").waitFor();
    await tab.reload();
    page.mock.refuseWith = null;
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    assert.equal((await saved(tab)).filter(({ text }) => text === "second").length, 1);
    await page.holds(tab);
  });

  test("a message that is refused goes back into the field", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    page.mock.refuseWith = 413;
    await send(tab, "too long");
    await tab.locator("#notice", { hasText: "not now" }).waitFor();
    assert.equal(await tab.locator("#message").inputValue(), "too long");
    page.mock.refuseWith = null;
    await page.holds(tab);
  });

  test("a draft survives a reload", async () => {
    const tab = await page.tab();
    await tab.locator("#message").pressSequentially("half a th");
    await tab.reload();
    assert.equal(await tab.locator("#message").inputValue(), "half a th");
    await page.holds(tab);
  });

  test("can be used by keyboard alone", async () => {
    const tab = await page.tab();
    // The field has the focus from the start; whoever goes back to the top meets the skip link first.
    await tab.evaluate(() => ((document.body.tabIndex = -1), document.body.focus()));
    await tab.keyboard.press("Tab");
    assert.equal(await tab.evaluate(() => document.activeElement.textContent), "Skip to the message field");
    await tab.keyboard.press("Enter");
    await tab.keyboard.type("line one");
    await tab.keyboard.press("Shift+Enter");
    await tab.keyboard.type("line two");
    await tab.keyboard.press("Enter");
    await ended(tab, "complete");
    assert.equal((await saved(tab))[0].text, "line one\nline two");
    await tab.locator("#announcer", { hasText: "The answer is complete." }).waitFor({ state: "attached" });
    const unnamed = await tab.evaluate(() =>
      [...document.querySelectorAll("button, a, input, textarea, select")].filter(
        (element) => !element.hidden && !(element.textContent.trim() || element.ariaLabel || element.labels?.length || element.placeholder),
      ).length,
    );
    assert.equal(unnamed, 0, "controls without a name");
    await page.holds(tab);
  });

  test("the developer's view counts lines, cursor and drops", async () => {
    const tab = await page.tab();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await begun(tab, 20);
    await page.mock.stop();
    await tab.locator("#lines .dropped").first().waitFor();
    page.open();
    await page.mock.start();
    await ended(tab, "complete");
    const cursors = await tab.locator("#lines .line .cursor").allTextContents();
    assert.deepEqual(cursors, cursors.map((_, index) => `${index + 1}`));
    const figures = await tab.locator("#figures").textContent();
    assert.match(figures, new RegExp(`cursor${cursors.length}lines${cursors.length + 1}`));
    await tab.locator("#lines .line summary").first().click();
    await tab.locator("#lines pre", { hasText: '{"type":"session.run.started"' }).waitFor();
    await page.holds(tab);
  });

  test("an answer of 5,000 parts is whole", async () => {
    page.scripts.gated = { deltas: words(5000) };
    const tab = await page.tab();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await ended(tab, "complete");
    await page.holds(tab);
  });
});
