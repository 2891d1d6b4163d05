/** A proxy that cuts a response behind so many of its frames: the connection breaks. */
import { once } from "node:events";
import { createServer, request } from "node:http";

export class Cutter {
  /**
   * The frames that the next responses with chunks are given, each its number, or `{ frames, until }` where the connection is to stand until a
   * promise holds: what a browser has not drawn when a connection breaks may be lost to it. Who finds none here is not cut.
   */
  cuts = [];
  /** What was asked: method and path. */
  asked = [];
  #server = createServer((near, response) => {
    this.asked.push(`${near.method} ${near.url}`);
    const { port, host } = new URL(this.target);
    const far = request({ port, host: "127.0.0.1", method: near.method, path: near.url, headers: { ...near.headers, host } }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      const type = answer.headers["content-type"] ?? "";
      const isStream = answer.statusCode === 200 && (type.startsWith("text/event-stream") || type.startsWith("application/x-ndjson"));
      const cut = isStream ? this.cuts.shift() : undefined;
      if (cut === undefined) {
        answer.pipe(response);
        answer.on("error", () => response.destroy());
        answer.on("aborted", () => response.destroy());
        return;
      }
      const { frames, until } = typeof cut === "number" ? { frames: cut } : cut;
      let left = frames;
      let text = "";
      const border = type.startsWith("text/event-stream") ? "\n\n" : "\n";
      response.flushHeaders();
      const give = (bytes) => {
        text += bytes.toString("latin1");
        for (let end; left > 0 && (end = text.indexOf(border)) >= 0; text = text.slice(end + border.length)) {
          response.write(Buffer.from(text.slice(0, end + border.length), "latin1"));
          // A comment and a blank line are signs of life, and no frames.
          if (!text.startsWith(":") && end > 0) left--;
        }
        if (left === 0) {
          // What was written is to arrive before the connection breaks.
          response.write("", async () => {
            await until;
            setImmediate(() => response.socket?.destroy());
          });
          far.destroy();
          left = -1;
        }
      };
      answer.on("data", (bytes) => left >= 0 && give(bytes));
      answer.on("end", () => left > 0 && response.end());
      answer.on("error", () => left > 0 && response.destroy());
      if (left === 0) give(Buffer.alloc(0));
    });
    far.on("error", () => response.destroy());
    near.pipe(far);
    response.on("close", () => far.destroy());
  });

  constructor(target) {
    this.target = target;
  }

  async open() {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
