/** What changes in the user's chats, on whichever device, as the server tells it (PROTOCOL 4.2). */

/** @typedef {{ sessionId: string, turnId?: string, state?: string }} Entry */

const NAMES = [
  "turn.accepted", "turn.queued", "turn.changed", "turn.removed", "turn.ended", "interaction.pending", "interaction.answered",
  "session.updated", "session.deleted",
];
/** How long it waits before it asks anew where the server refused: at first, and at most, in ms. */
const PAUSE = 2000;
const LONGEST = 60_000;

export class Feed {
  /** @type {EventSource | null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #pause = PAUSE;

  /**
   * @param {string} url
   * @param {{ opened: () => void, told: (name: string, entry: Entry) => void }} page  `opened`: from now on all is told, and what was
   *   before has to be read
   */
  constructor(url, page) {
    this.url = url;
    this.page = page;
  }

  get isOpen() {
    return this.#source?.readyState === EventSource.OPEN;
  }

  /** A connection that breaks is taken up after the entry that came last, by the browser. */
  open() {
    if (this.#source) return;
    clearTimeout(this.#timer);
    const source = new EventSource(this.url);
    this.#source = source;
    source.addEventListener("open", () => {
      this.#pause = PAUSE;
      this.page.opened();
    });
    source.addEventListener("error", () => source.readyState === EventSource.CLOSED && this.#again());
    for (const name of NAMES) source.addEventListener(name, ({ data }) => this.page.told(name, JSON.parse(data)));
  }

  /** A browser has few connections to a host, and a page that nobody sees needs none. */
  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  /** The server has refused: the place may be one that it no longer knows. */
  #again() {
    this.close();
    this.#timer = setTimeout(() => this.open(), this.#pause);
    this.#pause = Math.min(2 * this.#pause, LONGEST);
  }
}
