/** One chat on the page: the turns of one branch, each followed to its end and then checked against what the server saved. */
import { lineFeedsBetween } from "./answer.js";
import { TurnLog } from "./developer.js";
import { make } from "./elements.js";
import { ofTab } from "./storage.js";
import { TurnView } from "./turn.js";
import { newTurnId, siblingId } from "./turnkit.js";

/**
 * @typedef {import("./turnkit.js").Update} Update
 * @typedef {import("./turnkit.js").Message} Message
 * @typedef {import("./turnkit.js").SessionState} SessionState
 * @typedef {import("./turnkit.js").TurnkitError} TurnkitError
 * @typedef {{ turnId: string, message: string, agent?: string, after?: string, replaces?: string }} Sent  a turn as it is asked for
 * @typedef {object} Page  what a conversation tells the page, and asks it
 * @property {() => void} changed  a turn began, ended or came to be shown
 * @property {(error: TurnkitError | null) => void} network  lost, or (null) there again
 * @property {(message: string, error: TurnkitError) => void} returned  the server did not take this message
 * @property {(error: TurnkitError) => void} refused  a call failed that has no place in the conversation
 * @property {(text: string) => void} announce  for those who do not see the page
 * @property {() => void} draw  something is to be drawn with the next frame
 * @property {() => string | undefined} agent  who shall answer
 */

/** Turns that the server gives at once. */
const PAGE = 200;

/** Messages that were sent and not yet taken, in their order: they outlive a reload of this tab. */
class Outbox {
  /** @param {string} session */
  constructor(session) {
    this.key = `turnkit.outbox.${session}`;
  }

  /** @returns {Sent[]} */
  get() {
    return JSON.parse(ofTab.get(this.key) ?? "[]");
  }

  /** @param {Sent} turn */
  put(turn) {
    const others = this.get().filter(({ turnId }) => turnId !== turn.turnId);
    ofTab.set(this.key, JSON.stringify([...others, turn]));
  }

  /** @param {string} turnId */
  remove(turnId) {
    const others = this.get().filter((turn) => turn.turnId !== turnId);
    if (others.length > 0) ofTab.set(this.key, JSON.stringify(others));
    else ofTab.remove(this.key);
  }
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
  /** When the server has the message that was sent last, or has refused it. @type {Promise<void>} */
  #sent = Promise.resolve();
  /** A turn of the branch that is shown, where it is not the newest one. @type {string | null} */
  #branch = null;
  /** Whether a turn of another branch runs. */
  #isBusyElsewhere = false;
  /** Why what waits does not begin. */
  #paused = make("p", "paused", "Stopped. Your next message goes behind what waits, and starts it.");
  /** Whether it showed once what the server has. */
  isOpen = false;
  hasEarlier = false;
  /** What it is called, and whether it is archived, as the server told last. @type {import("./turnkit.js").Session | null} */
  info = null;

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

  /** Whether a message that is sent now has to wait. */
  get isBusy() {
    return this.#isBusyElsewhere || [...this.#turns.values()].some(({ state }) => state === "running" || state === "queued");
  }

