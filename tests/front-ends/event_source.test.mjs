/** A native `EventSource` in Chromium at the real routes, through a proxy that cuts. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { until, Stage } from "./stage.mjs";
import { Staller } from "./staller.mjs";

/** Runs in the page: follows a turn as the guide's snippet does, and keeps its parts as they are at rest. */
function follow(url) {
  const told = { parts: [], starts: 0, cuts: 0, end: undefined };
  const source = new EventSource(url);
  const end = (name) => (event) => {
    told.end = { name, ...JSON.parse(event.data) };
    source.close();
  };
  source.addEventListener("session.run.started", () => {
    told.starts++;
    told.parts = []; // from its first event
  });
  source.addEventListener("message.part.updated", ({ data }) => {
    const { part, delta } = JSON.parse(data);
    const at = told.parts.findIndex(({ id }) => id === part.id);
    const known = told.parts[at];
    if (delta !== undefined && part.type !== "tool") part.text = (known?.text ?? "") + delta;
    if (known) told.parts[at] = part;
    else told.parts.push(part);
  });
  source.addEventListener("session.run.completed", end("completed"));
  source.addEventListener("session.run.failed", end("failed"));
  // Its own event of a lost connection has no data; the turn's event of that name has.
  source.addEventListener("error", ({ data }) => (told.cuts += data === undefined ? 1 : 0));
  (window.turns ??= {})[url] = told;
}

