/**
 * The agent of these tests, as `--command node agent.mjs` runs it: the message says what it does. `gated FILE` and `talks FILE` wait in their middle until
 * there is that file, or its directory is gone with the test.
 */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";

const { message } = JSON.parse(await text(process.stdin));
const [script, gate] = message.split(" ");

const part = (id, type, rest, delta) => ({ type: "message.part.updated", data: { part: { id, messageID: "m", type, ...rest }, ...(delta !== undefined && { delta }) } });
const call = (id, state, delta) => part(id, "tool", { tool: "bash", callID: `call_${id}`, state }, delta);
const result = { type: "result", data: { finishReason: "stop", model: "script", tokenUsage: { inputTokens: 2, outputTokens: 3 } } };

const HEAD = [
  part("r1", "reasoning", {}, "Let me "),
  part("r1", "reasoning", {}, "think. "),
  call("t1", { status: "pending" }, '{"command"'),
  call("t1", { status: "pending" }, ':"ls"}'),
  call("t1", { status: "running", input: { command: "ls" } }),
  call("t1", { status: "completed", input: { command: "ls" }, output: "a\n" }),
  part("p1", "text", {}, "One "),
];
const TAIL = [
  part("p1", "text", {}, "file. "),
  call("t2", { status: "running", input: { command: "false" } }),
  call("t2", { status: "error", input: { command: "false" }, error: "exit 1" }),
  part("p2", "text", {}, "“And” a failure 😀."),
  result,
];
const SCRIPTS = {
  whole: [...HEAD, ...TAIL],
  gated: [...HEAD, "gate", ...TAIL],
  talks: [part("p1", "text", {}, "One "), "gate", part("p1", "text", {}, "file."), result],
  floods: [...Array.from({ length: 100 }, (_, at) => part("p1", "text", {}, `${at} `.padEnd(65_536, "."))), result],
  brief: [part("p1", "text", {}, "Hel"), part("p1", "text", {}, "lo"), result],
  fails: [...HEAD, { type: "error", data: { message: "the model is gone", code: "upstream_error" } }],
};

for (const event of SCRIPTS[script] ?? SCRIPTS.brief) {
  if (event === "gate") while (!existsSync(gate) && existsSync(dirname(gate))) await wait(10);
  else process.stdout.write(`${JSON.stringify(event)}\n`);
}
