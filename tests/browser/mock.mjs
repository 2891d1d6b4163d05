/** The product's routes, scripted: for what a real server cannot be told to do, cuts at any byte and answers of any length. */
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";

const ASSETS = new URL("../../crates/turnkit-server/assets/", import.meta.url);
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/**
 * What an agent says to a message.
 * @typedef {{ deltas: string[], events?: { type: string, data?: any }[], reasoning?: string[], tool?: boolean, pace?: number, gate?: Promise<void>, gateAt?: number,
 *   failure?: { code: string, message: string, retryable?: boolean }, questions?: any[], takesInput?: boolean,
 *   misfit?: (data: any) => { field: string, message: string } | null }} Script  `questions`: interactions, asked one after the other before the text
 */
export class Mock {
  sessions = new Map();
  /** What waits in a session. @type {Map<string, { turns: any[], paused: boolean }>} */
  queues = new Map();
  /** What sessions were named, and which are archived. */
  edited = new Map();
  /** Turns that were taken back. */
  removed = new Set();
  /** What was told of changes, as frames, and to whom. */
  #told = [];
  #listeners = new Set();
  /** Agent runs by `turnId`: each has to stay 1. */
  runs = new Map();
  /** Streams that were cut. */
  cuts = 0;
  /** @type {(written: number) => boolean} */
  mustCut = () => false;
  /** Answers of ended turns come from the database (PROTOCOL 2.1, rule 9). */
  replays = false;
  /** @type {number | null} */
  refuseWith = null;
  agents = [{ name: "demo" }];
  defaultAgent = "demo";
  /** The path that a proxy takes away before a request comes here. */
  prefix = "";
  /** The token that whoever calls must have signed in with. @type {string | null} */
  token = null;
  #server = createServer((request, response) => {
    this.#route(request, response).catch((error) => response.headersSent ? response.destroy() : refuse(response, 500, "bug", `${error.stack}`));
  });
  #port = 0;

  /** @param {(message: string) => Script} answer */
  constructor(answer) {
    this.answer = answer;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}${this.prefix}/`;
  }

  async start() {
    await new Promise((resolve) => this.#server.listen(this.#port, "127.0.0.1", () => resolve(undefined)));
    this.#port = this.#server.address().port;
    return this;
  }

  /** Connections break, the state stays: `start` goes on with it. */
  async stop() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async #route(request, response) {
    if (!request.url.startsWith(`${this.prefix}/`)) return refuse(response, 404, "not_found", "nothing is served beside the path");
    const url = new URL(request.url.slice(this.prefix.length), this.url);
    const [, api, collection, session, leaf, turnId, action, interaction] = url.pathname.split("/").map(decodeURIComponent);
    if (api !== "api") return this.#asset(url.pathname, response);
    const body = ["POST", "PATCH"].includes(request.method) ? JSON.parse(await text(request)) : null;
    if (this.refuseWith) return refuse(response, this.refuseWith, "unavailable", "not now");
    if (this.token && collection === "sign-in") return this.#signIn(body, response);
    if (this.token && !request.headers.cookie?.includes(`turnkit=${this.token}`)) return refuse(response, 401, "unauthorized", "a bearer token or a sign-in is needed");
    if (collection === "sign-out") return void response.writeHead(204, { "Set-Cookie": "turnkit=; Max-Age=0; Path=/" }).end();
    if (collection === "me") return json(response, 200, { tenantId: "local", userId: this.token ? "ada" : "local", signIn: this.token !== null });
    if (collection === "agents") return json(response, 200, { agents: this.agents, default: this.defaultAgent });
    if (collection === "events") return this.#feed(request, response);
    if (collection !== "sessions") return refuse(response, 404, "not_found", "no such route");
    if (!session && body) return json(response, 201, { sessionId: this.newSession() });
    if (!session) return json(response, 200, { sessions: this.#list(url.searchParams) });
    const turns = this.sessions.get(session);
    if (!turns) return refuse(response, 404, "session_not_found", "no such session");
    if (!leaf && request.method === "DELETE") return this.#delete(session, response);
    if (!leaf && body) return this.#edit(session, body, response);
    const queue = this.queues.get(session);
    const open = turns.filter(({ state }) => state === "open").map((turn) => ({ ...named(turn), acceptsInput: turn.takesInput, pending: turn.pending ? [turn.pending] : [] }));
    const branch = url.searchParams.get("branch");
    if (branch && !turns.some(({ turnId }) => turnId === branch)) return refuse(response, 404, "turn_not_found", "no such turn");
    const said = branchOf(turns, branch).flatMap((turn) => messages(turn, turns));
    if (!leaf) return json(response, 200, { ...this.#info(session), messages: said, turns: open, queue: { turns: queue.turns.map(waiting), paused: queue.paused } });
    if (leaf === "messages") return json(response, 200, { messages: said });
    if (!turnId && body) return this.#accept(session, turns, body, response);
    if (!turnId) return json(response, 200, { turns: open });
    if (this.removed.has(turnId)) return request.method === "DELETE" ? void response.writeHead(204).end() : refuse(response, 410, "turn_removed", "it was taken back");
    const position = queue.turns.findIndex((turn) => turn.turnId === turnId) + 1;
    if (position > 0) return this.#ofQueued(session, queue, position, request.method, body, response);
    const turn = turns.find((turn) => turn.turnId === turnId);
    if (!turn) return refuse(response, 404, "turn_not_found", "no such turn");
    if (["PATCH", "DELETE"].includes(request.method)) return refuse(response, 409, "turn_started", "the turn has begun");
    if (action === "trace") return json(response, 200, { attempts: turn.attempts });
    if (action === "cancel") return this.#cancel(turn, response);
    if (action === "interactions") return this.#answer(turn, interaction, body, response);
    if (action === "input") return this.#input(turn, body, response);
    const after = Number(url.searchParams.get("after") ?? 0);
    attempt(turn, "resumed", after);
    return this.#stream(turn, after, response);
  }

  #signIn({ token }, response) {
    if (token !== this.token) return refuse(response, 401, "unauthorized", "no such token");
    response.writeHead(204, { "Set-Cookie": `turnkit=${token}; Path=/; HttpOnly; SameSite=Strict` }).end();
  }

  async #asset(path, response) {
    const name = path === "/" ? "index.html" : path.replace(/^\/assets\//, "");
    const content = await readFile(new URL(name, ASSETS)).catch(() => null);
    if (!content) return refuse(response, 404, "not_found", path);
    response.writeHead(200, { "Content-Type": TYPES[extname(name)], "Content-Security-Policy": POLICY, "Cache-Control": "no-cache" });
    response.end(content);
  }

  #info(sessionId) {
    const { title = this.sessions.get(sessionId)[0]?.message ?? null, archived = false } = this.edited.get(sessionId) ?? {};
    return { sessionId, title, archived, createdAt: "2026-01-01T00:00:00.000Z" };
  }

  #edit(session, changes, response) {
    this.edited.set(session, { ...this.edited.get(session), ...changes });
    this.#tell("session.updated", { sessionId: session });
    json(response, 200, this.#info(session));
  }

  #list(query) {
    const before = query.get("before");
    const all = [...this.sessions.keys()].map((sessionId) => this.#info(sessionId));
    const newest = all.filter(({ archived }) => archived === (query.get("archived") === "true")).reverse();
    const from = before ? newest.findIndex(({ sessionId }) => sessionId === before) + 1 : 0;
    return newest.slice(from, from + 200);
  }

  newSession() {
    const id = `session-${this.sessions.size + 1}`;
    this.sessions.set(id, []);
    this.queues.set(id, { turns: [], paused: false });
    this.#tell("session.updated", { sessionId: id });
    return id;
  }

  #delete(session, response) {
    for (const turn of this.sessions.get(session)) if (turn.state === "open") fail(turn, "stopped", { code: "session_deleted", message: "the session was deleted" });
    this.sessions.delete(session);
    this.#tell("session.deleted", { sessionId: session });
    response.writeHead(204).end();
  }

  #feed(request, response) {
    const after = Number(request.headers["last-event-id"]?.split("-")[1] ?? this.#told.length);
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.write(`retry: 100\nid: f-${after}\n\n${this.#told.slice(after).join("")}`);
    this.#listeners.add(response);
    response.once("close", () => this.#listeners.delete(response));
  }

  #tell(name, data) {
    this.#told.push(`event: ${name}\nid: f-${this.#told.length + 1}\ndata: ${JSON.stringify({ ...data, at: "2026-01-01T00:00:00.000Z" })}\n\n`);
    for (const listener of this.#listeners) listener.write(this.#told.at(-1));
  }

  #tellOf(name, { turnId }, session) {
    this.#tell(name, { sessionId: session, turnId });
  }

  /** A turn of another client. @param {{ after?: string, replaces?: string }} [place] */
  begin(session, turnId, message, agent, { after, replaces } = {}) {
    const turns = this.sessions.get(session);
    const indexOf = (name) => turns.findIndex(({ turnId }) => turnId === name);
    const parent = replaces ? turns[indexOf(replaces)].parent : after ? indexOf(after) : turns.length - 1;
    const turn = { session, turnId, message, parent, turnIndex: turns.length, executionId: `demo:${session}:${turns.length}`, agent, events: [], ending: [], state: "open", text: "", waiting: new Set(), attempts: [], answers: new Map(), inputs: new Map() };
    turns.push(turn);
    attempt(turn, "accepted", 0);
    this.#tellOf("turn.accepted", turn, session);
    turn.driven = this.#drive(turn).then(() => {
      if (turn.state !== "stopped") this.#tellOf("turn.ended", turn, session);
      if (this.sessions.has(session)) this.#next(session);
    });
    return turn;
  }

  #accept(session, turns, body, response) {
    const { turnId, message, agent } = body;
    const queue = this.queues.get(session);
    const known = turns.find((turn) => turn.turnId === turnId);
    const open = turns.find(({ state }) => state === "open");
    if (known && known.message !== message) return refuse(response, 409, "turn_conflict", "another message");
    if (known) return this.#stream(known, 0, response);
    if (this.removed.has(turnId)) return refuse(response, 410, "turn_removed", "it was taken back");
    if (!queue.turns.some((turn) => turn.turnId === turnId)) {
      if (!open && queue.turns.length === 0) return this.#stream(this.begin(session, turnId, message, agent, body), 0, response);
      if (!body.queue && !queue.paused) return refuse(response, 409, "turn_running", "another turn is open", { turnId: open?.turnId });
      queue.turns.push(body);
      queue.paused = false;
      this.#tellOf("turn.queued", body, session);
      if (!open) this.#next(session);
    }
    const position = queue.turns.findIndex((turn) => turn.turnId === turnId) + 1;
    json(response, 202, { turnId, state: "queued", position });
  }

  /** Opens the first turn that waits. */
  #next(session) {
    const queue = this.queues.get(session);
    if (queue.paused || this.sessions.get(session).some(({ state }) => state === "open")) return;
    const first = queue.turns.shift();
    if (first) this.begin(session, first.turnId, first.message, first.agent, first);
  }

  #ofQueued(session, queue, position, method, body, response) {
    const turn = queue.turns[position - 1];
    if (method === "PATCH") this.#tellOf("turn.changed", turn, session);
    if (method === "DELETE") this.#tellOf("turn.removed", turn, session);
    if (method === "PATCH") return json(response, 200, waiting(Object.assign(turn, body), position - 1));
    if (method !== "DELETE") return json(response, 202, { turnId: turn.turnId, state: "queued", position });
    queue.turns.splice(position - 1, 1);
    this.removed.add(turn.turnId);
    response.writeHead(204).end();
  }

  /** Of all answers the first one is taken (PROTOCOL 3.6). */
  #answer(turn, id, body, response) {
    const told = JSON.stringify([body.outcome, body.data]);
    if (turn.answers.has(id)) return turn.answers.get(id) === told ? json(response, 200, { state: "answered", outcome: body.outcome }) : refuse(response, 409, "interaction_answered", "it was answered otherwise");
    if (turn.pending?.id !== id) return refuse(response, 404, "interaction_not_found", "no such question");
    const misfit = body.outcome === "accepted" ? this.answer(turn.message).misfit?.(body.data) : null;
    if (misfit) return refuse(response, 422, "invalid_answer", misfit.message, { field: misfit.field });
    turn.answers.set(id, told);
    this.settle(turn, body.outcome, body.data, "ann");
    json(response, 200, { state: "answered", outcome: body.outcome });
  }

  /** The question that waits has come to this. */
  settle(turn, outcome, data, by) {
    emit(turn, "interaction.answered", { id: turn.pending.id, outcome, data, by });
    this.#tellOf("interaction.answered", turn, turn.session);
    turn.pending = null;
    turn.goOn();
  }

  #input(turn, { id, message }, response) {
    if (!turn.takesInput) return refuse(response, 409, "input_not_accepted", "the agent takes none");
    if (!turn.inputs.has(id)) {
      turn.inputs.set(id, message);
      emit(turn, "input", { id, message, by: "ann" });
      emit(turn, "input.taken", { id });
      // The two halves of an answer are joined as two texts are (PROTOCOL 2.3).
      if (turn.text) turn.text += "\n\n";
    }
    json(response, 202, { id, state: "accepted" });
  }

  async #drive(turn) {
    this.runs.set(turn.turnId, (this.runs.get(turn.turnId) ?? 0) + 1);
    const { deltas, events = [], reasoning = [], tool = false, pace = 0, gate, gateAt = 0, failure, questions = [], takesInput = false } = this.answer(turn.message);
    turn.takesInput = takesInput;
    const part = (data, delta) => emit(turn, "message.part.updated", { part: { messageID: "m1", ...data }, ...(delta !== undefined && { delta }) });
    emit(turn, "session.run.started", { sessionId: turn.session, tenantId: "t", turnIndex: turn.turnIndex });
    for (const { type, data } of events) emit(turn, type, data);
    for (const delta of reasoning) part({ id: "r1", type: "reasoning", text: delta }, delta);
    const state = { input: { command: "wc -w" }, title: "Count the words" };
    if (tool) part({ id: "t1", type: "tool", tool: "bash", state: { status: "running", ...state } });
    if (tool) part({ id: "t1", type: "tool", tool: "bash", state: { status: "completed", output: "4\n", ...state } });
    for (const question of questions) {
      turn.pending = question;
      emit(turn, "interaction", question);
      this.#tellOf("interaction.pending", turn, turn.session);
      await new Promise((resolve) => (turn.goOn = () => resolve(undefined)));
      if (turn.state !== "open") return;
    }
    for (const [index, delta] of deltas.entries()) {
      if (gate && index === gateAt) await gate;
      if (pace > 0) await new Promise((resolve) => setTimeout(resolve, pace));
      if (turn.state !== "open") return;
      turn.text += delta;
      part({ id: "p1", type: "text", text: delta }, delta);
    }
    if (failure) return fail(turn, "failed", failure);
    emit(turn, "result", { finalText: turn.text, tokenUsage: { inputTokens: 3, outputTokens: deltas.length }, timing: { totalMs: 1200 } });
    end(turn, "complete", [line("session.run.completed", { sessionId: turn.session })]);
  }

  #cancel(turn, response) {
    this.queues.get(turn.session).paused = true;
    if (turn.state === "open") fail(turn, "stopped", { code: "cancelled", message: "the turn was cancelled" });
    turn.goOn?.();
    this.#tellOf("turn.ended", turn, turn.session);
    json(response, 200, { ...named(turn), state: turn.state });
  }

  async #stream(turn, after, response) {
    response.writeHead(200, { "Content-Type": "application/x-ndjson", "X-Execution-ID": turn.executionId, "Cache-Control": "no-store" });
    response.flushHeaders();
    const isReplay = this.replays && turn.state === "complete";
    const events = isReplay ? [turn.events[0], line("result", { finalText: turn.text })].slice(Math.min(after, 1)) : null;
    const ending = isReplay ? [line("session.run.completed", { sessionId: turn.session, replayed: true })] : turn.ending;
    const closed = new Promise((resolve) => response.once("close", resolve));
    for (let at = after, written = 0; !response.destroyed; ) {
      const lines = events ? [...events, ...ending] : [...turn.events.slice(at), ...(turn.state === "open" ? [] : turn.ending)];
      at = turn.events.length;
      for (const bytes of lines.map((line) => Buffer.from(line))) {
        if (response.destroyed) return;
        if (this.mustCut((written += bytes.length))) {
          this.cuts += 1;
          const cut = 1 + Math.floor(Math.random() * (bytes.length - 1));
          // A browser drops what it has not read yet when a connection breaks: without a pause nothing would ever arrive.
          return response.write(bytes.subarray(0, cut), () => setTimeout(() => response.destroy(), 30));
        }
        response.write(bytes);
      }
      if (turn.state !== "open") return response.end();
      await Promise.race([closed, new Promise((resolve) => turn.waiting.add(resolve))]);
    }
  }
}

