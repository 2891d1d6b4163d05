/**
 * Markdown drawn while it arrives. Each line is looked at when it begins and then streams into the block that it belongs to;
 * what was drawn is not drawn again, so the work is linear in the text, however it is cut. A subset of CommonMark and its
 * tables: paragraphs, headings, lists, quotes, fenced code, rules. HTML is text, but for `<br>`.
 */
import { Inline } from "./inline.js";

/** Characters of a line's beginning that are held back until it is clear what it begins. */
const HOLD = 4096;
const DEPTH = 12;

const MARKER = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}(?=\S)| *$)/;
const QUOTE = /^ {0,3}> ?/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
/** Beginnings, without what lists and quotes put in front, that no further text turns into another block. */
const CLEAR =
  /^(?:[^\s#`~|*_+\->:\d]|#{1,6}[ \t]+\S|#{7}|#+[^\s#]|[*_]{1,3}[^\s*_]|[+-][^\s+\-|:]|`{1,2}[^`]|~{1,2}[^~]|\d{10}|\d+[^\d.)]|\d+[.)]\S|:[^\s:|-])/;
const CONTAINERS = /^(?:[ \t]|>|[-*+] |\d{1,9}[.)] )*/;

/** A whole document. */
export class Markdown {
  #blocks;
  #held = "";
  #isBegun = false;

  /** @param {Element} root */
  constructor(root) {
    this.#blocks = new Blocks(root, 0);
  }

  /** @param {string} text  cut anywhere */
  append(text) {
    const lines = text.replaceAll("\r", "").split("\n");
    lines.forEach((line, index) => {
      if (index > 0) this.#endLine();
      if (line !== "") this.#extend(line);
    });
  }

  end() {
    if (this.#held !== "") this.#endLine();
    this.#blocks.close();
  }

  /** @param {string} text */
  #extend(text) {
    if (this.#isBegun) return this.#blocks.more(text);
    this.#held += text;
    const isHeld = this.#held.length < HOLD && this.#blocks.mustHold(this.#held);
    if (!isHeld) this.#begin(false);
  }

  #endLine() {
    if (!this.#isBegun) this.#begin(true);
    this.#isBegun = false;
  }

  /** @param {boolean} isWhole */
  #begin(isWhole) {
    const line = this.#held.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
    this.#held = "";
    this.#isBegun = true;
    this.#blocks.begin(line, isWhole);
  }
}

/**
 * A block that lines go into. `takes`: whether it goes on with this line; `begin`, `more`: the line's text.
 * @typedef {{ takes(line: string, isWhole: boolean): boolean, begin(line: string, isWhole: boolean): void,
 *   more(text: string): void, close(): void, leaf?(): Block | null }} Block
 */

/** What a document, a quote and a list item hold: one block after the other, of which the last one is open. */
class Blocks {
  /** @type {Block | null} */
  #open = null;

  /** @param {Element} root @param {number} depth */
  constructor(root, depth) {
    this.root = root;
    this.depth = depth;
  }

  /** The innermost open block. @returns {Block | null} */
  leaf() {
    return this.#open?.leaf ? this.#open.leaf() : this.#open;
  }

  /** Whether the rest of the line may still change what it begins. @param {string} text */
  mustHold(text) {
    const leaf = this.leaf();
    if (leaf instanceof Code && leaf.takes()) return leaf !== this.#open || /^[ `~]*$/.test(text);
    if (leaf instanceof Table || (leaf instanceof Paragraph && leaf.header !== null)) return true;
    return !CLEAR.test(text.replace(CONTAINERS, ""));
  }

  /** @param {string} line @param {boolean} isWhole */
  begin(line, isWhole) {
    if (!this.#open?.takes(line, isWhole)) {
      if (isWhole && this.#makeTable(line)) return;
      this.close();
      if (line.trim() === "") return;
      if (isWhole && RULE.test(line)) return void add(this.root, "hr");
      this.#open = this.#make(line, isWhole);
      this.#direct();
    }
    this.#open.begin(line, isWhole);
  }

  /** A block's writing direction is that of its text; blocks in it have the same, so that a list's marks stand where its lines begin. */
  #direct() {
    const made = /** @type {HTMLElement} */ (this.root.lastElementChild);
    if (this.depth === 0) made.dir ||= "auto";
  }

  /** @param {string} text */
  more(text) {
    this.#open?.more(text);
  }

  close() {
    this.#open?.close();
    this.#open = null;
  }

  /** @param {string} line @param {boolean} isWhole @returns {Block} */
  #make(line, isWhole) {
    const fence = isWhole && FENCE.exec(line);
    const heading = HEADING.exec(line);
    const marker = MARKER.exec(line);
    if (fence) return new Code(this.root, fence);
    if (heading) return new Heading(this.root, heading[1].length);
    if (this.depth < DEPTH && QUOTE.test(line)) return new Quote(this.root, this.depth);
    if (this.depth < DEPTH && marker) return new List(this.root, this.depth, marker[2]);
    return new Paragraph(this.root);
  }

  /** A line of dashes under a line with as many cells. @param {string} line */
  #makeTable(line) {
    if (!(this.#open instanceof Paragraph) || !this.#open.isHeaderOf(line)) return false;
    const header = cells(this.#open.takeHeader());
    this.#open.close();
    this.#open = new Table(this.root, header, cells(line));
    this.#direct();
    return true;
  }
}

/** Whether the line begins a block that ends a paragraph. @param {string} line @param {boolean} isWhole */
function interrupts(line, isWhole) {
  const marker = MARKER.exec(line);
  const isList = marker !== null && marker[0] !== line && /^(?:[-*+]|1[.)])$/.test(marker[2]);
  const isLeaf = isWhole && (FENCE.test(line) || RULE.test(line));
  return line.trim() === "" || isList || isLeaf || HEADING.test(line) || QUOTE.test(line);
}

/** @implements {Block} */
class Paragraph {
  #element;
  #inline;
  #isEmpty = true;
  /** The first line so far, at most a little more than `HOLD` of it, while there is no other. */
  #first = "";
  /** A later line that begins with a bar: it is drawn when it is clear that it heads no table. @type {string | null} */
  #held = null;

  /** @param {Element} root */
  constructor(root) {
    this.#element = add(root, "p");
    this.#inline = new Inline(this.#element);
  }

  /** The last line, where it may be a table's header. */
  get header() {
    if (this.#held !== null) return this.#held;
    return this.#first.includes("|") && this.#first.length < HOLD ? this.#first : null;
  }

  /** @param {string} line */
  isHeaderOf(line) {
    return this.header !== null && TABLE_RULE.test(line) && cells(this.header).length === cells(line).length;
  }

  /** The last line becomes a table's: the paragraph goes on without it, or goes. */
  takeHeader() {
    const header = this.header ?? "";
    if (this.#held === null) this.#element.remove();
    this.#held = null;
    return header;
  }

  /** @param {string} line @param {boolean} isWhole */
  takes(line, isWhole) {
    return !interrupts(line, isWhole) && !this.isHeaderOf(line);
  }

  /** @param {string} line @param {boolean} isWhole */
  begin(line, isWhole) {
    const text = line.trimStart();
    const mayBeHeader = isWhole && text.startsWith("|");
    this.#drawHeld();
    // What is about to become a table does not show its source first.
    this.#element.hidden = mayBeHeader && this.#isEmpty;
    this.#first = this.#isEmpty ? text : "";
    if (mayBeHeader && !this.#isEmpty) this.#held = text;
    else this.#inline.append(this.#isEmpty ? text : `\n${text}`);
    this.#isEmpty = false;
  }

  /** @param {string} text */
  more(text) {
    if (this.#first !== "" && this.#first.length < HOLD) this.#first += text;
    this.#inline.append(text);
  }

  close() {
    this.#drawHeld();
    this.#element.hidden = false;
    this.#inline.end();
  }

  #drawHeld() {
    if (this.#held !== null) this.#inline.append(`\n${this.#held}`);
    this.#held = null;
  }
}

/** @implements {Block} */
class Heading {
  #inline;

  /** The page has headings of its own above. @param {Element} root @param {number} level */
  constructor(root, level) {
    this.#inline = new Inline(add(root, `h${Math.min(level + 2, 6)}`));
  }

  takes() {
    return false;
  }

  /** @param {string} line */
  begin(line) {
    this.#inline.append(line.replace(HEADING, ""));
  }

  /** @param {string} text */
  more(text) {
    this.#inline.append(text);
  }

  close() {
    this.#inline.end();
  }
}

/** @implements {Block} */
class Code {
  /** @type {"begun" | "open" | "closed"} */
  #state = "begun";
  #isEmpty = true;
  #code;

  /** @param {Element} root @param {RegExpExecArray} fence */
  constructor(root, [, indent, fence, language]) {
    this.indent = new RegExp(`^ {0,${indent.length}}`);
    this.closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
    const figure = add(root, "figure");
    figure.className = "code";
    figure.dir = "ltr";
    const caption = add(figure, "figcaption");
    caption.textContent = language;
    // Only there on HTTPS and on this machine.
    if (navigator.clipboard) {
      const copy = add(caption, "button");
      copy.className = "copy";
      copy.textContent = "Copy";
    }
    const pre = add(figure, "pre");
    pre.tabIndex = 0;
    this.#code = add(pre, "code");
  }

  takes() {
    return this.#state !== "closed";
  }

  /** @param {string} line @param {boolean} isWhole */
  begin(line, isWhole) {
    if (this.#state === "begun") this.#state = "open";
    else if (isWhole && this.closing.test(line)) this.#state = "closed";
    else {
      const text = line.replace(this.indent, "");
      this.more(this.#isEmpty ? text : `\n${text}`);
      this.#isEmpty = false;
    }
  }

  /** @param {string} text */
  more(text) {
    const last = this.#code.lastChild;
    if (last instanceof Text && last.length < HOLD) last.appendData(text);
    else this.#code.append(text);
  }

  close() {}
}

/** @implements {Block} */
class Quote {
  #blocks;

  /** @param {Element} root @param {number} depth */
  constructor(root, depth) {
    this.#blocks = new Blocks(add(root, "blockquote"), depth + 1);
  }

  leaf() {
    return this.#blocks.leaf();
  }

  /** @param {string} line */
  takes(line) {
    return QUOTE.test(line);
  }

  /** @param {string} line @param {boolean} isWhole */
  begin(line, isWhole) {
    this.#blocks.begin(line.replace(QUOTE, ""), isWhole);
  }

  /** @param {string} text */
  more(text) {
    this.#blocks.more(text);
  }

  close() {
    this.#blocks.close();
  }
}

/** @implements {Block} */
class List {
  /** @type {Blocks | null} */
  #item = null;
  #wasBlank = false;
  #indent = 0;
  #element;

  /** @param {Element} root @param {number} depth @param {string} marker */
  constructor(root, depth, marker) {
    const number = parseInt(marker, 10);
    this.kind = marker.at(-1);
    this.depth = depth;
    this.#element = add(root, Number.isNaN(number) ? "ul" : "ol");
    if (number > 1) this.#element.setAttribute("start", `${number}`);
  }

  leaf() {
    return this.#item?.leaf() ?? null;
  }

  /** @param {string} line @param {boolean} isWhole */
  takes(line, isWhole) {
    const isContent = line.trim() === "" || this.#isInner(line) || this.#isNext(line, isWhole);
    return isContent || (!this.#wasBlank && this.leaf() instanceof Paragraph && !interrupts(line, isWhole));
  }

  /** @param {string} line @param {boolean} isWhole */
  begin(line, isWhole) {
    const marker = MARKER.exec(line);
    this.#wasBlank = line.trim() === "";
    if (this.#item !== null && (this.#wasBlank || this.#isInner(line) || !marker || !this.#isNext(line, isWhole))) {
      return this.#item.begin(line.replace(new RegExp(`^ {0,${this.#indent}}`), ""), isWhole);
    }
    const [head, before, bullet] = /** @type {RegExpExecArray} */ (marker);
    this.#item?.close();
    this.#item = new Blocks(add(this.#element, "li"), this.depth + 1);
    this.#indent = before.length + bullet.length + 1;
    const content = line.slice(head.length);
    if (content !== "") this.#item.begin(content, isWhole);
  }

  /** @param {string} text */
  more(text) {
    this.#item?.more(text);
  }

  close() {
    this.#item?.close();
  }

  /** Writers indent less than the standard asks for: two spaces are enough. @param {string} line */
  #isInner(line) {
    return line.search(/\S/) >= Math.min(this.#indent, 2);
  }

  /** @param {string} line @param {boolean} isWhole */
  #isNext(line, isWhole) {
    return MARKER.exec(line)?.[2].at(-1) === this.kind && !(isWhole && RULE.test(line));
  }
}

/** @implements {Block} */
class Table {
  #body;
  #alignment;

  /** @param {Element} root @param {string[]} header @param {string[]} rule */
  constructor(root, header, rule) {
    const frame = add(root, "div");
    frame.className = "table";
    frame.tabIndex = 0;
    const table = add(frame, "table");
    this.#alignment = rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
    this.#row(add(table, "thead"), header, "th");
    this.#body = add(table, "tbody");
  }

  /** @param {string} line @param {boolean} isWhole */
  takes(line, isWhole) {
    return isWhole && line.includes("|");
  }

  /** @param {string} line */
  begin(line) {
    this.#row(this.#body, cells(line), "td");
  }

  more() {}
  close() {}

  /** @param {Element} into @param {string[]} texts @param {string} tag */
  #row(into, texts, tag) {
    const row = add(into, "tr");
    this.#alignment.forEach((alignment, column) => {
      const cell = add(row, tag);
      cell.className = alignment;
      const inline = new Inline(cell);
      inline.append(texts[column] ?? "");
      inline.end();
    });
  }
}

/** @param {string} line @returns {string[]} */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** @param {Element} parent @param {string} tag @returns {HTMLElement} */
function add(parent, tag) {
  const made = document.createElement(tag);
  parent.append(made);
  return made;
}
