/**
 * Follows a chat turn to its end, whatever the network does (PROTOCOL 4.4), in browsers and Node 20.
 *
 * ```js
 * import { Turnkit } from "./turnkit.js";
 *
 * const turnkit = new Turnkit();
 * const session = await turnkit.createSession();
 * for await (const update of turnkit.send(session, "Hello")) {
 *   if (update.kind === "connected" && update.cursor === 0) clear(); // the first time, and after a failed attempt
 *   if (update.kind === "event") draw(update.event); // each event once and in order, over any number of connections
 *   if (update.kind === "completed") console.log("saved");
 *   if (update.kind === "failed") throw update.error;
 * }
 * ```
 * After a reload, `openTurns` and `resume` give the running turn from its first event. `assets/answer.js` draws a turn from its
 * events; `finalText` of the last line, where there is one, replaces the text that was drawn (2.3).
 *
 * @typedef {{ type: string, data?: any, [member: string]: unknown }} TurnEvent
 * @typedef {{ event: TurnEvent, line: string }} Line  an event, and its line as it came, without the LF
 * @typedef {{ kind: "completed", replayed: boolean, finalText?: string, line: string }} Completed  the answer is saved
 * @typedef {{ kind: "failed", error: TurnkitError, line: string }} Failed  there is no whole answer
 * @typedef {{ kind: "connected", cursor: number, executionId: string | null }} Connected  at cursor 0: draw anew
 * @typedef {{ kind: "event", cursor: number } & Line} Taken  `cursor` counts this event, and is 0 in a replay
 * @typedef {{ kind: "disconnected", cursor: number, error: TurnkitError, delay: number }} Disconnected  goes on in `delay` ms
 * @typedef {{ kind: "queued", position: number }} Queued  waits until the turns before it have ended, as number `position` from 1
 * @typedef {Connected | Taken | Disconnected | Queued | Completed | Failed} Update  the last two are last
 * @typedef {{ sessionId: string, title?: string | null, archived?: boolean, createdAt?: number | string }} Session
 * @typedef {{ turnId: string, executionId: string, turnIndex: number, acceptsInput?: boolean, pending?: object[] }} OpenTurn  `pending`: what its
 *   agent asks (3.6)
 * @typedef {{ outcome: "accepted" | "declined" | "cancelled", data?: unknown }} Reply  to a question
 * @typedef {{ turnId: string, position: number, message: string, agent?: string | null, createdAt: number | string }} QueuedTurn
 * @typedef {{ usage?: { inputTokens: number, outputTokens: number, reasoningTokens?: number, cachedInputTokens?: number },
 *   timing?: { totalMs?: number, firstTokenMs?: number }, model?: string, finishReason?: string }} Account  what the agent told of its answer
 * @typedef {{ role: "user" | "assistant", text: string, input?: string, parts?: object[], siblings: number, siblingIds?: string[], status: "complete" | "stopped" | "failed", turnIndex: number,
 *   turnId: string, executionId: string, createdAt: number | string, error?: { code?: string, message: string } } & Account} Message
 * @typedef {Session & { messages: Message[], turns: OpenTurn[], queue?: { turns: QueuedTurn[], paused: boolean } }} SessionState
 * @typedef {{ before?: number, turns?: number, branch?: string }} MessagePage  `branch`: a turn of the branch, the newest one otherwise
 * @typedef {{ session: string, id: string, cursor: number, start?: object, isKnown?: boolean, restarts?: number }} Turn
 */

/** Why a request, a connection or a turn failed. */
export class TurnkitError extends Error {
  /**
   * @param {string} code  the server's, or `network`, `idle`, `cut`, `bad_response`, `invalid_line`
   * @param {string} message
   * @param {{ retryable?: boolean, status?: number, phase?: string, turnId?: string, field?: string, retryAfter?: number }} details
   *   `retryable`: the same again may succeed; `status`: of HTTP; `field`: what is wrong in the request; `retryAfter`: ms that the server
   *   asked to wait
   */
  constructor(code, message, details = {}) {
    super(message);
    this.name = "TurnkitError";
    this.code = code;
    this.retryable = details.retryable === true;
    this.details = details;
  }
}

