/** An agent that speaks the Agent Client Protocol: it asks for one permission, and does what it is told. */
import { createInterface } from "node:readline";

const say = (message) => console.log(JSON.stringify({ jsonrpc: "2.0", ...message }));
const text = (text) => say({ method: "session/update", params: { sessionId: "s", update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text } } } });
const PERMISSION = {
  sessionId: "s",
  toolCall: { toolCallId: "t", title: "Delete the folder build" },
  options: [
    { optionId: "y", kind: "allow_once", name: "Delete it" },
    { optionId: "n", kind: "reject_once", name: "Keep it" },
  ],
};

let prompt;
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, result } = JSON.parse(line);
  if (method === "initialize") say({ id, result: { protocolVersion: 1, agentCapabilities: {} } });
  if (method === "session/new") say({ id, result: { sessionId: "s" } });
  if (method === "session/prompt") {
    prompt = id;
    say({ id: 100, method: "session/request_permission", params: PERMISSION });
  }
  if (id === 100 && result) {
    text(result.outcome.optionId === "y" ? "It is deleted." : "It stays.");
    say({ id: prompt, result: { stopReason: "end_turn" } });
  }
}
