/**
 * Inline Markdown (emphasis, code, links) drawn while it arrives. Text becomes text nodes and nothing else: no HTML of a
 * model is ever parsed. What further text cannot change is drawn once; the rest, at most `REACH` characters, is drawn anew
 * with each append. So the work is linear in the text, however it is cut.
 */
import { decoded, entity, isBegun } from "./entities.js";

/** Characters after which an opening delimiter without its closing one is plain text. */
const REACH = 2000;
/** Characters of one text node: appending to it copies it. */
const NODE = 4096;
const DEPTH = 6;
const SPECIAL = /[\\`*_~[&]|!\[|<br(?![\w-])|<?\bhttps?:\/\//gi;
const BREAK = /^<br {0,8}\/?>/i;
const BREAK_BEGUN = /^<br {0,8}\/?$/i;
const LINK_SCHEMES = ["http:", "https:", "mailto:"];

/** One paragraph, heading, cell: a run of inline text. */
export class Inline {
  #ahead = document.createElement("span");
  #tail = "";
  #last = " ";

  /** @param {Element} parent */
  constructor(parent) {
    parent.append(this.#ahead);
  }

  /** @param {string} text */
  append(text) {
    this.#tail += text;
    const fixed = draw(this.#tail, { into: this.#ahead.parentNode, before: this.#ahead, last: this.#last, isEnd: false, depth: 0 });
    if (fixed > 0) this.#last = this.#tail[fixed - 1];
    this.#tail = this.#tail.slice(fixed);
    this.#ahead.replaceChildren();
    draw(this.#tail, { into: this.#ahead, before: null, last: this.#last, isEnd: true, isGuess: true, depth: 0 });
  }

  end() {
    this.#ahead.replaceChildren();
    draw(this.#tail, { into: this.#ahead.parentNode, before: this.#ahead, last: this.#last, isEnd: true, depth: 0 });
    this.#tail = "";
    this.#ahead.remove();
  }
}

/**
 * @typedef {{ into: ParentNode & Node | null, before: Node | null, last: string, isEnd: boolean, isGuess?: boolean,
 *   depth: number, unclosed?: Set<string> }} Place  `isEnd`: no more text follows; `isGuess`: draw an unclosed delimiter as
 *   if it closed at the end; `unclosed`: delimiters that are known not to close in the rest of the text
 * @typedef {{ end: number, draw: (place: Place) => void } | "open" | null} Found  `open`: the text ends inside of it
 */

/** Draws `text` up to where more text could change it, and gives how far that was. @param {string} text @param {Place} place */
function draw(text, place) {
  place.unclosed = new Set();
  // What is plain from here on is written at once: the page is slower than the text.
  let plain = 0;
  for (let at = 0; at < text.length; ) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    const found = next < text.length ? construct(text, next, place) : place.isEnd ? null : "open";
    if (found === "open") {
      const end = next < text.length ? next : settled(text, at);
      write(text.slice(plain, end), place);
      return end;
    }
    at = found?.end ?? next + run(text, next);
    if (!found) continue;
    write(text.slice(plain, next), place);
    found.draw(place);
    plain = at;
  }
  write(text.slice(plain), place);
  return text.length;
}

/** Plain text is settled up to its last word: what comes next may make a link or an image of it. @param {string} text @param {number} from */
function settled(text, from) {
  const space = Math.max(text.lastIndexOf(" "), text.lastIndexOf("\n")) + 1;
  return Math.max(from, space, text.length - REACH);
}

/** @param {string} text @param {Place} place */
function write(text, { into, before }) {
  const last = before ? before.previousSibling : into?.lastChild;
  if (last instanceof Text && last.length + text.length <= NODE) last.appendData(text);
  else if (text !== "") into?.insertBefore(document.createTextNode(text), before);
}

/** How often the character at `at` stands there in a row. @param {string} text @param {number} at */
function run(text, at) {
  if (!"`*_~".includes(text[at])) return 1;
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

/** @param {string} text @param {number} at @param {Place} place @returns {Found} */
function construct(text, at, place) {
  switch (text[at]) {
    case "\\":
      return escape(text, at, place);
    case "`":
      return code(text, at, place);
    case "[":
    case "!":
      return link(text, at, place);
    case "&":
      return spelt(text, at, place);
    case "<":
      return /^<br/i.test(text.slice(at, at + 3)) ? lineBreak(text, at, place) : bareLink(text, at, place);
    case "h":
    case "H":
      return bareLink(text, at, place);
    default:
      return emphasis(text, at, place);
  }
}

/** @param {string} text @param {number} at @param {Place} place @returns {Found} */
function escape(text, at, place) {
  const next = text[at + 1];
  if (next === undefined) return place.isEnd ? null : "open";
  const isEscape = /[!-/:-@[-`{-~]/.test(next);
  return isEscape ? { end: at + 2, draw: (there) => write(next, there) } : null;
}

/** A character by its name or number. @param {string} text @param {number} at @param {Place} place @returns {Found} */
function spelt(text, at, place) {
  const found = entity(text.slice(at, at + 12));
  if (found) return { end: at + found.length, draw: (there) => write(found.character, there) };
  return !place.isEnd && isBegun(text.slice(at)) ? "open" : null;
}

/** The one tag that people write in cells, where no line can end. @param {string} text @param {number} at @param {Place} place @returns {Found} */
function lineBreak(text, at, place) {
  const [tag] = BREAK.exec(text.slice(at, at + 13)) ?? [];
  if (tag) return { end: at + tag.length, draw: (there) => void element("br", there) };
  return !place.isEnd && BREAK_BEGUN.test(text.slice(at)) ? "open" : null;
}

/** @param {string} text @param {number} at @param {Place} place @returns {Found} */
function code(text, at, place) {
  const length = run(text, at);
  const from = at + length;
  if (place.unclosed?.has(text.slice(at, from))) return null;
  for (let end = text.indexOf("`", from); end >= 0 && end - at <= REACH; ) {
    const closing = run(text, end);
    const isSure = place.isEnd || end + closing < text.length;
    if (closing === length) return isSure ? codeSpan(text.slice(from, end), end + length) : "open";
    end = text.indexOf("`", end + closing);
  }
  if (place.isGuess && from < text.length) return codeSpan(text.slice(from), text.length);
  return unclosed(text, at, place, text.slice(at, from));
}

/** @param {string} content @param {number} end @returns {Found} */
function codeSpan(content, end) {
  const isPadded = content.startsWith(" ") && content.endsWith(" ") && content.trim() !== "";
  return { end, draw: (place) => element("code", place).append(isPadded ? content.slice(1, -1) : content) };
}

/** @param {string} text @param {number} at @param {Place} place @param {string} [delimiter] @returns {Found} */
function unclosed(text, at, place, delimiter = "") {
  const isOpen = !place.isEnd && text.length - at <= REACH;
  if (text.length - at <= REACH) place.unclosed?.add(delimiter);
  return isOpen ? "open" : null;
}

const EMPHASIS = /** @type {const} */ ({ "*": ["em"], "**": ["strong"], "***": ["strong", "em"], "~~": ["del"] });

/** @param {string} text @param {number} at @param {Place} place @returns {Found} */
function emphasis(text, at, place) {
  const length = run(text, at);
  const from = at + length;
  const delimiter = text.slice(at, from);
  const tags = EMPHASIS[/** @type {keyof typeof EMPHASIS} */ (delimiter.replaceAll("_", "*"))];
  const before = at > 0 ? text[at - 1] : place.last;
  if (from === text.length) return place.isEnd ? null : "open";
  if (!tags || place.depth >= DEPTH || /\s/.test(text[from]) || (text[at] === "_" && isWord(before))) return null;
  if (place.unclosed?.has(delimiter)) return null;
  const close = closing(text, at, length);
  const isSure = place.isEnd || close + length < text.length;
  if (close >= 0 && !isSure) return "open";
  if (close >= 0) return { end: close + length, draw: (there) => nested(tags, text.slice(from, close), there) };
  if (place.isGuess && tags[0] === "strong") return { end: text.length, draw: (there) => nested(tags, text.slice(from), there) };
  return unclosed(text, at, place, delimiter);
}

/** Where the delimiter at `at` closes, or -1. @param {string} text @param {number} at @param {number} length */
function closing(text, at, length) {
  const [mark, limit] = [text[at], Math.min(text.length, at + REACH)];
  for (let end = text.indexOf(mark, at + length); end >= 0 && end < limit; ) {
    const closing = run(text, end);
    const isClosing = !/[\s\\]/.test(text[end - 1]) && (mark !== "_" || !isWord(text[end + closing] ?? " "));
    if (isClosing && (closing === length || (closing === 3 && length < 3))) return end + closing - length;
    end = text.indexOf(mark, end + closing);
  }
  return -1;
}

const isWord = (/** @type {string} */ character) => /[\p{L}\p{N}]/u.test(character);

/** @param {readonly string[]} tags @param {string} text @param {Place} place */
function nested(tags, text, place) {
  const [tag, ...inner] = tags;
  const into = element(tag, place);
  const there = { ...place, into, before: null, last: " ", isEnd: true, depth: place.depth + 1 };
  if (inner.length > 0) nested(inner, text, there);
  else draw(text, there);
}

/** `[text](address)`; an image is a link to it: nothing is loaded from elsewhere. @param {string} text @param {number} at @param {Place} place @returns {Found} */
function link(text, at, place) {
  const from = text[at] === "!" ? at + 2 : at + 1;
  if (place.unclosed?.has("[")) return null;
  if (!text.includes("]", from)) return unclosed(text, at, place, "[");
  const close = balanced(text, from, at + REACH, "[]");
  if (close < 0) return unclosed(text, at, place);
  if (close + 1 === text.length && !place.isEnd) return "open";
  if (text[close + 1] !== "(" || place.depth >= DEPTH) return null;
  if (place.unclosed?.has("(")) return null;
  if (!text.includes(")", close)) return unclosed(text, at, place, "(");
  const end = balanced(text, close + 2, at + REACH, "()");
  if (end < 0) return unclosed(text, at, place);
  const address = decoded(text.slice(close + 2, end)).trim().replace(/\s+["'(].*$/s, "").replace(/^<(.*)>$/, "$1");
  const label = text.slice(from, close);
  return { end: end + 1, draw: (there) => anchored(address, label, there) };
}

/** Where the bracket that was opened before `from` closes, or -1. @param {string} text @param {number} from @param {number} limit @param {string} brackets */
function balanced(text, from, limit, [opening, closing]) {
  for (let at = from, depth = 1; at < Math.min(text.length, limit); at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === opening) depth += 1;
    else if (text[at] === closing && --depth === 0) return at;
  }
  return -1;
}

/** A link where the address leads to the web, and otherwise a span. @param {unknown} address */
export function anchorAt(address) {
  const url = typeof address === "string" && URL.canParse(address) ? new URL(address) : null;
  const isSafe = url !== null && LINK_SCHEMES.includes(url.protocol);
  const anchor = document.createElement(isSafe ? "a" : "span");
  if (isSafe) {
    anchor.setAttribute("href", url.href);
    anchor.setAttribute("rel", "noopener noreferrer nofollow");
    anchor.setAttribute("target", "_blank");
    // A label can lie about where it leads.
    anchor.setAttribute("title", url.href);
  }
  return anchor;
}

/** @param {string} address @param {string} label  empty: the address @param {Place} place */
function anchored(address, label, place) {
  const anchor = anchorAt(address);
  place.into?.insertBefore(anchor, place.before);
  if (label) draw(label, { ...place, into: anchor, before: null, last: " ", isEnd: true, depth: DEPTH });
  else anchor.append(address);
}

/** @param {string} text @param {number} at @param {Place} place @returns {Found} */
function bareLink(text, at, place) {
  const isBracketed = text[at] === "<";
  // Text before this one is gone, so the expression that found it cannot tell.
  if (at === 0 && !isBracketed && /\w/.test(place.last)) return null;
  const from = isBracketed ? at + 1 : at;
  const rest = text.slice(from, from + REACH);
  const [whole] = (isBracketed ? /^[^\s<>]{1,2000}/ : BARE).exec(rest) ?? [""];
  if (from + whole.length === text.length && !place.isEnd) return unclosed(text, at, place);
  const address = isBracketed ? whole : withoutEnd(whole);
  const end = from + address.length + (isBracketed && text[from + whole.length] === ">" ? 1 : 0);
  const draw = (/** @type {Place} */ there) => {
    if (place.depth >= DEPTH || !URL.canParse(address)) return write(text.slice(at, end), there);
    anchored(isBracketed ? address : decoded(address), "", there);
  };
  return { end, draw };
}

/** An address in text: it ends at a space, at a quote, and at the punctuation of other scripts; their letters are part of addresses. */
const BARE = /^(?:[!#-;=?-_a-~]|[^\p{ASCII}\p{P}\p{S}\p{Z}\p{C}]|[\ud800-\udbff]$){1,2000}/u;

/**
 * What stands behind an address in a sentence is not part of it: punctuation, brackets that were opened before it, and what is spelt
 * and would end it. @param {string} whole
 */
function withoutEnd(whole) {
  const spelt = [...whole.matchAll(/&[#\w]{1,10};/g)].find(([spelling]) => !BARE.test(decoded(spelling)));
  const address = whole.slice(0, spelt?.index);
  const count = (/** @type {string} */ bracket) => address.split(bracket).length - 1;
  const excess = new Map([[")", count(")") - count("(")], ["]", count("]") - count("[")]]);
  for (let end = address.length; ; ) {
    const text = address.slice(0, end);
    const [behind] = /(?:&[A-Za-z0-9]+;|[.,;:!?'*_~])$/.exec(text.slice(-12)) ?? [];
    const open = excess.get(text.at(-1) ?? "") ?? 0;
    if (!behind && open <= 0) return text;
    if (!behind) excess.set(text[end - 1], open - 1);
    end -= behind?.length ?? 1;
  }
}

/** @param {string} tag @param {Place} place @returns {HTMLElement} */
function element(tag, { into, before }) {
  const made = document.createElement(tag);
  into?.insertBefore(made, before);
  return made;
}
