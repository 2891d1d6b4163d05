/**
 * The agent of these tests, as `--command node agent.mjs` runs it: the message says what it does. `gated FILE` and `talks FILE` wait in their middle until
 * there is that file, or its directory is gone with the test. `recalls` says what it was told of the turns before. `asks`, `chooses` and `locates` ask, and go on by the answer.
 */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";

/** The request, and then what it is told while it runs. */
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => JSON.parse((await told.next()).value);

const { message, history = [] } = await next();
const [script, gate] = message.split(" ");

const part = (id, type, rest, delta) => ({ type: "message.part.updated", data: { part: { id, messageID: "m", type, ...rest }, ...(delta !== undefined && { delta }) } });
const call = (id, state, delta) => part(id, "tool", { tool: "bash", callID: `call_${id}`, state }, delta);
const ask = (id, question) => ({ type: "interaction", data: { id, ...question } });
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
  // More than the buffers between a server and a client that does not read may take: some 6 MB on a recent Linux.
  floods: [...Array.from({ length: 200 }, (_, at) => part("p1", "text", {}, `${at} `.padEnd(65_536, "."))), result],
  recalls: [part("p1", "text", {}, JSON.stringify(history)), result],
  brief: [part("p1", "text", {}, "Hel"), part("p1", "text", {}, "lo"), result],
  asks: [
    call("t1", { status: "pending", input: { command: "rm" } }),
    ask("may", { kind: "approval", title: "Run it?", callId: "call_t1", tool: "bash", input: { command: "rm" } }),
    ({ outcome }) =>
      outcome === "accepted"
        ? [call("t1", { status: "completed", input: { command: "rm" }, output: "gone" }), part("p1", "text", {}, "Done.")]
        : [part("p1", "text", {}, `Not done: ${outcome}.`)],
    result,
  ],
  chooses: [part("p1", "text", {}, "Well: "), ask("which", { kind: "question", title: "Which?", options: [{ id: "a", label: "A" }, { id: "b", label: "B" }] }), ({ data }) => [part("p2", "text", {}, `It is ${data?.option}.`)], result],
  locates: [
    ask("where", { kind: "tool", callId: "call_w", tool: "location", input: { exact: false } }),
    ({ outcome, data }) => [
      part("w", "tool", { tool: "location", callID: "call_w", state: { status: "completed", input: { exact: false }, output: data } }),
      part("p1", "text", {}, `${outcome} ${JSON.stringify(data)}`),
    ],
    result,
  ],
  fails: [...HEAD, { type: "error", data: { message: "the model is gone", code: "upstream_error" } }],
};

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

for (const event of SCRIPTS[script] ?? SCRIPTS.brief) {
  if (event === "gate") while (!existsSync(gate) && existsSync(dirname(gate))) await wait(10);
  else if (typeof event === "function") event((await next()).data).forEach(say);
  else say(event);
}
// Its input stays open behind a failure.
process.stdin.destroy();
