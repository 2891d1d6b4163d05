/** What an agent asks while it runs, as a card: the question, the call that it is about, and the ways to answer (PROTOCOL 1.1, 3.6). */
import { button, field, inLine, isObject, make } from "./elements.js";

/**
 * @typedef {import("./turnkit.js").Reply} Reply
 * @typedef {import("./turnkit.js").TurnkitError} TurnkitError
 * @typedef {object} Asking  what a question needs of the page
 * @property {(id: string, reply: Reply) => Promise<unknown>} answer  resolves when the answer is taken, and rejects where it is not
 * @property {(text: string) => void} announce  for those who do not see the page
 */

/** What came of a question, by its outcome. */
const OUTCOMES = new Map(Object.entries({
  accepted: "Answered",
  declined: "Declined",
  cancelled: "Cancelled",
  expired: "Nobody answered in time",
  withdrawn: "The agent no longer asks",
}));

/** What is said where an answer was not taken, by the code of the refusal. The rest shows the server's words. */
const REFUSALS = new Map(Object.entries({
  interaction_answered: "Somebody else has answered otherwise.",
  interaction_gone: "It can no longer be answered.",
  interaction_not_found: "This agent takes no answer to it.",
}));

let cards = 0;

export class QuestionPart {
  element = make("section", "question");
  #title = make("h3", "");
  #form = document.createElement("form");
  #outcome = make("p", "outcome");
  #error = make("p", "wrong");
  /** @type {any} */
  #data = null;
  /** What was answered. @type {any} */
  #told = null;
  /** @type {Field[]} */
  #fields = [];
  #isDrawn = false;
  #isSending = false;
  #isOver = false;

