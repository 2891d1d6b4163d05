/** What an agent asks, in the published clients: answered in one, continued in another, after a reload in the middle. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { HttpAgent } from "@ag-ui/client";
import { AI, calm, plain } from "./clients.mjs";
import { Stage, quiet, until } from "./stage.mjs";

let stage;
const name = (what) => stage.name(what);
const api = (version) => `${stage.proxy.url}/api/chat?ai=${version}`;
const saved = (id, version) => stage.json(`/api/chat/${id}?ai=${version}`);

before(async () => void (stage = await new Stage().open()));
after(() => stage?.close());

describe("the AI SDK", { timeout: 300_000 }, () => {
  function chatOf(version, id, options = {}) {
    const { Chat, DefaultChatTransport } = AI[version];
    return new Chat({ id, transport: new DefaultChatTransport({ api: api(version) }), ...options });
  }

  /** A client that was loaded again has the user's message, and is told the turn up to the question. */
  async function loadedAgain(version, chat, options) {
    const loaded = chatOf(version, chat.id, { messages: chat.messages.slice(0, 1), ...options });
    await loaded.resumeStream();
    assert.deepEqual(plain(loaded.messages), plain(chat.messages));
    return loaded;
  }

  const settled = (chat, text) => until(() => chat.status === "ready" && chat.messages[1].parts.at(-1).text === text, text);

  for (const version of [6, 7]) {
    const { lastAssistantMessageIsCompleteWithApprovalResponses, lastAssistantMessageIsCompleteWithToolCalls } = AI[version];

    /** Of an approval version 6 is told nothing: who has given it knows. */
    const known = (chat) => plain(chat.messages).map(({ parts, ...message }) => ({ ...message, parts: parts.map(({ approval, ...part }) => (version === 6 ? part : { ...part, approval })) }));

    for (const [approved, text] of [[true, "Done."], [false, "Not done: declined."]]) {
      test(`version ${version}: an approval that is ${approved ? "given" : "refused"} after a reload, and another tab that comes too late`, async () => {
        const options = { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses };
        const first = chatOf(version, name(), options);
        await first.sendMessage({ text: "asks" });
        assert.equal(first.status, "ready", first.error?.stack);
        assert.deepEqual(first.messages[1].parts.map(({ state }) => state), [undefined, "approval-requested"]);
        const loaded = await loadedAgain(version, first, options);
        await loaded.addToolApprovalResponse({ id: "may", approved });
        await settled(loaded, text);
        assert.deepEqual(known(loaded), known({ messages: await saved(first.id, version) }));
        await first.addToolApprovalResponse({ id: "may", approved: !approved });
        await settled(first, text);
        if (version === 7) assert.deepEqual(plain(first.messages), await saved(first.id, version));
        else assert.deepEqual(first.messages[1].parts.at(1).output, approved ? "gone" : undefined);
      });
    }

    test(`version ${version}: a tool that the client runs, after a reload`, async () => {
      const options = { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls };
      const calls = [];
      const first = chatOf(version, name(), { ...options, onToolCall: ({ toolCall }) => void calls.push(toolCall) });
      await first.sendMessage({ text: "locates" });
      assert.deepEqual(calls.map(({ toolName, input }) => [toolName, input]), [["location", { exact: false }]]);
      const loaded = await loadedAgain(version, first, options);
      await loaded.addToolOutput({ tool: "location", toolCallId: "call_w", output: { city: "Graz" } });
      await settled(loaded, 'accepted {"city":"Graz"}');
      const [, answer] = await saved(first.id, version);
      const text = (message) => message.parts.filter(({ type }) => type === "text").map(({ text }) => text);
      assert.deepEqual(text(plain(loaded.messages[1])), text(answer));
      assert.deepEqual(loaded.messages[1].parts.find(({ toolCallId }) => toolCallId === "call_w").output, { city: "Graz" });
    });
  }

  test("version 7: a question with options is a part of its own, and its run is resumed by its own name", async () => {
    const { lastAssistantMessageIsCompleteWithToolCalls: isComplete } = AI[7];
    const runs = [];
    const fetched = async (url, init) => {
      const response = await fetch(url, init);
      runs.push(response.headers.get("x-workflow-run-id"));
      return response;
    };
    const { DefaultChatTransport } = AI[7];
    const chat = chatOf(7, name(), { sendAutomaticallyWhen: isComplete, transport: new DefaultChatTransport({ api: api(7), fetch: fetched }) });
    await chat.sendMessage({ text: "chooses" });
    const part = chat.messages[1].parts.at(-1);
    assert.deepEqual([part.toolCallId, part.input.options.length], ["interaction:which", 2]);
    await chat.addToolOutput({ tool: part.toolName, toolCallId: part.toolCallId, output: { option: "b" } });
    await settled(chat, "It is b.");
    const [, { parts }] = await saved(chat.id, 7);
    // An output takes the approval from the part that is answered.
    assert.deepEqual(plain(chat.messages[1]).parts, parts.map(({ approval, ...part }) => part));
    const [whole, rest] = runs;
    assert.ok(rest.startsWith(`${whole}.`) && Number(rest.slice(whole.length + 1)) > 0, rest);
    const again = async (query) => (await (await fetch(`${stage.proxy.url}/api/chat/${rest}/stream${query}`)).text()).split("\n\n").filter(Boolean);
    const [all, later] = [await again(""), await again("?startIndex=2")];
    assert.match(all[0], /^id: 1\ndata: {"type":"start"/);
    assert.deepEqual(later, all.slice(2));
  });

  test("version 5: a question is a tool that the client runs", async () => {
    const { lastAssistantMessageIsCompleteWithToolCalls: isComplete } = AI[5];
    for (const [result, text] of [[{ output: { outcome: "accepted" } }, "Done."], [{ output: { approved: false } }, "Not done: declined."], [{ state: "output-error", errorText: "no" }, "Not done: declined."]]) {
      const chat = chatOf(5, name(), { sendAutomaticallyWhen: isComplete });
      await chat.sendMessage({ text: "asks" });
      const part = chat.messages[1].parts.at(-1);
      assert.equal(part.toolCallId, "interaction:may");
      await chat.addToolResult({ tool: part.toolName, toolCallId: part.toolCallId, ...result });
      await settled(chat, text);
    }
  });

  test("a client of the routes alone: an answer that does not fit is refused, with its place", async () => {
    const chat = chatOf(7, name());
    await chat.sendMessage({ text: "chooses" });
    const messages = plain(chat.messages);
    Object.assign(messages[1].parts.at(-1), { state: "output-available", output: { option: "c" } });
    const post = () => fetch(api(7), { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ id: chat.id, messages, trigger: "submit-message" }) });
    const refused = await post();
    assert.equal(refused.status, 422);
    assert.equal((await refused.json()).error.field, "data.option");
    messages[1].parts.at(-1).output = { option: "a" };
    assert.match(await (await post()).text(), /It is a\./);
  });
});

