/** One turn on the page: the user's message, the answer to it, and what its reader can do with them. */
import { Answer } from "./answer.js";
import { TurnLog } from "./developer.js";
import { button, make } from "./elements.js";
import { siblingId, siblingPlace } from "./turnkit.js";

/**
 * @typedef {import("./turnkit.js").Account} Account
 * @typedef {"queued" | "running" | "complete" | "stopped" | "failed"} State
 * @typedef {object} Actions
 * @property {(turn: TurnView) => void} again  the same message once more
 * @property {(turn: TurnView, message: string) => void} edit  another message in its place
 * @property {(turn: TurnView) => void} remove  a message that waits
 * @property {(turn: TurnView, place: number) => void} turnTo  the sibling at this place
 * @property {(turn: TurnView, id: string, reply: import("./turnkit.js").Reply) => Promise<unknown>} answer  a question of its agent
 * @property {(text: string) => void} announce  for those who do not see the page
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

export class TurnView {
  /** @type {State | null} */
  state = null;
  index = Infinity;
  /** Whether the server has it. */
  isTaken = false;
  /** To be called when it has it, or has refused it. */
  taken = () => {};
  wantsStop = false;
  /** What the agent told of the answer. @type {Account} */
  account = {};
  /** Ends with it. */
  left = new AbortController();
  /** How many turns share its parent. */
  siblings = 1;
  /** The names of the newest of them, the oldest first, where the server tells them. @type {string[]} */
  siblingIds = [];
  /** Whether its agent takes messages while it runs; null while that is asked. @type {boolean | null | undefined} */
  takesInput;
  log = new TurnLog();
  element = make("section", "turn");
  #bubble = make("div", "bubble");
  #question = make("article", "message user");
  #mine = make("div", "actions");
  #parts = make("div", "parts");
  #answer = make("article", "message assistant");
  #footer = make("footer", "");
  #actions;

  /** @param {string} turnId @param {string} prompt @param {Actions} actions */
  constructor(turnId, prompt, actions) {
    this.turnId = turnId;
    this.prompt = prompt;
    this.#actions = actions;
    this.answer = new Answer(this.#parts, prompt, { answer: (id, reply) => actions.answer(this, id, reply), announce: actions.announce });
    this.#bubble.textContent = prompt;
    this.#bubble.dir = "auto";
    this.#question.append(make("h2", "hidden", "You"), this.#bubble, this.#mine);
    this.#answer.append(make("h2", "hidden", "Assistant"), this.#parts, this.#footer);
    this.#answer.tabIndex = -1;
    this.element.dataset.turn = turnId;
    this.element.append(this.#question, this.#answer);
  }

  /** Its message, which another device may edit while it waits. @param {string} prompt */
  say(prompt) {
    if (prompt === this.prompt) return;
    this.prompt = prompt;
    this.#bubble.textContent = prompt;
  }

  /** Waits until the turns before it have ended. @param {number} [position]  in the queue, from 1, once the server has it */
  wait(position) {
    if (this.state !== "queued") {
      this.#set("queued");
      this.#mine.replaceChildren(make("span", "waits", "Waits"));
    }
    const [waits, ...buttons] = this.#mine.children;
    if (position === undefined) return;
    waits.textContent = position < 2 ? "Waits" : `Waits as number ${position}`;
    if (buttons.length === 0) this.#mine.append(this.#editButton(), button("Remove", () => this.#actions.remove(this)));
  }

  run() {
    this.wantsStop = false;
    this.account = {};
    this.#mine.replaceChildren();
    this.#set("running");
  }

  /** @param {State} state @param {{ code?: string, message: string } | null} [error] @param {() => void} [again]  where not by a new turn */
  end(state, error = null, again = () => this.#actions.again(this)) {
    this.#set(state);
    this.#mine.replaceChildren(this.#editButton());
    this.#footer.dataset.usage = figuresOf(this.account);
    const cut = CUTS.get(this.account.finishReason ?? "");
    if (cut) this.#footer.append(make("p", "status", cut));
    if (state === "stopped") this.#footer.append(make("p", "status", "Stopped"));
    if (state === "failed") this.#footer.append(failure(error));
    const actions = make("div", "actions");
    actions.append(button(state === "complete" ? "Answer again" : "Ask again", again));
    this.#footer.append(actions);
    this.#showSiblings();
  }

  /** @param {number} siblings @param {string[]} [ids] */
  among(siblings, ids = []) {
    if (siblings === this.siblings && ids.join() === this.siblingIds.join()) return;
    this.siblings = siblings;
    this.siblingIds = ids;
    this.#showSiblings();
  }

  /** Its place among its siblings, from 0. */
  get place() {
    const at = this.siblingIds.indexOf(this.turnId);
    return at < 0 ? siblingPlace(this.turnId) : this.siblings - this.siblingIds.length + at;
  }

  /** The name of the sibling at a place. @param {number} place */
  siblingAt(place) {
    return this.siblingIds[place - this.siblings + this.siblingIds.length] ?? siblingId(this.turnId, place);
  }

  /** Whether something in the chat runs or waits, so that nothing can be put in the place of a turn. @param {boolean} isBusy */
  allow(isBusy) {
    if (this.state === "queued") return;
    const replacing = this.element.querySelectorAll(/** @type {"button"} */ (".actions > button"));
    for (const each of replacing) each.disabled = isBusy;
  }

  /** @param {boolean} isBack  which of the buttons between siblings gets the focus */
  focusOn(isBack) {
    const [back, next] = this.#footer.querySelectorAll(/** @type {"button"} */ (".siblings button"));
    const wanted = isBack ? [back, next] : [next, back];
    wanted.find((each) => each && !each.disabled)?.focus();
  }

  #showSiblings() {
    this.#footer.querySelector(".siblings")?.remove();
    const { place, siblings: count } = this;
    if (count < 2 || place >= count || this.state === "queued") return;
    const group = make("div", "siblings");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", `Answer ${place + 1} of ${count}`);
    const step = (/** @type {string} */ text, /** @type {string} */ name, /** @type {number} */ to) => {
      const made = button(text, () => this.#actions.turnTo(this, to));
      made.setAttribute("aria-label", name);
      made.disabled = to < 0 || to >= count;
      return made;
    };
    group.append(step("‹", "Answer before", place - 1), make("span", "", `${place + 1}/${count}`), step("›", "Answer after", place + 1));
    const actions = this.#footer.querySelector(".actions") ?? this.#footer.appendChild(make("div", "actions"));
    actions.append(group);
  }

  #editButton() {
    return button("Edit", () => this.#edit());
  }

  /** Puts a field in the place of the message. */
  #edit() {
    const form = document.createElement("form");
    form.className = "editor";
    const field = document.createElement("textarea");
    Object.assign(field, { value: this.prompt, dir: "auto", ariaLabel: "Message" });
    const save = button("Send", () => {});
    save.type = "submit";
    const close = () => {
      form.replaceWith(this.#bubble);
      this.#mine.hidden = false;
      this.#mine.querySelector("button")?.focus();
    };
    const cancel = button("Cancel", close);
    form.append(field, save, cancel);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const message = field.value.toWellFormed();
      if (message.trim() === "") return;
      close();
      if (message !== this.prompt || this.state !== "queued") this.#actions.edit(this, message);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.target === field && isSend(event)) form.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#bubble.replaceWith(form);
    this.#mine.hidden = true;
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** @param {State} state */
  #set(state) {
    this.state = state;
    delete this.#footer.dataset.usage;
    this.element.dataset.state = state;
    this.#answer.hidden = state === "queued";
    this.#answer.setAttribute("aria-busy", `${state === "running"}`);
    this.#footer.replaceChildren();
  }
}

/** Whether a key sends a message. Safari tells the Enter that ends a composition by its key code alone. @param {KeyboardEvent} event */
export function isSend(event) {
  const isComposing = event.isComposing || event.keyCode === 229;
  return event.key === "Enter" && !event.shiftKey && !isComposing;
}

/** @param {{ code?: string, message: string } | null} error */
function failure(error) {
  const box = make("div", "failure");
  const why = FAILURES.get(error?.code ?? "") ?? error?.message ?? "";
  box.append(make("strong", "", "The answer failed"), make("p", "", why));
  if (error?.code) box.append(make("code", "", error.code));
  return box;
}

/** @param {Account} account */
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
