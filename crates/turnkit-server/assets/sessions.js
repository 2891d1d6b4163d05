/** The list of chats, as far as it was loaded, the newest first. */
import { make } from "./elements.js";

/** @typedef {import("./turnkit.js").Session} Session */

/** Chats that the server gives at once. */
const PAGE = 200;
/** Characters of a title that are shown, and what has no place in a window's title: controls, and writing directions. */
const TITLE = 120;
const INVISIBLE = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu;

export class SessionList {
  /** @type {Session[]} */
  #sessions = [];
  /** What is drawn of each, by its id. @type {Map<string, HTMLElement>} */
  #rows = new Map();
  #current = "";
  #isWhole = true;
  #asked = 0;
  /** Whether it lists the archived chats, and not the others. */
  #archived = false;

  /**
   * @param {import("./turnkit.js").Turnkit} turnkit @param {HTMLElement} list @param {HTMLElement} more  asks for older ones
   * @param {{ changed: () => void, remove: (session: string, title: string) => void }} page  `changed`: titles may be others; `remove`:
   *   somebody wants a chat to be deleted
   */
  constructor(turnkit, list, more, page) {
    this.turnkit = turnkit;
    this.list = list;
    this.moreButton = more;
    this.page = page;
  }

  /** Brings the newest ones to what the server has; older ones that were loaded stay below. */
  async refresh() {
    const asked = (this.#asked += 1);
    const newest = await this.turnkit.sessions({ archived: this.#archived });
    // A later question is answered already, or will be.
    if (asked !== this.#asked) return;
    const last = newest.at(-1)?.sessionId;
    const known = this.#sessions.findIndex(({ sessionId }) => sessionId === last);
    const older = newest.length === PAGE && known >= 0 ? this.#sessions.slice(known + 1) : [];
    if (older.length === 0) this.#isWhole = newest.length < PAGE;
    this.#sessions = [...newest, ...older];
    this.#draw();
  }

  /** Loads those that are older than the last one. */
  async more() {
    const last = this.#sessions.at(-1)?.sessionId;
    const older = await this.turnkit.sessions({ before: last, archived: this.#archived });
    if (last !== this.#sessions.at(-1)?.sessionId) return;
    this.#isWhole = older.length < PAGE;
    this.#sessions.push(...older);
    this.#draw();
  }

  /** Lists the archived chats, or the others. @param {boolean} archived */
  async showArchived(archived) {
    this.#archived = archived;
    this.#sessions = [];
    await this.refresh();
  }

  /** Marks the chat that is shown. @param {string} session  empty: none */
  show(session) {
    this.#current = session;
    this.#draw();
  }

  /** @param {string} session @param {Session | null} [otherwise]  where it is not in the list */
  titleOf(session, otherwise = null) {
    return titleOf(this.#sessions.find(({ sessionId }) => sessionId === session) ?? otherwise);
  }

  #draw() {
    const ids = new Set(this.#sessions.map(({ sessionId }) => sessionId));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    // What stays where it is keeps the focus.
    let at = this.list.firstElementChild;
    for (const session of this.#sessions) {
      const row = this.#row(session);
      if (row === at) at = at.nextElementSibling;
      else this.list.insertBefore(row, at);
    }
    this.moreButton.hidden = this.#isWhole;
    this.page.changed();
  }

  /** @param {Session} session */
  #row(session) {
    const id = session.sessionId;
    const row = this.#rows.get(id) ?? newRow(id, () => this.page.remove(id, this.titleOf(id)));
    this.#rows.set(id, row);
    const [link, remove] = row.children;
    const title = titleOf(session);
    if (link.textContent !== title) {
      link.textContent = title;
      remove.setAttribute("aria-label", `Delete ${title}`);
    }
    if (id === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    return row;
  }
}

/** @param {Session | null} session */
const titleOf = (session) => session?.title?.slice(0, TITLE).replace(INVISIBLE, " ").trim() || "New chat";

/** @param {string} id @param {() => void} remove */
function newRow(id, remove) {
  const row = make("li", "");
  const link = make("a", "");
  link.setAttribute("href", `#${id}`);
  link.dir = "auto";
  const button = make("button", "icon", "×");
  button.setAttribute("type", "button");
  button.addEventListener("click", remove);
  row.append(link, button);
  return row;
}
