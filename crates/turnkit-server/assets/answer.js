/**
 * Draws one answer: its parts, each in its place, with constant work for each event. Events of a turn that runs and parts at rest (PROTOCOL
 * 1.1, 2.3) go one way, so that an answer looks the same whenever and wherever it is drawn.
 */
import { field, inLine, isObject, make } from "./elements.js";
import { anchorAt } from "./inline.js";
import { Markdown } from "./markdown.js";
import { QuestionPart } from "./question.js";

/** @typedef {import("./turnkit.js").TurnEvent} TurnEvent */
/** @typedef {import("./question.js").Asking} Asking */
/** @typedef {TextPart | ReasoningPart | ToolPart | FilePart | SourcePart | DataPart | WarningPart | QuestionPart | InputPart | Mark} Part */

/** What is said of a part that was too large to be kept whole. */
const CUT = "The rest was too large to be kept.";

/** The parts of one answer. Events are taken at once; the page is drawn by `draw`, once for many events. */
export class Answer {
  /** By type and id. @type {Map<string, Part>} */
  #parts = new Map();
  /** @type {Set<Part>} */
  #changed = new Set();
  /** In order of appearance. @type {Set<TextPart>} */
  #texts = new Set();
  /** What is still to be folded. @type {Set<ReasoningPart>} */
  #thoughts = new Set();
  /** The first text part, while it may be the user's message sent back (PROTOCOL 4.1). @type {TextPart | null} */
  #echo = null;
  /** How many messages into the turn its agent has had: what text and thoughts say from then on are parts of their own (PROTOCOL 2.3). */
  #half = 0;
  #prompt;
  #element;
  #asking;

  /** @param {HTMLElement} element @param {string} prompt @param {Asking} [asking]  without it nothing can be answered */
  constructor(element, prompt, asking = { answer: () => Promise.reject(new Error("nobody can be told")), announce() {} }) {
    this.#element = element;
    this.#prompt = prompt;
    this.#asking = asking;
  }

  /** @param {TurnEvent} event */
  take({ type, data }) {
    if (type === "message.part.updated" && isObject(data?.part) && data.part.type !== "warning") this.#takePart(data.part, data.delta);
    if (type === "warning") this.#takePart({ type, message: data?.message, code: data?.code });
    if (EVENTS.has(type) && isObject(data)) this.#takePart({ ...data, type });
    if (type === "input.taken") this.#taken(data?.id);
    if (type === "result" && isText(data?.finalText)) this.#result(data.finalText);
  }

  /** Takes an answer at rest. @param {any[]} parts */
  restore(parts) {
    for (const part of parts) {
      this.#takePart(part);
      if (part.type === "input") this.#taken(part.id);
    }
  }

  /** Whether nothing was taken yet. */
  isEmpty() {
    return this.#parts.size === 0;
  }

