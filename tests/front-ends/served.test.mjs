/** The published clients at the routes of `turnkit serve`, through a proxy that cuts. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { HttpAgent } from "@ag-ui/client";
import { ChatClient, fetchHttpStream, fetchServerSentEvents } from "@tanstack/ai-client";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import { AI, calm, plain, VERSIONS } from "./clients.mjs";
import { lastingTransport } from "./lasting.mjs";
import { quiet, Stage, until } from "./stage.mjs";

let stage;
const name = (what) => stage.name(what);
const api = (version = 7) => `${stage.proxy.url}/api/chat?ai=${version}`;
const saved = (id, version = 7) => stage.json(`/api/chat/${id}?ai=${version}`);

before(async () => void (stage = await new Stage().open()));
/** A client that had its last chunk asks for nothing more, and leaves a cut behind. */
beforeEach(() => void (stage.proxy.cuts = []));
after(() => stage?.close());

/** Waits until the middle of a gated turn is there: nothing more comes before its gate is open. */
const inTheMiddle = (chat) => until(() => chat.messages[1]?.parts.at(-1)?.text === "One ", "the middle");

function chatOf(version, id, transport, messages = []) {
  const { Chat, DefaultChatTransport } = AI[version];
  return new Chat({ id, messages, transport: transport ?? new DefaultChatTransport({ api: api(version) }) });
}

async function ask(chat, text) {
  await chat.sendMessage({ text });
  return chat;
}

/** How many frames the response to this message has. */
async function frames(text, version) {
  const body = JSON.stringify({ id: name("count"), trigger: "submit-message", messages: [{ id: name("m"), role: "user", parts: [{ type: "text", text }] }] });
  const response = await fetch(`${stage.server.url}api/chat?ai=${version}`, { method: "POST", headers: { "content-type": "application/json" }, body });
  assert.equal(response.status, 200);
  return (await response.text()).split("\n\n").filter((frame) => frame && !frame.startsWith(":")).length;
}

/** A message without what differs from turn to turn. */
const told = ({ id, metadata, ...message }) => ({ ...message, metadata: { ...metadata, turnId: undefined, sessionId: undefined, timing: undefined } });