describe("AG-UI", { timeout: 300_000 }, () => {
  const agentOf = (threadId, initialMessages) => new HttpAgent({ url: `${stage.proxy.url}/api/ag-ui`, threadId, initialMessages, fetch: calm });
  const thread = (id) => stage.json(`/api/ag-ui?threadId=${id}`);

  /** A run, and how it ended. */
  async function run(agent, parameters = {}) {
    let ended;
    await agent.runAgent({ runId: name("run"), ...parameters }, { onRunFinishedEvent: ({ event }) => void (ended = event.outcome) });
    return ended;
  }

  async function asked(text) {
    const agent = agentOf(name("thread"));
    agent.addMessage({ id: name("u"), role: "user", content: text });
    const outcome = await run(agent);
    assert.equal(outcome.type, "interrupt");
    return { agent, interrupts: outcome.interrupts };
  }

  test("an interrupt is resumed after a reload, and a second tab is not stuck", async () => {
    const { agent, interrupts } = await asked("asks");
    const { messages, interrupts: waiting } = await thread(agent.threadId);
    assert.deepEqual(waiting, interrupts);
    assert.equal(interrupts[0].id, "may");
    assert.ok(agent.messages.some(({ toolCalls }) => toolCalls?.[0].id === interrupts[0].toolCallId));
    const loaded = agentOf(agent.threadId, messages);
    const resume = (approved) => ({ resume: [{ interruptId: "may", status: "resolved", payload: { approved } }] });
    assert.equal((await run(loaded, resume(true))).type, "success");
    const expected = (await thread(agent.threadId)).messages;
    assert.deepEqual(plain(loaded.messages), expected);
    assert.equal(expected.at(-1).content, "Done.");
    assert.equal((await run(agent, resume(false))).type, "success");
    assert.deepEqual(plain(agent.messages), expected);
    assert.deepEqual((await thread(agent.threadId)).interrupts, []);
  });

  test("a run that goes on behind an answer and is cut goes on under its own id, also for a client that was loaded again and has no answer", async () => {
    const resume = [{ interruptId: "may", status: "resolved", payload: { approved: true } }];
    for (const isLoaded of [false, true]) {
      const { agent } = await asked("asks");
      const runId = name("run");
      stage.proxy.cuts = [3];
      await quiet(() => assert.rejects(run(agent, { runId, resume })));
      const again = isLoaded ? agentOf(agent.threadId, plain(agent.messages)) : agent;
      assert.equal((await run(again, isLoaded ? { runId } : { runId, resume })).type, "success");
      const joined = await fetch(`${stage.proxy.url}/api/ag-ui?runId=${runId}&offset=-1`);
      assert.match(await joined.text(), new RegExp(`"runId":"${runId}"[^]*"RUN_FINISHED"`));
      const { messages, interrupts } = await thread(agent.threadId);
      assert.deepEqual(plain(again.messages), messages);
      assert.deepEqual([messages.filter(({ role }) => role === "user").length, interrupts], [1, []]);
    }
  });

  test("who refuses and who cancels is heard, and what nobody asked stops nothing", async () => {
    for (const [entry, text] of [[{ status: "resolved", payload: { approved: false } }, "Not done: declined."], [{ status: "cancelled" }, "Not done: cancelled."]]) {
      const { agent } = await asked("asks");
      await run(agent, { resume: [{ interruptId: "nobody", status: "cancelled" }, { interruptId: "may", ...entry }] });
      assert.equal(agent.messages.at(-1).content, text);
    }
  });

  test("a tool that the client runs is answered by a run that resumes, or by its message", async () => {
    const { agent } = await asked("locates");
    assert.equal((await run(agent, { resume: [{ interruptId: "where", status: "resolved", payload: { city: "Graz" } }] })).type, "success");
    assert.equal(agent.messages.at(-1).content, 'accepted {"city":"Graz"}');
    assert.deepEqual(plain(agent.messages), (await thread(agent.threadId)).messages);
    // Clients that know no interrupts bring it as a message.
    const { agent: other, interrupts } = await asked("locates");
    const messages = [...plain(other.messages), { id: name("m"), role: "tool", toolCallId: interrupts[0].toolCallId, content: "Graz, I think" }];
    const body = JSON.stringify({ threadId: other.threadId, runId: name("run"), messages, tools: [], context: [], state: {}, forwardedProps: {} });
    const response = await fetch(`${stage.proxy.url}/api/ag-ui`, { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.match(await response.text(), /accepted \\"Graz, I think\\"/);
  });
});