const line = (type, data) => `${JSON.stringify({ type, data })}\n`;

function emit(turn, type, data) {
  turn.events.push(line(type, data));
  wake(turn);
}

/** @param {"accepted" | "resumed"} kind */
function attempt(turn, kind, resumedAfter) {
  const hooks = [{ hook: "find_completed", atMs: 1, durationMs: 0.4, ok: true }];
  turn.attempts.push({ kind, startedAt: Date.now(), endedAt: null, resumedAfter, client: "attached", events: 0, outcome: null, code: null, hooks });
}

function end(turn, state, ending) {
  for (const attempt of turn.attempts.filter(({ endedAt }) => endedAt === null)) {
    const outcome = { complete: "completed", stopped: "cancelled", failed: "failed" }[state];
    attempt.hooks.push({ hook: "persist_assistant_message", atMs: 40, durationMs: 7, ok: state === "complete" });
    Object.assign(attempt, { endedAt: attempt.startedAt + 50, events: turn.events.length, outcome });
  }
  Object.assign(turn, { state, ending });
  wake(turn);
}

function fail(turn, state, { code, message, retryable = false }) {
  turn.error = { code, message };
  end(turn, state, [line("error", { message, code }), line("session.run.failed", { sessionId: turn.session, message, retryable, code })]);
}

