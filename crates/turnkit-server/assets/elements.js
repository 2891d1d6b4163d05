/** Elements of the page, and how it shows what comes from an agent. */

/** Characters of a tool's input or output that are shown. */
const SHOWN = 20_000;
/** Characters of a tool's name and title that are shown. */
const LINE = 200;
/** What colours a terminal, moves its cursor, names its window: programs write it, and here it means nothing. */
const TERMINAL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])/g;

/** @param {string} tag @param {string} className @param {string} [text] @returns {HTMLElement} */
export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** @param {string} text @param {() => void} pressed */
export function button(text, pressed) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", pressed);
  return element;
}

/** @param {string} name @param {unknown} value @returns {HTMLElement[]} */
export function field(name, value) {
  if (value === undefined || value === null || value === "") return [];
  const whole = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const more = whole.length > SHOWN ? `\n… ${(whole.length - SHOWN).toLocaleString("en")} characters more` : "";
  const pre = make("pre", "", whole.slice(0, SHOWN).replace(TERMINAL, "") + more);
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", name);
  return [make("div", "label", name), pre];
}

/** @param {unknown} text  of an agent, for a place that has one line */
export function inLine(text) {
  return typeof text === "string" ? text.slice(0, LINE) : "";
}

/** @param {unknown} value @returns {value is object} */
export const isObject = (value) => typeof value === "object" && value !== null;