/** NDJSON from chunks that are cut anywhere (PROTOCOL 1.2). Looks at each byte once and holds at most one line. */
export class LineDecoder {
  #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  /** @type {Uint8Array[]} */
  #pieces = [];
  #held = 0;
  #maxLine;

  /** @param {number} [maxLine]  bytes that a line may have */
  constructor(maxLine = 32 * 1024 * 1024) {
    this.#maxLine = maxLine;
  }

  /** @param {Uint8Array} chunk @returns {(Line | TurnkitError)[]}  the lines that end in it; a bad one is one error */
  push(chunk) {
    /** @type {(Line | TurnkitError)[]} */
    const lines = [];
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      this.#hold(chunk.subarray(start, end));
      lines.push(...this.#take());
    }
    this.#hold(chunk.subarray(start));
    return lines;
  }

  /** @returns {(Line | TurnkitError)[]}  the last line, where it is whole without LF; the reader of a cut one resumes */
  finish() {
    return this.#take().filter((line) => !(line instanceof TurnkitError));
  }

  /** @param {Uint8Array} bytes */
  #hold(bytes) {
    this.#held += bytes.length;
    if (this.#held <= this.#maxLine) this.#pieces.push(bytes);
    else this.#pieces = [];
  }

  /** @returns {(Line | TurnkitError)[]} */
  #take() {
    const [pieces, length] = [this.#pieces, this.#held];
    [this.#pieces, this.#held] = [[], 0];
    try {
      if (length > this.#maxLine) throw new RangeError(`it has ${length} bytes, over the limit of ${this.#maxLine}`);
      const line = this.#utf8.decode(pieces.length === 1 ? pieces[0] : concat(pieces, length));
      if (line.trim() === "") return [];
      const event = JSON.parse(line);
      if (Array.isArray(event) || typeof event.type !== "string" || !event.type) throw new TypeError("it has no type");
      return [{ event, line }];
    } catch (thrown) {
      return [new TurnkitError("invalid_line", `a line is no event: ${thrown}`)];
    }
  }
}

/** A `turnId` for a new turn: 32 hexadecimal digits. `crypto.randomUUID` is missing on plain HTTP. */
export function newTurnId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What the name of a sibling ends with. */
const SIBLING = /:r([1-9]\d{0,5})$/;

/** The place of a turn among those that share its parent, by its name: 0 for the first (PROTOCOL 4.4). @param {string} turnId */
export const siblingPlace = (turnId) => Number(SIBLING.exec(turnId)?.[1] ?? 0);

/** The name of the sibling at a place: so the same wish of two devices is one turn. @param {string} turnId @param {number} place */
export function siblingId(turnId, place) {
  const first = turnId.replace(SIBLING, "");
  return place === 0 ? first : `${first}:r${place}`;
}

/** The product's routes. All that rejects does so with a `TurnkitError`, or with the reason of an aborted signal. */
export class Turnkit {
  /** Ends each pause that there is. @type {Set<() => void>} */
  #pauses = new Set();

  /**
   * @param {{ base?: string, headers?: Record<string, string>, fetch?: typeof fetch, idleTimeout?: number,
   *   maxRestarts?: number, patience?: number, now?: () => number, backOff?: (attempt: number) => number }} [options]
   *   `idleTimeout`: ms of silence that count as a lost connection, where servers send a blank line every 15 s;
   *   `maxRestarts`: how often a turn that failed retryably is tried anew; `patience`: ms after which a row of failures is
   *   given up, where nobody sees that it waits; `now`: the clock for that, in ms; `backOff`: ms before attempt 1, 2, …
   */
  constructor(options = {}) {
    const fetch = globalThis.fetch.bind(globalThis);
    const patience = Infinity;
    this.options = { base: "", headers: {}, fetch, idleTimeout: 45_000, maxRestarts: 2, patience, now: Date.now, backOff, ...options };
    globalThis.addEventListener?.("online", () => this.wake());
  }

  /** Ends every pause before a new connection now. */
  wake() { for (const end of [...this.#pauses]) end(); }

  /** @returns {Promise<string>}  the new session's id */
  async createSession() { return (await this.call("POST", "/api/sessions", {})).sessionId; }

  /** @param {{ before?: string, limit?: number, archived?: boolean | "any" }} [page] @returns {Promise<Session[]>}  newest first */
  async sessions(page = {}) { return (await this.call("GET", `/api/sessions${query(page)}`)).sessions; }

  /** Names a session, archives it or takes it back. @param {string} session @param {{ title?: string, archived?: boolean }} changes @returns {Promise<Session>} */
  editSession(session, changes) { return this.call("PATCH", sessionPath(session), changes); }

  /** Deletes a session: nothing of it stays. @param {string} session */
  async deleteSession(session) { await this.call("DELETE", sessionPath(session)); }

  /** @param {string} session @param {MessagePage} [page] @returns {Promise<SessionState>}  messages, and what runs and waits, of one moment */
  session(session, page = {}) { return this.call("GET", `${sessionPath(session)}${query(page)}`); }

  /** @param {string} session @param {MessagePage} [page] @returns {Promise<Message[]>} */
  async messages(session, page = {}) { return (await this.call("GET", `${sessionPath(session)}/messages${query(page)}`)).messages; }

  /** @param {string} session @returns {Promise<OpenTurn[]>}  what still runs: how a reloaded page finds its turn */
  async openTurns(session) { return (await this.call("GET", `${sessionPath(session)}/turns?state=open`)).turns; }

  /** @param {string} session @param {string} turnId @param {{ message?: string, agent?: string }} edit @returns {Promise<QueuedTurn>} */
  editQueued(session, turnId, edit) { return this.call("PATCH", turnPath(session, turnId), edit); }

  /** Takes a turn back that waits. @param {string} session @param {string} turnId */
  async removeQueued(session, turnId) { await this.call("DELETE", turnPath(session, turnId)); }

  /**
   * Starts a turn, or takes up the one that has this `turnId`, and follows it. Never runs an agent twice.
   * @param {string} session @param {string} message
   * @param {{ turnId?: string, agent?: string, after?: string, replaces?: string, queue?: boolean, signal?: AbortSignal }} [options]
   *   `after`: the turn that it goes on from, the newest otherwise; `replaces`: the turn in whose place it stands; `queue`: it waits
   *   where another one runs
   */
  send(session, message, { turnId = newTurnId(), signal, ...options } = {}) {
    return this.#follow({ session, id: turnId, cursor: 0, start: { turnId, message, ...options } }, signal);
  }

  /**
   * Follows a turn from a cursor on. Never starts one.
   * @param {string} session @param {string} turnId @param {{ after?: number, signal?: AbortSignal }} [options]
   */
  resume(session, turnId, { after = 0, signal } = {}) {
    return this.#follow({ session, id: turnId, cursor: after }, signal);
  }

  /** Stops a turn; who follows it sees it fail with code `cancelled`. @param {string} session @param {string} turnId */
  async stop(session, turnId) { await this.call("POST", `${turnPath(session, turnId)}/cancel`, {}); }

  /**
   * Answers a question of a running turn's agent (PROTOCOL 3.6); asks again where that is lost. Of all answers one is taken: another one
   * rejects with `interaction_answered`, and one that does not fit with `invalid_answer` and its place in `details.field`.
   * @param {string} session @param {string} turnId @param {string} id @param {Reply} reply @param {{ signal?: AbortSignal }} [options]
   */
  answer(session, turnId, id, reply, { signal } = {}) {
    return this.#untilAnswered(`${turnPath(session, turnId)}/interactions/${encodeURIComponent(id)}`, reply, signal);
  }

  /**
   * Sends a message into a running turn, once however often it is lost on the way. Rejects with `input_not_accepted` where the agent takes none.
   * @param {string} session @param {string} turnId @param {string} message @param {{ id?: string, signal?: AbortSignal }} [options]
   */
  input(session, turnId, message, { id = newTurnId(), signal } = {}) {
    return this.#untilAnswered(`${turnPath(session, turnId)}/input`, { id, message }, signal);
  }

  /** What may be sent twice is sent until it is answered. @param {string} path @param {object} body @param {AbortSignal} [signal] */
  async #untilAnswered(path, body, signal) {
    const since = this.options.now();
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.call("POST", path, body);
      } catch (thrown) {
        const error = failure(thrown, signal);
        if (!error.retryable) throw error;
        const delay = Math.max(this.options.backOff(attempt), error.details.retryAfter ?? 0);
        if (this.options.now() + delay - since > this.options.patience) throw error;
        await this.#pause(delay, signal);
      }
    }
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
  async call(method, path, body) {
    const answer = this.#request(method, path, body, new AbortController());
    const json = answer.then((response) => (response.status === 204 ? {} : response.json()));
    return json.catch((thrown) => Promise.reject(failure(thrown)));
  }

  /** @param {Turn} turn @param {AbortSignal} [signal] @returns {AsyncGenerator<Update, void, void>} */
  async *#follow(turn, signal) {
    for (let attempt = 1, since = 0; ; attempt += 1) {
      const before = turn.cursor;
      let error = new TurnkitError("cut", "the connection ended before the turn did", { retryable: true });
      let isQueued = false;
      try {
        const ending = yield* this.#read(turn, signal);
        isQueued = ending?.kind === "queued";
        if (ending) yield ending;
        if (ending && !isQueued) return;
      } catch (thrown) {
        error = failure(thrown, signal);
        if (!error.retryable) throw error;
      }
      if (turn.cursor > before) attempt = 1;
      if (attempt === 1 || isQueued) since = this.options.now();
      const delay = Math.max(this.options.backOff(attempt), error.details.retryAfter ?? 0);
      if (!isQueued && this.options.now() + delay - since > this.options.patience) throw error;
      if (!isQueued) yield { kind: "disconnected", cursor: turn.cursor, error, delay };
      await this.#pause(delay, signal);
    }
  }

  /** @param {Turn} turn @param {AbortSignal} [signal] @returns {AsyncGenerator<Update, Completed | Failed | Queued | void, void>} */
  async *#read(turn, signal) {
    const connection = new AbortController();
    try {
      const [method, path, body] = turn.start && !turn.isKnown
        ? ["POST", `${sessionPath(turn.session)}/turns`, turn.start]
        : ["GET", `${turnPath(turn.session, turn.id)}?after=${turn.cursor}`];
      const response = await this.#request(method, path, body, connection, signal);
      const waiting = response.status === 202 ? await this.#unlessIdle(connection, response.json()).catch(() => null) : null;
      if (waiting?.state === "queued") {
        turn.isKnown = true;
        return { kind: "queued", position: waiting.position };
      }
      if (!response.headers.get("Content-Type")?.startsWith("application/x-ndjson")) {
        throw new TurnkitError("bad_response", "the answer is no turn: something in between sent it", { retryable: true });
      }
      turn.isKnown = true;
      const executionId = response.headers.get("X-Execution-ID");
      yield { kind: "connected", cursor: turn.cursor, executionId };
      let isReplay = false;
      for await (const { event, line } of this.#lines(response, connection)) {
        const { type, data } = event;
        if (type === "session.run.completed") {
          return { kind: "completed", replayed: data?.replayed === true, finalText: data?.finalText, line };
        }
        if (type === "session.run.started" && data?.replayed === true) {
          [turn.cursor, isReplay] = [0, true];
          yield { kind: "connected", cursor: 0, executionId };
        }
        if (type === "session.run.failed") {
          const { code = "failed", message = "the turn failed", retryable = false, phase } = data ?? {};
          const error = new TurnkitError(code, message, { retryable, phase });
          turn.restarts = (turn.restarts ?? 0) + 1;
          if (!retryable || turn.restarts > this.options.maxRestarts) return { kind: "failed", error, line };
          // The cursor is void, and only what starts a turn can start one that was accepted but not dispatched.
          [turn.cursor, turn.isKnown] = [0, false];
          throw error;
        }
        // The first of two terminal lines: no cursor counts it, and the second one says the same.
        if (type === "error") continue;
        if (!isReplay) turn.cursor += 1;
        yield { kind: "event", event, line, cursor: turn.cursor };
      }
    } finally {
      connection.abort();
    }
  }

  /** @param {Response} response @param {AbortController} connection @returns {AsyncGenerator<Line, void, void>} */
  async *#lines(response, connection) {
    const decoder = new LineDecoder();
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    for (let isDone = false; !isDone; ) {
      const { value, done } = await this.#unlessIdle(connection, reader.read());
      isDone = done;
      for (const line of value ? decoder.push(value) : decoder.finish()) {
        if (line instanceof TurnkitError) throw line;
        yield line;
      }
    }
  }

