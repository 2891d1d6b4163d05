/** A server keeps to the OpenAPI document that it gives: each call of it is made, and each answer has its form. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Ajv from "ajv/dist/2020.js";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Stage, until } from "./stage.mjs";

let stage, document, ajv;
/** The calls and statuses that were seen. */
const seen = new Set();

before(async () => {
  stage = new Stage();
  const tokens = async (directory) => {
    const path = join(directory, "tokens");
    await writeFile(path, "token-of-ann acme ann\n", { mode: 0o600 });
    return ["--tokens", path];
  };
  await stage.open(tokens);
  document = await (await fetch(`${stage.server.url}api/openapi.json`)).json();
  seen.add("get /api/openapi.json 200");
  // What the types do not name is a fault, here alone: a client takes what it does not know.
  const { schemas } = document.components;
  for (const [name, schema] of Object.entries(schemas)) if (schema.properties && name !== "Error") schema.unevaluatedProperties = false;
  ajv = new Ajv({ strict: false, allErrors: true, formats: { uint64: true } });
  ajv.addSchema(document, "document");
});
after(() => stage?.close());

const escaped = (key) => encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"));

/** Makes a call, and gives its answer once that is known to have one of the forms that the document has for it. */
async function call(method, path, { at = {}, query = {}, body, headers = {} } = {}) {
  const operation = document.paths[path]?.[method];
  assert.ok(operation, `${method} ${path} is not in the document`);
  for (const name of Object.keys(query)) assert.ok(operation.parameters.some((known) => known.in === "query" && known.name === name), `${method} ${path}: ${name}`);
  const place = path.slice(1).replace(/\{(\w+)\}/g, (_, name) => at[name]);
  const url = `${stage.server.url}${place}?${new URLSearchParams(query)}`;
  const sent = { authorization: "Bearer token-of-ann", ...(body !== undefined && { "content-type": "application/json" }), ...headers };
  if (body !== undefined) holds(["paths", path, method, "requestBody", "content", "application/json", "schema"], body, `${method} ${path} takes`);
  const answer = await fetch(url, { method: method.toUpperCase(), headers: sent, body: body && JSON.stringify(body) });
  const status = answer.status in operation.responses ? answer.status : "default";
  const named = `${method} ${path} ${answer.status}`;
  assert.ok(status !== "default" || answer.status >= 400, `${named} is not in the document`);
  seen.add(`${method} ${path} ${status}`);
  const type = (answer.headers.get("content-type") ?? "").split(";")[0];
  if (answer.status === 204) return undefined;
  assert.ok(type in operation.responses[status].content, `${named}: ${type}`);
  if (type !== "application/json") return answer;
  const value = await answer.json();
  holds(["paths", path, method, "responses", `${status}`, "content", type, "schema"], value, named);
  if (answer.status >= 400 && status !== "default") assert.ok(operation.responses[status].description.includes(`\`${value.error.code}\``), `${named}: ${value.error.code}`);
  return value;
}

function holds(place, value, what) {
  const valid = ajv.getSchema(`document#/${place.map(escaped).join("/")}`);
  assert.ok(valid(value), `${what}: ${JSON.stringify(valid.errors)} of ${JSON.stringify(value)}`);
}

