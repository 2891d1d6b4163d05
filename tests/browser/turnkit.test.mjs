/** `turnkit.js` without a browser: its decoder, and what it asks a server for when the network breaks. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { LineDecoder, newTurnId, Turnkit, TurnkitError } from "../../crates/turnkit-server/assets/turnkit.js";

const encoder = new TextEncoder();
const event = (type, data) => `${JSON.stringify({ type, data })}\n`;
const STARTED = event("session.run.started", { sessionId: "s", tenantId: "t", turnIndex: 0 });
const COMPLETED = event("session.run.completed", { sessionId: "s" });
const word = (delta) => event("message.part.updated", { part: { id: "p", type: "text" }, delta });
const failed = (code, retryable) =>
  event("error", { message: "m", code }) + event("session.run.failed", { sessionId: "s", message: "m", retryable, code });

function decode(chunks, ...options) {
  const decoder = new LineDecoder(...options);
  return [...chunks.flatMap((chunk) => decoder.push(chunk)), ...decoder.finish()];
}

test("a stream gives the same lines wherever it is cut", () => {
  const stream = `\n \r\n${STARTED}${word("grün 🦀 \\ud800")}\r\n{"type":"x"}\r\n{"type":"last"}`;
  const bytes = encoder.encode(stream);
  const whole = decode([bytes]);
  assert.deepEqual(whole.map(({ event }) => event.type), ["session.run.started", "message.part.updated", "x", "last"]);
  assert.equal(whole[1].line, word("grün 🦀 \\ud800").trim());
  for (let at = 0; at <= bytes.length; at += 1) assert.deepEqual(decode([bytes.subarray(0, at), bytes.subarray(at)]), whole);
  assert.deepEqual(decode([...bytes].map((byte) => Uint8Array.of(byte))), whole);
});

test("what is no event is one error, and decoding goes on", () => {
  for (const bad of ["{", "[]", "3", "null", '{"type":""}', '{"type":1}', '{"data":{}}', '["type"]']) {
    const [error, next, ...rest] = decode([encoder.encode(`${bad}\n{"type":"next"}\n`)]);
    assert.ok(error instanceof TurnkitError, bad);
    assert.equal(error.code, "invalid_line");
    assert.deepEqual([next.event.type, rest], ["next", []]);
  }
  const [error] = decode([Uint8Array.of(0x7b, 0xff, 0x7d, 10)]);
  assert.equal(error.code, "invalid_line", "invalid UTF-8");
});

test("a line over the limit is one error, and is not kept while it comes", () => {
  const long = encoder.encode("x".repeat(100));
  const lines = decode([...Array.from({ length: 50 }, () => long), encoder.encode('\n{"type":"next"}\n')], 1000);
  assert.match(lines[0].message, /5000 bytes, over the limit of 1000/);
  assert.deepEqual(lines.slice(1).map(({ line }) => line), ['{"type":"next"}']);
});

test("a line that the end cuts is dropped", () => {
  assert.deepEqual(decode([encoder.encode('{"type":"a"}\n{"type":"b"')]).map(({ line }) => line), ['{"type":"a"}']);
});

/** A server that answers one request after the other as told, and keeps what it was asked. */
function server(...answers) {
  return serverFor({}, ...answers);
}

/** @param {object} options  of the client */
function serverFor(options, ...answers) {
  const asked = [];
  const fetch = async (url, { method, body, signal }) => {
    const answer = answers[asked.length];
    asked.push({ method, url, ...(body && { body: JSON.parse(body) }) });
    assert.ok(answer, `no answer is left for ${method} ${url}`);
    if (answer.queued) return Response.json({ turnId: "t", state: "queued", position: answer.queued }, { status: 202 });
    if (answer.refusal) return Response.json({ success: false, error: answer.refusal }, answer);
    if (answer.status) return new Response("not JSON", answer);
    if (answer.unreachable) throw new TypeError("fetch failed");
    const type = answer.type ?? "application/x-ndjson";
    return new Response(body_(answer, signal), { headers: { "Content-Type": type, "X-Execution-ID": "e" } });
  };
  return { asked, turnkit: new Turnkit({ fetch, backOff: () => 0, idleTimeout: 50, ...options }) };
}

/** Chunks, and then an end, a broken connection, or silence. */
function body_({ chunks = [], then = "end" }, signal) {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk));
      if (then === "end") controller.close();
      if (then === "silence") signal.addEventListener("abort", () => controller.error(signal.reason));
    },
    pull: (controller) => then === "break" && controller.error(new TypeError("network error")),
  });
}

async function all(updates) {
  const taken = [];
  for await (const update of updates) taken.push(update);
  return taken;
}