describe("EventSource", { timeout: 300_000 }, () => {
  let [browser, stage, tab] = [];

  before(async () => {
    stage = await new Stage().open();
    const { openBrowser } = await import("../browser/browser.mjs");
    browser = await openBrowser();
    tab = await openPage();
  });
  beforeEach(() => void (stage.proxy.cuts = []));
  after(async () => {
    await browser?.close();
    await stage?.close();
  });

  async function openPage(base = stage.proxy.url) {
    const page = await browser.newPage();
    await page.goto(`${base}/health`);
    return page;
  }

  const post = (path, body) => fetch(`${stage.server.url}api/sessions${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  /** Starts a turn, and leaves it. */
  async function started(message) {
    const { sessionId } = await (await post("", {})).json();
    const turnId = stage.name("turn");
    await (await post(`/${sessionId}/turns`, { turnId, message })).body.cancel();
    return { sessionId, url: `/api/sessions/${sessionId}/turns/${turnId}` };
  }

  const told = (url, page = tab) => page.evaluate((url) => window.turns[url], url);
  const followed = async (url, page = tab) => {
    await page.evaluate(follow, url);
    await until(async () => (await told(url, page)).end, "the end");
    return told(url, page);
  };
  const inTheMiddle = (url, page = tab) => until(async () => (await told(url, page)).parts.at(-1)?.text === "One ", "the middle");
  const saved = async (sessionId) => (await stage.json(`/api/sessions/${sessionId}/messages`)).messages[1];
  const isSaved = (sessionId) => until(async () => (await stage.json(`/api/sessions/${sessionId}/turns?state=open`)).turns.length === 0, "the save");

  test("cut behind every frame it goes on by itself, while the turn runs and once it is saved", async () => {
    const gate = stage.gate();
    const { sessionId, url } = await started(`gated ${gate}`);
    // Each connection gives `retry` and one event. The last ones come when the answer is saved.
    stage.proxy.cuts = Array.from({ length: 12 }, () => 2);
    await tab.evaluate(follow, url);
    await until(async () => (await told(url)).parts.length > 1, "some of it");
    await stage.openGate(gate);
    await isSaved(sessionId);
    await until(async () => (await told(url)).end, "the end");
    const { parts, starts, cuts, end } = await told(url);
    assert.deepEqual([end.name, starts, cuts], ["completed", 1, 12]);
    assert.deepEqual(parts, (await saved(sessionId)).parts);
  });

  test("two pages and one that is loaded again, in the middle", async () => {
    const gate = stage.gate();
    const { sessionId, url } = await started(`gated ${gate}`);
    const [second, loaded] = [await openPage(), await openPage()];
    const pages = [tab, second, loaded];
    for (const page of pages) await page.evaluate(follow, url);
    for (const page of pages) await inTheMiddle(url, page);
    await loaded.reload();
    await loaded.evaluate(follow, url);
    await stage.openGate(gate);
    for (const page of pages) {
      await until(async () => (await told(url, page)).end, "the end");
      assert.deepEqual((await told(url, page)).parts, (await saved(sessionId)).parts);
    }
    for (const page of [second, loaded]) await page.close();
  });

  test("a stop and a failure are told as such, and what there was is kept", async () => {
    const { sessionId, url } = await started(`gated ${stage.gate()}`);
    await tab.evaluate(follow, url);
    await inTheMiddle(url);
    assert.ok((await fetch(`${stage.server.url}${url.slice(1)}/cancel`, { method: "POST" })).ok);
    await until(async () => (await told(url)).end, "the end");
    const stopped = await told(url);
    assert.deepEqual([stopped.end.name, stopped.end.code], ["failed", "cancelled"]);
    assert.deepEqual(stopped.parts, (await saved(sessionId)).parts);
    const failing = await started("fails");
    const failed = await followed(failing.url);
    assert.deepEqual([failed.end.name, failed.end.code], ["failed", "upstream_error"]);
    assert.deepEqual(failed.parts, (await saved(failing.sessionId)).parts);
  });

  for (const signal of ["SIGKILL", "SIGTERM"]) {
    test(`${signal} of the server in the middle is no end, and it goes on once that is back`, async () => {
      const gate = stage.gate();
      const { sessionId, url } = await started(`gated ${gate}`);
      await tab.evaluate(follow, url);
      await inTheMiddle(url);
      await stage.server.end(signal);
      await until(async () => (await told(url)).cuts > 0, "the cut");
      assert.equal((await told(url)).end, undefined);
      await stage.server.start();
      await stage.openGate(gate);
      await until(async () => (await told(url)).end, "the end");
      const { parts, end } = await told(url);
      assert.equal(end.name, "completed");
      assert.deepEqual(parts, (await saved(sessionId)).parts);
    });
  }

  test("without the log, the saved answer takes the place of what was drawn", async () => {
    const { sessionId, url } = await started("whole");
    await isSaved(sessionId);
    // The first connection is cut once its part is drawn, and none that follows is told anything before the log is lost.
    let cut;
    const first = { frames: 7, until: new Promise((resolve) => (cut = resolve)) };
    stage.proxy.cuts = [first, ...Array.from({ length: 1000 }, () => 0)];
    await tab.evaluate(follow, url);
    await until(async () => (await told(url)).parts.length > 0, "a part of it");
    cut();
    await until(async () => (await told(url)).cuts > 0, "the cut");
    await stage.server.end("SIGTERM");
    await stage.substrate.end("SIGKILL");
    await stage.substrate.start();
    await stage.server.start();
    stage.proxy.cuts = [];
    await until(async () => (await told(url)).end, "the end");
    const { parts, starts, end } = await told(url);
    assert.deepEqual([end.name, end.replayed, starts], ["completed", true, 2]);
    assert.deepEqual(parts, (await saved(sessionId)).parts);
  });

  test("a page that does not read is cut after a minute, which is no end for it", async () => {
    await stage.restart();
    const staller = await new Staller(stage.server.url, 4_096).open();
    const { sessionId, url } = await started("floods");
    const page = await openPage(staller.url);
    await page.evaluate(follow, url);
    // Whoever started the turn has left it, too.
    await stage.cutOff(2);
    assert.equal((await told(url, page)).end, undefined);
    staller.flow();
    // Its parts are megabytes: they are fetched once.
    const ends = (url) => window.turns[url].end;
    await until(() => page.evaluate(ends, url), "the end");
    const { parts, cuts, end } = await told(url, page);
    assert.deepEqual([end.name, cuts > 0], ["completed", true]);
    assert.deepEqual(parts, (await saved(sessionId)).parts);
    staller.close();
  });
});
