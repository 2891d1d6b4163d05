/** One chat on the page: its turns, each followed to its end and then checked against what the server saved. */
import { Answer, make } from "./answer.js";
import { TurnLog } from "./developer.js";
import { ofTab } from "./storage.js";
import { newTurnId } from "./turnkit.js";

/**
 * @typedef {import("./turnkit.js").Update} Update
 * @typedef {import("./turnkit.js").Message} Message
 * @typedef {import("./turnkit.js").TurnkitError} TurnkitError
 * @typedef {"running" | "complete" | "stopped" | "failed"} State
 * @typedef {object} Page  what a conversation tells the page
 * @property {() => void} changed  a turn began, ended or came to be shown
 * @property {(error: TurnkitError | null) => void} network  lost, or (null) there again
 * @property {(message: string, error: TurnkitError) => void} returned  the server did not take this message
 * @property {(error: TurnkitError) => void} refused  a call failed that has no place in the conversation
 * @property {(text: string) => void} announce  for those who do not see the page
 * @property {() => void} draw  something is to be drawn with the next frame
 */

/** What the page says of a failure, by its code (PROTOCOL 2.4, 4.1). The rest shows the server's words. */
const FAILURES = new Map(Object.entries({
  execution_lost: "The service that ran this answer no longer has it, and the agent was not run a second time.",
  runner_lost: "The machine that ran this answer is gone, and the agent was not run a second time.",
  execution_conflict: "This turn belongs to another request.",
  empty_answer: "The agent ended without an answer.",
  timeout: "The agent took too long and was stopped.",
  log_full: "The answer grew over the limit of its log.",
  text_too_large: "The answer is too large to be saved.",
  network: "The server cannot be reached.",
}));

/** What the page says of an answer that its model did not bring to an end, by the reason (PROTOCOL 1.1). */
const CUTS = new Map(Object.entries({
  length: "Cut: the model came to its limit",
  "content-filter": "Cut by the model's content filter",
}));

/** A message that was sent and not yet taken: it outlives a reload of this tab. */
class Outbox {
  /** @param {string} session */
  constructor(session) {
    this.key = `turnkit.outbox.${session}`;
  }

  /** @returns {{ turnId: string, message: string, agent?: string } | null} */
  get() {
    return JSON.parse(ofTab.get(this.key) ?? "null");
  }

  /** @param {{ turnId: string, message: string, agent?: string }} turn */
  put(turn) {
    ofTab.set(this.key, JSON.stringify(turn));
  }

  /** @param {string} turnId */
  remove(turnId) {
    if (this.get()?.turnId === turnId) ofTab.remove(this.key);
  }
}

/** One turn on the page: the user's message and the answer to it. */
class TurnView {
  /** @type {State | null} */
  state = null;
  index = Infinity;
  isTaken = false;
  wantsStop = false;
  /** What the agent told of the answer. @type {import("./turnkit.js").Account} */
  account = {};
  log = new TurnLog();
  element = make("section", "turn");
  #parts = make("div", "parts");
  #answer = make("article", "message assistant");
  #footer = make("footer", "");

  /** @param {string} turnId @param {string} prompt */
  constructor(turnId, prompt) {
    this.turnId = turnId;
    this.prompt = prompt;
    this.answer = new Answer(this.#parts, prompt);
    const question = make("article", "message user");
    const bubble = make("div", "bubble", prompt);
    bubble.dir = "auto";
    question.append(make("h2", "hidden", "You"), bubble);
    this.#answer.append(make("h2", "hidden", "Assistant"), this.#parts, this.#footer);
    this.#answer.tabIndex = -1;
    this.element.dataset.turn = turnId;
    this.element.append(question, this.#answer);
  }

  run() {
    this.wantsStop = false;
    this.account = {};
    this.#set("running");
  }

  /** @param {State} state @param {{ code?: string, message: string } | null} [error] @param {() => void} [again] */
  end(state, error = null, again) {
    this.#set(state);
    this.#footer.dataset.usage = figuresOf(this.account);
    const cut = CUTS.get(this.account.finishReason ?? "");
    if (cut) this.#footer.append(make("p", "status", cut));
    if (state === "stopped") this.#footer.append(make("p", "status", "Stopped"));
    if (state !== "failed") return;
    const box = make("div", "failure");
    const why = FAILURES.get(error?.code ?? "") ?? error?.message ?? "";
    box.append(make("strong", "", "The answer failed"), make("p", "", why));
    if (error?.code) box.append(make("code", "", error.code));
    if (again) box.append(button("Ask again", again));
    this.#footer.append(box);
  }

  /** @param {State} state */
  #set(state) {
    this.state = state;
    delete this.#footer.dataset.usage;
    this.element.dataset.state = state;
    this.#answer.setAttribute("aria-busy", `${state === "running"}`);
    this.#footer.replaceChildren();
  }
}

/** @param {import("./turnkit.js").Account} account */
function figuresOf({ usage, timing, model }) {
  const isCount = (/** @type {unknown} */ value) => Number.isSafeInteger(value) && Number(value) >= 0;
  const isUsage = isCount(usage?.inputTokens) && isCount(usage?.outputTokens);
  const figures = [
    typeof model === "string" && model.slice(0, 80),
    isUsage && `${usage?.inputTokens} tokens in`,
    isUsage && `${usage?.outputTokens} out`,
    isCount(timing?.totalMs) && `${((timing?.totalMs ?? 0) / 1000).toFixed(1)} s`,
  ];
  return figures.filter(Boolean).join(" · ");
}

/** A session's turns. `close` it before another one is shown. */
export class Conversation {
  /** @type {Map<string, TurnView>} */
  #turns = new Map();
  /** @type {Set<TurnView>} */
  #undrawn = new Set();
  #closed = new AbortController();
  /** @type {Promise<void> | null} */
  #syncing = null;
  #outbox;
  /** Whether it showed once what the server has. */
  isOpen = false;