const kinds = (updates) => updates.map(({ kind }) => kind);
const deltas = (updates) => updates.filter(({ kind }) => kind === "event").map(({ event }) => event.data?.delta);

for (const then of ["end", "break", "silence"]) {
  test(`a body that stops by ${then} goes on after its last event`, async () => {
    const first = { chunks: [STARTED, word("a"), word("b").slice(0, 9)], then };
    const { asked, turnkit } = server(first, { chunks: [word("b") + COMPLETED] });
    const updates = await all(turnkit.send("s 1", "hello", { turnId: "t1", agent: "demo" }));
    assert.deepEqual(kinds(updates), ["connected", "event", "event", "disconnected", "connected", "event", "completed"]);
    assert.deepEqual(deltas(updates), [undefined, "a", "b"]);
    assert.deepEqual(updates.filter(({ kind }) => kind === "event").map(({ cursor }) => cursor), [1, 2, 3]);
    assert.deepEqual(asked, [
      { method: "POST", url: "/api/sessions/s%201/turns", body: { turnId: "t1", message: "hello", agent: "demo" } },
      { method: "GET", url: "/api/sessions/s%201/turns/t1?after=2" },
    ]);
  });
}

test("a start that nobody answered is sent again with the same turnId", async () => {
  const { asked, turnkit } = server({ unreachable: true }, { status: 503, refusal: { code: "unavailable", message: "m" } }, { chunks: [STARTED + COMPLETED] });
  const updates = await all(turnkit.send("s", "hello"));
  assert.deepEqual(kinds(updates), ["disconnected", "disconnected", "connected", "event", "completed"]);
  assert.deepEqual(updates.slice(0, 2).map(({ error }) => error.code), ["network", "unavailable"]);
  assert.deepEqual(asked.map(({ method }) => method), ["POST", "POST", "POST"]);
  assert.equal(new Set(asked.map(({ body }) => body.turnId)).size, 1);
});

test("a page of something in between is no answer", async () => {
  const { turnkit } = server({ type: "text/html", chunks: ["<h1>Sign in to the network</h1>"] }, { chunks: [STARTED + COMPLETED] });
  const updates = await all(turnkit.resume("s", "t"));
  assert.equal(updates.find(({ kind }) => kind === "disconnected").error.code, "bad_response");
  assert.equal(updates.at(-1).kind, "completed");
});

test("the two lines of a failure are one update, and no cursor counts them", async () => {
  const cutBetween = event("error", { message: "m", code: "cancelled" });
  const { asked, turnkit } = server({ chunks: [STARTED, cutBetween] }, { chunks: [failed("cancelled", false)] });
  const updates = await all(turnkit.resume("s", "t"));
  assert.deepEqual(kinds(updates), ["connected", "event", "disconnected", "connected", "failed"]);
  assert.equal(updates.at(-1).error.code, "cancelled");
  assert.equal(asked[1].url, "/api/sessions/s/turns/t?after=1");
});

test("a failure that may be tried again voids the cursor, and its start is sent again", async () => {
  const { asked, turnkit } = server({ chunks: [STARTED, word("a"), failed("persist_failed", true)] }, { chunks: [STARTED, word("a"), COMPLETED] });
  const updates = await all(turnkit.send("s", "hello", { turnId: "t" }));
  assert.deepEqual(kinds(updates), ["connected", "event", "event", "disconnected", "connected", "event", "event", "completed"]);
  assert.deepEqual([updates[3].cursor, updates[4].cursor], [0, 0], "who draws begins anew");
  assert.deepEqual(asked.map(({ method }) => method), ["POST", "POST"]);
});

test("a turn that always fails is not tried for ever", async () => {
  const again = { chunks: [STARTED, failed("persist_failed", true)] };
  const { asked, turnkit } = server(again, again, again);
  const updates = await all(turnkit.resume("s", "t"));
  assert.equal(updates.at(-1).kind, "failed");
  assert.equal(asked.length, 3);
});

test("a replay says so", async () => {
  const replayed = event("session.run.completed", { sessionId: "s", replayed: true });
  const { turnkit } = server({ chunks: [event("result", { finalText: "saved" }), replayed] });
  const [, result, completed] = await all(turnkit.resume("s", "t", { after: 9 }));
  assert.equal(result.event.data.finalText, "saved");
  assert.deepEqual([completed.kind, completed.replayed], ["completed", true]);
});

test("what the server refuses for good is thrown, with its code", async () => {
  const refusal = { code: "turn_running", message: "m", turnId: "other" };
  const { turnkit } = server({ status: 409, refusal });
  await assert.rejects(all(turnkit.send("s", "hello")), (error) => {
    assert.ok(error instanceof TurnkitError);
    assert.deepEqual([error.code, error.retryable, error.details.status, error.details.turnId], ["turn_running", false, 409, "other"]);
    return true;
  });
});