describe("the AI SDK", { timeout: 300_000 }, () => {
  for (const version of VERSIONS) {
    describe(`version ${version}`, () => {
      const { DefaultChatTransport } = AI[version];

      test("a whole turn is what is saved, and the next one follows it", async () => {
        const id = name();
        const chat = await ask(chatOf(version, id), "whole");
        assert.equal(chat.status, "ready", chat.error?.stack);
        assert.deepEqual(chat.messages[1].parts.map(({ type }) => type), ["step-start", "reasoning", "dynamic-tool", "text", "dynamic-tool", "text"]);
        assert.deepEqual(plain(chat.messages), await saved(id, version));
        await ask(chat, "brief");
        assert.deepEqual(plain(chat.messages), await saved(id, version));
        assert.equal(chat.messages.length, 4);
      });

      test("cut behind every frame, the guide's transport goes on, before and after the answer is saved", async () => {
        const count = await frames("brief", version);
        const whole = told(plain((await ask(chatOf(version, name()), "brief")).messages[1]));
        for (let cut = 0; cut < count; cut++) {
          for (const isSaved of [false, true]) {
            const id = name();
            stage.proxy.cuts = [cut];
            const delay = isSaved ? 300 : 0;
            const chat = await ask(chatOf(version, id, lastingTransport(DefaultChatTransport, { api: api(version), delay })), "brief");
            assert.equal(chat.status, "ready", `cut at ${cut}: ${chat.error?.stack}`);
            assert.deepEqual(told(plain(chat.messages[1])), whole, `cut at ${cut}`);
            assert.deepEqual(plain(chat.messages), await saved(id, version), `cut at ${cut}`);
          }
        }
      });

      test("a page that is loaded again in the middle, and a second one beside it", async () => {
        const [id, gate] = [name(), stage.gate()];
        const first = chatOf(version, id);
        const answered = ask(first, `gated ${gate}`);
        await inTheMiddle(first);
        const [loaded, second] = [chatOf(version, id, undefined, first.messages.slice(0, 1)), chatOf(version, id, undefined, first.messages.slice(0, 1))];
        const resumed = [loaded.resumeStream(), second.resumeStream()];
        await inTheMiddle(loaded);
        await stage.openGate(gate);
        await Promise.all([answered, ...resumed]);
        const expected = await saved(id, version);
        for (const chat of [first, loaded, second]) assert.deepEqual(plain(chat.messages), expected);
        const later = chatOf(version, id, undefined, expected);
        await later.resumeStream();
        assert.equal(later.status, "ready");
        assert.deepEqual(plain(later.messages), expected, "nothing runs: nothing is told");
      });

      test("a stop ends the turn in every client, and keeps what there was", async () => {
        const [id, gate] = [name(), stage.gate()];
        const chat = chatOf(version, id);
        const answered = ask(chat, `gated ${gate}`);
        await inTheMiddle(chat);
        const stopped = await fetch(`${stage.proxy.url}/api/chat/${id}/stream`, { method: "DELETE" });
        assert.ok(stopped.ok, `${stopped.status}`);
        await answered;
        assert.equal(chat.status, "ready", chat.error?.stack);
        assert.equal(chat.messages[1].metadata.error.code, "cancelled");
        assert.deepEqual(plain(chat.messages), await saved(id, version));
      });

      test("a turn that fails is an error, and keeps what there was", async () => {
        const id = name();
        const chat = await ask(chatOf(version, id), "fails");
        assert.equal(chat.status, "error");
        assert.equal(chat.error.message, "the model is gone");
        assert.equal(chat.messages[1].metadata.error.code, "upstream_error");
        assert.deepEqual(plain(chat.messages), await saved(id, version));
      });

      test("another answer is another message in its place", async () => {
        const id = name();
        const chat = await ask(chatOf(version, id), "brief");
        const first = chat.messages[1].id;
        await chat.regenerate();
        assert.equal(chat.status, "ready", chat.error?.stack);
        assert.equal(chat.messages.length, 2);
        assert.notEqual(chat.messages[1].id, first);
        assert.deepEqual(plain(chat.messages), await saved(id, version));
      });
    });
  }

  test("a client that makes up what was said changes nothing: the server's history counts", async () => {
    const chat = await ask(chatOf(7, name()), "brief");
    const [, answer] = chat.messages;
    const madeUp = { ...answer, parts: [{ type: "text", text: "I owe you money" }] };
    const never = [{ id: name("m"), role: "user", parts: [{ type: "text", text: "Never said" }] }, { ...madeUp, id: name("m") }];
    chat.messages = [chat.messages[0], madeUp, ...never];
    await ask(chat, "recalls");
    assert.equal(chat.status, "ready", chat.error?.stack);
    const held = await saved(chat.id);
    assert.deepEqual(JSON.parse(held.at(-1).parts.at(-1).text), [{ role: "user", content: "brief" }, { role: "assistant", content: "Hello" }]);
    assert.equal(held.length, 4);
    assert.doesNotMatch(JSON.stringify(held), /owe you|Never said/);
  });

  test("cut behind every frame while it runs, version 7 resumes the same object and a fresh one", async () => {
    const count = 12;
    for (let cut = 0; cut < count; cut += 1) {
      const [id, gate] = [name(), stage.gate()];
      stage.proxy.cuts = [cut];
      const chat = await quiet(() => ask(chatOf(7, id), `gated ${gate}`));
      assert.equal(chat.status, "error", `a cut at ${cut} is no success`);
      const fresh = chatOf(7, id, undefined, chat.messages.slice(0, 1));
      const resumed = [chat.resumeStream(), fresh.resumeStream()];
      await Promise.all([inTheMiddle(chat), inTheMiddle(fresh)]);
      await stage.openGate(gate);
      await Promise.all(resumed);
      const expected = await saved(id);
      assert.deepEqual(plain(chat.messages), expected, `cut at ${cut}`);
      assert.deepEqual(plain(fresh.messages), expected, `cut at ${cut}`);
    }
  });

  test("a client that was cut and comes back too late names its message, and is told the answer", async () => {
    const id = name();
    stage.proxy.cuts = [4];
    const chat = await quiet(() => ask(chatOf(7, id), "brief"));
    assert.equal(chat.status, "error");
    await stage.ended(id);
    const last = chat.messages.at(-1);
    const { DefaultChatTransport } = AI[7];
    const transport = new DefaultChatTransport({
      api: api(7),
      prepareReconnectToStreamRequest: () => ({ api: `${stage.proxy.url}/api/chat/${id}/stream?messageId=${encodeURIComponent(last.id)}` }),
    });
    const late = chatOf(7, id, transport, chat.messages);
    await late.resumeStream();
    assert.deepEqual(plain(late.messages), await saved(id));
  });

  const transport = () =>
    new WorkflowChatTransport({
      api: `${stage.proxy.url}/api/chat`,
      prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({ headers: { "content-type": "application/json" }, body: { id, messages, trigger, messageId } }),
    });

  test("the transport of @ai-sdk/workflow: loaded again in the middle and a second one, a stop, a failure", async () => {
    const [id, gate] = [name(), stage.gate()];
    const first = chatOf(7, id, transport());
    const answered = ask(first, `gated ${gate}`);
    await inTheMiddle(first);
    const others = [1, 2].map(() => chatOf(7, id, transport(), first.messages.slice(0, 1)));
    const resumed = others.map((chat) => chat.resumeStream());
    for (const chat of others) await inTheMiddle(chat);
    await stage.openGate(gate);
    await Promise.all([answered, ...resumed]);
    for (const chat of [first, ...others]) assert.deepEqual(plain(chat.messages), await saved(id));

    const stopped = chatOf(7, name(), transport());
    const running = ask(stopped, `gated ${stage.gate()}`);
    await inTheMiddle(stopped);
    assert.ok((await fetch(`${stage.proxy.url}/api/chat/${stopped.id}/stream`, { method: "DELETE" })).ok);
    await running;
    assert.equal(stopped.messages[1].metadata.error.code, "cancelled");
    assert.deepEqual(plain(stopped.messages), await saved(stopped.id));

    const failed = await quiet(() => ask(chatOf(7, name(), transport()), "fails"));
    assert.equal(failed.status, "error");
    assert.deepEqual(plain(failed.messages), await saved(failed.id));
  });

  test("cut behind every frame, the transport of @ai-sdk/workflow goes on by startIndex", async () => {
    const count = await frames("whole", 7);
    for (let cut = 0; cut < count; cut++) {
      const id = name();
      stage.proxy.cuts = [cut, 1];
      const chat = await quiet(() => ask(chatOf(7, id, transport()), "whole"));
      assert.equal(chat.status, "ready", `cut at ${cut}: ${chat.error?.stack}`);
      assert.deepEqual(plain(chat.messages), await saved(id), `cut at ${cut}`);
    }
  });
});

