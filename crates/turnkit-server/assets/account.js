/** Who uses the page: asks for a token where the server wants one, and signs out. */
import { TurnkitError } from "./turnkit.js";

/**
 * @typedef {object} Elements
 * @property {HTMLDialogElement} dialog
 * @property {HTMLInputElement} token
 * @property {HTMLElement} error
 * @property {HTMLElement} account  shown where there is something to sign out of
 * @property {HTMLElement} user
 */

export class Account {
  /** @type {Promise<void> | null} */
  #asking = null;

  /**
   * @param {import("./turnkit.js").Turnkit} turnkit @param {Elements} elements
   * @param {(isSignedIn: boolean) => void} changed  somebody else uses the page from now on, or nobody
   */
  constructor(turnkit, elements, changed) {
    this.turnkit = turnkit;
    this.elements = elements;
    this.changed = changed;
    elements.dialog.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#asking ??= this.#signIn().finally(() => (this.#asking = null));
    });
  }

  /** Finds out who this is. */
  async open() {
    const { userId, signIn } = await this.turnkit.call("GET", "/api/me");
    this.elements.user.textContent = userId;
    this.elements.user.title = userId;
    this.elements.account.hidden = !signIn;
  }

  /** Asks for a token where the lack of one is why the server refused. @param {unknown} error @returns {boolean} whether */
  askAfter(error) {
    const { dialog, token } = this.elements;
    if (!(error instanceof TurnkitError) || error.details.status !== 401) return false;
    if (!dialog.open) {
      dialog.showModal();
      token.focus();
    }
    return true;
  }

  async signOut() {
    await this.turnkit.call("POST", "/api/sign-out", {});
    this.changed(false);
  }

  async #signIn() {
    const { token, error } = this.elements;
    error.textContent = "";
    try {
      await this.turnkit.call("POST", "/api/sign-in", { token: token.value });
      token.value = "";
      this.changed(true);
    } catch (thrown) {
      const isUnknown = thrown instanceof TurnkitError && thrown.details.status === 401;
      error.textContent = isUnknown ? "The server does not know this token." : `That did not work: ${/** @type {Error} */ (thrown).message}.`;
      token.focus();
      token.select();
    }
  }
}