test("a line that is no event ends the turn here, aloud", async () => {
  const { turnkit } = server({ chunks: [`${STARTED}nonsense\n`] });
  await assert.rejects(all(turnkit.resume("s", "t")), { code: "invalid_line" });
});

test("Retry-After is kept, and wake ends the pause", async () => {
  const refusal = { code: "too_many", message: "m" };
  const { turnkit } = server({ status: 429, refusal, headers: { "Retry-After": "3600" } }, { chunks: [STARTED + COMPLETED] });
  const updates = turnkit.resume("s", "t");
  const { value } = await updates.next();
  assert.equal(value.delay, 3_600_000);
  const next = updates.next();
  turnkit.wake();
  assert.equal((await next).value.kind, "connected");
});

for (const when of ["while it reads", "while it waits"]) {
  test(`whoever aborts ${when} gets the reason, and nothing is asked after`, async () => {
    const stop = new AbortController();
    const { asked, turnkit } = server({ chunks: [STARTED], then: when === "while it reads" ? "silence" : "end" });
    turnkit.options.backOff = () => 3_600_000;
    turnkit.options.idleTimeout = 3_600_000;
    const updates = turnkit.resume("s", "t", { signal: stop.signal });
    await updates.next();
    await updates.next();
    if (when === "while it waits") await updates.next();
    const next = updates.next();
    stop.abort(new Error("left"));
    await assert.rejects(next, { message: "left" });
    assert.equal(asked.length, 1);
  });
}

test("whoever stops reading closes the connection", async () => {
  let isClosed = false;
  const fetch = async (_, { signal }) => {
    signal.addEventListener("abort", () => (isClosed = true));
    return new Response(body_({ chunks: [STARTED], then: "silence" }, signal), { headers: { "Content-Type": "application/x-ndjson" } });
  };
  for await (const { kind } of new Turnkit({ fetch }).resume("s", "t")) if (kind === "event") break;
  assert.ok(isClosed);
});

test("ids of turns are valid and do not repeat", () => {
  const ids = new Set(Array.from({ length: 1000 }, newTurnId));
  assert.equal(ids.size, 1000);
  for (const id of ids) assert.match(id, /^[A-Za-z0-9:_-]{1,160}$/);
});

/** The table that the client in Rust is tried by as well (PROTOCOL 4.4). */
const table = JSON.parse(readFileSync(new URL("../vectors/client.json", import.meta.url), "utf8"));

function answer({ lines = [], then = "ends", lost, queued, type, status, code, retryAfter }) {
  const headers = retryAfter === undefined ? {} : { "Retry-After": retryAfter };
  if (lost) return { unreachable: true };
  if (queued) return { queued };
  if (status) return { status, headers, ...(code && { refusal: { code, message: "m" } }) };
  return { type, chunks: lines.map((name) => table.lines[name]), then: { ends: "end", breaks: "break", silent: "silence" }[then] };
}

const told = ({ kind, cursor, position, delay, replayed, error }) =>
  ({
    connected: `connected at ${cursor}`,
    event: `event ${cursor}`,
    queued: `queued as ${position}`,
    disconnected: `disconnected at ${cursor}, again in ${delay} ms`,
    completed: replayed ? "completed, replayed" : "completed",
    failed: `failed with ${error?.code}`,
  })[kind];

for (const { name, begin = "start", patience = 900, answers, asked, updates } of table.cases) {
  test(`the table: ${name}`, async (t) => {
    t.mock.method(Math, "random", () => 0.5);
    let time = 0;
    const { backOff } = new Turnkit().options;
    const options = { patience: 1000 * patience, now: () => time, backOff };
    const it = serverFor(options, ...answers.map(answer));
    const turn = begin === "start" ? it.turnkit.send("s", "hello", { turnId: "t" }) : it.turnkit.resume("s", "t", { after: Number(begin.slice(6)) });
    const taken = [];
    try {
      for (let next = await turn.next(); !next.done; ) {
        taken.push(told(next.value));
        const coming = turn.next();
        if (["disconnected", "queued"].includes(next.value.kind)) {
          time += next.value.delay ?? 0;
          it.turnkit.wake();
        }
        next = await coming;
      }
    } catch (error) {
      taken.push(`ends with ${error.code}`);
    }
    assert.deepEqual(taken, updates);
    const start = { method: "POST", url: "/api/sessions/s/turns", body: { turnId: "t", message: "hello" } };
    const expected = asked.map((what) => (what === "start" ? start : { method: "GET", url: `/api/sessions/s/turns/t?after=${what.slice(6)}` }));
    assert.deepEqual(it.asked, expected);
  });
}
