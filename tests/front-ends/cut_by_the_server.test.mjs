/** A turn that the server cuts: killed, stopped, or because the client does not read. It is a success for no client. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { HttpAgent } from "@ag-ui/client";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import { ChatClient, fetchHttpStream, fetchServerSentEvents } from "@tanstack/ai-client";
import { AI, calm, plain, VERSIONS } from "./clients.mjs";
import { lastingTransport } from "./lasting.mjs";
import { quiet, Stage, until } from "./stage.mjs";
import { Staller } from "./staller.mjs";

let stage;
before(async () => void (stage = await new Stage().open()));
after(() => stage?.close());

/**
 * A turn in a client: what it comes to, whether its middle is there, how a page that is loaded again takes it up, and what the
 * server has of it.
 */
function ofAiSdk(version, transportOf) {
  return (base, text) => {
    const id = stage.name();
    const transport = transportOf(AI[version].DefaultChatTransport, base, `${base}/api/chat?ai=${version}`);
    const open = (messages) => new AI[version].Chat({ id, messages, transport });
    const chat = open([]);
    return {
      outcome: chat.sendMessage({ text }).then(() => (chat.status === "ready" ? "success" : "failure")),
      isInTheMiddle: () => chat.messages[1]?.parts.at(-1)?.text === "One ",
      held: () => plain(chat.messages),
      async again() {
        const loaded = open(chat.messages.slice(0, 1));
        await loaded.resumeStream();
        return plain(loaded.messages);
      },
      saved: () => stage.json(`/api/chat/${id}?ai=${version}`),
    };
  };
}

function ofAgUi(base, text) {
  const [threadId, runId] = [stage.name("thread"), stage.name("run")];
  const agent = new HttpAgent({ url: `${base}/api/ag-ui`, threadId, fetch: calm });
  agent.addMessage({ id: stage.name("u"), role: "user", content: text });
  const run = () => agent.runAgent({ runId });
  return {
    outcome: run().then(() => "success", () => "failure"),
    isInTheMiddle: () => agent.messages.at(-1)?.content === "One ",
    async again() {
      await run();
      return plain(agent.messages);
    },
    saved: async () => (await stage.json(`/api/ag-ui?threadId=${threadId}`)).messages,
  };
}

function ofTanStack(adapter) {
  return (base, text) => {
    const threadId = stage.name("thread");
    const errors = [];
    const headers = adapter === fetchHttpStream ? { accept: "application/x-ndjson" } : {};
    const connection = adapter(`${base}/api/ag-ui`, { reconnect: { delayMs: 100, maxAttempts: 1000 }, headers });
    const client = new ChatClient({ connection, threadId, onError: (error) => errors.push(error) });
    return {
      outcome: client.sendMessage(text).then(() => (errors.length > 0 ? "failure" : "success")),
      isInTheMiddle: () => client.getMessages().at(-1)?.parts.at(-1)?.content === "One ",
      held: () => plain(client.getMessages()).map(({ role, parts }) => ({ role, parts })),
      async saved() {
        const { messages } = await stage.json(`/api/ag-ui?threadId=${threadId}`);
        return messages.map(({ role, content }) => ({ role, parts: [{ type: "text", content }] }));
      },
    };
  };
}

/** As the guide has it: an answer that has ended meanwhile is wanted too. */
function guided(DefaultChatTransport, _, api) {
  const [path, query] = api.split("?");
  return new DefaultChatTransport({ api, prepareReconnectToStreamRequest: ({ id }) => ({ api: `${path}/${id}/stream?${query}&startIndex=0` }) });
}

/** Clients that end with an error where they are cut. */
const ENDING = {
  ...Object.fromEntries(VERSIONS.map((version) => [`ai ${version}`, ofAiSdk(version, guided)])),
  HttpAgent: ofAgUi,
};
/** It asks for the rest by itself where it was cut, and gives up at once where nobody answers. */
const WORKFLOW = {
  WorkflowChatTransport: ofAiSdk(
    7,
    (_, base) =>
      new WorkflowChatTransport({
        api: `${base}/api/chat`,
        prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({ headers: { "content-type": "application/json" }, body: { id, messages, trigger, messageId } }),
      }),
  ),
};
/** Clients that ask for the rest by themselves. */
const LASTING = {
  ...Object.fromEntries(VERSIONS.map((version) => [`ai ${version}, counting`, ofAiSdk(version, (DefaultChatTransport, _, api) => lastingTransport(DefaultChatTransport, { api, delay: 100 }))])),
  "TanStack AI, SSE": ofTanStack(fetchServerSentEvents),
  "TanStack AI, NDJSON": ofTanStack(fetchHttpStream),
};

const begin = (clients, base, text) => Object.entries(clients).map(([client, of]) => ({ client, ...of(base, text) }));

describe("a server that goes", { timeout: 300_000 }, () => {
  for (const signal of ["SIGKILL", "SIGTERM"]) {
    test(`${signal} in the middle: an error, and the whole answer once it is back`, () =>
      quiet(async () => {
        const gate = stage.gate();
        const [ending, lasting] = [{ ...ENDING, ...WORKFLOW }, LASTING].map((clients) => begin(clients, stage.proxy.url, `talks ${gate}`));
        for (const { client, isInTheMiddle } of [...ending, ...lasting]) await until(isInTheMiddle, `the middle of ${client}`);
        await stage.server.end(signal);
        for (const { client, outcome } of ending) assert.equal(await outcome, "failure", client);
        let tooEarly;
        for (const { client, outcome } of lasting) outcome.then((outcome) => (tooEarly ??= `${client}: ${outcome}`));
        await stage.server.start();
        const taken = ending.map(({ again }) => again());
        assert.equal(tooEarly, undefined);
        await stage.openGate(gate);
        for (const [at, { client, saved }] of ending.entries()) assert.deepEqual(await taken[at], await saved(), client);
        for (const { client, outcome, held, saved } of lasting) {
          assert.equal(await outcome, "success", client);
          assert.deepEqual(held(), await saved(), client);
        }
      }));
  }
});

describe("a client that does not read", { timeout: 300_000 }, () => {
  test("is cut after a minute: an error for it, or it asks for the rest", () =>
    quiet(async () => {
      await stage.restart();
      const staller = await new Staller(stage.server.url, 4_096).open();
      const [ending, lasting] = [ENDING, { ...WORKFLOW, ...LASTING }].map((clients) => begin(clients, staller.url, "floods"));
      await stage.cutOff(ending.length + lasting.length);
      staller.flow();
      for (const { client, outcome } of ending) assert.equal(await outcome, "failure", client);
      for (const { client, outcome, held, saved } of lasting) {
        assert.equal(await outcome, "success", client);
        assert.deepEqual(held(), await saved(), client);
      }
      staller.close();
    }));
});