  /** Draws what was taken since the last time. */
  draw() {
    for (const part of this.#changed) part.draw();
    this.#changed.clear();
  }

  /** Nothing more comes. @param {string} [finalText]  the text that is saved, where it is another one than was streamed */
  end(finalText) {
    this.#dropBlank();
    if (finalText !== undefined) this.replaceText(finalText);
    this.#dropBlank();
    // What the agent has not had is sent again as a turn of its own.
    for (const part of this.#parts.values()) if (part instanceof InputPart && !part.isTaken) this.#remove(part);
    this.draw();
    for (const part of this.#parts.values()) part.end(this.#texts.size > 0);
  }

  clear() {
    for (const parts of [this.#parts, this.#changed, this.#texts, this.#thoughts]) parts.clear();
    this.#echo = null;
    this.#half = 0;
    this.#element.replaceChildren();
  }

  /** The answer's text, as the product assembles it (PROTOCOL 2.3). */
  text() {
    return this.#joined().text;
  }

  /** @param {string} text  what takes the place of all text that was drawn: that of the last part, as at rest */
  replaceText(text) {
    if (text === this.text()) return;
    const parts = [...this.#texts];
    const last = parts.pop();
    for (const part of parts) this.#remove(part);
    this.#change(last ?? this.#add(new TextPart("text final"))).set(text);
  }

  /** An agent's own final text, which may say nothing new. @param {string} finalText */
  #result(finalText) {
    const { text, last, plain } = this.#joined();
    const isKnown = [text, last, plain].some((known) => known.trim() === finalText.trim());
    if (!isKnown) this.replaceText(finalText);
  }

  /** The joined text, what follows the last blank line that joining put in, and the texts without such lines. */
  #joined() {
    let [text, last, plain, isApart] = ["", 0, "", false];
    /** @type {TextPart | null} */
    let before = null;
    for (const part of this.#parts.values()) {
      isApart ||= [ToolPart, QuestionPart, InputPart, Mark].some((Kind) => part instanceof Kind);
      if (!(part instanceof TextPart) || part.text.trim() === "") continue;
      const isOther = before?.message !== undefined && part.message !== undefined && before.message !== part.message;
      if (before && (isApart || isOther)) {
        text += lineFeedsBetween(text, part.text);
        last = text.length;
      }
      [text, plain, before, isApart] = [text + part.text, plain + part.text, part, false];
    }
    return { text, last: text.slice(last), plain };
  }

  /** @param {any} data @param {unknown} [delta] */
  #takePart(data, delta) {
    this.#see(data.messageID);
    const Kind = KINDS.get(data.type);
    if (!Kind) return;
    const id = data.type === "warning" ? this.#parts.size : (data.id ?? (data.type === "tool" ? data.callID : undefined) ?? "");
    // A question and its answer are one part.
    const type = data.type === "interaction.answered" ? "interaction" : data.type;
    const name = `${type} ${typeof id === "string" ? id : JSON.stringify(id)}`;
    const isSplit = this.#half > 0 && (data.type === "text" || data.type === "reasoning");
    const key = isSplit ? `${name}#${this.#half}` : name;
    /** @type {any} */
    const part = this.#parts.get(key) ?? this.#add(new Kind(key, this.#asking));
    if (isSplit && typeof delta !== "string") data = this.#rest(name, data);
    this.#change(part).take(data, delta);
    if (part instanceof TextPart) part.message ??= data.messageID;
    if (data.type === "interaction.answered") this.#parts.set(`answered ${name}`, new Mark(`answered ${name}`));
  }

  /** What a snapshot says beyond what stands before an input; that gives way where it says something else. @param {string} name @param {any} data */
  #rest(name, data) {
    const before = [...this.#parts].filter(([key, part]) => part instanceof Growing && (key === name || key.startsWith(`${name}#`)) && key !== `${name}#${this.#half}`);
    const told = before.map(([, part]) => /** @type {Growing} */ (part).text).join("");
    const text = data.text ?? data.content;
    if (typeof text !== "string" || text === "") return data;
    if (text.startsWith(told)) return { ...data, text: text.slice(told.length) };
    for (const [, part] of before) /** @type {any} */ (this.#change(part)).set("");
    return data;
  }

  /** The agent has a message that was sent into its turn: it stands here. @param {unknown} id */
  #taken(id) {
    const key = `input ${id}`;
    const part = this.#parts.get(key);
    if (!(part instanceof InputPart)) return;
    this.#half += 1;
    this.#change(part).isTaken = true;
    this.#parts.delete(key);
    this.#parts.set(key, part);
    this.#element.append(part.element);
  }

  /** @template {Part} P @param {P} part @returns {P} */
  #add(part) {
    if (part instanceof TextPart) this.#beginText(part);
    if (part instanceof ReasoningPart) this.#thoughts.add(part);
    this.#parts.set(part.key, part);
    this.#element.append(part.element);
    return part;
  }

  /** Of text and reasoning, what is blank is not kept. */
  #dropBlank() {
    for (const part of this.#parts.values()) if (part instanceof Growing && part.text.trim() === "") this.#remove(part);
  }

  /** @param {TextPart} part */
  #beginText(part) {
    if (this.#texts.size === 0) this.#echo = part;
    this.#texts.add(part);
    for (const thought of this.#thoughts) thought.fold();
    this.#thoughts.clear();
  }

  /** A part of another message shows whether the first text was the prompt. @param {string | undefined} message */
  #see(message) {
    const first = this.#echo?.message;
    if (first === undefined || message === undefined || message === first) return;
    if (this.#echo?.text === this.#prompt) this.#remove(this.#echo);
    this.#echo = null;
  }

  /** @template {Part} P @param {P} part @returns {P} */
  #change(part) {
    this.#changed.add(part);
    return part;
  }

  /** @param {Part} part */
  #remove(part) {
    part.element.remove();
    this.#parts.delete(part.key);
    for (const parts of [this.#changed, this.#texts, this.#thoughts]) /** @type {Set<Part>} */ (parts).delete(part);
  }
}

/** The line feeds that are missing to a blank line between two texts. @param {string} before @param {string} after */
export function lineFeedsBetween(before, after) {
  const breaks = `${/[\r\n]*$/.exec(before)}${/^[\r\n]*/.exec(after)}`.split("\n").length - 1;
  return "\n".repeat(Math.max(2 - breaks, 0));
}

/** Text that grows by deltas, or is set by snapshots (PROTOCOL 2.3). */
class Growing {
  /** @type {string} */
  text = "";
  /** What of `text` is not drawn yet. @type {string} */
  pending = "";
  /** @type {boolean} */
  isRedrawn = false;
  /** @type {boolean} */
  isCut = false;

  /** @param {string} key */
  constructor(key) {
    this.key = key;
  }

  /** @param {any} data @param {unknown} delta */
  take(data, delta) {
    this.isCut = data.cut === true;
    const snapshot = data.text ?? data.content;
    if (typeof delta === "string") this.grow(delta);
    else if (typeof snapshot === "string" && snapshot !== "") this.set(snapshot);
  }

  /** @param {string} delta */
  grow(delta) {
    this.text += delta;
    this.pending += delta;
  }

  /** What is to be drawn now. */
  drawn() {
    const { pending } = this;
    this.pending = "";
    this.isRedrawn = false;
    return pending;
  }

  /** @param {string} text */
  set(text) {
    if (text !== this.text && text.startsWith(this.text)) return this.grow(text.slice(this.text.length));
    this.text = text;
    this.pending = text;
    this.isRedrawn = true;
  }
}

/** What the answer says. */
class TextPart extends Growing {
  element = make("div", "markdown");
  /** @type {string | undefined} */
  message;
  #markdown = new Markdown(this.element);
  #isEnded = false;
  #cut = make("p", "cut", CUT);

  draw() {
    if (this.isRedrawn || this.#isEnded) {
      this.element.replaceChildren();
      this.#markdown = new Markdown(this.element);
      this.set(this.text);
    }
    this.#markdown.append(this.drawn());
    if (this.#isEnded) this.#end();
  }

  end() {
    if (!this.#isEnded) this.#end();
    this.#isEnded = true;
  }

  #end() {
    this.#markdown.end();
    if (this.isCut) this.element.append(this.#cut);
  }
}

/** What the model thought on its way there. */
class ReasoningPart extends Growing {
  element = make("details", "reasoning");
  #body = make("div", "thought");
  #isTouched = false;
  #cut = make("p", "cut", CUT);

  /** @param {string} key */
  constructor(key) {
    super(key);
    const summary = make("summary", "", "Reasoning");
    summary.addEventListener("click", () => (this.#isTouched = true));
    this.#body.dir = "auto";
    this.element.append(summary, this.#body);
    this.element.toggleAttribute("open", true);
  }

  /** The answer has begun: thoughts step back, unless the reader chose. */
  fold() {
    if (!this.#isTouched) this.element.removeAttribute("open");
  }

  draw() {
    if (this.isRedrawn) this.#body.replaceChildren();
    this.#body.append(this.drawn());
  }

  /** @param {boolean} isAnswered  whether there is a text that the thoughts led to */
  end(isAnswered) {
    if (!this.#isTouched) this.element.toggleAttribute("open", !isAnswered);
    if (this.isCut) this.#body.append(this.#cut);
  }
}

const TOOL_STATUS = new Map(Object.entries({ pending: "waiting", running: "running", completed: "done", error: "failed", failed: "failed" }));

/** A tool that the model called. */
class ToolPart {
  element = make("details", "tool");
  #name = make("span", "name");
  #title = make("span", "title");
  #status = make("span", "status");
  #body = make("div", "call");
  /** @type {any} */
  #data = {};
  /** What came of the input in pieces, while the call does not tell it itself. */
  #pieces = "";

  /** @param {string} key */
  constructor(key) {
    this.key = key;
    const summary = make("summary", "");
    summary.append(this.#name, this.#title, this.#status);
    this.element.append(summary, this.#body);
    this.element.addEventListener("toggle", () => this.#drawBody());
  }

  /** @param {any} data @param {unknown} delta */
  take(data, delta) {
    this.#data = data;
    if (isObject(data.state) && ("input" in data.state || "raw" in data.state)) this.#pieces = "";
    else if (typeof delta === "string") this.#pieces += delta;
  }

  draw() {
    const { tool, state } = this.#data;
    this.#name.textContent = inLine(tool) || "tool";
    this.#title.textContent = inLine(state?.title);
    this.#setStatus(TOOL_STATUS.get(state?.status) ?? (this.#pieces ? "running" : "called"));
    this.#drawBody();
  }

  end() {
    const { status } = this.element.dataset;
    if (status === "running" || status === "waiting") this.#setStatus("unfinished");
  }

  /** @param {string} status */
  #setStatus(status) {
    this.element.dataset.status = status;
    this.#status.textContent = status;
  }

  /** What was passed and what came back may be large: it is drawn when somebody looks at it. */
  #drawBody() {
    if (!this.element.hasAttribute("open")) return;
    const { state, cut } = this.#data;
    const input = state?.input ?? state?.raw ?? this.#pieces;
    this.#body.replaceChildren(...field("input", input), ...field("output", state?.output), ...field("error", state?.error));
    if (cut === true) this.#body.append(make("p", "cut", CUT));
  }
}

/** A part that is drawn anew with each event of it. */
class Whole {
  /** @type {any} */
  data = {};

  /** @param {string} key */
  constructor(key) {
    this.key = key;
  }

  /** @param {any} data */
  take(data) {
    this.data = data;
  }

  end() {}
}

/** Pictures that can be shown without asking anybody for them. */
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,/;

/** A file that the agent made: a picture where it is one and came with the answer, and otherwise a link. */
class FilePart extends Whole {
  element = make("div", "file");

  draw() {
    const { url, filename, mediaType, cut } = this.data;
    const name = inLine(filename) || inLine(mediaType) || "file";
    const isPicture = typeof url === "string" && PICTURE.test(url);
    const shown = isPicture ? Object.assign(document.createElement("img"), { src: url, alt: name }) : anchorAt(url);
    if (!isPicture) shown.textContent = name;
    this.element.replaceChildren(shown);
    if (cut === true) this.element.append(make("p", "cut", CUT));
  }
}

/** What the answer draws on. */
class SourcePart extends Whole {
  element = make("div", "source");

  draw() {
    const { url, title } = this.data;
    const link = anchorAt(url);
    link.textContent = inLine(title) || inLine(url) || "source";
    this.element.replaceChildren(link);
  }
}

/** Data of an application, which this page knows nothing of. */
class DataPart extends Whole {
  element = make("details", "data");
  #name = make("summary", "");
  #body = make("div", "call");

  /** @param {string} key */
  constructor(key) {
    super(key);
    this.element.append(this.#name, this.#body);
    this.element.addEventListener("toggle", () => this.#drawBody());
  }

  draw() {
    this.#name.textContent = inLine(this.data.name) || "data";
    this.#drawBody();
  }

  #drawBody() {
    if (!this.element.hasAttribute("open")) return;
    this.#body.replaceChildren(...field("data", this.data.data));
    if (this.data.cut === true) this.#body.append(make("p", "cut", CUT));
  }
}

/** What went wrong and did not end the turn. */
class WarningPart extends Whole {
  element = make("p", "warning");

  draw() {
    const { message, code } = this.data;
    this.element.textContent = typeof message === "string" ? message : "";
    if (typeof code === "string") this.element.append(" ", make("code", "", inLine(code)));
  }
}

/** A message that somebody sent into the turn. */
class InputPart extends Whole {
  element = make("div", "input");
  isTaken = false;

  draw() {
    const { message, by, cut } = this.data;
    const bubble = Object.assign(make("div", "bubble", typeof message === "string" ? message : ""), { dir: "auto" });
    const who = typeof by === "string" ? `Sent into the answer by ${inLine(by)}` : "Sent into the answer";
    this.element.dataset.state = this.isTaken ? "taken" : "sent";
    this.element.replaceChildren(make("h3", "hidden", who), bubble);
    if (cut === true) this.element.append(make("p", "cut", CUT));
    if (!this.isTaken) this.element.append(make("span", "waits", "On its way to the agent"));
  }
}

/** The place of an answer to a question, which is drawn with the question. */
class Mark {
  element = document.createComment("answered");

  /** @param {string} key */
  constructor(key) {
    this.key = key;
  }

  draw() {}

  end() {}
}

/** Events that are drawn as parts, and are parts at rest. */
const EVENTS = new Set(["interaction", "interaction.answered", "input"]);

/** The kinds of parts that are drawn, by their `type`. @type {Map<string, new (key: string, asking: Asking) => any>} */
const KINDS = new Map(
  /** @type {[string, any][]} */ ([
    ["text", TextPart], ["reasoning", ReasoningPart], ["tool", ToolPart], ["file", FilePart], ["source", SourcePart], ["data", DataPart],
    ["warning", WarningPart], ["interaction", QuestionPart], ["interaction.answered", QuestionPart], ["input", InputPart],
  ]),
);

/** @param {unknown} text @returns {text is string} */
const isText = (text) => typeof text === "string" && text.trim() !== "";
