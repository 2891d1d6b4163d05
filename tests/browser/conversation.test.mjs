/** What a reader does with a conversation: answers had again, messages edited, and messages that wait. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { begun, ended, saved, send, sessionOf } from "./browser.mjs";
import { ScriptedPage } from "./suite.mjs";

describe("a conversation", { timeout: 600_000 }, () => {
  const page = ScriptedPage.ofSuite();

  const bubbles = (tab) => tab.locator(".turn .bubble").allTextContents();
  const siblings = (tab) => tab.locator(".siblings").allTextContents();

  /** An edit of the turn's message, by keyboard. */
  async function edit(tab, turn, message) {
    await tab.locator(`.turn:nth-child(${turn}) .user`).getByRole("button", { name: "Edit" }).press("Enter");
    await tab.getByRole("textbox", { name: "Message" }).first().fill(message);
    await tab.keyboard.press("Enter");
  }

  test("an answer is had again, both stay, and the reader turns between them by keyboard, also after a reload", async () => {
    const tab = await page.tab();
    page.scripts.hello = { deltas: ["the first answer"] };
    await send(tab, "hello");
    await ended(tab, "complete");
    page.scripts.hello = { deltas: ["the second answer"] };
    await tab.getByRole("button", { name: "Answer again" }).click();
    await tab.locator(".markdown", { hasText: "the second answer" }).waitFor();
    await tab.locator(".siblings", { hasText: "2/2" }).waitFor();
    assert.equal(await tab.locator(".turn").count(), 1);
    assert.equal(page.mock.sessions.get(sessionOf(tab))[1].parent, -1, "in the place of the first");
    await tab.reload();
    await tab.getByRole("group", { name: "Answer 2 of 2" }).waitFor();
    await tab.getByRole("button", { name: "Answer before" }).press("Enter");
    await tab.locator(".markdown", { hasText: "the first answer" }).waitFor();
    assert.deepEqual(await siblings(tab), ["‹1/2›"]);
    assert.equal(await tab.getByRole("button", { name: "Answer before" }).isDisabled(), true);
    await tab.locator("#announcer", { hasText: "Answer 1 of 2." }).waitFor({ state: "attached" });
    await tab.keyboard.press("Enter");
    await tab.locator(".markdown", { hasText: "the second answer" }).waitFor();
    assert.equal(await tab.locator(".turn").count(), 1);
    await page.holds(tab);
  });

  test("siblings that other clients have named in their own ways are turned to, in the order in which they came", async () => {
    const tab = await page.tab();
    page.scripts.hello = { deltas: ["the first answer"] };
    await send(tab, "hello");
    await ended(tab, "complete");
    const session = sessionOf(tab);
    const [first] = page.mock.sessions.get(session);
    for (const [turnId, answer] of [["another-name", "the second answer"], ["a:name", "the third answer"]]) {
      page.scripts.hello = { deltas: [answer] };
      await page.mock.begin(session, turnId, "hello", undefined, { replaces: first.turnId }).driven;
    }
    await tab.getByRole("group", { name: "Answer 3 of 3" }).waitFor();
    for (const [button, answer] of [["before", "second"], ["before", "first"], ["after", "second"], ["after", "third"]]) {
      await tab.getByRole("button", { name: `Answer ${button}` }).click();
      await tab.locator(".markdown", { hasText: `the ${answer} answer` }).waitFor();
    }
    await page.holds(tab);
  });

  test("a chat is named, archived and found again, in every tab", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    const other = await page.tab(`#${sessionOf(tab)}`);
    await other.locator("#sessions a", { hasText: "hello" }).waitFor();
    const edit = async (change) => {
      await tab.getByRole("button", { name: "Name or archive this chat" }).click();
      await change();
    };
    await edit(async () => {
      await tab.getByRole("textbox", { name: "Name" }).fill("About greetings");
      await tab.keyboard.press("Enter");
    });
    for (const each of [tab, other]) {
      await each.locator("#sessions a", { hasText: "About greetings" }).waitFor();
      await each.locator("#title", { hasText: "About greetings" }).waitFor();
    }
    await edit(async () => {
      await tab.getByRole("textbox", { name: "Name" }).fill("given up");
      await tab.keyboard.press("Escape");
    });
    await edit(async () => {
      await tab.getByRole("checkbox").check();
      await tab.getByRole("button", { name: "Save" }).click();
    });
    for (const each of [tab, other]) await each.locator("#sessions li").waitFor({ state: "detached" });
    assert.equal(await tab.locator("#title").textContent(), "About greetings", "it is still shown");
    await tab.getByRole("button", { name: "Archived chats" }).click();
    await tab.locator("#sessions a", { hasText: "About greetings" }).waitFor();
    await edit(async () => {
      await tab.getByRole("checkbox").uncheck();
      await tab.getByRole("button", { name: "Save" }).click();
    });
    await tab.locator("#sessions li").waitFor({ state: "detached" });
    await other.locator("#sessions a", { hasText: "About greetings" }).waitFor();
    await page.holds(tab, other);
  });

  test("a message is edited: what came after it stays on its branch, and goes on from there", async () => {
    const tab = await page.tab();
    for (const message of ["one", "two", "three"]) {
      await send(tab, message);
      await ended(tab, "complete");
    }
    await edit(tab, 2, "another two");
    await tab.locator(".turn:nth-child(2)[data-state=complete]", { hasText: "another two" }).waitFor();
    await tab.locator(".siblings", { hasText: "2/2" }).waitFor();
    assert.deepEqual(await bubbles(tab), ["one", "another two"]);
    await tab.getByRole("button", { name: "Answer before" }).click();
    await tab.locator(".turn:nth-child(3)", { hasText: "three" }).waitFor();
    assert.deepEqual(await bubbles(tab), ["one", "two", "three"]);
    await send(tab, "four");
    await tab.locator(".turn:nth-child(4)[data-state=complete]").waitFor();
    assert.deepEqual(await bubbles(tab), ["one", "two", "three", "four"]);
    const turns = page.mock.sessions.get(sessionOf(tab));
    assert.deepEqual(turns.map(({ message, parent }) => [message, turns[parent]?.message]), [
      ["one", undefined],
      ["two", "one"],
      ["three", "two"],
      ["another two", "one"],
      ["four", "three"],
    ]);
    await page.holds(tab);
  });

  test("an edit that is given up changes nothing, and nothing can be put in the place of a turn while another runs", async () => {
    const tab = await page.tab();
    await send(tab, "hello");
    await ended(tab, "complete");
    await tab.locator(".user").getByRole("button", { name: "Edit" }).click();
    await tab.getByRole("textbox", { name: "Message" }).first().fill("changed my mind");
    await tab.keyboard.press("Escape");
    assert.deepEqual(await bubbles(tab), ["hello"]);
    assert.equal(await tab.evaluate(() => document.activeElement.textContent), "Edit");
    await send(tab, "gated");
    await begun(tab, 20);
    assert.deepEqual(await tab.locator(".turn:first-child .actions button").evaluateAll((buttons) => buttons.map(({ disabled }) => disabled)), [true, true]);
    page.open();
    await ended(tab, "complete");
    await page.holds(tab);
  });

  test("messages that are sent during an answer wait, each is edited or taken back, and they run in order", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    for (const message of ["first", "second", "third"]) await send(tab, message);
    await tab.locator(".turn[data-state=queued]", { hasText: "Waits as number 3" }).waitFor();
    assert.equal(await tab.locator("#message").inputValue(), "");
    await edit(tab, 2, "edited first");
    await tab.locator(".turn", { hasText: "second" }).getByRole("button", { name: "Remove" }).click();
    await tab.locator(".turn:nth-child(3)", { hasText: "Waits as number 2" }).waitFor();
    const other = await page.tab(`#${sessionOf(tab)}`);
    await other.locator(".turn[data-state=queued]").nth(1).waitFor();
    assert.deepEqual(await bubbles(other), ["gated", "edited first", "third"]);
    page.open();
    for (const each of [tab, other]) await each.locator(".turn:nth-child(3)[data-state=complete]").waitFor();
    assert.deepEqual((await saved(tab)).filter(({ role }) => role === "user").map(({ text }) => text), ["gated", "edited first", "third"]);
    await page.holds(tab, other);
  });

  test("a stop keeps what waits, says so, and the next message starts it", async () => {
    const tab = await page.tab();
    await send(tab, "gated");
    await begun(tab, 20);
    await send(tab, "waiting");
    await tab.getByRole("button", { name: "Remove" }).waitFor();
    await tab.keyboard.press("Escape");
    await tab.locator(".paused").waitFor();
    await tab.reload();
    await tab.locator(".turn[data-state=queued]", { hasText: "waiting" }).waitFor();
    await tab.locator(".paused").waitFor();
    await send(tab, "go on");
    await tab.locator(".turn:nth-child(3)[data-state=complete]", { hasText: "go on" }).waitFor();
    assert.equal(await tab.locator(".paused").count(), 0);
    assert.deepEqual((await saved(tab)).filter(({ role }) => role === "user").map(({ text }) => text), ["gated", "waiting", "go on"]);
    await page.holds(tab);
  });
});