  /** The last turn that does not wait. */
  get last() {
    const shown = [...this.element.querySelectorAll(/** @type {"section"} */ (".turn"))].map(({ dataset }) => this.#turns.get(dataset.turn ?? ""));
    return shown.findLast((turn) => turn && turn.state !== "queued") ?? shown[0] ?? null;
  }

  /** Shows what is saved, takes up what runs, and sends what a reload kept from being sent. */
  async open() {
    await this.sync();
    if (!this.isOpen || this.#closed.signal.aborted) return;
    for (const unsent of this.#outbox.get()) {
      if (this.#turns.has(unsent.turnId)) this.#outbox.remove(unsent.turnId);
      else this.#start(unsent);
    }
  }

  /** Stops following; what runs goes on without this page. */
  close() {
    this.#closed.abort();
    for (const turn of this.#turns.values()) turn.left.abort();
    this.element.replaceChildren();
  }

  /** Brings the page to what the server has. Calls while one is under way share it. */
  sync() {
    this.#syncing ??= this.#sync().finally(() => (this.#syncing = null));
    return this.#syncing;
  }

  /** The same, where what is under way may have asked too early. */
  async afresh() {
    await this.#syncing?.catch(() => {});
    await this.sync();
  }

  /** Whether it shows the turn, in this state. @param {string} turnId @param {boolean} isQueued */
  has(turnId, isQueued) {
    const state = this.#turns.get(turnId)?.state ?? null;
    return state !== null && (state === "queued") === isQueued;
  }

  /** Whether another tab or device began a turn that is not shown here. */
  async hasNews() {
    const open = await this.turnkit.openTurns(this.session);
    return open.some(({ turnId }) => !this.#turns.has(turnId));
  }

  /** Shows the messages before the first one. */
  async earlier() {
    const messages = await this.turnkit.messages(this.session, { ...this.#place(), before: this.#first() });
    this.#show(messages);
    this.hasEarlier = isPage(messages);
    this.#changed();
  }

  /** @param {string} message */
  send(message) {
    const after = this.#branch === null ? undefined : this.last?.turnId;
    this.#start({ turnId: newTurnId(), message, agent: this.page.agent(), after });
  }

  /** Whether the agent that answers takes messages meanwhile, as far as that is known. */
  get takesInput() {
    const turn = this.running;
    return turn?.takesInput === true && !turn.wantsStop;
  }

  /** Asks whether the agent that answers takes messages meanwhile, once for each turn. */
  async learn() {
    const turn = this.running;
    if (!turn?.isTaken || turn.takesInput !== undefined) return;
    turn.takesInput = null;
    const open = await this.turnkit.openTurns(this.session).catch(() => []);
    turn.takesInput = open.some(({ turnId, acceptsInput }) => turnId === turn.turnId && acceptsInput === true);
    this.#changed();
  }

  /** Sends a message into the answer that is being written. Where its agent takes none any more, it waits like any other. @param {string} message */
  async interject(message) {
    const turn = this.running;
    if (!turn) return this.send(message);
    try {
      await this.turnkit.input(this.session, turn.turnId, message, { signal: turn.left.signal });
      this.page.announce("Sent into the answer.");
    } catch (thrown) {
      const error = /** @type {TurnkitError} */ (thrown);
      if (!["input_not_accepted", "execution_ended", "execution_expired"].includes(error.code)) throw error;
      turn.takesInput = false;
      this.send(message);
    }
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

  #changed() {
    const { isBusy } = this;
    for (const turn of this.#turns.values()) turn.allow(isBusy);
    this.page.changed();
  }

  /** What the reader of a turn does. @type {import("./turn.js").Actions} */
  #actions = {
    again: (turn) => this.#replace(turn, turn.prompt),
    edit: (turn, message) => {
      if (turn.state === "queued") return this.#change(turn, message);
      // It has begun while somebody was writing.
      if (turn.state === "running") return this.send(message);
      this.#replace(turn, message);
    },
    remove: (turn) => this.#withdraw(turn),
    turnTo: (turn, place) => this.#turnTo(turn, place),
    answer: (turn, id, reply) => this.turnkit.answer(this.session, turn.turnId, id, reply, { signal: turn.left.signal }),
    announce: (text) => this.page.announce(text),
  };

  /** Asks anew in the place of a turn, which stays beside the new one. @param {TurnView} turn @param {string} message */
  #replace(turn, message) {
    if (this.isBusy) return this.page.announce("Wait for the answer, or stop it with Escape.");
    const { turnId, index, prompt, siblings, siblingIds } = turn;
    for (const each of [...this.#turns.values()]) if (each.index >= index) this.#drop(each);
    const anew = this.#start({ turnId: siblingId(turnId, siblings), message, agent: this.page.agent(), replaces: turnId }, message === prompt);
    anew.among(siblings + 1, [...(siblingIds.length > 0 ? siblingIds : [turnId]), anew.turnId]);
  }

  /** @param {TurnView} turn @param {number} place */
  async #turnTo(turn, place) {
    const sibling = turn.siblingAt(place);
    const before = this.#branch;
    try {
      this.#branch = sibling;
      await this.afresh();
    } catch (error) {
      this.#branch = before;
      return this.page.refused(/** @type {TurnkitError} */ (error));
    }
    this.#turns.get(sibling)?.focusOn(place < turn.place);
    this.page.announce(`Answer ${place + 1} of ${turn.siblings}.`);
  }

  /** Edits a message that waits. @param {TurnView} turn @param {string} message */
  async #change(turn, message) {
    const before = turn.prompt;
    turn.say(message);
    await this.turnkit.editQueued(this.session, turn.turnId, { message }).catch((error) => {
      turn.say(before);
      this.page.returned(message, error);
    });
    await this.sync().catch(() => {});
  }

  /** Takes back a message that waits. @param {TurnView} turn */
  async #withdraw(turn) {
    try {
      await this.turnkit.removeQueued(this.session, turn.turnId);
      this.#drop(turn);
      this.page.announce("The message was removed.");
    } catch (error) {
      this.page.refused(/** @type {TurnkitError} */ (error));
    }
    await this.sync().catch(() => {});
  }

  #first() {
    return [...this.#turns.values()].reduce((first, { index }) => Math.min(first, index), Infinity);
  }

  #place() {
    return this.#branch === null ? {} : { branch: this.#branch };
  }

  async #sync() {
    const before = [...this.#turns.values()].filter(({ isTaken }) => isTaken);
    const state = await this.turnkit.session(this.session, this.#place());
    if (this.#closed.signal.aborted) return;
    this.page.network(null);
    this.isOpen = true;
    this.info = state;
    const { messages, turns: open, queue = { turns: [], paused: false } } = state;
    this.#leave(before, messages, queue.turns);
    this.#show(messages);
    this.#isBusyElsewhere = open.some(({ turnId }) => !this.#turns.has(turnId));
    for (const { turnId, acceptsInput } of open) {
      const turn = this.#turns.get(turnId);
      if (turn && acceptsInput !== undefined) turn.takesInput = acceptsInput;
    }
    for (const { turnId, message, position } of queue.turns) {
      const turn = this.#turns.get(turnId) ?? this.#add(turnId, message);
      turn.say(message);
      if (turn.state === null) this.#resume(turn, true);
      if (turn.state !== "queued") continue;
      turn.wait(position);
      this.element.append(turn.element);
    }
    if (queue.paused && queue.turns.length > 0) this.element.append(this.#paused);
    else this.#paused.remove();
    for (const turn of this.#turns.values()) if (turn.state === null) this.#resume(turn);
    this.#changed();
  }

  /**
   * Takes what is no longer there, or of another branch, from the page.
   * @param {TurnView[]} before  what the server had before it was asked @param {Message[]} messages @param {{ turnId: string }[]} queued
   */
  #leave(before, messages, queued) {
    const known = new Set([...messages, ...queued].map(({ turnId }) => turnId));
    const isWhole = !isPage(messages);
    const first = isWhole ? -1 : (messages[0]?.turnIndex ?? -1);
    for (const turn of before) {
      const isHere = known.has(turn.turnId) || (Number.isFinite(turn.index) && turn.index < first);
      if (!isHere) this.#drop(turn);
    }
    if (isWhole) this.hasEarlier = false;
    else if (this.#first() >= first) this.hasEarlier = true;
  }

  /** @param {Message[]} messages */
  #show(messages) {
    if (this.#closed.signal.aborted) return;
    for (const said of Map.groupBy(messages, ({ turnId }) => turnId).values()) {
      const [{ turnId, text, siblings, siblingIds, turnIndex }, ...answer] = said;
      const turn = this.#turns.get(turnId) ?? this.#add(turnId, text);
      turn.isTaken = true;
      turn.say(text);
      turn.among(siblings ?? 1, siblingIds);
      if (turn.index !== turnIndex) this.#insert(turn, turnIndex);
      if (answer.length > 0 && turn.state !== "running") this.#saved(turn, whole(answer));
    }
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
    turn.end(status, error);
  }

  /** @param {string} turnId @param {string} prompt */
  #add(turnId, prompt) {
    const turn = new TurnView(turnId, prompt, this.#actions);
    this.#turns.set(turnId, turn);
    this.element.append(turn.element);
    return turn;
  }

  /** @param {TurnView} turn */
  #drop(turn) {
    turn.left.abort();
    turn.element.remove();
    this.#undrawn.delete(turn);
    this.#turns.delete(turn.turnId);
  }

  /** @param {TurnView} turn @param {number} index */
  #insert(turn, index) {
    turn.index = index;
    const next = [...this.#turns.values()].filter((other) => other !== turn && other.index > index);
    const before = next.sort((a, b) => a.index - b.index)[0]?.element ?? null;
    if (turn.element.nextElementSibling !== before) this.element.insertBefore(turn.element, before);
  }

  /** @param {Sent} sent @param {boolean} [isAgain]  nothing new was written for it */
  #start(sent, isAgain = false) {
    const mustWait = this.isBusy;
    this.#branch = null;
    this.#outbox.put(sent);
    const turn = this.#add(sent.turnId, sent.message);
    const { message, ...options } = sent;
    const updates = this.turnkit.send(this.session, message, { ...options, queue: true, signal: turn.left.signal });
    const before = this.#sent;
    this.#sent = new Promise((resolve) => (turn.taken = resolve));
    this.#follow(turn, updates, { isQueued: mustWait, isAgain, before });
    return turn;
  }

  /** @param {TurnView} turn @param {boolean} [isQueued] */
  #resume(turn, isQueued = false) {
    turn.isTaken = true;
    this.#follow(turn, this.turnkit.resume(this.session, turn.turnId, { signal: turn.left.signal }), { isQueued });
  }

  /**
   * @param {TurnView} turn @param {AsyncIterable<Update>} updates
   * @param {{ isQueued: boolean, isAgain?: boolean, before?: Promise<void> }} how  `before`: what has to be sent before it
   */
  async #follow(turn, updates, { isQueued, isAgain = false, before }) {
    if (isQueued) turn.wait();
    else turn.run();
    turn.log = new TurnLog();
    this.#changed();
    try {
      await before;
      for await (const update of updates) this.#take(turn, update);
    } catch (error) {
      if (turn.left.signal.aborted) return;
      this.#abandon(turn, /** @type {TurnkitError} */ (error), isAgain);
    } finally {
      turn.taken();
    }
    this.#undrawn.delete(turn);
    this.#changed();
    // What waits for this one may begin now.
    this.turnkit.wake();
    await this.afresh().catch(() => {});
  }

  /** @param {TurnView} turn @param {Update} update */
  #take(turn, update) {
    turn.log.take(update);
    this.page.draw();
    switch (update.kind) {
      case "queued":
        return this.#queued(turn, update.position);
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

  /** @param {TurnView} turn @param {number} position */
  #queued(turn, position) {
    const isNew = !turn.isTaken;
    turn.isTaken = true;
    turn.taken();
    this.#outbox.remove(turn.turnId);
    this.page.network(null);
    turn.wait(position);
    this.#changed();
    if (!isNew) return;
    this.page.announce("Your message waits for the answer before it.");
    // It may have gone behind what a stop had paused.
    this.afresh().catch(() => {});
  }

  /** @param {TurnView} turn @param {number} cursor */
  #connected(turn, cursor) {
    if (turn.state === "queued") turn.run();
    if (cursor === 0) turn.answer.clear();
    if (!turn.isTaken) this.page.announce("The answer begins.");
    turn.isTaken = true;
    turn.taken();
    this.#outbox.remove(turn.turnId);
    this.page.network(null);
    this.#changed();
    if (turn.wantsStop) this.#stop(turn);
  }

  /** @param {TurnView} turn @param {import("./turnkit.js").TurnEvent} event */
  #event(turn, event) {
    const { type, data } = event;
    if (type === "session.run.started" && Number.isSafeInteger(data?.turnIndex)) this.#insert(turn, data.turnIndex);
    if (type === "result") turn.account = { ...data, usage: data?.tokenUsage };
    turn.answer.take(event);
    this.#undrawn.add(turn);
    this.page.network(null);
  }

  /** @param {TurnView} turn @param {TurnkitError} error */
  #failed(turn, error) {
    const isStopped = error.code === "cancelled";
    turn.answer.end();
    // A turn that may be tried again is still open: a new one would have to wait for it.
    turn.end(isStopped ? "stopped" : "failed", error, error.retryable ? () => this.#resume(turn) : undefined);
    this.page.announce(isStopped ? "The answer was stopped." : "The answer failed.");
  }

  /** The server refuses the turn, or to go on with it. @param {TurnView} turn @param {TurnkitError} error @param {boolean} isAgain */
  #abandon(turn, error, isAgain) {
    this.#outbox.remove(turn.turnId);
    if (turn.isTaken && error.details.status === 401) this.page.refused(error);
    // Somebody has taken it back.
    if (error.code === "turn_removed") return this.#drop(turn);
    if (turn.isTaken) {
      turn.answer.end();
      return turn.end("failed", error, () => this.#resume(turn));
    }
    this.#drop(turn);
    if (isAgain) this.page.refused(error);
    else this.page.returned(turn.prompt, error);
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
      this.#changed();
    }
  }
}

/** An answer in one, where messages that its agent has had stand between its halves. @param {Message[]} said @returns {Message} */
function whole(said) {
  if (said.length === 1) return said[0];
  const parts = said.flatMap(({ input, text, parts = [] }) => (input === undefined ? parts : [{ type: "input", id: input, message: text }]));
  const halves = said.filter(({ role, text }) => role === "assistant" && text !== "");
  const text = halves.reduce((before, { text }) => (before === "" ? text : before + lineFeedsBetween(before, text) + text), "");
  return { ...said[said.length - 1], parts, text };
}

/** Whether there are as many turns as the server gives at once, so that there may be more before them. @param {Message[]} messages */
const isPage = (messages) => new Set(messages.map(({ turnId }) => turnId)).size >= PAGE;
