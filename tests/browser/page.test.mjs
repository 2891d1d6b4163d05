/** The page in a real browser, before a server that can be told what to break. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { begun, ended, openBrowser, openTab, saved, send, sessionOf, shownAndSaved } from "./browser.mjs";
import { Mock } from "./mock.mjs";

const words = (count) => Array.from({ length: count }, (_, at) => (at % 40 === 39 ? `**${at}**.\n\n` : `word${at} `));

describe("the page", { timeout: 300_000 }, () => {
  /** What the agent says to a message that is no key of this. */
  const plain = { deltas: words(60), reasoning: ["I think, ", "therefore I answer."], tool: true };
  let scripts;
  let mock;
  let browser;
  let context;
  let errors;
  let open;

  before(async () => (browser = await openBrowser()));
  after(() => browser?.close());
  beforeEach(async () => {
    errors = [];
    const gate = new Promise((resolve) => (open = resolve));
    scripts = {
      gated: { ...plain, gate, gateAt: 20 },
      lost: { ...plain, deltas: words(10), failure: { code: "execution_lost", message: "the substrate does not know it" } },
      html: { deltas: ["<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script> [x](javascript:alert(1))"] },
    };
    mock = await new Mock((message) => scripts[message] ?? plain).start();
    context = await browser.newContext();
  });
  afterEach(async () => {
    open();
    await context.close();
    await mock.stop();
  });

  /** What holds at the end of each test: the answers are those that are saved, and no agent ran twice. */
  async function holds(...tabs) {
    for (const tab of tabs) {
      const { shown, saved } = await shownAndSaved(tab);
      assert.deepEqual(shown, saved);
    }
    assert.deepEqual([...mock.runs.values()].filter((runs) => runs !== 1), [], "agent runs");
    assert.deepEqual(errors, []);
  }

  const tabAt = (path = "") => openTab(context, mock.url + path, errors);

  test("shows reasoning, the tool call and the answer, and what is saved is what is shown", async () => {
    const tab = await tabAt();
    await send(tab, "hello");
    await ended(tab, "complete");
    assert.match(await tab.locator(".thought").textContent(), /^I think, therefore I answer\.$/);
    assert.match(await tab.locator(".tool summary").textContent(), /bash.*Count the words.*done/);
    assert.equal(await tab.locator(".markdown strong").count(), 1);
    assert.equal(await tab.locator(".bubble").textContent(), "hello");
    assert.match(await tab.locator("#sessions a[aria-current]").textContent(), /hello/);
    await holds(tab);
  });

  test("shows the answer while it is written", async () => {
    const tab = await tabAt();
    await send(tab, "gated");
    await begun(tab, 20);
    assert.equal(await tab.locator(".assistant").getAttribute("aria-busy"), "true");
    assert.equal((await saved(tab)).length, 1, "nothing is saved yet");
    open();
    await ended(tab, "complete");
    assert.equal(await tab.locator(".assistant").getAttribute("aria-busy"), "false");
    await holds(tab);
  });

  test("stops by the button and by Escape, and keeps what there was", async () => {
    const tab = await tabAt();
    for (const stop of [() => tab.locator("#stop").click(), () => tab.keyboard.press("Escape")]) {
      await send(tab, "gated");
      await begun(tab, 20);
      await stop();
      await ended(tab, "stopped");
    }
    assert.equal(await tab.locator(".status", { hasText: "Stopped" }).count(), 2);
    await holds(tab);
  });

  test("goes on after a reload in the middle", async () => {
    const tab = await tabAt();
    await send(tab, "gated");
    await begun(tab, 20);
    await tab.reload();
    await begun(tab, 20);
    assert.equal(await tab.locator(".thought").count(), 1);
    open();
    await ended(tab, "complete");
    await holds(tab);
  });

  test("goes on when the network comes back", async () => {
    const tab = await tabAt();
    await send(tab, "gated");
    await begun(tab, 20);
    await context.setOffline(true);
    await tab.locator("#network").waitFor();
    open();
    await context.setOffline(false);
    await ended(tab, "complete");
    assert.equal(await tab.locator("#network").isHidden(), true);
    await holds(tab);
  });

  test("goes on when the server was away, and says so meanwhile", async () => {
    const tab = await tabAt();
    await send(tab, "gated");
    await begun(tab, 20);
    await mock.stop();
    await tab.locator("#network", { hasText: "Connection lost" }).waitFor();
    open();
    await mock.start();
    await ended(tab, "complete");
    await holds(tab);
  });

  test("a second tab shows the same answer while it is written, and to its end", async () => {
    const first = await tabAt();
    await send(first, "gated");
    await begun(first, 20);
    const second = await tabAt(`#${sessionOf(first)}`);
    await begun(second, 20);
    open();
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    await send(second, "and now here");
    await first.locator(".turn", { hasText: "and now here" }).waitFor();
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    await first.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    await holds(first, second);
  });

  test("shows what another device asks in this chat", async () => {
    const tab = await tabAt();
    await send(tab, "hello");
    await ended(tab, "complete");
    mock.begin(sessionOf(tab), "other-device", "gated");
    await tab.locator(".turn", { hasText: "gated" }).waitFor();
    open();
    await ended(tab, "complete");
    await holds(tab);
  });

  test("a connection that is cut at random bytes, again and again, loses and doubles nothing", async () => {
    scripts.gated = { deltas: words(600), pace: 1 };
    mock.mustCut = (written) => written > 2000 + Math.random() * 8000;
    const tab = await tabAt();
    await send(tab, "gated");
    await ended(tab, "complete");
    assert.ok(mock.cuts >= 5, `${mock.cuts} cuts`);
    await holds(tab);
  });

  test("an answer that comes from the database replaces what was drawn", async () => {
    const tab = await tabAt();
    await send(tab, "gated");
    await begun(tab, 20);
    mock.replays = true;
    await mock.stop();
    open();
    await mock.start();
    await ended(tab, "complete");
    await holds(tab);
  });

  test("says honestly that an answer is lost, also after a reload", async () => {
    const tab = await tabAt();
    await send(tab, "lost");
    await ended(tab, "failed");
    const failure = tab.locator(".failure", { hasText: "was not run a second time" });
    await failure.waitFor();
    assert.match(await failure.textContent(), /execution_lost/);
    await tab.reload();
    await failure.waitFor();
    await holds(tab);
  });

  test("a message that no server took survives a reload and is sent once", async () => {
    const tab = await tabAt();
    await send(tab, "hello");
    await ended(tab, "complete");
    mock.refuseWith = 503;
    await send(tab, "second");
    await tab.locator("#network").waitFor();
    await tab.reload();
    mock.refuseWith = null;
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    assert.equal((await saved(tab)).filter(({ text }) => text === "second").length, 1);
    await holds(tab);
  });

  test("a message that is refused goes back into the field, and the turn that runs is shown", async () => {
    const tab = await tabAt();
    await send(tab, "hello");
    await ended(tab, "complete");
    mock.begin(sessionOf(tab), "other-device", "gated");
    await send(tab, "too early");
    await tab.locator("#notice", { hasText: "Another answer" }).waitFor();
    assert.equal(await tab.locator("#message").inputValue(), "too early");
    await tab.locator(".turn", { hasText: "gated" }).waitFor();
    open();
    await ended(tab, "complete");
    await holds(tab);
  });

  test("a draft survives a reload", async () => {
    const tab = await tabAt();
    await tab.locator("#message").pressSequentially("half a th");
    await tab.reload();
    assert.equal(await tab.locator("#message").inputValue(), "half a th");
    await holds(tab);
  });

  test("text of a model is text", async () => {
    const tab = await tabAt();
    await send(tab, "html");
    await ended(tab, "complete");
    assert.equal(await tab.locator(".assistant :is(img, script, a)").count(), 0);
    assert.notEqual(await tab.title(), "broken");
    await holds(tab);
  });

  test("can be used by keyboard alone", async () => {
    const tab = await tabAt();
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
    await holds(tab);
  });

  test("the developer's view counts lines, cursor and drops", async () => {
    const tab = await tabAt();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await begun(tab, 20);
    await mock.stop();
    await tab.locator("#lines .dropped").first().waitFor();
    open();
    await mock.start();
    await ended(tab, "complete");
    const cursors = await tab.locator("#lines .line .cursor").allTextContents();
    assert.deepEqual(cursors, cursors.map((_, index) => `${index + 1}`));
    const figures = await tab.locator("#figures").textContent();
    assert.match(figures, new RegExp(`cursor${cursors.length}lines${cursors.length + 1}`));
    await tab.locator("#lines .line summary").first().click();
    await tab.locator("#lines pre", { hasText: '{"type":"session.run.started"' }).waitFor();
    await holds(tab);
  });

  test("an answer of 5,000 parts is whole", async () => {
    scripts.gated = { deltas: words(5000) };
    const tab = await tabAt();
    await tab.locator("#developer-toggle").click();
    await send(tab, "gated");
    await ended(tab, "complete");
    await holds(tab);
  });

  test("the work for an answer doubles when its parts double", async (each) => {
    const tab = await tabAt();
    const shapes = { paragraphs: "w ".repeat(9) + "w.\n\n", oneParagraph: "some **bold** words ", code: "x = 1;\n", list: "- item\n" };
    for (const [shape, part] of Object.entries(shapes)) {
      const [half, whole] = [await tab.evaluate(work, { shape, part, parts: 5000 }), await tab.evaluate(work, { shape, part, parts: 10_000 })];
      each.diagnostic(`${shape}: 5,000 parts ${half.milliseconds} ms, 10,000 parts ${whole.milliseconds} ms`);
      assert.ok(whole.characters <= 2.1 * half.characters, `${shape}: ${half.characters}, then ${whole.characters} characters written`);
      assert.ok(whole.nodes <= 2.1 * half.nodes, `${shape}: ${half.nodes}, then ${whole.nodes} nodes made`);
    }
    await holds(tab);
  });
});