  /** @param {import("./turnkit.js").Turnkit} turnkit @param {string} session @param {HTMLElement} element @param {Page} page */
  constructor(turnkit, session, element, page) {
    this.turnkit = turnkit;
    this.session = session;
    this.element = element;
    this.page = page;
    this.#outbox = new Outbox(session);
  }

  /** The turn that runs. */
  get running() {
    return [...this.#turns.values()].findLast((turn) => turn.state === "running") ?? null;
  }

  /** The last turn. */
  get last() {
    const { turn = "" } = /** @type {HTMLElement | null} */ (this.element.lastElementChild)?.dataset ?? {};
    return this.#turns.get(turn) ?? null;
  }

  get hasEarlier() {
    const first = this.#first();
    return Number.isFinite(first) && first > 0;
  }

  /** Shows what is saved, takes up what runs, and sends what a reload kept from being sent. */
  async open() {
    await this.sync();
    if (!this.isOpen || this.#closed.signal.aborted) return;
    const unsent = this.#outbox.get();
    if (unsent && !this.#turns.has(unsent.turnId)) this.#start(unsent);
    else if (unsent) this.#outbox.remove(unsent.turnId);
  }

  /** Stops following; what runs goes on without this page. */
  close() {
    this.#closed.abort();
    this.element.replaceChildren();
  }

  /** Brings the page to what the server has. Calls while one is under way share it. */
  sync() {
    this.#syncing ??= this.#sync().finally(() => (this.#syncing = null));
    return this.#syncing;
  }

  /** Whether another tab or device began a turn that is not shown here. */
  async hasNews() {
    const open = await this.turnkit.openTurns(this.session);
    return open.some(({ turnId }) => !this.#turns.has(turnId));
  }

  /** Shows the messages before the first one. */
  async earlier() {
    this.#show(await this.turnkit.messages(this.session, { before: this.#first() }));
  }

  /** @param {string} message @param {string} [agent] */
  send(message, agent) {
    if (!this.running) this.#start({ turnId: newTurnId(), message, agent });
  }

  async stop() {
    const turn = this.running;
    if (!turn) return;
    turn.wantsStop = true;
    turn.element.dataset.state = "stopping";
    if (turn.isTaken) await this.#stop(turn);
  }

  draw() {
    for (const turn of this.#undrawn) turn.answer.draw();
    this.#undrawn.clear();
  }

  #first() {
    return [...this.#turns.values()].reduce((first, { index }) => Math.min(first, index), Infinity);
  }

  async #sync() {
    // In this order: a turn that ends in between is then among the messages, and one that begins has no answer there.
    const open = await this.turnkit.openTurns(this.session);
    const messages = await this.turnkit.messages(this.session);
    if (this.#closed.signal.aborted) return;
    this.page.network(null);
    this.isOpen = true;
    this.#show(messages);
    for (const { turnId } of open) if (!this.#turns.has(turnId)) this.#add(turnId, "");
    for (const turn of this.#turns.values()) {
      if (turn.state === null) this.#resume(turn);
    }
  }

  /** @param {Message[]} messages */
  #show(messages) {
    if (this.#closed.signal.aborted) return;
    for (const message of messages) {
      const turn = this.#turns.get(message.turnId) ?? this.#add(message.turnId, message.text);
      if (turn.index !== message.turnIndex) this.#place(turn, message.turnIndex);
      if (message.role === "assistant" && turn.state !== "running") this.#saved(turn, message);
    }
    this.page.changed();
  }

  /** @param {TurnView} turn @param {Message} message */
  #saved(turn, { text, parts = [], status, error, usage, timing, model, finishReason }) {
    // A whole answer may come after the turn was said to have failed.
    if (turn.state !== null && turn.state !== status) turn.answer.clear();
    // What was drawn live stays: it is the same, or of a failed answer more than was saved, and not to be folded anew.
    if (turn.answer.isEmpty()) turn.answer.restore(parts);
    if (status === "complete" || !turn.answer.text().startsWith(text)) turn.answer.replaceText(text);
    turn.answer.end();
    if (turn.state === status) return;
    turn.account = { usage, timing, model, finishReason };
    turn.end(status, error, () => this.send(turn.prompt));
  }

  /** @param {string} turnId @param {string} prompt */
  #add(turnId, prompt) {
    const turn = new TurnView(turnId, prompt);
    this.#turns.set(turnId, turn);
    this.element.append(turn.element);
    return turn;
  }

  /** @param {TurnView} turn @param {number} index */
  #place(turn, index) {
    turn.index = index;
    const next = [...this.#turns.values()].filter((other) => other !== turn && other.index > index);
    const before = next.sort((a, b) => a.index - b.index)[0]?.element ?? null;
    if (turn.element.nextElementSibling !== before) this.element.insertBefore(turn.element, before);
  }

  /** @param {{ turnId: string, message: string, agent?: string }} unsent */
  #start({ turnId, message, agent }) {
    this.#outbox.put({ turnId, message, agent });
    const turn = this.#add(turnId, message);
    this.#follow(turn, this.turnkit.send(this.session, message, { turnId, agent, signal: this.#closed.signal }));
  }

  /** @param {TurnView} turn */
  #resume(turn) {
    turn.isTaken = true;
    this.#follow(turn, this.turnkit.resume(this.session, turn.turnId, { signal: this.#closed.signal }));
  }

  /** @param {TurnView} turn @param {AsyncIterable<Update>} updates */
  async #follow(turn, updates) {
    turn.run();
    turn.log = new TurnLog();
    this.page.changed();
    try {
      for await (const update of updates) this.#take(turn, update);
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      this.#abandon(turn, /** @type {TurnkitError} */ (error));
    }
    this.#undrawn.delete(turn);
    this.page.changed();
    // One that is under way may have asked before this turn ended.
    await this.#syncing?.catch(() => {});
    await this.sync().catch(() => {});
  }

  /** @param {TurnView} turn @param {Update} update */
  #take(turn, update) {
    turn.log.take(update);
    this.page.draw();
    switch (update.kind) {
      case "connected":
        return this.#connected(turn, update.cursor);
      case "event":
        return this.#event(turn, update.event);
      case "disconnected":
        return this.page.network(update.error);
      case "completed":
        turn.answer.end(update.finalText);
        turn.end("complete");
        return this.page.announce("The answer is complete.");
      case "failed":
        return this.#failed(turn, update.error);
    }
  }

