/**
 * What a browser keeps for the page, as far as it may. A user can forbid it, and it can be full: then the page does without, and
 * nothing of this ever throws.
 */
class Kept {
  /** @param {"localStorage" | "sessionStorage"} area */
  constructor(area) {
    this.area = area;
  }

  /** @param {string} key @returns {string | null} */
  get(key) {
    return permitted(() => globalThis[this.area].getItem(key));
  }

  /** What does not fit is not kept, and neither is what stood there before: it is no longer true. @param {string} key @param {string} value */
  set(key, value) {
    const isKept = permitted(() => (globalThis[this.area].setItem(key, value), true));
    if (!isKept) this.remove(key);
  }

  /** @param {string} key */
  remove(key) {
    permitted(() => globalThis[this.area].removeItem(key));
  }

  clear() {
    permitted(() => globalThis[this.area].clear());
  }
}

/** Until the tab is closed. */
export const ofTab = new Kept("sessionStorage");
/** For all tabs, until somebody clears it. */
export const ofBrowser = new Kept("localStorage");

/** How the tabs of this page tell each other things: none where that is forbidden. @param {string} name */
export const tabsNamed = (name) => permitted(() => new BroadcastChannel(name));

/** @template T @param {() => T} use @returns {T | null}  null where the browser does not allow it */
function permitted(use) {
  try {
    return use();
  } catch {
    return null;
  }
}
