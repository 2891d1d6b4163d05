/** The page before the real server: a product process and a substrate process, killed and started again. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { begun, ended, openTab, saved, send, sessionOf, unfold } from "./browser.mjs";
import { Chat, Network } from "./processes.mjs";
import { ScriptedSubstrate } from "./substrate.mjs";
import { ServedPage, words } from "./suite.mjs";

const LONG = "a long answer, please";

describe("the page and the real server", { timeout: 600_000 }, () => {
  const page = ServedPage.ofSuite();
  const { start, serve, tabAt, elsewhere, holds } = page;

  test("send, stream, stop", async () => {
    const tab = await tabAt(await serve());
    await send(tab, "hello there");
    await begun(tab, 3);
    assert.equal((await saved(tab)).length, 1, "it is shown before it is saved");
    await ended(tab, "complete");
    assert.equal(await tab.locator(".reasoning").count(), 1);
    assert.match(await tab.locator(".tool summary").textContent(), /bash/);
    await send(tab, LONG);
    await begun(tab, 8);
    await tab.keyboard.press("Escape");
    await ended(tab, "stopped");
    assert.equal((await saved(tab)).at(-1).status, "stopped");
    await holds(tab);
  });

  test("an agent of the Agent Client Protocol asks for a permission, which is given on the page after a reload", async () => {
    const server = await serve("--agent", "command", "--command-format", "acp", "--command", process.execPath, join(import.meta.dirname, "acp.mjs"));
    const tab = await tabAt(server);
    await send(tab, "clean up");
    await tab.locator(".question[data-state=pending]").waitFor();
    await tab.reload();
    await tab.getByRole("button", { name: "Delete it" }).click();
    await tab.locator(".question[data-state=answered]", { hasText: "Delete it" }).waitFor();
    await ended(tab, "complete");
    await tab.locator(".markdown", { hasText: "It is deleted." }).waitFor();
    await holds(tab);
  });

  test("reload in the middle", async () => {
    const tab = await tabAt(await serve("--demo-pace", "60ms"));
    await send(tab, LONG);
    await begun(tab, 10);
    await tab.reload();
    await begun(tab, 10);
    assert.equal((await saved(tab)).length, 1, "it found the running turn");
    await ended(tab, "complete");
    assert.equal((await saved(tab)).length, 2);
    await holds(tab);
  });

  test("two tabs", async () => {
    const server = await serve("--demo-pace", "20ms");
    const first = await tabAt(server);
    await send(first, LONG);
    await begun(first, 10);
    const second = await tabAt(server, `#${sessionOf(first)}`);
    await begun(second, 10);
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    await send(second, "and now here");
    for (const tab of [first, second]) await tab.locator(".turn:nth-child(2)[data-state=complete]", { hasText: "and now here" }).waitFor();
    assert.equal((await saved(first)).length, 4);
    await holds(first, second);
  });

  test("offline and online again", async (each) => {
    const server = await serve("--demo-pace", "20ms");
    const network = await new Network().open(server.url);
    each.after(() => network.close());
    const tab = await tabAt(network);
    await send(tab, LONG);
    await begun(tab, 10);
    await page.context.setOffline(true);
    network.cut();
    await tab.locator("#network").waitFor();
    await page.context.setOffline(false);
    await ended(tab, "complete");
    await holds(tab);
  });

  test("the server is killed in the middle, and the agent's log is elsewhere: the answer goes on", async () => {
    const substrate = await start("substrate", "--log-level", "error", "--demo-pace", "20ms");
    const server = await serve("--substrate", substrate.url);
    const tab = await tabAt(server);
    await send(tab, LONG);
    await begun(tab, 10);
    await server.end();
    await tab.locator("#network", { hasText: "Connection lost" }).waitFor();
    await server.start();
    await ended(tab, "complete");
    assert.equal((await saved(tab)).length, 2);
    await holds(tab);
  });

  /** A question of the demo agent, by its title. */
  const question = (tab, title) => tab.getByRole("group", { name: title });
  const waits = (tab, title) => tab.locator(".question[data-state=pending]", { hasText: title }).waitFor();

  test("a question waits on two devices while the server is killed, is answered on one, and is at rest as it was", async () => {
    const substrate = await start("substrate", "--log-level", "error", "--demo-pace", "1ms");
    const server = await serve("--substrate", substrate.url);
    const first = await tabAt(server);
    await send(first, "please approve, then a form");
    await waits(first, "Count the words?");
    const second = await tabAt(server, `#${sessionOf(first)}`);
    await waits(second, "Count the words?");
    await server.end();
    await server.start();
    await second.reload();
    await waits(second, "Count the words?");
    await question(second, "Count the words?").getByRole("button", { name: "Approve" }).click();
    for (const tab of [first, second]) {
      await tab.locator(".question[data-state=answered]", { hasText: "Approved, by local" }).waitFor();
      await waits(tab, "Where shall the parcel go?");
    }
    const form = question(first, "Where shall the parcel go?");
    await form.getByLabel("Name").fill("Ada");
    await form.getByLabel("Floor").fill("99");
    await first.keyboard.press("Enter");
    await form.locator(".answer-field .wrong", { hasText: "must be at most 40" }).waitFor();
    await form.getByLabel("Floor").fill("3");
    await first.keyboard.press("Enter");
    await Promise.all([ended(first, "complete"), ended(second, "complete")]);
    const drawn = () => second.locator(".parts").evaluate((parts) => [...parts.children].map((part) => part.textContent));
    const live = await drawn();
    await second.reload();
    await ended(second, "complete");
    assert.deepEqual(await drawn(), live, "at rest it is drawn as it was live");
    assert.equal((await saved(first)).length, 2, "one agent ran, once");
    await holds(first, second);
  });

  test("a node that drains ends what waits, and the page says so", async () => {
    const substrate = await start("substrate", "--log-level", "error", "--grace", "500ms");
    const tab = await tabAt(await serve("--substrate", substrate.url));
    await send(tab, "please approve");
    await waits(tab, "Count the words?");
    await substrate.end("SIGTERM");
    await ended(tab, "failed");
    await tab.locator(".failure code", { hasText: "shutting_down" }).waitFor();
    await tab.locator(".question[data-state=over]", { hasText: "Not answered" }).waitFor();
    assert.equal(await tab.locator(".question button").count(), 0);
    assert.deepEqual(page.errors, []);
  });

  test("a message is sent into the answer, and is between its halves, live and at rest", async () => {
    const tab = await tabAt(await serve("--demo-pace", "60ms"));
    await send(tab, LONG);
    await begun(tab, 10);
    await tab.locator("#message").fill("be brief");
    await tab.locator("#send-now").click();
    await tab.locator(".input[data-state=taken] .bubble", { hasText: "be brief" }).waitFor();
    await ended(tab, "complete");
    const order = () => tab.locator(".parts > :is(.markdown, .input)").evaluateAll((parts) => parts.map(({ className }) => className));
    const live = await order();
    assert.deepEqual(live, ["markdown", "input", "markdown"]);
    await tab.reload();
    await ended(tab, "complete");
    assert.deepEqual(await order(), live);
    assert.deepEqual(page.errors, []);
  });

  test("the server is killed with the log in its memory: the failure is shown, and not covered up", async () => {
    const server = await serve();
    const tab = await tabAt(server);
    await send(tab, LONG);
    await begun(tab, 10);
    await server.end();
    await server.start();
    await ended(tab, "failed");
    await tab.locator(".failure code", { hasText: "execution_lost" }).waitFor();
    assert.ok((await tab.locator(".markdown").textContent()).split(" ").length >= 10, "what had arrived is still there");
    assert.equal((await saved(tab)).at(-1).error.code, "execution_lost");
    await tab.reload();
    await tab.locator(".failure code", { hasText: "execution_lost" }).waitFor();
    await holds(tab);
  });

  test("each user signs in with a token and has chats of their own", async () => {
    const tokens = join(page.directory, "tokens");
    await writeFile(tokens, "token-of-ann acme ann\ntoken-of-ben acme ben\n", { mode: 0o600 });
    const server = await serve("--demo-pace", "1ms", "--tokens", tokens);
    for (const user of ["ann", "ben"]) {
      const tab = await tabAt(server);
      await tab.locator("#sign-in[open]").waitFor();
      await tab.locator("#token").fill("token-of-nobody");
      await tab.locator("#token").press("Enter");
      await tab.locator("#sign-in-error", { hasText: "does not know" }).waitFor();
      await tab.locator("#token").fill(`token-of-${user}`);
      await tab.locator("#token").press("Enter");
      await tab.locator("#user", { hasText: user }).waitFor();
      await send(tab, `I am ${user}`);
      await ended(tab, "complete");
      await tab.locator("#sessions a[aria-current]", { hasText: user }).waitFor();
      assert.equal(await tab.locator("#sessions li").count(), 1);
      await tab.locator("#sign-out").click();
      await tab.locator("#sign-in[open]").waitFor();
      await tab.close();
    }
    assert.deepEqual(page.errors, []);
  });

  test("a path of the host: the page works there, and another path does not get its sign-in", async () => {
    const tokens = join(page.directory, "tokens");
    await writeFile(tokens, "token-of-ann acme ann\n", { mode: 0o600 });
    const server = await serve("--demo-pace", "1ms", "--tokens", tokens, "--base-path", "/tools/chat");
    assert.match(server.url, /\/tools\/chat\/$/);
    const tab = await openTab(page.context, server.url.slice(0, -1), page.errors);
    await tab.locator("#token").fill("token-of-ann");
    await tab.locator("#token").press("Enter");
    await tab.locator("#user", { hasText: "ann" }).waitFor();
    await send(tab, "hello there");
    await ended(tab, "complete");
    await tab.reload();
    await ended(tab, "complete");
    await tab.locator("#sessions a[aria-current]", { hasText: "hello there" }).waitFor();
    const cookies = (await page.context.cookies()).map(({ name, path }) => ({ name, path }));
    assert.deepEqual(cookies, [{ name: "turnkit", path: "/tools/chat" }]);
    assert.deepEqual(page.errors, []);
  });

  test("the agents that the server has are offered, and the one that is chosen answers", async () => {
    const agent = join(page.directory, "agent.mjs");
    await writeFile(agent, 'console.log(JSON.stringify({ type: "result", data: { finalText: "I am a program." } }));\n');
    const server = await serve("--agent", "demo,command", "--command", process.execPath, agent);
    const tab = await tabAt(server);
    await tab.locator("#agent").selectOption("command");
    await send(tab, "who are you?");
    await ended(tab, "complete");
    assert.equal((await saved(tab)).at(-1).text, "I am a program.");
    await holds(tab);
  });

  test("an answer with everything in it looks the same live, after a reload, in another browser, and when its log is gone", async (each) => {
    const server = await serve("--command", process.execPath, join(import.meta.dirname, "agent.mjs"));
    const tab = await tabAt(server);
    await send(tab, "what is there?");
    await ended(tab, "complete");
    const drawn = (tab) => tab.locator(".turn").evaluate((turn) => turn.outerHTML);
    const live = await drawn(tab);
    for (const kind of ["reasoning", "tool", "file", "source", "data", "warning", "markdown"]) assert.ok(live.includes(`class="${kind}"`), kind);
    assert.deepEqual(await tab.locator(".tool .status").allTextContents(), ["done", "failed", "unfinished"]);
    assert.match(await tab.locator("footer").innerText(), /Cut: the model came to its limit/);
    assert.equal(await tab.locator("footer").getAttribute("data-usage"), "test-model · 20 tokens in · 30 out · 1.2 s");
    assert.ok(await tab.locator(".file img").evaluate((image) => image.decode().then(() => image.naturalWidth === 1)), "a picture that came with the answer is shown");
    const look = async (tab) => {
      await ended(tab, "complete");
      assert.equal(await drawn(tab), live);
      await unfold(tab, ".tool", ".data");
      return tab.locator(".call").allInnerTexts();
    };
    const opened = await look(tab);
    assert.match(opened[1], /\{"command":"cat[^]*there is no such file/);
    await tab.reload();
    assert.deepEqual(await look(tab), opened);
    const path = `#${sessionOf(tab)}`;
    assert.deepEqual(await look(await elsewhere(each, server, path)), opened);
    await server.end();
    await server.start();
    await tab.reload();
    assert.deepEqual(await look(tab), opened);
    await holds(tab);
  });

  test("an answer that is had again and a message that is edited stay beside the others, for every browser", async () => {
    const server = await serve("--demo-pace", "1ms");
    const tab = await tabAt(server);
    await send(tab, "one");
    await ended(tab, "complete");
    await tab.getByRole("button", { name: "Answer again" }).click();
    await tab.locator(".turn[data-state=complete] .siblings", { hasText: "2/2" }).waitFor();
    await tab.locator(".user").getByRole("button", { name: "Edit" }).click();
    await tab.getByRole("textbox", { name: "Message" }).first().fill("another one");
    await tab.keyboard.press("Enter");
    await tab.locator(".turn[data-state=complete] .siblings", { hasText: "3/3" }).waitFor();
    await send(tab, "two");
    await tab.locator(".turn:nth-child(2)[data-state=complete]").waitFor();
    const other = await tabAt(server, `#${sessionOf(tab)}`);
    await other.locator(".siblings", { hasText: "3/3" }).waitFor();
    assert.deepEqual(await other.locator(".bubble").allTextContents(), ["another one", "two"]);
    await other.getByRole("button", { name: "Answer before" }).click();
    await other.locator(".siblings", { hasText: "2/3" }).waitFor();
    assert.deepEqual(await other.locator(".bubble").allTextContents(), ["one"]);
    assert.match(await other.locator(".markdown").textContent(), /You wrote: “one”/);
    await send(other, "from here");
    await other.locator(".turn:nth-child(2)[data-state=complete]", { hasText: "from here" }).waitFor();
    assert.deepEqual((await saved(other)).filter(({ role }) => role === "user").map(({ text }) => text), ["one", "from here"]);
    await holds(other);
  });

  test("messages that wait run in order although every page is closed and the server is killed", async () => {
    const substrate = await start("substrate", "--log-level", "error", "--demo-pace", "20ms");
    const server = await serve("--substrate", substrate.url);
    const tab = await tabAt(server);
    await send(tab, LONG);
    await begun(tab, 5);
    for (const message of ["first", "second", "third", "fourth"]) await send(tab, message);
    await tab.locator(".turn[data-state=queued]", { hasText: "Waits as number 4" }).waitFor();
    await tab.locator(".turn", { hasText: "second" }).getByRole("button", { name: "Remove" }).click();
    await tab.locator(".turn", { hasText: "second" }).waitFor({ state: "detached" });
    await tab.locator(".turn", { hasText: "fourth" }).getByRole("button", { name: "Edit" }).click();
    await tab.locator(".editor textarea").fill("edited");
    await tab.keyboard.press("Enter");
    await tab.locator(".turn[data-state=queued]", { hasText: "edited" }).waitFor();
    const path = `#${sessionOf(tab)}`;
    await tab.close();
    await server.end();
    await server.start();
    const later = await tabAt(server, path);
    await later.locator(".turn:nth-child(4)[data-state=complete]").waitFor();
    assert.deepEqual(await later.locator(".bubble").allTextContents(), [LONG, "first", "third", "edited"]);
    await holds(later);
  });

  test("a stop keeps what waits although every page is closed and the server is killed, and the next message starts it", async () => {
    const substrate = await start("substrate", "--log-level", "error", "--demo-pace", "20ms");
    const server = await serve("--substrate", substrate.url);
    const tab = await tabAt(server);
    await send(tab, LONG);
    await begun(tab, 5);
    for (const message of ["first", "second"]) await send(tab, message);
    await tab.locator(".turn[data-state=queued]", { hasText: "Waits as number 2" }).waitFor();
    await tab.keyboard.press("Escape");
    await tab.locator(".paused").waitFor();
    const path = `#${sessionOf(tab)}`;
    await tab.close();
    await server.end();
    await server.start();
    const later = await tabAt(server, path);
    await later.locator(".paused").waitFor();
    await send(later, "third");
    await later.locator(".turn:nth-child(4)[data-state=complete]").waitFor();
    assert.deepEqual(await later.locator(".bubble").allTextContents(), [LONG, "first", "second", "third"]);
    await holds(later);
  });

  test("two browsers and a terminal see each other's messages, answers and stops, and a deleted chat is gone in all", async (each) => {
    const server = await serve("--demo-pace", "20ms");
    const watching = await elsewhere(each, server);
    const tab = await tabAt(server);
    await send(tab, LONG);
    await watching.locator("#sessions a", { hasText: LONG }).click();
    await begun(watching, 5);
    const session = sessionOf(tab);
    const terminal = new Chat(server, "--watch", "--session", session);
    each.after(() => terminal.end());
    await terminal.shows(`> ${LONG}`);
    await terminal.shows("Part 1");
    await send(tab, "waits and goes");
    await watching.locator(".turn[data-state=queued]", { hasText: "waits and goes" }).getByRole("button", { name: "Remove" }).click();
    await tab.locator(".turn", { hasText: "waits and goes" }).waitFor({ state: "detached" });
    /** How long the others are behind whoever does something. It is told and not judged. */
    const late = async (what, act, ...seen) => {
      const began = performance.now();
      await act();
      const waits = await Promise.all(seen.map(async (wait) => (await wait(), Math.round(performance.now() - began))));
      each.diagnostic(`${what}: seen elsewhere after ${waits.join(" and ")} ms`);
    };
    const turn = (tab, number, state, text = "") => () => tab.locator(`.turn:nth-child(${number})[data-state=${state}]`, { hasText: text }).waitFor();
    await late("a stop of a browser", () => watching.keyboard.press("Escape"), turn(tab, 1, "stopped"), () => terminal.shows("cancelled"));
    await late("a message of a browser", () => send(watching, "and now here"), turn(tab, 2, "running", "and now here"), () => terminal.shows("> and now here"));
    for (const each of [tab, watching]) await turn(each, 2, "complete", "and now here")();
    const sent = [];
    const say = (message) => () => sent.push(new Chat(server, "--session", session, message));
    const [message, stop] = ["hello from the terminal", "is stopped there"];
    await late("a message of a terminal", say(message), turn(tab, 3, "running", message), turn(watching, 3, "running", message), () => terminal.shows(`> ${message}`));
    for (const each of [tab, watching]) await turn(each, 3, "complete", message)();
    await sent[0].ended;
    await say(`a long answer that ${stop}`)();
    await sent[1].shows("Part 1");
    const before = terminal.shown.length;
    await late("a stop of a terminal", () => sent[1].child.kill("SIGINT"), turn(tab, 4, "stopped", stop), turn(watching, 4, "stopped", stop), () => terminal.shows("cancelled", before));
    assert.deepEqual((await sent[1].ended)[0], 130);
    await holds(tab, watching);
    await tab.getByRole("button", { name: `Delete ${LONG}` }).press("Enter");
    await tab.locator("#delete[open]").getByRole("button", { name: "Delete" }).click();
    await watching.locator("#notice", { hasText: "deleted" }).waitFor();
    for (const each of [tab, watching]) await each.locator("#sessions li").waitFor({ state: "detached" });
    assert.deepEqual((await terminal.ended)[0], 0);
    assert.match(terminal.shown, /the session was deleted\n$/);
    assert.deepEqual(page.errors, []);
  });

  test("the developer's view shows attempts and hooks as they happen, and what a resumed one skipped", async () => {
    const tab = await tabAt(await serve("--demo-pace", "20ms"));
    await tab.locator("#developer-toggle").click();
    await send(tab, LONG);
    await tab.locator(".attempt[data-outcome=running] .kind", { hasText: "accepted" }).waitFor();
    await begun(tab, 10);
    await tab.reload();
    await tab.locator(".attempt:nth-child(2) .kind", { hasText: "resumed" }).waitFor();
    await ended(tab, "complete");
    const completed = tab.locator(".attempt[data-outcome=completed]", { hasText: "trace_flush" });
    await completed.nth(1).waitFor();
    const hooks = await completed.evaluateAll((attempts) => attempts.map((attempt) => [...attempt.querySelectorAll(".hook")].map(({ textContent }) => textContent)));
    const [first, ...rest] = hooks.sort((a, b) => b.length - a.length);
    assert.deepEqual(first, ["find_completed", "transform_final_text", "persist_assistant_message", "on_turn_complete", "trace_flush"], "of the one that saved the answer");
    assert.deepEqual(rest, [["find_completed", "transform_final_text", "persist_assistant_message", "trace_flush"]], "of the one that came second");
    await holds(tab);
  });

  test("an answer of 5,000 parts is whole, and one of 10,000", async (each) => {
    const substrate = await new ScriptedSubstrate((message) => words(Number(message))).start();
    each.after(() => substrate.stop());
    const server = await serve("--substrate", substrate.url);
    for (const parts of [5000, 10_000]) {
      const tab = await tabAt(server);
      const frames = await frameWatch(tab);
      await send(tab, `${parts}`);
      await ended(tab, "complete");
      const { milliseconds, longest, count } = await frames();
      each.diagnostic(`${parts} parts: ${milliseconds} ms in ${count} frames, of which the longest took ${longest} ms`);
      const answer = (await saved(tab)).at(-1).text;
      assert.equal(answer, words(parts).join(""));
      await holds(tab);
    }
    assert.equal(substrate.runs, 2);
  });
});

/** Watches the page's frames; what is given back tells of them. How long they took is told and not judged. */
async function frameWatch(tab) {
  await tab.evaluate(() => {
    const frames = (globalThis.framesSeen = [performance.now()]);
    const next = () => (frames.push(performance.now()), requestAnimationFrame(next));
    requestAnimationFrame(next);
  });
  return () =>
    tab.evaluate(() => {
      const gaps = globalThis.framesSeen.slice(1).map((at, index) => at - globalThis.framesSeen[index]);
      return { milliseconds: Math.round(globalThis.framesSeen.at(-1) - globalThis.framesSeen[0]), longest: Math.round(Math.max(...gaps)), count: gaps.length };
    });
}
