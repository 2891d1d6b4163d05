/** Random turns, the same for a seed: as agents send them, and as no agent should. */

/** mulberry32 */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Random {
  constructor(seed) {
    this.next = generator(seed);
  }

  below(n) {
    return Math.floor(this.next() * n);
  }

  of(...items) {
    return items[this.below(items.length)];
  }

  maybe(make) {
    return this.next() < 0.5 ? make() : undefined;
  }

  text() {
    const pieces = ["", "word ", "and ", "\n", "\n\n", "“é”", "😀", "\ud83d", "\ude00", '"\\\u0001', " ", "x"];
    return Array.from({ length: this.below(4) }, () => this.of(...pieces)).join("");
  }

  json() {
    return this.of({}, null, { command: "ls" }, [1, 2.5, { a: null }], "text", 1e5, true);
  }

  textPart() {
    const part = { id: this.of("p1", "p2", "p3", "p1#2", "final"), messageID: this.of("m1", "m2"), type: this.of("text", "text", "reasoning") };
    const text = this.text();
    return this.next() < 0.3 ? { part: { ...part, text } } : { part, delta: text };
  }

  toolPart() {
    const id = this.of("t1", "t2");
    const status = this.of("pending", "pending", "running", "running", "completed", "error", "failed");
    const state = { status, input: this.maybe(() => this.json()), raw: this.maybe(() => this.text()), output: this.maybe(() => this.json()), error: this.maybe(() => this.text()), title: this.maybe(() => "Title") };
    const part = { id, type: "tool", tool: this.maybe(() => "bash"), callID: this.of(`call_${id}`, `call_${id}`, undefined), state };
    return { part, delta: this.maybe(() => this.of('{"a":', "1}", "{}", "[", '"x"')) };
  }

  event() {
    const kind = this.below(12);
    const question = () => ({ id: `q${this.below(3)}`, kind: this.of("approval", "question", "tool"), message: "may I?", tool: "bash", callId: this.of("call_t1", "call_t2", undefined) });
    if (kind < 5) return ["message.part.updated", this.textPart()];
    if (kind < 8) return ["message.part.updated", this.toolPart()];
    if (kind === 8) return ["result", { finalText: this.text(), finishReason: this.of("stop", "length", "odd"), tokenUsage: this.of(undefined, { inputTokens: 2, outputTokens: 1.5, reasoningTokens: "3" }) }];
    if (kind === 9) return ["interaction", question()];
    if (kind === 10) return ["interaction.answered", { id: `q${this.below(3)}`, outcome: this.of("accepted", "declined", "expired"), data: this.maybe(() => this.json()) }];
    return this.of(
      ["status", { status: "busy" }],
      ["bare", undefined],
      ["message.part.updated", { part: { id: "x", type: "step-start" } }],
      ["message.part.updated", { part: { id: "f", type: "file", url: "https://x/y", mediaType: "image/png" } }],
      ["message.part.updated", { part: { id: "s", type: "source", url: "https://x", title: this.maybe(() => "X") } }],
    );
  }

  /** The lines of a whole turn. */
  turn() {
    const events = [["session.run.started", { sessionId: "s", tenantId: "local", turnIndex: 0, executionId: "local:s:0" }]];
    for (let left = this.below(40); left > 0; left--) events.push(this.event());
    const failure = (code) => [["error", { message: "it failed", code }], ["session.run.failed", { sessionId: "s", message: "it failed", retryable: false, code, phase: "produce" }]];
    const completed = [["session.run.completed", { sessionId: "s", finalText: this.of(undefined, undefined, this.text()) }]];
    events.push(...this.of(completed, completed, completed, failure("upstream_error"), failure("cancelled")));
    return events.map(([type, data]) => `${JSON.stringify({ type, data })}\n`).join("");
  }
}
