/** A proxy through which so many bytes of each answer come, and no more before it flows: the server cannot write on. */
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Staller {
  #limit;
  #stalled = new Set();
  #server = createServer((near) => {
    const far = connect(this.#port, "127.0.0.1");
    near.pipe(far);
    far.pipe(near);
    far.on("data", () => {
      if (far.bytesRead < this.#limit || this.#stalled.has(far)) return;
      this.#stalled.add(far);
      far.unpipe(near);
      far.pause();
      far.once("flow", () => far.pipe(near));
    });
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  #port;

  constructor(target, limit) {
    this.#port = new URL(target).port;
    this.#limit = limit;
  }

  async open() {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  /** What was held back comes, and all that follows it. */
  flow() {
    this.#limit = Infinity;
    for (const far of this.#stalled) far.emit("flow");
  }

  close() {
    this.#server.close();
    for (const far of this.#stalled) far.destroy();
  }
}
