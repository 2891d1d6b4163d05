/** The developer's view of the server: the attempts at a turn, their hooks in order, and how long each took. */
import { make } from "./elements.js";
import { milliseconds } from "./developer.js";

/**
 * @typedef {{ hook: string, atMs: number, durationMs: number, ok: boolean }} Hook  `atMs` counts from the attempt's start
 * @typedef {{ kind: "accepted" | "resumed" | "swept", startedAt: number, endedAt: number | null, resumedAfter: number,
 *   client: "attached" | "left" | "stalled", events: number, code: string | null, hooks: Hook[],
 *   outcome: "completed" | "replayed" | "failed" | "cancelled" | "abandoned" | null }} Attempt
 * @typedef {{ session: string, turnId: string, isRunning: boolean }} Turn
 */

/** How often the server is asked while something goes on, in ms. */
const PAUSE = 700;

/** The panel's list of attempts. It asks only while the panel is open and the turn, or an attempt at it, goes on. */
export class Attempts {
  /** @type {Turn | null} */
  #turn = null;
  #shown = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLElement} element @param {HTMLElement} note  where it is said that there is nothing to show
   * @param {(turn: Turn) => Promise<{ attempts: Attempt[] }>} load
   */
  constructor(element, note, load) {
    this.element = element;
    this.note = note;
    this.load = load;
  }

  /** @param {Turn | null} turn  none: nothing is shown, and nobody asked */
  show(turn) {
    if (turn?.turnId === this.#turn?.turnId && turn?.isRunning === this.#turn?.isRunning) return;
    if (turn?.turnId !== this.#turn?.turnId) {
      this.#draw([]);
      this.note.hidden = true;
    }
    this.#turn = turn;
    clearTimeout(this.#timer);
    if (turn) this.#look(turn);
  }

  /** @param {Turn} turn */
  async #look(turn) {
    const trace = await this.load(turn).catch(() => null);
    if (turn !== this.#turn) return;
    this.note.hidden = trace !== null || turn.isRunning;
    if (trace) this.#draw(trace.attempts);
    const goesOn = turn.isRunning || trace?.attempts.some(({ endedAt }) => endedAt === null);
    if (goesOn) this.#timer = setTimeout(() => this.#look(turn), PAUSE);
  }

  /** @param {Attempt[]} attempts */
  #draw(attempts) {
    const news = JSON.stringify(attempts);
    if (news === this.#shown) return;
    this.#shown = news;
    const first = attempts[0]?.startedAt ?? 0;
    this.element.replaceChildren(...attempts.map((attempt) => attemptElement(attempt, first)));
  }
}

/** @param {Attempt} attempt @param {number} first  when the first one started */
function attemptElement(attempt, first) {
  const { kind, startedAt, endedAt, resumedAfter, client, events, outcome, code, hooks } = attempt;
  const told = Math.max(0, ...hooks.map(({ atMs, durationMs }) => atMs + durationMs));
  const length = Math.max((endedAt ?? Date.now()) - startedAt, told);
  const element = make("li", "attempt");
  element.dataset.outcome = outcome ?? "running";
  const facts = [
    resumedAfter > 0 && `after ${resumedAfter}`,
    startedAt > first && `+${milliseconds(startedAt - first)}`,
    `${events.toLocaleString("en")} ${events === 1 ? "line" : "lines"}`,
    endedAt !== null && milliseconds(length),
    client !== "attached" && `client ${client}`,
    code !== null && code !== outcome && code,
  ];
  const head = make("div", "head");
  head.append(make("span", "kind", kind), make("span", "facts", facts.filter(Boolean).join(" · ")), make("span", "outcome", outcome ?? "running"));
  const list = make("ol", "hooks");
  list.append(...hooks.map((hook) => hookElement(hook, length)));
  element.append(head, list);
  return element;
}

/** @param {Hook} hook @param {number} length  of the attempt, in ms */
function hookElement({ hook, atMs, durationMs, ok }, length) {
  const element = make("li", ok ? "" : "broken");
  const bar = make("span", "bar");
  const share = (/** @type {number} */ value) => `${Math.min(100, (100 * value) / Math.max(length, 1))}%`;
  bar.style.setProperty("--at", share(atMs));
  bar.style.setProperty("--length", share(durationMs));
  const took = durationMs < 0.1 ? "< 0.1 ms" : durationMs < 10 ? `${durationMs.toFixed(1)} ms` : milliseconds(durationMs);
  element.append(make("span", "hook", hook), bar, make("span", "took", ok ? took : `${took}, failed`));
  element.title = `after ${milliseconds(atMs)}`;
  return element;
}