  /**
   * @param {string} method @param {string} path @param {object | undefined} body @param {AbortController} connection
   * @param {AbortSignal} [signal] @returns {Promise<Response>}
   */
  async #request(method, path, body, connection, signal) {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", () => connection.abort(signal.reason), { signal: connection.signal });
    const { base, headers, fetch } = this.options;
    const json = body && { body: JSON.stringify(body, wellFormed), headers: { ...headers, "Content-Type": "application/json" } };
    const request = fetch(base + path, { method, headers, ...json, signal: connection.signal });
    const response = await this.#unlessIdle(connection, request);
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** @template T @param {AbortController} connection @param {Promise<T>} answer @returns {Promise<T>} */
  async #unlessIdle(connection, answer) {
    const idle = () => connection.abort(new TurnkitError("idle", "the server fell silent", { retryable: true }));
    const timer = setTimeout(idle, this.options.idleTimeout);
    return answer.finally(() => clearTimeout(timer));
  }

  /** @param {number} delay @param {AbortSignal} [signal] */
  async #pause(delay, signal) {
    signal?.throwIfAborted();
    await new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        signal?.removeEventListener("abort", end);
        resolve(undefined);
      };
      const timer = setTimeout(end, delay);
      this.#pauses.add(end);
      signal?.addEventListener("abort", end);
    });
    signal?.throwIfAborted();
  }
}

