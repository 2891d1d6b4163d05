import { HttpAgent } from "@ag-ui/client";

const server = import.meta.env.VITE_TURNKIT ?? "http://127.0.0.1:8787";
const url = `${server}/api/ag-ui`; // turnkit, 1: the route

// The thread's id is made here and kept in the address: whoever opens it sees the same thread.
location.hash ||= crypto.randomUUID();
const threadId = location.hash.slice(1);
const agent = new HttpAgent({ url, threadId });

const [main, form, alert] = ["main", "form", "[role=alert]"].map((name) => document.querySelector(name));

function element(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

/** A message of the thread, as elements. A tool's result is a message of its own, and is shown with the call. */
function drawn({ role, content, toolCalls = [] }, messages) {
  if (role === "reasoning") return [element("details", { className: "reasoning" }, element("summary", {}, "Thinking"), content)];
  if (role === "tool") return [];
  const text = element("article", {}, content ?? "");
  text.dataset.role = role;
  const calls = toolCalls.map(({ id, function: { name, arguments: input } }) => {
    const result = messages.find((message) => message.toolCallId === id);
    const [summary, output] = [element("summary", {}, `${name}: ${result ? "done" : "running"}`), element("pre", {}, result?.content ?? "")];
    return element("details", { className: "tool" }, summary, element("pre", {}, input), output);
  });
  return content ? [text, ...calls] : calls;
}

function show(status, problem = "") {
  form.dataset.status = status;
  form.querySelector("#stop").disabled = status === "ready";
  alert.hidden = !problem;
  alert.textContent = problem;
}

agent.subscribe({ onMessagesChanged: ({ messages }) => main.replaceChildren(...messages.flatMap((message) => drawn(message, messages))) });

/** Runs the agent, or takes its run up where there is one of this id: it starts at most once, so it can be asked for as often as it takes. */
async function run(runId) {
  let isOver = false;
  let problem;
  const end = (message) => void ([isOver, problem] = [true, message]);
  const told = { onRunStartedEvent: () => show("running"), onRunFinishedEvent: () => end(), onRunErrorEvent: ({ event }) => end(event.message) };
  show("running");
  while (!isOver) {
    // turnkit, 2: a cut breaks the connection, and is never an end. The same run goes on, with what is here already told anew.
    await agent.runAgent({ runId }, told).catch((error) => error.status && end(error.message));
    if (isOver) break;
    show("cut", "The connection was lost. The answer goes on …");
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  show("ready", problem);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const content = new FormData(form).get("text").trim();
  if (!content || form.dataset.status !== "ready") return;
  form.reset();
  // The message has the id of its run, as it has in the thread at rest.
  const runId = crypto.randomUUID();
  agent.addMessage({ id: runId, role: "user", content });
  run(runId);
});
// Whoever closes the page leaves the run going. This stops it, and the stream ends by itself.
form.querySelector("#stop").addEventListener("click", () => fetch(`${url}/${threadId}/stream`, { method: "DELETE" }));

// turnkit, 3: the thread, and its run where one is active.
const response = await fetch(`${url}?threadId=${threadId}`);
if (response.ok) {
  const { messages, activeRun } = await response.json();
  agent.setMessages(messages);
  if (activeRun) run(activeRun.runId);
} else if (response.status !== 404) show("ready", await response.text());