/** Runs in the page: draws after each part, as if each had a frame of its own, and counts what is written into the page. */
async function work({ shape, part, parts }) {
  const { Answer } = await import("/assets/answer.js");
  const counted = { characters: 0, nodes: 0 };
  const count = (prototype, method, take) => {
    const original = prototype[method];
    prototype[method] = function (...given) {
      take.call(this, ...given);
      return original.apply(this, given);
    };
    return () => (prototype[method] = original);
  };
  const undo = [
    count(CharacterData.prototype, "appendData", function (text) {
      counted.characters += this.length + text.length;
    }),
    count(Document.prototype, "createTextNode", (text) => (counted.characters += text.length)),
    count(Element.prototype, "append", (...nodes) => nodes.forEach((node) => typeof node === "string" && (counted.characters += node.length))),
    count(Document.prototype, "createElement", () => (counted.nodes += 1)),
  ];
  const root = document.createElement("div");
  const answer = new Answer(root, "");
  const start = performance.now();
  const pieces = shape === "code" ? ["```\n", ...Array(parts).fill(part)] : Array(parts).fill(part);
  for (const delta of pieces) {
    answer.take({ type: "message.part.updated", data: { part: { id: "p", type: "text" }, delta } });
    answer.draw();
  }
  answer.end();
  for (const restore of undo) restore();
  return { ...counted, milliseconds: Math.round(performance.now() - start) };
}
