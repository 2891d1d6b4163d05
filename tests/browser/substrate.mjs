/** A substrate (PROTOCOL 3.1) whose agent gives an answer of any length at once: for the real server in front of it. */
import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

export class ScriptedSubstrate {
  /** Frames by execution. @type {Map<string, string[]>} */
  #logs = new Map();
  #server = createServer(async (request, response) => {
    if (request.url === "/agents") return response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ agents: [{ identifier: "default" }] }));
    const id = request.headers["x-execution-id"];
    if (request.url !== "/agents/run/stream" || !id) return response.writeHead(404).end();
    const { message } = JSON.parse(await text(request));
    if (message) this.runs += 1;
    if (!this.#logs.has(id)) this.#logs.set(id, frames(id, this.answer(message)));
    const seen = Number(request.headers["last-event-id"]?.split("-")[1] ?? 0);
    response.writeHead(200, { "Content-Type": "text/event-stream", "X-Execution-ID": id });
    response.end(this.#logs.get(id).slice(seen).join(""));
  });
  /** Requests that could start a run. */
  runs = 0;

  /** @param {(message: string) => string[]} answer  its deltas */
  constructor(answer) {
    this.answer = answer;
  }

  async start() {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** @param {string} executionId @param {string[]} deltas */
function frames(executionId, deltas) {
  const part = { id: "prt_1", type: "text", messageID: "msg_1" };
  const events = [
    ["execution.started", { executionId }],
    ...deltas.map((delta) => ["message.part.updated", { part, delta }]),
    ["execution.completed", { executionId }],
  ];
  return events.map(([type, data], at) => `id: 1-${at + 1}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
}
