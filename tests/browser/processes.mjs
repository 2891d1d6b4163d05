/** Processes of the binary that `TURNKIT` names, and what lies between them and the browser. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";

/** It keeps its port when it is started again. */
export class Process {
  #listen = "127.0.0.1:0";

  constructor(command, args) {
    this.command = command;
    this.args = args;
  }

  async start() {
    const args = [this.command, "--listen", this.#listen, ...this.args];
    this.child = spawn(process.env.TURNKIT, args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface(this.child.stdout);
    const ready = once(lines, "line").then(([line]) => /^turnkit listening on (http:\/\/([^\s/]+)\S*)$/.exec(line));
    const [, url, listen] = (await Promise.race([ready, once(this.child, "exit")])) ?? [];
    assert.ok(url, `${this.command} did not start`);
    [this.url, this.#listen] = [`${url}/`, listen];
    return this;
  }

  async end(signal = "SIGKILL") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, "exit");
    this.child.kill(signal);
    await gone;
  }
}

/** `turnkit chat` of a user who is elsewhere. */
export class Chat {
  /** What it has shown, on both of its outputs. */
  shown = "";
  #news = new EventEmitter();

  constructor(server, ...args) {
    this.child = spawn(process.env.TURNKIT, ["chat", "--server", server.url, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.child, "exit");
    for (const output of [this.child.stdout, this.child.stderr]) output.setEncoding("utf8").on("data", (text) => this.#take(text));
  }

  /** Waits until it shows this, behind what it has shown before. */
  async shows(text, behind = 0) {
    while (!this.shown.slice(behind).includes(text)) {
      assert.equal(this.child.exitCode, null, `it has ended, and shown ${this.shown}`);
      await once(this.#news, "text", { signal: AbortSignal.timeout(120_000) });
    }
  }

  #take(text) {
    this.shown += text;
    this.#news.emit("text");
  }

  async end(signal = "SIGKILL") {
    this.child.kill(signal);
    await this.ended;
  }
}

/** What lies between the browser and the server: a browser that is made "offline" keeps the connections that it has. */
export class Network {
  #sockets = new Set();
  #server = createServer((near) => {
    const far = connect(this.port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => (to.destroy(), this.#sockets.delete(from)));
    }
  });

  async open(url) {
    this.port = new URL(url).port;
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}/`;
    return this;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.#server.close();
    this.cut();
  }
}