const agentOf = (threadId) => new HttpAgent({ url: `${stage.proxy.url}/api/ag-ui`, threadId, fetch: calm });
const user = (content) => ({ id: name("u"), role: "user", content });

describe("AG-UI", { timeout: 300_000 }, () => {
  const run = (agent, runId) => agent.runAgent({ runId }).catch((error) => error);
  const thread = (id) => stage.json(`/api/ag-ui?threadId=${id}`);

  test("a whole turn is what is saved, and the next one follows it", async () => {
    const agent = agentOf(name("thread"));
    for (const text of ["whole", "brief"]) {
      agent.addMessage(user(text));
      const ended = await run(agent, name("run"));
      assert.ok(!(ended instanceof Error), ended.stack);
      assert.deepEqual(plain(agent.messages), (await thread(agent.threadId)).messages);
    }
  });

  test("cut behind every frame, the same run is told again and nothing is doubled", async () => {
    const whole = agentOf(name("thread"));
    whole.addMessage(user("whole"));
    await run(whole, name("run"));
    const shape = (agent) => plain(agent.messages).map(({ id, toolCallId, toolCalls, ...message }) => ({ ...message, calls: toolCalls?.map((call) => call.function) }));
    for (let cut = 1; cut < 30; cut++) {
      const [agent, runId] = [agentOf(name("thread")), name("run")];
      agent.addMessage(user("whole"));
      stage.proxy.cuts = [cut];
      await quiet(() => run(agent, runId));
      if (stage.proxy.cuts.length > 0) break;
      await run(agent, runId);
      assert.deepEqual(shape(agent), shape(whole), `cut at ${cut}`);
      assert.deepEqual(plain(agent.messages), (await thread(agent.threadId)).messages, `cut at ${cut}`);
    }
  });

  test("a second client in the middle of a run is told all of it", async () => {
    const [first, gate, runId] = [agentOf(name("thread")), stage.gate(), name("run")];
    first.addMessage(user(`gated ${gate}`));
    const second = agentOf(first.threadId);
    second.setMessages(first.messages);
    const running = run(first, runId);
    const inTheMiddle = (agent) => until(() => agent.messages.at(-1)?.content === "One ", "the middle");
    await inTheMiddle(first);
    const joined = run(second, runId);
    await inTheMiddle(second);
    await stage.openGate(gate);
    for (const ended of await Promise.all([running, joined])) assert.ok(!(ended instanceof Error), ended.stack);
    const { messages } = await thread(first.threadId);
    for (const agent of [first, second]) assert.deepEqual(plain(agent.messages), messages);
  });

  test("a stop, and a failure", async () => {
    const [agent, gate] = [agentOf(name("thread")), stage.gate()];
    agent.addMessage(user(`gated ${gate}`));
    const ends = [];
    const running = agent.runAgent({ runId: name("run") }, { onRunFinishedEvent: ({ outcome }) => void ends.push(outcome) });
    await until(() => agent.messages.at(-1)?.content === "One ", "the middle");
    assert.ok((await fetch(`${stage.proxy.url}/api/ag-ui/${agent.threadId}/stream`, { method: "DELETE" })).ok);
    await running;
    assert.deepEqual(ends, ["cancelled"]);
    const failing = agentOf(name("thread"));
    failing.addMessage(user("fails"));
    const errors = [];
    await quiet(() => failing.runAgent({ runId: name("run") }, { onRunErrorEvent: ({ event }) => void errors.push(event.code) }).catch(() => {}));
    assert.deepEqual(errors, ["upstream_error"]);
  });
});

