/** A program as an agent: one turn with everything that an answer can have. */
const part = (part, delta) => console.log(JSON.stringify({ type: "message.part.updated", data: { part, ...(delta !== undefined && { delta }) } }));
const tool = (id, state, delta) => part({ id, messageID: "m1", type: "tool", tool: "bash", callID: `call-${id}`, state }, delta);
const PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

for (const delta of ["I have to look ", "at the files."]) part({ id: "r1", messageID: "m1", type: "reasoning" }, delta);
for (const delta of ["I look at **the", " files**.", "\n\n- one\n- two"]) part({ id: "p1", messageID: "m1", type: "text" }, delta);
for (const delta of ['{"command":', '"ls"}']) tool("t1", { status: "pending" }, delta);
tool("t1", { status: "running", input: { command: "ls" }, title: "List the files" });
tool("t1", { status: "completed", input: { command: "ls" }, output: "a\nb\n", title: "List the files" });
tool("t2", { status: "pending" }, '{"command":"cat');
tool("t2", { status: "error", error: "there is no such file" });
console.log(JSON.stringify({ type: "warning", data: { code: "slow", message: "the disk is slow" } }));
part({ id: "f1", messageID: "m1", type: "file", url: PIXEL, mediaType: "image/png", filename: "pixel.png" });
part({ id: "f2", messageID: "m1", type: "file", url: "https://files.example/report.pdf", mediaType: "application/pdf", filename: "report.pdf" });
part({ id: "s1", messageID: "m1", type: "source", url: "https://source.example/", title: "Where it stands" });
part({ id: "d1", messageID: "m1", type: "data", name: "chart", data: { points: [1, 2, 3] } });
part({ id: "blank", messageID: "m2", type: "text" }, " \n");
part({ id: "r2", messageID: "m2", type: "reasoning" }, "Now I know.");
tool("t3", { status: "running", input: {} });
for (const delta of ["There are ", "two &amp; no more:\n\n| a | b |\n|---|---|\n", "| 1 | 2<br>3 |\n"]) part({ id: "p2", messageID: "m2", type: "text" }, delta);
const result = { finishReason: "length", model: "test-model", tokenUsage: { inputTokens: 20, outputTokens: 30 }, timing: { totalMs: 1200 } };
console.log(JSON.stringify({ type: "result", data: result }));
