/** The developer's view: a turn's life as this client saw it, line by line. Shows what is known here and nothing else. */
import { make } from "./elements.js";

/** @typedef {import("./turnkit.js").Update} Update */
/** @typedef {import("./turnkit.js").TurnEvent} TurnEvent */
/** @typedef {{ at: number, gap: number, kind: string, cursor: string, label: string, text: string, excerpt?: string }} Row */

/** Rows that are kept of each turn, and the characters of their lines; and rows that are on the page. */
const KEPT = 5000;
const HELD = 8_000_000;
const SHOWN = 400;
/** Characters of a line that its row shows until it is opened. */
const EXCERPT = 160;

/** What happened to one turn. */
export class TurnLog {
  /** @type {Row[]} */
  rows = [];
  /** Rows that there ever were. */
  count = 0;
  started = performance.now();
  last = this.started;
  executionId = "";
  #held = 0;
  figures = { lines: 0, bytes: 0, cursor: 0, connections: 0, drops: 0, replays: 0, firstLine: 0, longestGap: 0 };

  /** @param {Update} update */
  take(update) {
    const now = performance.now();
    const row = this.#row(update, now);
    this.rows.push({ at: now - this.started, gap: now - this.last, ...row });
    this.count += 1;
    this.#held += row.text.length;
    this.last = now;
    if (this.rows.length > 2 * KEPT || this.#held > 2 * HELD) this.#forget();
  }

  /** The oldest rows go, half of what there may be at once: so the work stays constant for each row. */
  #forget() {
    let [at, held] = [this.rows.length, 0];
    while (at > 0 && this.rows.length - at < KEPT && held + this.rows[at - 1].text.length <= HELD) held += this.rows[--at].text.length;
    this.rows = this.rows.slice(at);
    this.#held = held;
  }

  /** @param {Update} update @param {number} now @returns {Omit<Row, "at" | "gap">} */
  #row(update, now) {
    const { figures } = this;
    if (update.kind === "connected") {
      figures.connections += 1;
      this.executionId = update.executionId ?? this.executionId;
      return { kind: "connected", cursor: "", label: "connected", text: `after ${update.cursor}` };
    }
    if (update.kind === "disconnected") {
      figures.drops += 1;
      const { error, delay } = update;
      const text = `${error.code}: ${error.message}; again in ${milliseconds(delay)}, after ${update.cursor}`;
      return { kind: "dropped", cursor: "", label: "dropped", text };
    }
    if (update.kind === "queued") return { kind: "connected", cursor: "", label: "queued", text: `as number ${update.position}` };
    figures.lines += 1;
    figures.bytes += update.line.length + 1;
    figures.firstLine ||= now - this.started;
    figures.longestGap = Math.max(figures.longestGap, now - this.last);
    if (update.kind === "event") {
      figures.cursor = update.cursor;
      const { event, line, cursor } = update;
      return { kind: "line", cursor: `${cursor}`, label: event.type, text: line, excerpt: excerpt(event, line) };
    }
    if (update.kind === "completed" && update.replayed) figures.replays += 1;
    return { kind: update.kind, cursor: "–", label: `session.run.${update.kind}`, text: update.line };
  }
}

/** The panel that shows one record at a time. */
export class Developer {
  /** @type {TurnLog | null} */
  #record = null;
  #drawn = 0;

  /** @param {HTMLElement} panel @param {HTMLElement} figures @param {HTMLElement} lines */
  constructor(panel, figures, lines) {
    this.panel = panel;
    this.figures = figures;
    this.lines = lines;
  }

  /** @param {TurnLog | null} record */
  show(record) {
    if (record !== this.#record) {
      this.#record = record;
      this.#drawn = 0;
      this.lines.replaceChildren();
    }
    this.draw();
  }

  /** Draws what the record has got since the last time; constant work for each row, whatever is above. */
  draw() {
    if (this.panel.hidden) return;
    const { lines } = this;
    const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    const { rows, count } = this.#record ?? { rows: [], count: 0 };
    const news = Math.min(count - this.#drawn, SHOWN, rows.length);
    lines.append(...rows.slice(rows.length - news).map(rowElement));
    this.#drawn = count;
    while (lines.childElementCount > SHOWN) lines.firstElementChild?.remove();
    this.#drawFigures();
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  }

  #drawFigures() {
    const record = this.#record;
    this.figures.hidden = record === null;
    if (!record) return;
    const { lines, bytes, cursor, connections, drops, replays, firstLine, longestGap } = record.figures;
    const pairs = [
      ["execution", record.executionId || "–"],
      ["cursor", `${cursor}`],
      ["lines", `${lines}`],
      ["characters", bytes.toLocaleString("en")],
      ["connections", `${connections}`],
      ["drops", `${drops}`],
      ["replays", `${replays}`],
      ["first line", firstLine ? milliseconds(firstLine) : "–"],
      ["longest gap", milliseconds(longestGap)],
      ["in all", milliseconds(record.last - record.started)],
    ];
    this.figures.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
  }
}

/** What is new in a line, as far as it is known. @param {TurnEvent} event @param {string} line */
function excerpt({ type, data }, line) {
  const part = data?.part;
  if (type !== "message.part.updated" || !part) return line.replace(/^\{"type":"[^"]*","data":/, "");
  const news = data.delta ?? part.text ?? part.state?.status ?? "";
  return `${typeof part.type === "string" ? part.type : "part"} ${JSON.stringify(typeof news === "string" ? news.slice(0, EXCERPT) : news)}`;
}

/** @param {Row} row */
function rowElement({ at, gap, kind, cursor, label, text, excerpt = text }) {
  const element = make("li", kind);
  const line = make("details", "");
  const summary = make("summary", "");
  summary.append(
    make("span", "at", milliseconds(at)),
    make("span", "gap", `+${milliseconds(gap)}`),
    make("span", "cursor", cursor),
    make("span", "label", label),
    make("span", "excerpt", excerpt.slice(0, EXCERPT)),
  );
  line.append(summary);
  // The whole line is drawn when somebody looks at it.
  line.addEventListener("toggle", () => line.childElementCount > 1 || line.append(make("pre", "", text)), { once: true });
  element.append(line);
  return element;
}

/** @param {number} value */
export const milliseconds = (value) => (value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`);