const sessionPath = (/** @type {string} */ id) => `/api/sessions/${encodeURIComponent(id)}`;
const turnPath = (/** @type {string} */ session, /** @type {string} */ id) => `${sessionPath(session)}/turns/${encodeURIComponent(id)}`;
const query = (/** @type {object} */ page) => `?${new URLSearchParams(Object.entries(page))}`;
/** @param {number} attempt  0.25 s doubling to 8 s, ± 20 % */
const backOff = (attempt) => Math.min(250 * 2 ** (attempt - 1), 8000) * (0.8 + 0.4 * Math.random());

/** Half of a surrogate pair is no text: a server refuses it, and it becomes U+FFFD. @param {string} _ @param {unknown} value */
const wellFormed = (_, value) => (typeof value === "string" ? value.toWellFormed() : value);

/** @param {Uint8Array[]} pieces @param {number} length */
function concat(pieces, length) {
  const whole = new Uint8Array(length);
  pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
  return whole;
}

/** @param {Response} response @returns {Promise<TurnkitError>}  what the server says where it refuses */
async function refusal(response) {
  const { error } = (await response.json().catch(() => null)) ?? {};
  const { code, message, turnId, field } = { code: `http_${response.status}`, message: "the server refuses", ...error };
  const retryable = [408, 425, 429, 502, 503, 504].includes(response.status);
  const retryAfter = wait(response.headers.get("Retry-After") ?? "");
  return new TurnkitError(code, message, { status: response.status, turnId, field, retryable, retryAfter });
}

/** @param {string} retryAfter  seconds or a date @returns {number}  ms, at most an hour: a timer has no room for all numbers */
function wait(retryAfter) {
  const delay = /^\d+$/.test(retryAfter) ? 1000 * Number(retryAfter) : Date.parse(retryAfter) - Date.now();
  return Math.min(Math.max(delay || 0, 0), 3_600_000);
}

/** @param {unknown} thrown @param {AbortSignal} [signal] @returns {any}  who aborts gets their own reason back */
function failure(thrown, signal) {
  if (signal?.aborted) return signal.reason;
  if (thrown instanceof TurnkitError) return thrown;
  return new TurnkitError("network", `the server cannot be reached: ${thrown}`, { retryable: true });
}