function wake(turn) {
  for (const go of turn.waiting) go();
  turn.waiting.clear();
}

const named = ({ turnId, executionId, turnIndex }) => ({ turnId, executionId, turnIndex });

const waiting = ({ turnId, message, agent = null }, at) => ({ turnId, position: at + 1, message, agent, createdAt: "2026-01-01T00:00:00.000Z" });

const siblingsOf = (turn, turns) => turns.filter(({ parent }) => parent === turn.parent);

/** The branch that a turn is in, or the newest one: its ancestors, and the newest child of each. */
function branchOf(turns, turnId) {
  const branch = [];
  const named = turnId ? turns.find((turn) => turn.turnId === turnId) : turns.at(-1);
  for (let turn = named; turn; turn = turns[turn.parent]) branch.unshift(turn);
  for (let turn = named; turn; turn = turns.findLast(({ parent }) => parent === turn.turnIndex)) if (turn !== named) branch.push(turn);
  return branch;
}

function messages(turn, turns) {
  const of = siblingsOf(turn, turns);
  const siblings = of.length;
  const siblingIds = siblings > 1 ? of.map(({ turnId }) => turnId) : undefined;
  const common = { ...named(turn), siblings, siblingIds, createdAt: "2026-01-01T00:00:00.000Z" };
  const user = { role: "user", text: turn.message, status: "complete", ...common };
  if (turn.state === "open") return [user];
  return [user, { role: "assistant", text: turn.text, status: turn.state, ...common, ...(turn.error && { error: turn.error }) }];
}

async function text(request) {
  let whole = "";
  for await (const chunk of request) whole += chunk;
  return whole;
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

function refuse(response, status, code, message, more = {}) {
  json(response, status, { success: false, error: { code, message, ...more } });
}