test("every call of the document, and what it is answered", async () => {
  const TURNS = "/api/sessions/{session}/turns";
  const TURN = `${TURNS}/{turn}`;
  await call("get", "/api/me");
  await call("get", "/api/agents");
  await call("post", "/api/sign-in", { body: { token: "token-of-ann" } });
  await call("post", "/api/sign-out");
  const { sessionId: session } = await call("post", "/api/sessions");
  const of = (turn, more = {}) => ({ at: { session, turn }, ...more });
  const start = async (turnId, message, more = {}) => {
    const answer = await call("post", TURNS, of("", { body: { turnId, message, ...more } }));
    if (answer instanceof Response) await answer.body.cancel();
    return answer;
  };
  const open = async () => (await call("get", TURNS, of("", { query: { state: "open" } }))).turns;
  const ended = () => until(async () => (await open()).length === 0, "the end");

  // A whole turn, read in each way.
  await start("whole", "whole");
  await ended();
  await (await call("get", TURN, of("whole", { query: { after: 2 } }))).text();
  const events = await call("get", TURN, of("whole", { headers: { accept: "text/event-stream" } }));
  assert.match(await events.text(), /^id: /m);
  await call("get", TURN, of("whole", { headers: { accept: "text/event-stream", "last-event-id": "end" } }));
  await start("again", "whole", { replaces: "whole" });
  await ended();
  const { messages } = await call("get", "/api/sessions/{session}/messages", of("", { query: { turns: 5, branch: "whole" } }));
  assert.deepEqual(messages[1].parts.map(({ type }) => type), ["reasoning", "tool", "text", "tool", "text"]);
  await start("failing", "fails");
  await ended();

  // One that runs, and others that wait behind it.
  const gate = stage.gate();
  await start("running", `gated ${gate}`);
  await start("first", "brief", { queue: true });
  await start("second", "brief", { queue: true });
  await call("get", TURN, of("second"));
  await call("get", TURNS, of("", { query: { state: "queued" } }));
  await call("get", "/api/sessions/{session}", of(""));
  await call("patch", TURN, of("second", { body: { message: "whole" } }));
  await call("post", `${TURN}/cancel`, of("second"));
  await call("delete", TURN, of("second"));
  await call("get", TURN, of("second"));
  await start("other", "brief");
  await start("running", "something else");
  await call("delete", TURN, of("running"));
  await call("post", `${TURN}/cancel`, of("running"));
  await start("next", "brief", { queue: true });
  await ended();
  await call("post", `${TURN}/input`, of("running", { body: { id: "late", message: "late" } }));

  // Questions and inputs.
  const steered = stage.gate();
  await start("steered", `gated ${steered}`);
  for (const message of ["hello", "another"]) await call("post", `${TURN}/input`, of("steered", { body: { id: "i1", message } }));
  await stage.openGate(steered);
  await ended();
  await start("asks", "chooses");
  const asked = async () => (await open())[0]?.pending[0];
  await until(asked, "the question");
  const answer = (interaction, outcome, data) => call("post", `${TURN}/interactions/{interaction}`, { at: { session, turn: "asks", interaction }, body: { outcome, ...(data !== undefined && { data }) } });
  await answer("nothing", "accepted");
  await answer("which", "accepted", { option: "c" });
  await answer("which", "accepted", { option: "a" });
  await answer("which", "declined");
  await ended();
  await answer("which", "declined");
  await call("get", "/api/sessions/{session}/messages", of("", { query: {} }));

  // Lists, names and the feed.
  const { feed } = await call("get", "/api/sessions", { query: { limit: 1, archived: "any" } });
  await call("patch", "/api/sessions/{session}", of("", { body: { title: "Named", archived: true } }));
  for (const path of ["/api/events", "/api/sessions/{session}/events"]) {
    const entries = (await call("get", path, of("", { query: { after: feed } }))).body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    while (!text.includes("\ndata: ")) text += decoder.decode((await entries.read()).value, { stream: true });
    await entries.cancel();
    holds(["components", "schemas", "FeedEntry"], JSON.parse(/^data: (.*)$/m.exec(text)[1]), path);
    await call("get", path, of("", { query: { after: feed.replace(/\d+$/, "999999") } }));
  }

  // Front ends.
  const said = (id, text) => ({ id, role: "user", parts: [{ type: "text", text }] });
  const CHAT = "/api/chat/{chat}/stream";
  await (await call("post", "/api/chat", { query: { ai: 7 }, body: { id: "chat", messages: [said("m1", "brief")] } })).text();
  await call("get", "/api/chat/{chat}", { at: { chat: "chat" } });
  await call("get", CHAT, { at: { chat: "chat" } });
  await (await call("get", CHAT, { at: { chat: "chat" }, query: { startIndex: 1 } })).text();
  await call("delete", CHAT, { at: { chat: "chat" } });
  await (await call("post", "/api/chat", { body: { id: "chat", messages: [said("m2", `gated ${stage.gate()}`)] } })).body.cancel();
  await call("post", "/api/chat", { body: { id: "chat", messages: [said("m3", "brief")] } });
  await call("delete", CHAT, { at: { chat: "chat" } });
  const run = (runId, content) => ({ threadId: "thread", runId, state: {}, messages: [{ id: `u-${runId}`, role: "user", content }], tools: [], context: [], forwardedProps: {} });
  await (await call("post", "/api/ag-ui", { body: run("r1", "brief") })).text();
  await (await call("post", "/api/ag-ui", { body: run("r1", "brief"), headers: { accept: "application/x-ndjson" } })).text();
  await (await call("get", "/api/ag-ui", { query: { runId: "r1", offset: -1 } })).text();
  await call("get", "/api/ag-ui", { query: { threadId: "thread" } });
  await call("delete", "/api/ag-ui/{thread}/stream", { at: { thread: "thread" } });
  await (await call("post", "/api/ag-ui", { body: run("r2", `gated ${stage.gate()}`) })).body.cancel();
  await call("post", "/api/ag-ui", { body: run("r3", "brief") });
  await call("delete", "/api/ag-ui/{thread}/stream", { at: { thread: "thread" } });

  // What is not there, and what is deleted.
  const nowhere = { at: { session: "none", turn: "none", interaction: "none", chat: "none", thread: "none" } };
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { requestBody, responses }] of Object.entries(methods)) {
      if (!("404" in responses) || method === "post" || path === "/api/ag-ui") continue;
      await call(method, path, { ...nowhere, ...(requestBody && { body: path.endsWith("{turn}") ? { message: "x" } : { title: "x" } }), query: path.endsWith("/turns") ? { state: "open" } : {} });
    }
  }
  await call("delete", "/api/sessions/{session}", of(""));
  await call("delete", "/api/me");
  await call("get", "/api/me", { headers: { authorization: "Bearer nobody" } });

  for (const refused of ["post /api/sessions/{session}/turns/{turn}/interactions/{interaction} 422", "post /api/sessions/{session}/turns 409", "get /api/events 410"]) assert.ok(seen.has(refused), refused);
  const unseen = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { responses }]) => Object.keys(responses).filter((status) => status < 400 && !seen.has(`${method} ${path} ${status}`)).map((status) => `${method} ${path} ${status}`)),
  );
  // A stop is answered by 202 where the agent does not end within 10 s.
  assert.deepEqual(unseen.filter((call) => !/(cancel|delete .*stream) 202$/.test(call)), []);
});