  /** @param {string} key @param {Asking} asking */
  constructor(key, asking) {
    this.key = key;
    this.asking = asking;
    cards += 1;
    this.#title.id = `question-${cards}`;
    this.#error.id = `question-${cards}-wrong`;
    this.#title.dir = "auto";
    this.#error.setAttribute("role", "alert");
    this.#outcome.tabIndex = -1;
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-labelledby", this.#title.id);
    this.#form.noValidate = true;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#answer();
    });
  }

  /** @param {any} data  an `interaction`'s, or an `interaction.answered`'s */
  take(data) {
    if (data.type === "interaction.answered") this.#told = data;
    else this.#data ??= data;
  }

  draw() {
    if (!this.#isDrawn) this.#build();
    if (this.#told) this.#close();
  }

  /** The turn has ended: what nobody has answered is not asked any more. */
  end() {
    this.#isOver = true;
    this.draw();
    if (!this.#told) this.#close();
  }

  #build() {
    this.#isDrawn = true;
    const { title, message, tool, input } = this.#data ?? {};
    this.#title.textContent = inLine(title) || (tool ? `May it use ${inLine(tool)}?` : "The agent asks");
    this.element.append(this.#title);
    if (typeof message === "string") this.element.append(Object.assign(make("p", "asked", message), { dir: "auto" }));
    if (input !== undefined || tool !== undefined) {
      const call = make("div", "call");
      call.append(...field(inLine(tool) || "input", input ?? ""));
      this.element.append(call);
    }
    if (this.#told || this.#isOver) return;
    this.element.dataset.state = "pending";
    this.#form.append(...this.#ways(), this.#error);
    this.element.append(this.#form);
    this.asking.announce(`The agent asks: ${this.#title.textContent}`);
  }

  /** What can be answered. @returns {HTMLElement[]} */
  #ways() {
    const { kind, options, schema } = this.#data;
    const buttons = make("div", "ways");
    const choose = (/** @type {string} */ text, /** @type {Reply} */ reply) => buttons.append(button(text, () => this.#send(reply)));
    if (Array.isArray(options) && options.length > 0) {
      for (const { id, label } of options) choose(inLine(label) || inLine(id), { outcome: "accepted", data: { option: id } });
      choose("Decline", { outcome: "declined" });
      return [buttons];
    }
    if (isObject(schema)) this.#fields = fieldsOf(schema, this.#title.id);
    else if (kind === "question") this.#fields = [new Field("", { title: "Your answer", type: "string" }, true, this.#title.id)];
    else if (kind === "tool") this.#fields = [new Field("", { title: "Its output, as JSON", type: "json" }, true, this.#title.id)];
    const yes = button(kind === "approval" ? "Approve" : "Answer", () => {});
    yes.type = "submit";
    yes.className = "yes";
    buttons.append(yes);
    choose(kind === "approval" ? "Deny" : "Decline", { outcome: "declined" });
    return [...this.#fields.map(({ element }) => element), buttons];
  }

  /** Says yes, or what stands in the fields. */
  #answer() {
    const read = this.#fields.map((each) => each.read());
    const wrong = this.#fields.find((_, at) => read[at] === WRONG);
    if (wrong) return wrong.control.focus();
    if (this.#fields.length === 0) return this.#send({ outcome: "accepted", ...(isObject(this.#data.schema) && { data: {} }) });
    if (!isObject(this.#data.schema)) return this.#send({ outcome: "accepted", data: read[0] });
    const members = this.#fields.map(({ name }, at) => [name, read[at]]).filter(([, value]) => value !== undefined);
    this.#send({ outcome: "accepted", data: Object.fromEntries(members) });
  }

  /** @param {Reply} reply */
  async #send(reply) {
    // A button that is switched off would lose the focus.
    if (this.#isSending || this.#told || this.#isOver) return;
    this.#isSending = true;
    this.#error.textContent = "";
    this.element.setAttribute("aria-busy", "true");
    try {
      await this.asking.answer(this.#data.id, reply);
    } catch (thrown) {
      this.#refused(/** @type {TurnkitError} */ (thrown));
    } finally {
      this.#isSending = false;
      this.element.removeAttribute("aria-busy");
    }
  }

  /** @param {TurnkitError} error */
  #refused(error) {
    const place = error.details?.field?.replace(/^data\.?/, "");
    const wrong = this.#fields.find(({ name }) => place !== undefined && name === place);
    const said = REFUSALS.get(error.code) ?? `${error.message}`;
    if (wrong) {
      wrong.tell(said.replace(/^data\.\S+ /, ""));
      wrong.control.focus();
    } else {
      this.#error.textContent = said;
    }
  }

  #close() {
    const hadFocus = this.element.contains(document.activeElement);
    const state = this.#told ? "answered" : "over";
    if (this.element.dataset.state === state) return;
    const wasAsked = this.element.dataset.state === "pending";
    this.element.dataset.state = state;
    this.#form.remove();
    this.#outcome.textContent = this.#said();
    this.element.append(this.#outcome);
    if (this.#told && isObject(this.#told.data) && !this.#option()) {
      const call = make("div", "call");
      call.append(...field("answer", this.#told.data));
      this.element.append(call);
    }
    if (hadFocus) this.#outcome.focus();
    else if (wasAsked) this.asking.announce(this.#outcome.textContent);
  }

  /** What came of it, and who said so. */
  #said() {
    if (!this.#told) return "Not answered";
    const { outcome, by, data } = this.#told;
    const isYes = outcome === "accepted" && this.#data?.kind === "approval";
    const option = this.#option();
    const plain = outcome === "accepted" && typeof data === "string" ? inLine(data) : "";
    const what = option ? `Answered: ${option}` : isYes ? "Approved" : plain ? `Answered: ${plain}` : (OUTCOMES.get(outcome) ?? "Answered");
    return typeof by === "string" ? `${what}, by ${inLine(by)}` : what;
  }

  /** The label of the option that was chosen. */
  #option() {
    const { options } = this.#data ?? {};
    const id = this.#told?.data?.option;
    if (typeof id !== "string" || !Array.isArray(options)) return "";
    return inLine(options.find((option) => option?.id === id)?.label ?? id);
  }
}

/** What a field has that cannot be sent. */
const WRONG = Symbol("wrong");

/** @param {any} schema @param {string} card @returns {Field[]} */
function fieldsOf(schema, card) {
  const required = Array.isArray(schema.required) ? schema.required : [];
  return Object.entries(schema.properties ?? {}).map(([name, of]) => new Field(name, of, required.includes(name), card));
}

/** A member of an answer's data. What it can hold is the server's to say; here stands what is needed to make JSON of it. */
class Field {
  element = make("div", "answer-field");
  #wrong = make("p", "wrong");

  /** @param {string} name @param {any} of  its schema @param {boolean} isRequired @param {string} card */
  constructor(name, of, isRequired, card) {
    this.name = name;
    this.of = of;
    this.isRequired = isRequired;
    const id = `${card}-${name || "answer"}`;
    this.control = controlOf(of);
    this.control.id = id;
    this.#wrong.id = `${id}-wrong`;
    this.control.setAttribute("aria-describedby", this.#wrong.id);
    // Of a box that need not be checked this would say that it must.
    if (isRequired && of.type !== "boolean") this.control.setAttribute("aria-required", "true");
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: inLine(of.title) || name, dir: "auto" });
    if (of.type === "boolean") this.element.append(this.control, label, this.#wrong);
    else this.element.append(label, this.control, this.#wrong);
    if (typeof of.description === "string") label.title = inLine(of.description);
    this.control.addEventListener("input", () => this.tell(""));
  }

  /** @param {string} why */
  tell(why) {
    this.#wrong.textContent = why;
    this.control.setAttribute("aria-invalid", `${why !== ""}`);
  }

  /** The value, nothing where it is left out, or `WRONG`, which it tells. */
  read() {
    const { control, of } = this;
    if (of.type === "boolean" && !Array.isArray(of.enum)) return /** @type {HTMLInputElement} */ (control).checked;
    if (control.value === "") {
      if (!this.isRequired) return undefined;
      return this.#isWrong("is needed");
    }
    if (Array.isArray(of.enum)) return of.enum[Number(control.value)];
    if (of.type === "json") return this.#json(control.value);
    if (of.type !== "number" && of.type !== "integer") return control.value;
    const number = Number(control.value);
    return Number.isFinite(number) && control.value.trim() !== "" ? number : this.#isWrong("must be a number");
  }

  /** @param {string} text */
  #json(text) {
    try {
      return JSON.parse(text);
    } catch {
      return this.#isWrong("is no JSON");
    }
  }

  /** @param {string} why */
  #isWrong(why) {
    this.tell(why);
    return WRONG;
  }
}

/** @param {any} of @returns {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} */
function controlOf(of) {
  if (Array.isArray(of.enum)) {
    const select = document.createElement("select");
    const options = of.enum.map((/** @type {unknown} */ value, /** @type {number} */ at) => new Option(inLine(of.enumNames?.[at]) || String(value).slice(0, 200), `${at}`));
    select.append(new Option("", ""), ...options);
    return select;
  }
  if (of.type === "json") return Object.assign(document.createElement("textarea"), { rows: 3, spellcheck: false });
  const input = document.createElement("input");
  if (of.type === "boolean") input.type = "checkbox";
  if (of.type === "number" || of.type === "integer") input.inputMode = "decimal";
  input.autocomplete = "off";
  input.dir = "auto";
  return input;
}