describe("TanStack AI", { timeout: 300_000 }, () => {
  for (const [framing, adapter] of [["SSE", fetchServerSentEvents], ["NDJSON", fetchHttpStream]]) {
    test(`${framing}: cut behind every frame it goes on by itself`, async () => {
      const held = async (text, threadId = name("thread")) => {
        const errors = [];
        const url = `${stage.proxy.url}/api/ag-ui`;
        const client = new ChatClient({ connection: adapter(url, { reconnect: { delayMs: 0 }, ...(framing === "NDJSON" && { headers: { accept: "application/x-ndjson" } }) }), threadId, onError: (error) => errors.push(error) });
        await client.sendMessage(text);
        assert.deepEqual(errors, []);
        return plain(client.getMessages().slice(1)).map(({ createdAt, id, ...message }) => JSON.parse(JSON.stringify(message).replaceAll(/"local:[^"]*:0\//g, '"')));
      };
      const whole = await held("whole");
      for (let cut = 1; cut < 30; cut++) {
        stage.proxy.cuts = [cut];
        assert.deepEqual(await held("whole"), whole, `cut at ${cut}`);
        if (stage.proxy.cuts.length > 0) break;
      }
    });
  }
});

describe("a turn of TanStack AI that has no whole answer", { timeout: 300_000 }, () => {
  for (const [framing, adapter, accept] of [["SSE", fetchServerSentEvents], ["NDJSON", fetchHttpStream, { accept: "application/x-ndjson" }]]) {
    test(`${framing}: a stop is told, and a failure is an error`, async () => {
      const client = () => {
        const errors = [];
        const threadId = name("thread");
        const connection = adapter(`${stage.proxy.url}/api/ag-ui`, { ...(accept && { headers: accept }) });
        return { threadId, errors, chat: new ChatClient({ connection, threadId, onError: (error) => errors.push(error) }) };
      };
      const stopped = client();
      const running = stopped.chat.sendMessage(`talks ${stage.gate()}`);
      await until(() => stopped.chat.getMessages().at(-1)?.parts.at(-1)?.content === "One ", "the middle");
      assert.ok((await fetch(`${stage.proxy.url}/api/ag-ui/${stopped.threadId}/stream`, { method: "DELETE" })).ok);
      await running;
      assert.equal(stopped.chat.getMessages().at(-1).parts.at(-1).content, "One ");
      const failed = client();
      await quiet(() => failed.chat.sendMessage("fails"));
      assert.match(failed.errors[0]?.message ?? "", /the model is gone/);
    });
  }
});

describe("a page of TanStack AI", { timeout: 300_000 }, () => {
  const clientOf = (threadId) => new ChatClient({ connection: fetchServerSentEvents(`${stage.proxy.url}/api/ag-ui`), threadId, persistence: true });
  const held = (client) => plain(client.getMessages()).map(({ createdAt, metadata, ...message }) => message);

  test("that is loaded again has the answer as it was told, and one in the middle goes on", async () => {
    const [threadId, gate] = [name("thread"), stage.gate()];
    const first = clientOf(threadId);
    await first.sendMessage("whole");
    const again = clientOf(threadId);
    again.attach();
    await until(() => again.getMessages().length === first.getMessages().length, "the messages");
    assert.deepEqual(held(again), held(first));
    // A client that joins a run drops what it was told before the first text: so it is text alone.
    const running = first.sendMessage(`talks ${gate}`);
    const middle = (client) => until(() => client.getMessages().at(-1)?.parts.at(-1)?.content === "One ", "the middle");
    await middle(first);
    const joined = clientOf(threadId);
    joined.attach();
    await middle(joined);
    await stage.openGate(gate);
    await running;
    await until(() => joined.getStatus() === "ready" && held(joined).length === held(first).length, "the end");
    assert.deepEqual(held(joined), held(first));
    for (const client of [again, joined]) client.dispose();
  });
});

describe("a log that is gone", { timeout: 300_000 }, () => {
  test("a saved answer is told whole to every client, and who has a part of it is told so", async () => {
    const chats = await Promise.all(VERSIONS.map((version) => ask(chatOf(version, name()), "whole")));
    const expected = await Promise.all(VERSIONS.map((version, at) => saved(chats[at].id, version)));
    for (const [at, chat] of chats.entries()) assert.deepEqual(plain(chat.messages), expected[at]);
    const [agent, runId] = [agentOf(name("thread")), name("run")];
    agent.addMessage(user("whole"));
    const asked = plain(agent.messages);
    await agent.runAgent({ runId });
    const tanStack = (threadId) => new ChatClient({ connection: fetchServerSentEvents(`${stage.proxy.url}/api/ag-ui`), threadId, persistence: true });
    const held = (client) => plain(client.getMessages()).map(({ createdAt, metadata, ...message }) => message);
    const talkedOn = name("thread");
    const talked = tanStack(talkedOn);
    await talked.sendMessage("whole");
    await quiet(async () => {
      await stage.server.end("SIGTERM");
      await stage.substrate.end("SIGKILL");
      await stage.substrate.start();
      await stage.server.start();
    });
    for (const [at, version] of VERSIONS.entries()) {
      const [{ id }, [user, answer]] = [chats[at], expected[at]];
      const stream = (query) => `${stage.proxy.url}/api/chat/${id}/stream?ai=${version}&${query}`;
      const rest = await (await fetch(stream("startIndex=5"))).text();
      assert.match(rest, /"type":"error".*cursor_expired/);
      const { DefaultChatTransport } = AI[version];
      const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: stream(`messageId=${encodeURIComponent(answer.id)}`) }) });
      const replayed = chatOf(version, id, transport, [user]);
      await replayed.resumeStream();
      const { replayed: flag, ...metadata } = plain(replayed.messages[1]).metadata;
      assert.equal(flag, true);
      assert.deepEqual({ ...plain(replayed.messages[1]), metadata }, answer);
    }
    const again = agentOf(agent.threadId);
    again.setMessages(asked);
    await again.runAgent({ runId });
    assert.deepEqual(plain(again.messages), plain(agent.messages));
    const loaded = tanStack(talkedOn);
    loaded.attach();
    await until(() => loaded.getMessages().length === talked.getMessages().length, "the messages");
    assert.deepEqual(held(loaded), held(talked));
    for (const client of [talked, loaded]) client.dispose();
  });
});
