/** What the tests at the real routes share: a substrate with the agent of `agent.mjs`, a server, and a proxy that cuts. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { keptIn } from "../browser/database.mjs";
import { Process } from "../browser/processes.mjs";
import { Cutter } from "./cutter.mjs";

const AGENT = ["--agent", "command", "--command-input", "--command", process.execPath, join(import.meta.dirname, "agent.mjs")];

export class Stage {
  #number = 0;

  /** `options` gives more arguments of the server, which may name files in its directory. */
  async open(options = () => []) {
    this.directory = await mkdtemp(join(tmpdir(), "turnkit-front-ends-"));
    this.substrate = await new Process("substrate", ["--log-level", "error", ...AGENT]).start();
    // A turn that waits for its gate would hold a graceful stop for as long as it may.
    const rest = ["--grace", "2s", ...(await options(this.directory))];
    const database = keptIn(join(this.directory, "data"));
    this.server = new Process("serve", [...database, "--log-level", "error", "--substrate", this.substrate.url, ...rest]);
    await this.server.start();
    this.proxy = await new Cutter(this.server.url).open();
    return this;
  }

  async close() {
    this.proxy?.close();
    for (const process of [this.server, this.substrate]) await process?.end();
    await rm(this.directory, { recursive: true });
  }

  /** A name that no other test has. */
  name(what = "chat") {
    return `${what}-${++this.#number}`;
  }

  /** A file for which an agent waits. */
  gate() {
    return join(this.directory, this.name("gate"));
  }

  openGate(gate) {
    return writeFile(gate, "");
  }

  async json(path, init) {
    const response = await fetch(`${this.proxy.url}${path}`, init);
    assert.equal(response.status, 200, `${path}: ${response.status}`);
    return response.json();
  }

  /** A server that has counted nobody yet. */
  async restart() {
    await this.server.end();
    await this.server.start();
  }

  /** Waits until so many clients are gone before the end of their body: it was cut, or the system gave up a peer that takes nothing. */
  async cutOff(count) {
    const until = Date.now() + 150_000;
    for (;;) {
      const metrics = await (await fetch(`${this.server.url}metrics`)).text();
      const found = [...metrics.matchAll(/^turnkit_clients_gone_total\{.*\} (\d+)$/gm)];
      if (found.reduce((sum, [, count]) => sum + Number(count), 0) >= count) return;
      if (Date.now() > until) throw new Error(`of ${count} clients that do not read, these are gone: ${found.map(([line]) => line).join(", ")}`);
      await wait(250);
    }
  }

  /** Waits until no turn of the chat is open: its answer is saved. */
  ended(id) {
    return until(async () => {
      const response = await fetch(`${this.proxy.url}/api/chat/${id}/stream`);
      await response.body?.cancel();
      return response.status === 204;
    }, "the end");
  }
}

/** Waits for something that has to come. */
export async function until(isSo, what) {
  for (let left = 3000; left > 0; left--) {
    if (await isSo()) return;
    await wait(10);
  }
  throw new Error(`${what} did not come`);
}

/** Says nothing of what clients print about the cuts that are made here. */
export async function quiet(run) {
  const { error, warn } = console;
  console.error = console.warn = () => {};
  try {
    return await run();
  } finally {
    Object.assign(console, { error, warn });
  }
}
