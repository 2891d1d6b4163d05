/** What an agent says is text: nothing of it breaks out of its place on the page. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ended, send, unfold } from "./browser.mjs";
import { ScriptedPage } from "./suite.mjs";

const ESCAPE = "\u001b";
const RTL_OVERRIDE = "\u202e";
const part = (part, delta) => ({ type: "message.part.updated", data: { part: { messageID: "m1", ...part }, ...(delta !== undefined && { delta }) } });
const tool = (id, tool, state) => part({ id, type: "tool", tool, state });

describe("what is hostile", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  /** @param {import("./mock.mjs").Script} script */
  async function answered(script, state = "complete") {
    page.scripts.go = script;
    const tab = await page.tab();
    await send(tab, "go");
    await ended(tab, state);
    return tab;
  }

  /** Nothing lies beside the page, whatever is in it: what is wide scrolls in its own box. */
  async function fits(tab) {
    const overflowing = await tab.evaluate(() => {
      const isIn = (element) => element.getBoundingClientRect().right <= document.documentElement.clientWidth + 1;
      const places = document.querySelectorAll("main, #sidebar, #title, #developer-toggle, .turn, .bubble, .markdown, .tool, .tool summary > *, .failure, #composer");
      return [...places].filter((element) => element.checkVisibility() && !isIn(element)).map((element) => `${element.id}.${element.className}`);
    });
    assert.deepEqual(overflowing, []);
    assert.equal(await tab.locator("#scroller").evaluate((scroller) => scroller.scrollWidth > scroller.clientWidth), false);
  }

  test("HTML is text, and only links that lead to the web are links", async () => {
    const markup = [
      "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script><style>body{display:none}</style>",
      "[a](javascript:alert(1)) [b](JAVASCRIPT:alert(1)) [c](java\tscript:alert(1)) [d](data:text/html,<script>1</script>) [e](vbscript:x)",
      "[f](//elsewhere.example) ![g](javascript:alert(1)) <javascript:alert(1)> [h](file:///etc/passwd) [i](\u0001javascript:alert(1))",
      "[text](https://good.example/\"onclick=\"alert(1))",
    ];
    const html = "<b id=broken>x</b>";
    const tab = await answered({
      deltas: markup.map((text) => `${text}\n\n`),
      events: [part({ id: "r", type: "reasoning" }, html), tool("t", html, { status: html, title: html, input: { html }, output: html })],
    });
    assert.equal(await tab.locator(".assistant :is(img, script, style, iframe, object, #broken)").count(), 0);
    const addresses = await tab.locator(".assistant a").evaluateAll((links) => links.map(({ href, rel }) => `${href} ${rel}`));
    assert.deepEqual(addresses, ["https://good.example/%22onclick=%22alert(1) noopener noreferrer nofollow"]);
    assert.notEqual(await tab.title(), "broken");
    await page.holds(tab);
  });

  test("a message, a title and an agent's failure with HTML are text", async () => {
    const html = "<img src=x onerror=\"document.title='broken'\"><b id=broken>x</b>";
    page.scripts[html] = { deltas: ["so be it"], failure: { code: html, message: html } };
    const tab = await page.tab();
    await send(tab, html);
    await ended(tab, "failed");
    await tab.locator("#sessions a", { hasText: "onerror" }).waitFor();
    assert.equal(await tab.locator("body :is(#broken, img[src=x])").count(), 0);
    assert.equal(await tab.locator(".failure p").textContent(), html);
    await page.holds(tab);
  });

  test("lines, tool names, titles and words of enormous length stay in their boxes", async () => {
    const long = "x".repeat(10_000);
    page.scripts[long] = {
      events: [part({ id: "r", type: "reasoning" }, long), tool("t", long, { status: "completed", title: long, input: long, output: "y".repeat(1_000_000) })],
      deltas: [`${"z".repeat(500_000)}\n\n`, `\`${long}\`\n\n`, `\`\`\`${long}\n${long}\n\`\`\`\n\n`, `| ${long} | b |\n|---|---|\n| ${long} | d |\n\n`, `# ${long}\n\n`, `https://${long}.example/${long}\n`],
      failure: { code: long, message: long },
    };
    for (const viewport of [{ width: 1280, height: 860 }, { width: 360, height: 640 }]) {
      const tab = await page.tab();
      await tab.setViewportSize(viewport);
      await send(tab, long);
      await ended(tab, "failed");
      await tab.locator("#sessions a[aria-current]").waitFor({ state: "attached" });
      await unfold(tab, ".tool");
      await fits(tab);
      assert.ok((await tab.locator(".tool pre").last().textContent()).length < 25_000, "what is long is cut, and says so");
      assert.ok((await tab.title()).length < 200);
      await page.holds(tab);
      await tab.close();
    }
  });

  test("an override of the writing direction ends where its block ends", async () => {
    const evil = `${RTL_OVERRIDE}gnp.exe`;
    page.scripts[evil] = { deltas: [`${evil}\n\n`, `[${evil}](https://good.example) and on`], events: [tool("t", evil, { status: "completed", title: evil })] };
    const tab = await page.tab();
    await send(tab, evil);
    await ended(tab, "complete");
    await tab.waitForFunction(() => document.title !== "turnkit" && !document.title.startsWith("New chat"));
    assert.ok(!(await tab.title()).includes(RTL_OVERRIDE), "the window's title has no block of its own");
    const isIsolated = (element) => getComputedStyle(element).unicodeBidi !== "normal" || getComputedStyle(element).display !== "inline";
    for (const place of [".tool .name", ".tool .title", ".markdown a", "#sessions a", "#title", ".bubble"]) {
      assert.ok(await tab.locator(place).first().evaluate(isIsolated), place);
    }
    await page.holds(tab);
  });

  test("what steers a terminal is not shown of a tool's output", async () => {
    const output = `${ESCAPE}[31mred${ESCAPE}[0m ${ESCAPE}]0;title\u0007plain ${ESCAPE}]8;;https://x.example${ESCAPE}\\link${ESCAPE}]8;;${ESCAPE}\\`;
    const tab = await answered({ deltas: [`${ESCAPE}[2Jtext\u0000\u0007`], events: [tool("t", "bash", { status: "completed", output })] });
    await unfold(tab, ".tool");
    assert.equal(await tab.locator(".tool pre").textContent(), "red plain link");
    await page.holds(tab);
  });

  test("names that every object has are names like others", async () => {
    const names = ["constructor", "__proto__", "toString", "hasOwnProperty"];
    const tab = await answered(
      {
        deltas: ["The answer."],
        events: names.flatMap((name) => [part({ id: name, type: name, text: "x" }), tool(name, "bash", { status: name }), part({ id: `text-${name}`, type: "text" }, "")]),
        failure: { code: "constructor", message: "it broke" },
      },
      "failed",
    );
    assert.deepEqual(await tab.locator(".tool .status").allTextContents(), names.map(() => "called"));
    assert.equal(await tab.locator(".failure p").textContent(), "it broke");
    await page.holds(tab);
  });

  test("a part without a name does not stand in the way of the final text", async () => {
    const tab = await answered({ deltas: [], events: [tool("", "bash", { status: "completed" }), { type: "result", data: { finalText: "The end." } }] });
    assert.equal(await tab.locator(".tool .status").textContent(), "done");
    assert.deepEqual(page.errors, []);
  });

  test("events whose data is not what their type promises draw nothing, and the answer goes on", async () => {
    const odd = [null, 3, "text", [], {}, { part: null }, { part: 3 }, { part: [] }, { part: { type: {}, id: {} } }, { part: { type: "text", id: { toString: 3 } } }, { part: { type: { toString: 3 } } }, { part: { type: "text", id: null, text: 3 }, delta: {} }];
    const states = [null, 3, [], { status: {}, title: { a: 1 }, input: [[]], output: 0 }];
    const events = odd.flatMap((data) => ["message.part.updated", "result", "session.run.started", "constructor"].map((type) => ({ type, data })));
    page.scripts.go = { deltas: ["The answer."], events: [...events, ...states.map((state, at) => tool(`t${at}`, { name: "x" }, state))] };
    const tab = await page.tab();
    await tab.locator("#developer-toggle").click();
    await send(tab, "go");
    await ended(tab, "complete");
    assert.equal(await tab.locator(".turn").count(), 1);
    assert.match(await tab.locator(".markdown").last().textContent(), /The answer\./);
    assert.ok(!(await tab.locator(".assistant").textContent()).includes("[object Object]"));
    assert.deepEqual(page.errors, []);
  });
});
