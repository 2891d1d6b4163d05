/** Small things that people met on the page: browsers that forbid or are full, other keyboards and scripts, other paths. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { chromium } from "playwright-core";
import { begun, chromiumPath, ended, FLAGS, openTab, saved, send, sessionOf } from "./browser.mjs";
import { ScriptedPage } from "./suite.mjs";

describe("the page in the field", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  test("the Enter that ends a composition sends nothing, also where only its key code says so", async () => {
    const tab = await page.tab();
    await tab.locator("#message").fill("にほん");
    for (const composing of [{ keyCode: 229 }, { isComposing: true }]) {
      await tab.locator("#message").dispatchEvent("keydown", { key: "Enter", keyCode: 13, ...composing });
    }
    assert.equal(await tab.locator(".turn").count(), 0);
    assert.equal(await tab.locator("#message").inputValue(), "にほん");
    await tab.locator("#message").press("Enter");
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("a browser that may keep nothing shows the page all the same", async (each) => {
    const profile = await mkdtemp(join(tmpdir(), "turnkit-profile-"));
    await mkdir(join(profile, "Default"));
    // What "block all cookies" in the settings writes.
    await writeFile(join(profile, "Default", "Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
    const context = await chromium.launchPersistentContext(profile, { executablePath: chromiumPath(), args: FLAGS });
    each.after(() => context.close().then(() => rm(profile, { recursive: true })));
    const tab = await openTab(context, page.mock.url, page.errors);
    await assert.rejects(tab.evaluate(() => localStorage.length), /denied/i, "the browser forbids it");
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await begun(tab, 20);
    await tab.reload();
    await begun(tab, 20);
    page.open();
    await ended(tab, "complete");
    await send(tab, "and again");
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    await page.holds(tab);
  });

  test("a message is sent where there is no room to keep it, and nothing else of it is kept", async () => {
    const tab = await page.tab();
    await tab.evaluate(() => {
      for (let size = 1 << 22; size >= 1; size >>= 1) {
        for (let at = 0; ; at += 1) {
          try {
            sessionStorage.setItem(`full ${size} ${at}`, "x".repeat(size));
          } catch {
            break;
          }
        }
      }
    });
    await tab.locator("#message").fill("short");
    const long = "long ".repeat(100_000);
    for (const message of ["without a draft", long]) {
      await send(tab, message);
      await ended(tab, "complete");
      assert.equal(await tab.locator("#message").inputValue(), "");
    }
    assert.equal((await saved(tab)).filter(({ role }) => role === "user").at(-1).text, long);
    assert.deepEqual(await tab.evaluate(() => Object.keys(sessionStorage).filter((key) => key.startsWith("turnkit."))), []);
    await page.holds(tab);
  });

  test("half a character is sent as U+FFFD, by the page and by turnkit.js", async () => {
    const tab = await page.tab();
    await tab.locator("#message").evaluate((field) => (field.value = "cut \ud83d"));
    await tab.locator("#message").press("Enter");
    await ended(tab, "complete");
    assert.equal(await tab.locator(".bubble").textContent(), "cut \ufffd");
    await tab.evaluate(async (session) => {
      const { Turnkit } = await import("/assets/turnkit.js");
      for await (const { kind } of new Turnkit().send(session, "\udc00 cut")) if (kind === "completed") return;
    }, sessionOf(tab));
    const said = (await saved(tab)).filter(({ role }) => role === "user");
    assert.deepEqual(said.map(({ text }) => text), ["cut \ufffd", "\ufffd cut"]);
    await tab.reload();
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    await page.holds(tab);
  });

  test("works under a path of a host that has others", async () => {
    page.mock.prefix = "/some/chat";
    page.mock.token = "right";
    const tab = await page.tab();
    await tab.locator("#sign-in[open]").waitFor();
    await tab.locator("#token").fill("right");
    await tab.locator("#token").press("Enter");
    await tab.locator("#user", { hasText: "ada" }).waitFor();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await begun(tab, 20);
    await tab.reload();
    await begun(tab, 20);
    await tab.locator(".attempt").first().waitFor();
    page.open();
    await ended(tab, "complete");
    await tab.locator("#sessions a[aria-current]", { hasText: "gated" }).waitFor();
    await tab.locator("#sign-out").click();
    await tab.locator("#sign-in[open]").waitFor();
    assert.equal(tab.url(), page.mock.url);
    assert.deepEqual(page.errors, []);
  });

  test("a text that is written from right to left is, in the field, in the chat and in the lists", async () => {
    const text = "مرحبا بالعالم";
    page.scripts[text] = { deltas: [`${text}\n\n- ${text}\n`], reasoning: [text] };
    const tab = await page.tab();
    const direction = (place) => tab.locator(place).first().evaluate((element) => getComputedStyle(element).direction);
    await tab.locator("#message").pressSequentially("hello");
    assert.equal(await direction("#message"), "ltr");
    await tab.locator("#message").fill("");
    await tab.locator("#message").pressSequentially(text);
    assert.equal(await direction("#message"), "rtl");
    await tab.locator("#message").press("Enter");
    await ended(tab, "complete");
    await tab.locator("#sessions a[aria-current]", { hasText: text }).waitFor();
    for (const place of [".bubble", ".thought", ".markdown p", ".markdown ul", "#sessions a", "#title"]) assert.equal(await direction(place), "rtl", place);
    const [list, mark] = await tab.locator(".markdown ul").evaluate((list) => [list.getBoundingClientRect().right, list.querySelector("li").getBoundingClientRect().right]);
    assert.ok(list - mark > 10, "the marks of a list stand at its right");
    await page.holds(tab);
  });

  test("a list of 600 chats stays while turns come and go, and so does the focus in it", async () => {
    for (let chat = 0; chat < 600; chat += 1) page.mock.newSession();
    const tab = await page.tab();
    for (const count of [200, 400, 600]) {
      await tab.locator(`#sessions li:nth-child(${count})`).waitFor();
      if (count < 600) await tab.locator("#more-sessions").click();
    }
    await tab.locator("#more-sessions").click();
    await tab.locator("#more-sessions").waitFor({ state: "hidden" });
    await send(tab, "hello");
    await tab.locator("#sessions a[href='#session-100']").focus();
    await ended(tab, "complete");
    await tab.locator("#sessions a[aria-current]", { hasText: "hello" }).waitFor();
    assert.equal(await tab.locator("#sessions li").count(), 601);
    assert.equal(await tab.evaluate(() => document.activeElement.hash), "#session-100");
    assert.equal(await tab.locator("#sessions a").first().textContent(), "hello");
    await page.holds(tab);
  });
});
