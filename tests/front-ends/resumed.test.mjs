/** Responses that are cut behind every frame, and gone on from by the published clients. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ChatClient, fetchHttpStream, fetchServerSentEvents } from "@tanstack/ai-client";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import { AI, plain, VERSIONS } from "./clients.mjs";
import { lastingTransport } from "./lasting.mjs";
import { agUi, aiSdk, encode } from "./encode.mjs";

const VECTORS = join(import.meta.dirname, "../vectors/ui");
const NAMES = ["tool_input_streamed", "interleaved", "snapshots", "cancelled", "result_goes_on"];
const lines = (name) => readFileSync(join(VECTORS, `${name}.turnkit.ndjson`));

/** Where each frame of a stream ends, the last one left out: nothing can be cut behind it. */
function borders(bytes) {
  const ends = [0];
  for (const block of bytes.toString().split(/(?<=\n\n)/)) ends.push(ends.at(-1) + Buffer.byteLength(block));
  return ends.slice(0, -1).filter((end) => end < bytes.length);
}

/** What Node and browsers say of a connection that breaks. */
const BROKEN = ["terminated", "network error"];

/** A response that breaks off, or does not where `end` is not given. */
function response(bytes, end, type = "text/event-stream", broken = BROKEN[0]) {
  const body = new ReadableStream({
    pull(controller) {
      if (this.told) return end === undefined ? controller.close() : controller.error(new TypeError(broken));
      this.told = true;
      const piece = bytes.subarray(0, end);
      if (piece.length > 0) controller.enqueue(new Uint8Array(piece));
      else return this.pull(controller);
    },
  });
  return new Response(body, { headers: { "content-type": type, "x-workflow-run-id": "run_local:s:0" } });
}

/** A server whose first response is cut at `end`. */
function server(told, end, type, broken) {
  const requests = [];
  const fetch = async (url, { method = "GET", headers = {} } = {}) => {
    requests.push({ url: String(url), method, headers });
    if (requests.length === 1) return response(told(0), end, type, broken);
    const after = new URL(url, "http://x").searchParams.get("startIndex") ?? new Headers(headers).get("last-event-id") ?? 0;
    return response(told(Number(after)), undefined, type);
  };
  return { fetch, requests };
}

const quiet = async (run) => {
  const error = console.error;
  console.error = () => {};
  try {
    return await run();
  } finally {
    console.error = error;
  }
};

async function asked(chat) {
  await chat.sendMessage({ text: "Hi" });
  return chat;
}

describe("the AI SDK", () => {
  for (const name of NAMES) {
    for (const version of VERSIONS) {
      const told = (after) => aiSdk(version, lines(name), after);
      const { Chat, DefaultChatTransport } = AI[version];
      const held = (chat) => plain(chat.messages).slice(1);
      const chatOver = (transport, messages = []) => new Chat({ id: "c", transport, messages });
      const whole = async () => held(await asked(chatOver(new DefaultChatTransport({ fetch: server(told).fetch }))));

      test(`${name}, ${version}: a page that is loaded again in the middle`, async () => {
        const expected = await whole();
        for (const end of borders(told(0))) {
          const { fetch } = server(told, end);
          const first = await quiet(() => asked(chatOver(new DefaultChatTransport({ fetch }))));
          assert.equal(first.status, "error", `a cut at ${end} is no success`);
          const again = chatOver(new DefaultChatTransport({ fetch }), first.messages.slice(0, 1));
          await again.resumeStream();
          assert.deepEqual(held(again), expected, `cut at ${end}`);
        }
      });

      if (version === 7)
        test(`${name}, ${version}: the same object`, async () => {
          const expected = await whole();
          for (const end of borders(told(0))) {
            for (const broken of BROKEN) {
              const { fetch } = server(told, end, undefined, broken);
              const chat = await quiet(() => asked(chatOver(new DefaultChatTransport({ fetch }))));
              await chat.resumeStream();
              assert.equal(chat.status, "ready", `cut at ${end}: ${chat.error?.stack}`);
              assert.deepEqual(held(chat), expected, `cut at ${end}`);
            }
          }
        });

      test(`${name}, ${version}: the guide's transport goes on by itself`, async () => {
        const expected = await whole();
        for (const end of borders(told(0))) {
          const { fetch, requests } = server(told, end);
          const chat = await asked(chatOver(lastingTransport(DefaultChatTransport, { fetch, delay: 0 })));
          assert.equal(chat.status, "ready", `cut at ${end}: ${chat.error?.stack}`);
          assert.deepEqual(held(chat), expected, `cut at ${end}`);
          if (requests.length > 1) assert.match(requests[1].url, /^\/api\/chat\/c\/stream\?startIndex=\d+$/);
        }
      });
    }

    test(`${name}: a transport that goes on by itself`, async () => {
      const told = (after) => aiSdk(7, lines(name), after);
      const chatOver = (fetch) => new AI[7].Chat({ id: "c", transport: new WorkflowChatTransport({ fetch }) });
      const expected = plain((await asked(chatOver(server(told).fetch))).messages.slice(1));
      for (const end of borders(told(0))) {
        const { fetch, requests } = server(told, end);
        const chat = await quiet(() => asked(chatOver(fetch)));
        assert.equal(chat.status, "ready", `cut at ${end}: ${chat.error?.stack}`);
        assert.deepEqual(plain(chat.messages.slice(1)), expected, `cut at ${end}`);
        // Where `finish` was told already there is nothing left to ask for.
        if (requests.length > 1) assert.match(requests[1].url, /^\/api\/chat\/run_local%3As%3A0\/stream\?startIndex=\d+$/);
      }
    });
  }
});

describe("TanStack AI", () => {
  for (const [framing, adapter, type] of [["SSE", fetchServerSentEvents, "text/event-stream"], ["NDJSON", fetchHttpStream, "application/x-ndjson"]]) {
    for (const name of NAMES) {
      test(`${name}, ${framing}: it goes on by itself`, async () => {
        const told = (after) => (framing === "SSE" ? agUi(lines(name), after) : encode(["ag-ui-ndjson", "s", "t", "local:s:0", after], lines(name)).bytes);
        const held = async (fetchClient) => {
          const connection = adapter("http://none/api/ag-ui", { fetchClient, reconnect: { delayMs: 0 } });
          const errors = [];
          const client = new ChatClient({ connection, threadId: "s", onError: (error) => errors.push(error) });
          await client.sendMessage("Hi");
          assert.deepEqual(errors, []);
          return plain(client.getMessages().slice(1)).map(({ createdAt, ...message }) => message);
        };
        const expected = await held(server(told, undefined, type).fetch);
        const ends = framing === "SSE" ? borders(told(0)) : [...told(0).toString().matchAll(/\n/g)].map(({ index }) => Buffer.byteLength(told(0).toString().slice(0, index + 1))).slice(0, -1);
        for (const end of ends.filter((end) => end > 0)) {
          const { fetch, requests } = server(told, end, type);
          assert.deepEqual(await held(fetch), expected, `cut at ${end}`);
          assert.equal(requests.length, 2);
        }
      });
    }
  }
});