  /** @param {TurnView} turn @param {number} cursor */
  #connected(turn, cursor) {
    if (cursor === 0) turn.answer.clear();
    if (!turn.isTaken) this.page.announce("The answer begins.");
    turn.isTaken = true;
    this.#outbox.remove(turn.turnId);
    this.page.network(null);
    this.page.changed();
    if (turn.wantsStop) this.#stop(turn);
  }

  /** @param {TurnView} turn @param {import("./turnkit.js").TurnEvent} event */
  #event(turn, event) {
    const { type, data } = event;
    if (type === "session.run.started" && Number.isSafeInteger(data?.turnIndex)) this.#place(turn, data.turnIndex);
    if (type === "result") turn.account = { ...data, usage: data?.tokenUsage };
    turn.answer.take(event);
    this.#undrawn.add(turn);
    this.page.network(null);
  }

  /** @param {TurnView} turn @param {TurnkitError} error */
  #failed(turn, error) {
    const isStopped = error.code === "cancelled";
    turn.answer.end();
    // A turn that may be tried again is still open: a new one would be refused.
    const again = () => (error.retryable ? this.#resume(turn) : this.send(turn.prompt));
    turn.end(isStopped ? "stopped" : "failed", error, again);
    this.page.announce(isStopped ? "The answer was stopped." : "The answer failed.");
  }

  /** The server refuses the turn, or to go on with it. @param {TurnView} turn @param {TurnkitError} error */
  #abandon(turn, error) {
    if (turn.isTaken) {
      if (error.details.status === 401) this.page.refused(error);
      turn.answer.end();
      return turn.end("failed", error, () => this.#resume(turn));
    }
    this.#outbox.remove(turn.turnId);
    this.#turns.delete(turn.turnId);
    turn.element.remove();
    this.page.returned(turn.prompt, error);
  }

  /** @param {TurnView} turn */
  async #stop(turn) {
    try {
      await this.turnkit.stop(this.session, turn.turnId);
      turn.wantsStop = false;
    } catch (thrown) {
      const error = /** @type {TurnkitError} */ (thrown);
      // With the next connection it is asked again.
      if (error.retryable) return;
      turn.wantsStop = false;
      this.page.refused(error);
      this.page.changed();
    }
  }
}

/** @param {string} text @param {() => void} pressed */
function button(text, pressed) {
  const element = make("button", "", text);
  element.addEventListener("click", pressed);
  return element;
}
