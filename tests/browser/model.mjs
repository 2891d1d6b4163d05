/** An endpoint of a model (`/chat/completions`) that takes so much text and no more, and no blank message. */
import { once } from "node:events";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

export class SmallModel {
  /** Characters of all messages together, in tokens of four. */
  limit = Infinity;
  /** The contents of the messages that were answered, by request. @type {string[][]} */
  told = [];
  refused = 0;
  #server = createServer(async (request, response) => {
    const { messages } = /** @type {any} */ (await json(request));
    const contents = messages.map(({ content }) => content);
    const tokens = Math.ceil(contents.join("").length / 4);
    const refuse = (message) => {
      this.refused += 1;
      response.writeHead(400, { "Content-Type": "application/json" }).end(JSON.stringify({ error: { code: 400, message } }));
    };
    if (contents.some((content) => content.trim() === "")) return refuse("messages: text content blocks must be non-empty");
    if (tokens > this.limit / 4) return refuse(`request (${tokens} tokens) exceeds the available context size (${this.limit / 4} tokens)`);
    this.told.push(contents);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const piece of this.answer(contents)) response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: piece } }] })}\n\n`);
    response.end(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`);
  });

  /** @param {(contents: string[]) => string[]} answer  in pieces */
  constructor(answer) {
    this.answer = answer;
  }

  async start() {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}/v1`;
    return this;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
